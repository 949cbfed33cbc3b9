//! Which crate performs which subsystem: the one list.
use std::sync::Arc;

use sexton_consumer::Driver;
use sexton_model::Instance;
use sexton_model::catalogue::SubsystemActions;
use sexton_service::Config;

/// What reaches an instance. A subsystem that is none of these is a hook's.
///
/// # Errors
/// If its part of the configuration is wrong.
pub fn build(instance: &Instance, config: &Config) -> anyhow::Result<(SubsystemActions, Arc<dyn Driver>)> {
    match instance.subsystem.as_str() {
        "hypervisor" => sexton_hypervisor::build(instance, config),
        "ipam" => sexton_ipam::build(instance, config),
        "dns" => sexton_dns::build(instance, config),
        "backup" => sexton_backup::build(instance, config),
        "monitoring" => sexton_monitoring::build(instance, config),
        "notifier" => sexton_notifier::build(instance, config),
        _ => sexton_hook::build(instance, config),
    }
}
