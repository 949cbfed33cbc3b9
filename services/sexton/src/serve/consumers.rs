//! Which crate performs which subsystem: the one list.
use std::sync::Arc;

use sexton_consumer::Driver;
use sexton_consumer::program::built;
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
