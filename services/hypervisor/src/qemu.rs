//! placeholder
/// Config
#[derive(Debug, serde::Deserialize)]
pub struct Config {}
/// Host
pub struct QemuHost;
