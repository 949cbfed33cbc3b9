//! Cancelling all of a scope, and who is restored first.
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sexton_model::deletion::RecordStatus;
use sexton_model::{DeletionId, ResourceId, Scope, Timestamp};

/// Records that one request cancels or previews: one batch of decisions, and an answer within seconds.
pub const CANCEL_MAX: usize = 256;

/// How a cursor begins that goes through what the first pass has left.
const LEFT: &str = "left";

/// Where a bulk cancel goes on. The priority of a resource may be changed meanwhile, so that it passes from one side of a
/// cursor to the other: a second pass goes by what never changes, and finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum CancelCursor {
    /// In the order of restores, behind this one.
    InOrder {
        /// The priority of the last one that was answered, as it was then.
        priority: i16,
        /// That one.
        deletion: DeletionId,
    },
    /// By number, through what is still live after that.
    Left {
        /// Behind this one; from the first one, if none.
        behind: Option<DeletionId>,
    },
}

impl fmt::Display for CancelCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InOrder { priority, deletion } => write!(f, "{priority}:{deletion}"),
            Self::Left { behind: Some(deletion) } => write!(f, "{LEFT}:{deletion}"),
            Self::Left { behind: None } => f.write_str(LEFT),
        }
    }
}

impl FromStr for CancelCursor {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let read = || match text.split_once(':') {
            Some((LEFT, deletion)) => Some(Self::Left { behind: Some(deletion.parse().ok()?) }),
            Some((priority, deletion)) => {
                Some(Self::InOrder { priority: priority.parse().ok()?, deletion: deletion.parse().ok()? })
            }
            None => (text == LEFT).then_some(Self::Left { behind: None }),
        };
        read().ok_or_else(|| "after: expected what `next` said of the page before".to_owned())
    }
}

impl TryFrom<String> for CancelCursor {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<CancelCursor> for String {
    fn from(cursor: CancelCursor) -> Self {
        cursor.to_string()
    }
}

/// Cancel, or only show what a cancel would restore: the live records of a scope and of those below it, page by page.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelScope {
    /// Which scope.
    pub scope: Scope,
    /// Why: 1 to 1000 characters.
    pub reason: String,
    /// Only show it.
    #[serde(default)]
    pub dry_run: bool,
    /// Behind this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<CancelCursor>,
    /// At most so many on one page, of [`CANCEL_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Some of them, each page in the order in which they are restored. What is cancelled is taken in that order from page to
/// page, too, and whatever is live after that comes once more; what is only shown comes by number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cancellations {
    /// At most [`CANCEL_MAX`].
    pub items: Vec<Cancellation>,
    /// How many records of the scope were live when this was asked.
    pub live: u64,
    /// Give this as `after` for the next ones; none if these were the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<CancelCursor>,
}

/// What became, or would become, of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cancellation {
    /// The record.
    pub deletion: DeletionId,
    /// What comes back.
    pub resource: ResourceId,
    /// The resource's priority: lower is restored first.
    pub priority: i16,
    /// Where the record stands now.
    pub status: RecordStatus,
    /// Whether it is cancelled, or would be.
    pub cancelled: bool,
    /// The steps that are taken back, in that order. Told before it is cancelled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restores: Vec<String>,
    /// Until when that is certain to be possible; of one that can only be saved by hand, until when its data is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why it is not cancelled.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// Say when a resource is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prioritize {
    /// Lower is restored first.
    pub priority: i16,
}

#[cfg(test)]
mod tests {
    use super::CancelCursor;

    #[test]
    fn a_cursor_reads_as_it_was_written() {
        let at = |text: &str| text.parse::<CancelCursor>();
        for good in ["-5:d-17", "left", "left:d-17"] {
            assert_eq!(at(good).unwrap().to_string(), good);
        }
        for bad in ["", "5", "5:17", "x:d-1", "40000:d-1", "left:", "left:17", "left:d-0"] {
            assert!(at(bad).unwrap_err().contains("next"), "{bad}");
        }
    }
}
