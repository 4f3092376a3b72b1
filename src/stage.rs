//! The program that clones for the command line, which carries it.
#![cfg_attr(target_env = "gnu", no_main)]

rscontainer::entry!(rscontainer::launch::run_stage());
