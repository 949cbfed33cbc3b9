//! Which crate performs which subsystem: the one list.
use std::path::PathBuf;
use std::sync::Arc;

use sexton_consumer::Driver;
use sexton_consumer::program::built;
use sexton_consumer::sandbox::Sandbox;
use sexton_model::Instance;
use sexton_model::catalogue::SubsystemActions;
use sexton_service::Config;

/// What reaches an instance. A subsystem that is none of these is a hook's.
///
/// # Errors
/// If its part of the configuration is wrong.
pub fn build(instance: &Instance, config: &Config) -> anyhow::Result<(SubsystemActions, Arc<dyn Driver>)> {
    let build = match instance.subsystem.as_str() {
        "hypervisor" => sexton_hypervisor::build,
        "ipam" => sexton_ipam::build,
        "dns" => sexton_dns::build,
        "backup" => sexton_backup::build,
        "monitoring" => sexton_monitoring::build,
        "notifier" => sexton_notifier::build,
        _ => sexton_hook::build,
    };
    built(instance, config, build)
}

/// Where a sandbox lies; other drivers have no such key.
#[derive(serde::Deserialize)]
struct Place {
    driver: String,
    #[serde(default)]
    root: PathBuf,
}

/// Say in the log if the sandbox of an instance is no place yet: nothing can be done there until somebody makes it one.
///
/// # Errors
/// If its part of the configuration is wrong.
pub fn warn_of_no_place(instance: &Instance, config: &Config) -> anyhow::Result<()> {
    let part: Place = config.part("consumers", &instance.to_string())?;
    if part.driver == "sandbox"
        && let Err(why) = Sandbox::at(&config.path(&part.root), instance).place()
    {
        tracing::warn!(%instance, %why, "nothing can be done there: `sexton sandbox` makes a platform to try it on");
    }
    Ok(())
}
