//! How a program asks the daemon.
