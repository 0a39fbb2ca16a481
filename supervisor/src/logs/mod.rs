//! tmp
/// x
/// # Errors
/// x
pub fn rotate_output(_p: &std::path::Path, _t: &deia::config::Logging) -> std::io::Result<()> {
    Ok(())
}
