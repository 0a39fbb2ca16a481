//! Verbs of the contract whose feature is not built yet: they say so and fail.

use clap::Args;

use crate::failure::Failure;

/// Takes anything, does nothing.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Planned {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<std::ffi::OsString>,
}

impl Planned {
    /// Says so.
    pub fn run(&self, verb: &str) -> Result<(), Failure> {
        // What follows is for the day it is built.
        let _ = &self.rest;
        Err(not_implemented(verb))
    }
}

/// The failure of a verb that is not built yet.
pub fn not_implemented(verb: &str) -> Failure {
    Failure::NotImplemented(format!("not implemented yet: {verb} (planned)"))
}
