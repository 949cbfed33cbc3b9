//! Hostile configuration files, as all processes read them. Hostile input for one crate is tried there; `scripts/fuzz`
//! tries all of it.
use std::path::Path;

use sexton_coordinator::settings::{ApiSection, AuditSection, CreditSection, PlansSection};
use sexton_coordinator::{alarms, policy};
use sexton_model::Timestamp;
use sexton_service::config::{Broker, Config, ConfigError, DriverPart, Keys, SECTIONS};
use sexton_testkit::fuzz::{Form, Fuzz};

/// Budgets, a census and alarms as well, which the delivered files only describe.
const MORE: &str = "[budgets]\na_day = 7\n[census]\nage_max_minutes = 60\n[alarms]\ndigest_at = \"08:00\"\nzone = \"UTC\"\n\
    webhook = { url = \"http://127.0.0.1:9/\" }\n";

/// A delivered file without its comments, which are most of it, and with what else there may be.
fn bare(file: &str) -> String {
    let says = |line: &&str| !line.trim_start().starts_with('#') && !line.trim().is_empty();
    file.lines().filter(says).map(|line| format!("{line}\n")).chain([MORE.to_owned()]).collect()
}

fn said(error: ConfigError) -> String {
    error.to_string()
}

fn part<T: DriverPart>(config: &Config, instance: &str) -> Result<(), String> {
    config.consumer::<T>(instance).map(drop).map_err(said)
}

/// Every section and every consumer's part, as far as they are read without looking at other files.
fn read(text: &str) -> Result<(), String> {
    let config = Config::parse(Path::new("/nowhere/sexton.toml"), text, SECTIONS).map_err(said)?;
    let mut verdicts = vec![
        config
            .section::<CreditSection>("credit")
            .map_err(said)
            .and_then(|credit| credit.limits(&config).map(drop).map_err(|error| format!("{error:#}"))),
        config.section::<AuditSection>("audit").map(drop).map_err(said),
        config.section::<alarms::AlarmsSection>("alarms").map(drop).map_err(said),
        policy::read(&config, Timestamp(0)).map(drop).map_err(|error| format!("{error:#}")),
    ];
    let there = |section: &str| config.has(section);
    verdicts.extend(there("api").then(|| config.section::<ApiSection>("api").map(drop).map_err(said)));
    verdicts.extend(there("plans").then(|| config.section::<PlansSection>("plans").map(drop).map_err(said)));
    verdicts.extend(there("broker").then(|| config.section::<Broker>("broker").map(drop).map_err(said)));
    verdicts.extend(there("keys").then(|| config.section::<Keys>("keys").map(drop).map_err(said)));
    for instance in config.parts("consumers") {
        verdicts.push(match instance.split('.').next().unwrap_or_default() {
            "hypervisor" => part::<sexton_hypervisor::DriverConfig>(&config, &instance),
            "ipam" => part::<sexton_ipam::DriverConfig>(&config, &instance),
            "dns" => part::<sexton_dns::DriverConfig>(&config, &instance),
            "backup" => part::<sexton_backup::DriverConfig>(&config, &instance),
            "monitoring" => part::<sexton_monitoring::DriverConfig>(&config, &instance),
            "notifier" => part::<sexton_notifier::DriverConfig>(&config, &instance),
            _ => part::<sexton_hook::DriverConfig>(&config, &instance),
        });
    }
    verdicts.into_iter().collect()
}

#[test]
fn configurations() {
    Fuzz::new("configurations", Form::Toml)
        .seed(bare(include_str!("../../deploy/sexton.toml")))
        .seed(bare(include_str!("../../deploy/sexton-many.toml")))
        .slow(20)
        .run(|bytes| {
            let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
            read(text).map_err(|why| {
                assert!(why.contains("sexton.toml"), "the file is not named: {why}");
                why
            })
        });
}
