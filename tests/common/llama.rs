//! A real language model server: llama.cpp's own, with a model made of noise.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

/// A running server; it ends with its standard input.
pub struct Llama {
    process: Child,
    stdin: Option<ChildStdin>,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
}

impl Llama {
    /// Starts `tests/llm/server.py` with the python that `DEIA_TEST_LLM_PYTHON` names.
    ///
    /// # Errors
    /// Why there is none here: said by the test, which then passes.
    pub fn start(arguments: &[&str]) -> Result<Self, String> {
        let python = std::env::var("DEIA_TEST_LLM_PYTHON")
            .map_err(|_| "DEIA_TEST_LLM_PYTHON names no python with xllamacpp, gguf and numpy")?;
        let mut process = Command::new(&python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/llm/server.py"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("cannot start {python}: {e}"))?;
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().ok_or("the server has no output")?;
        let url = BufReader::new(stdout)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("LISTENING ").map(str::to_owned));
        match url {
            Some(url) => Ok(Self {
                process,
                stdin,
                url,
            }),
            None => {
                let ended = process.wait();
                Err(format!(
                    "{python} tests/llm/server.py did not start: {ended:?}"
                ))
            }
        }
    }
}

impl Drop for Llama {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.process.wait();
    }
}
