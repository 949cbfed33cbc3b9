//! What stands behind a command that has commands of its own, or many arguments.
#[cfg(feature = "serve")]
use std::path::PathBuf;

use clap::{Args, Subcommand};
use sexton_model::access::{DAYS_DEFAULT, DAYS_MAX, Role};
use sexton_model::deletion::RecordStatus;
use sexton_model::job::StateName;
use sexton_model::{Actor, Kind, Scope};

/// Which keys to make.
#[cfg(feature = "serve")]
#[derive(Debug, Args)]
pub struct KeysArguments {
    /// The folder: a new one, or one that this command made.
    #[arg(required = true)]
    pub folder: PathBuf,
    /// The instances, such as hypervisor.main,dns.main. Those that have keys keep them.
    #[arg(long, value_delimiter = ',', required = true)]
    pub instances: Vec<sexton_model::Instance>,
    /// The broker's virtual host; that of the folder if it exists, or else sexton.
    #[arg(long)]
    pub vhost: Option<String>,
}

/// What else can be done with keys.
#[cfg(feature = "serve")]
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Exchange the key of an instance (or of `scheduler`) in three steps, so that nobody has to stop: hand out a new
    /// key, let it sign, take the old one away. Each call takes the next step and says what to do before the one after.
    Rotate {
        /// Whose key, such as dns.main.
        holder: sexton_protocol::Holder,
        /// The folder of keys.
        #[arg(long, default_value = "keys")]
        folder: PathBuf,
    },
}

/// What can be done with censuses, but for handing them in.
#[derive(Debug, Clone, Subcommand)]
pub enum CensusCommand {
    /// Have every instance that holds a kind list all that is there, and judge it as a census that is handed in. If one of
    /// them does not answer, there is none.
    Take {
        /// Which kind, such as vm.
        kind: Kind,
        /// Which scope, with those below it.
        scope: Scope,
        /// That another credential than last time lists it, or that other places are asked, is meant.
        #[arg(long)]
        new_credential: bool,
        /// That so many fewer than last time are there is meant; of the first one, that nothing is there of a scope in which
        /// something is registered.
        #[arg(long)]
        fewer: bool,
        /// How long they may take to list everything, in seconds.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=25))]
        within: Option<u64>,
    },
}

/// What can be done with canaries.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum CanariesCommand {
    /// Ask now, and wait for what comes of it.
    Run {
        /// Do not wait.
        #[arg(long)]
        no_wait: bool,
    },
}

/// What can be done with drills.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum DrillCommand {
    /// Begin one with each resource now. It is over a notice period later.
    Run,
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Issue one, and show it: this once.
    #[command(group = clap::ArgGroup::new("where").required(true))]
    New {
        /// Whose, such as ci or eva@example.org: what it does is written down under this name, which is given once.
        name: Actor,
        /// What for. viewer looks; requester also registers, asks for deletions, takes back its own, and holds; operator
        /// also cancels, releases, pauses, parks, retries and vouches for censuses; approver also sets ceilings, approves, waives,
        /// rescues, and registers anew what moves to another scope or leaves a group; admin also issues tokens and takes protection off.
        #[arg(long, value_parser = role)]
        role: Role,
        /// Limited to this scope and those below it; may be given several times.
        #[arg(long, group = "where")]
        scope: Vec<Scope>,
        /// Limited to no scope.
        #[arg(long, group = "where")]
        everywhere: bool,
        /// How many days it is good.
        #[arg(long, default_value_t = DAYS_DEFAULT, value_parser = clap::value_parser!(u64).range(1..=DAYS_MAX))]
        days: u64,
        /// Instead, how many hours: for something that is soon over.
        #[arg(long, conflicts_with = "days", value_parser = clap::value_parser!(u64).range(1..=DAYS_MAX * 24))]
        hours: Option<u64>,
    },
    /// List them, with those that were revoked or have expired.
    List,
    /// Take one back: it is good for nothing from the moment at which this returns.
    Revoke {
        /// Its name.
        name: Actor,
    },
}

/// What can be done with alarms.
#[derive(Debug, Subcommand)]
pub enum AlarmsCommand {
    /// You have seen it: it is told no more for a week, and stays open as long as it holds.
    Acknowledge {
        /// Its number.
        id: i64,
        /// What is being done about it.
        #[arg(long)]
        reason: String,
    },
}

fn role(text: &str) -> Result<Role, String> {
    text.parse().map_err(|e: sexton_model::access::NoRole| e.to_string())
}

/// Which records to list.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only those in this status: live, restoring, cancelled, recycled, rescued.
    #[arg(long, value_parser = status)]
    pub status: Option<RecordStatus>,
    /// Only those with a job in this state: scheduled, held (also between two steps), running, parked, …
    #[arg(long, value_parser = state)]
    pub state: Option<StateName>,
    /// Only this scope.
    #[arg(long)]
    pub scope: Option<Scope>,
    /// Only this kind.
    #[arg(long)]
    pub kind: Option<Kind>,
    /// Instead, those that were archived.
    #[arg(long, conflicts_with_all = ["state", "scope"])]
    pub archived: bool,
    /// At most so many.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

fn status(text: &str) -> Result<RecordStatus, String> {
    serde_json::from_value(text.into())
        .map_err(|_| "expected live, restoring, cancelled, recycled or rescued".to_owned())
}

fn state(text: &str) -> Result<StateName, String> {
    let words = StateName::ALL.map(StateName::word).join(", ");
    StateName::ALL.into_iter().find(|s| s.word() == text).ok_or(format!("expected one of {words}"))
}
