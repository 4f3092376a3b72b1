//! `regex-lite` by the name of `regex`, its bigger sibling of the same authors.
//!
//! `oci-spec` checks one property by a regular expression of digits and commas.
//! For that it brought in 400 KB of machinery for searching text at speed, a
//! fifteenth of the binary.

pub use regex_lite::*;
