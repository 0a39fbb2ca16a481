//! See `supervisor/src/fuzz.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| deia_supervisor::fuzz::archive(bytes));
