//! How a task's text reaches a program.

use deia::config::CommandInput;
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;

use super::super::Failure;

/// Longest argument, with the NUL that ends it: Linux's MAX_ARG_STRLEN.
pub const MAX_ARGUMENT_BYTES: usize = 128 * 1024;

/// Whether `content` can go this way at all.
pub fn check(input: CommandInput, content: &str) -> Result<(), Failure> {
    if input == CommandInput::Stdin {
        return Ok(());
    }
    if let Some(at) = content.bytes().position(|b| b == 0) {
        return Err(Failure::permanent(format!(
            "the task's text has a NUL byte at {at}, which no argument can hold: use `input: stdin`"
        )));
    }
    if content.len() >= MAX_ARGUMENT_BYTES {
        return Err(Failure::permanent(format!(
            "the task's text has {} bytes, an argument at most {}: use `input: stdin`",
            content.len(),
            MAX_ARGUMENT_BYTES - 1
        )));
    }
    Ok(())
}

/// Writes `content` and closes the pipe. A program that does not read it all has its reasons.
pub async fn feed(stdin: Option<ChildStdin>, content: &str) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(content.as_bytes()).await;
    }
}

#[cfg(test)]
mod tests {
    use deia::wire::FailureKind;

    use super::*;

    #[test]
    fn what_no_argument_can_hold_is_refused_with_the_remedy() {
        let long = "x".repeat(MAX_ARGUMENT_BYTES);
        for content in ["a\0b", &long] {
            let refusal = check(CommandInput::Argv, content).unwrap_err();
            assert_eq!(refusal.kind, FailureKind::Permanent);
            assert!(refusal.error.contains("stdin"), "{}", refusal.error);
            assert!(check(CommandInput::Stdin, content).is_ok());
        }
        assert!(check(CommandInput::Argv, &long[1..]).is_ok());
    }
}
