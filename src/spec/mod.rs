//! `config.json` as written: parsed, validated, never interpreted. No system call is made here.
