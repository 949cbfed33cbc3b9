//! What says "not now" to a job, with its words.
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Stage;
use crate::belts::budget::Frozen;
use crate::belts::ceiling::Ceiling;
use crate::belts::healthy::Length;
use crate::id::{Instance, ResourceId};
use crate::time::Timestamp;

/// What keeps a due job from going on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Blocker {
    /// A hold stands on the record.
    Hold {
        /// Its origin and reason.
        what: String,
    },
    /// A pause covers it.
    Pause {
        /// Which one.
        pause: i64,
        /// Its reason.
        what: String,
    },
    /// Deletions of its scope may not go that far yet.
    Ceiling {
        /// The stage that would have begun.
        stage: Stage,
        /// The scope whose ceiling counts, in words.
        of: String,
        /// How far they may go.
        ceiling: Ceiling,
    },
    /// Part of its grace does not count: nobody could have cancelled then.
    Outage {
        /// The stage that may not begin.
        stage: Stage,
        /// How much of it, in milliseconds.
        lost_ms: u64,
        /// When it may begin, if nothing more is lost.
        until: Timestamp,
    },
    /// A later step needs somebody who is down: begun, it would stand midway.
    Consumer {
        /// Whom.
        instance: Instance,
    },
    /// Nobody is at work who would notice.
    Window {
        /// The stage that may not begin.
        stage: Stage,
        /// When it may.
        opens: Timestamp,
        /// The working hours, in words.
        hours: String,
    },
    /// More would begin than may within a day.
    Budget {
        /// The stage that may not begin.
        stage: Stage,
        /// The batch that it is one of.
        #[serde(flatten)]
        frozen: Frozen,
    },
    /// Another member of a redundancy group of the resource goes.
    Redundancy {
        /// The group.
        group: String,
        /// The one that goes.
        other: ResourceId,
    },
    /// The notice came back after it was sent: not everybody was told.
    Untold {
        /// When it did.
        since: Timestamp,
        /// From when on an acknowledgement replaces it.
        from: Timestamp,
    },
    /// The resource is protected: it is registered so, or the configuration says so.
    Protected,
    /// It is a drill, which ends before this.
    Drill,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hold { what } => write!(f, "hold: {what}"),
            Self::Pause { what, .. } => write!(f, "paused: {what}"),
            Self::Ceiling { stage, of, ceiling: Ceiling::Observe } => {
                write!(f, "would begin {stage}: deletions of {of} are only observed")
            }
            Self::Ceiling { stage, of, ceiling } => {
                write!(f, "would begin {stage}: deletions of {of} may go as far as {ceiling}")
            }
            Self::Outage { stage, lost_ms, until } => {
                let lost = Length(*lost_ms);
                write!(f, "for {lost} of its grace nobody could have cancelled; {stage} may begin at {until}")
            }
            Self::Consumer { instance } => {
                write!(
                    f,
                    "no consumer of {instance} is there, which a later step needs: it is not begun before one is"
                )
            }
            Self::Window { stage, opens, hours } => {
                write!(f, "outside working hours ({hours}); {stage} may begin at {opens}")
            }
            Self::Budget { stage, frozen: Frozen { batch, exceeded } } => {
                let next = if exceeded.alone() { "needs approval" } else { "waits for its turn" };
                write!(f, "batch {batch} {next} before {stage}: {exceeded}")
            }
            Self::Redundancy { group, other } => {
                write!(
                    f,
                    "{other} of the redundancy group {group} goes first: until its deletion is over, or all of the group go"
                )
            }
            Self::Untold { since, from } => write!(
                f,
                "the notice came back at {since}: soft waits until somebody who told everybody otherwise acknowledges it, \
                 which is possible from {from} on"
            ),
            Self::Protected => {
                f.write_str("the resource is protected: it is registered so, or named in [protect]")
            }
            Self::Drill => f.write_str("a drill never goes beyond soft: it is cancelled"),
        }
    }
}
