//! What a route is handed.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::alarm::{Alarm, Phase, Standing};
use crate::digest::Digest;

/// What a route is handed: an alarm, or a digest. The names of its fields are what others' programs read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Notice {
    /// An alarm.
    Alarm {
        /// The job table's id.
        ledger: String,
        /// Whether it was raised, holds still, or has ended.
        phase: Phase,
        /// In a line: for a subject, or a pager.
        title: String,
        /// All of it, for people.
        text: String,
        /// The alarm.
        alarm: Box<Standing>,
    },
    /// A digest.
    Digest {
        /// The job table's id.
        ledger: String,
        /// In a line.
        title: String,
        /// All of it, for people.
        text: String,
        /// The same, for programs.
        digest: Box<Digest>,
    },
}

impl Notice {
    /// That an alarm was raised, holds still, or has ended.
    pub fn of_alarm(ledger: &str, phase: Phase, standing: Standing) -> Self {
        let Alarm { kind, severity, subject, text: what, todo, scope } = &standing.alarm;
        let title = match phase {
            Phase::Raised => format!("sexton {severity}: {kind}: {subject}"),
            Phase::Again => format!("sexton {severity}, still: {kind}: {subject}"),
            Phase::Ended => format!("sexton: over: {kind}: {subject}"),
        };
        let mut text = format!("{what}\n");
        if phase == Phase::Ended {
            let at = standing.ended_at.map(|at| format!(", at {at}")).unwrap_or_default();
            text += &format!("\nThis does not hold any more{at}.\n");
        } else {
            text += &format!("\nWhat to do now: {todo}\n");
        }
        if let Some(scope) = scope {
            text += &format!("\nscope: {scope}");
        }
        text += &format!("\nsince: {}\njob table: {ledger}\n", standing.raised_at);
        // What is told by the process itself has no number.
        if standing.id > 0 && phase != Phase::Ended {
            text += &format!("seen: sexton alarms acknowledge {} --reason …\n", standing.id);
        }
        Self::Alarm { ledger: ledger.to_owned(), phase, title, text, alarm: Box::new(standing) }
    }

    /// A day's digest.
    pub fn of_digest(ledger: &str, digest: Digest) -> Self {
        let title = format!("sexton digest of {}: {}", digest.day, digest.headline());
        let text = digest.to_string();
        Self::Digest { ledger: ledger.to_owned(), title, text, digest: Box::new(digest) }
    }

    /// In a line.
    pub fn title(&self) -> &str {
        match self {
            Self::Alarm { title, .. } | Self::Digest { title, .. } => title,
        }
    }

    /// All of it, for people.
    pub fn text(&self) -> &str {
        match self {
            Self::Alarm { text, .. } | Self::Digest { text, .. } => text,
        }
    }
}
