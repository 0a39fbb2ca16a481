//! The sample files, as they are shipped and as `deiactl config init` writes them.

/// A sample file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Its name.
    pub file_name: &'static str,
    /// What it is for, in one line.
    pub about: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// For a server.
pub const PRODUCTION: Sample = Sample {
    file_name: "production.yaml",
    about: "a server with Ollama; every section with its values",
    text: include_str!("../../config/production.yaml"),
};

/// For a laptop.
pub const DEVELOPMENT: Sample = Sample {
    file_name: "development.yaml",
    about: "a first run with nothing installed: a bot that echoes",
    text: include_str!("../../config/development.yaml"),
};

/// All of them.
pub const fn samples() -> [Sample; 2] {
    [PRODUCTION, DEVELOPMENT]
}
