//! tmp
/// x
/// # Errors
/// x
pub fn write_durably(_p: &std::path::Path, _t: &[u8]) -> std::io::Result<()> {
    Ok(())
}
