//! tmp
/// x
/// # Errors
/// x
pub fn rotate_output(_p: &std::path::Path, _t: &deia::config::Logging) -> std::io::Result<()> {
    Ok(())
}
/// x
#[derive(Debug, Clone)]
pub struct LogHandle;
impl LogHandle {
    /// x
    pub fn reopen(&self) {}
    /// x
    pub fn shutdown(&self) {}
    /// x
    pub fn reconfigure(&self, _c: &deia::config::Config) {}
}
/// x
/// # Errors
/// x
pub fn init(_d: &std::path::Path, _c: &deia::config::Config) -> std::io::Result<LogHandle> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    Ok(LogHandle)
}
