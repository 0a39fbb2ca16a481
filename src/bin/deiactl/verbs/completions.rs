//! `deiactl completions SHELL`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::context::Context;
use crate::failure::Failure;

/// Print a shell's completion script.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Prints it.
    pub fn run(&self, context: &Context) -> Result<(), Failure> {
        context.out.text(&script(self.shell))
    }
}

/// The script.
pub fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "deiactl", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
