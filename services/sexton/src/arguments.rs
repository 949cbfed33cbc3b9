//! What can be said on the command line.
mod command;
mod subcommands;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use sexton_model::Actor;
use sexton_model::request_key::RequestKey;

pub use self::command::Command;
pub use self::subcommands::{
    AlarmsCommand, CanariesCommand, CensusCommand, DrillCommand, ListArguments, TokenCommand,
};
#[cfg(feature = "serve")]
pub use self::subcommands::{KeysArguments, KeysCommand};

/// Deletes infrastructure safely: announce, soft, hard, purge, recycle; one cancel brings everything back
/// until hard.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Arguments {
    /// Where the coordinator's API is.
    #[arg(long, global = true, env = "SEXTON_URL", default_value = "http://127.0.0.1:8470")]
    pub url: String,
    /// A file with a token: your own, or the one that the coordinator is configured with.
    #[arg(long, global = true, env = "SEXTON_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Who you are, for the audit trail. With a token of your own you are the one it is of.
    #[arg(long, global = true, env = "SEXTON_ACTOR")]
    pub actor: Option<Actor>,
    /// Names what a command changes: sent again under the same key, within seven days, it is answered as before and
    /// changes nothing twice. A command that sends several requests gives each a key that follows from this one.
    #[arg(long, global = true, value_name = "KEY")]
    pub idempotency_key: Option<RequestKey>,
    /// How answers are written.
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

impl Command {
    /// Whether the coordinator is only asked for something, and writes nothing down.
    pub fn only_reads(&self) -> bool {
        match self {
            Self::List(_)
            | Self::Batches { .. }
            | Self::Show { .. }
            | Self::Plan { .. }
            | Self::Audit { .. }
            | Self::Token { command: TokenCommand::List }
            | Self::Whoami
            | Self::Verify { .. }
            | Self::Receipt { .. }
            | Self::Archived { .. }
            | Self::Watch { .. }
            | Self::Name { .. }
            | Self::Health
            | Self::Findings { .. }
            | Self::Alarms { command: None, .. }
            | Self::Digest
            | Self::Completions { .. } => true,
            Self::Pause { reason, .. } => reason.is_none(),
            Self::Ceiling { to, dry_run, .. } => to.is_none() || *dry_run,
            Self::Census { file, command } => file.is_none() && command.is_none(),
            Self::Canaries { command } => command.is_none(),
            Self::Drill { command } => command.is_none(),
            Self::Override { what, take_back, .. } => what.is_none() && take_back.is_none(),
            Self::Review { accept, .. } => !accept,
            Self::Import { dry_run, .. } | Self::Resume { dry_run, .. } | Self::Cancel { dry_run, .. } => {
                *dry_run
            }
            Self::Register { .. }
            | Self::Delete { .. }
            | Self::Priority { .. }
            | Self::Hold { .. }
            | Self::Release { .. }
            | Self::Token { .. }
            | Self::Approve { .. }
            | Self::Park { .. }
            | Self::Retry { .. }
            | Self::Waive { .. }
            | Self::Acknowledge { .. }
            | Self::Bounced { .. }
            | Self::Alarms { command: Some(_), .. }
            | Self::Rescue { .. } => false,
            #[cfg(feature = "serve")]
            Self::Serve { .. } | Self::Demo { .. } | Self::Sandbox { .. } | Self::Keys { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_deletion_has_no_default_date() {
        let error = Arguments::try_parse_from(["sexton", "delete", "vm/web01", "--reason", "x"]).unwrap_err();
        assert!(error.to_string().contains("--on"), "{error}");
    }
}
