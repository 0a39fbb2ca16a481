//! A bot process.
