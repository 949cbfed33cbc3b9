//! Announcements: a consumer that tells people what will be deleted, and that it will not be after all.
//!
//! | action | what it does |
//! | --- | --- |
//! | `inspect` | lists who will be told, and pins them |
//! | `announce` | one message to each of them, with a calendar entry that is the maintenance window; its undo sends a retraction and cancels the entry |
//!
//! Whom to tell the platform states as `attributes.notifier`: `{"contacts": ["owner@example.org"]}`, or `{"none": true}` if
//! nobody but those whom the office always tells (`also_tell`). Without a statement an inspection is refused: an owner who
//! was forgotten would not be told. Of what is registered an approver alone takes a contact away.
//!
//! What was sent cannot be unsent, so each message of an announcement has a number, as calendars count: if `n`
//! was the last one before, announcing is `n + 1` and retracting `n + 2`. The UID follows from resource and
//! identity, so that a repeat is recognised here, in mailboxes and in calendars.
//!
//! Mail cannot be read back. So a [`spool`] keeps who was tried and who was accepted; it is written before and
//! after each message. Only after a crash between the two may somebody get the same message (the same
//! Message-ID, the same UID and number) twice.
//!
//! Two offices: [`smtp`] sends mail, [`sandbox`] only keeps the spool.
//!
//! # What fences cannot stop here
//! A message that is on its way. The spool refuses an older fence before each message; a mail server that
//! answers late may still deliver one announcement after its retraction. Its number is lower, so calendars
//! ignore it.
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use sexton_consumer::driver::Driver;
use sexton_model::Instance;
use sexton_model::catalogue::SubsystemActions;
use sexton_service::Config;
use sexton_service::config::DriverPart;

mod ask;
mod driver;
pub mod letter;
pub mod office;
pub mod sandbox;
pub mod smtp;
pub mod spool;

pub use driver::Notifier;

/// The file that describes this subsystem's actions, as it is delivered.
pub const ACTIONS: &str = include_str!("../../../deploy/subsystems/notifier.toml");

/// What this subsystem's actions may do.
#[expect(clippy::expect_used, reason = "an embedded file that a test parses")]
pub fn actions() -> SubsystemActions {
    SubsystemActions::parse("notifier.toml", ACTIONS).expect("the delivered notifier.toml is well-formed")
}

/// Which driver, and what it needs to know.
#[derive(Debug, Deserialize)]
#[serde(tag = "driver", rename_all = "snake_case")]
pub enum DriverConfig {
    /// Files in a folder.
    Sandbox(sandbox::Config),
    /// Mail.
    Smtp(smtp::Config),
}

impl DriverPart for DriverConfig {
    fn knows_its_instance(driver: &str) -> bool {
        matches!(driver, "sandbox" | "smtp")
    }

    fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Sandbox(config) => vec![&mut config.root],
            Self::Smtp(config) => [&mut config.state].into_iter().chain(&mut config.password_file).collect(),
        }
    }
}

/// The driver that `config` asks for.
///
/// # Errors
/// If the configuration contradicts itself. Nothing is connected yet: a server that is down is found out, and
/// reported, by the first order.
pub fn driver(config: DriverConfig) -> anyhow::Result<Arc<dyn Driver>> {
    Ok(match config {
        DriverConfig::Sandbox(config) => Arc::new(Notifier::new(sandbox::SandboxOffice::new(&config))),
        DriverConfig::Smtp(config) => Arc::new(Notifier::new(smtp::SmtpOffice::new(config)?)),
    })
}

/// What reaches `instance`, as its part of the configuration says.
///
/// # Errors
/// Naming the key that is wrong.
pub fn build(instance: &Instance, config: &Config) -> anyhow::Result<(SubsystemActions, Arc<dyn Driver>)> {
    Ok((actions(), driver(config.consumer(&instance.to_string())?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delivered_actions_are_the_ones_the_driver_knows() {
        let actions = actions();
        assert_eq!(actions.subsystem.as_str(), "notifier");
        let names: Vec<_> = actions.actions.keys().map(|n| n.as_str()).collect();
        assert_eq!(names, ["announce", "inspect"]);
    }

    #[test]
    fn a_mistake_in_the_configuration_is_named() {
        for (text, mistake) in [
            ("driver = \"sandbox\"\nroot = \"/x\"\nisntance = \"notifier.main\"", "isntance"),
            ("driver = \"smtp\"\nfrom = \"a@b.example\"\nserver = \"smtp://x\"", "server"),
            ("driver = \"fax\"", "fax"),
        ] {
            let error = toml::from_str::<DriverConfig>(text).unwrap_err();
            assert!(error.to_string().contains(mistake), "{error}");
        }
    }
}
