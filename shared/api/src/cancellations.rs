//! Cancelling all of a scope, and who is restored first.
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sexton_model::deletion::RecordStatus;
use sexton_model::{DeletionId, ResourceId, Scope, Timestamp};

/// Records that one request cancels or previews: one batch of decisions, and an answer within seconds.
pub const CANCEL_MAX: usize = 256;

/// Where a bulk cancel goes on: behind this record in the order of restores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct CancelCursor {
    /// The priority of the last one that was answered.
    pub priority: i16,
    /// That one.
    pub deletion: DeletionId,
}

impl fmt::Display for CancelCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.priority, self.deletion)
    }
}

impl FromStr for CancelCursor {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(priority, deletion)| {
            Some(Self { priority: priority.parse().ok()?, deletion: deletion.parse().ok()? })
        });
        parts.ok_or_else(|| "after: expected what `next` said of the page before".to_owned())
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
}

/// Some of them, in the order in which they are restored.
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
    fn a_cursor_reads_as_it_was_written_and_goes_by_priority() {
        let at = |text: &str| text.parse::<CancelCursor>();
        assert_eq!(at("-5:d-17").unwrap().to_string(), "-5:d-17");
        assert!(
            at("5:d-2").unwrap() < at("5:d-10").unwrap() && at("5:d-10").unwrap() < at("10:d-1").unwrap()
        );
        for bad in ["", "5", "5:17", "x:d-1", "40000:d-1"] {
            assert!(at(bad).unwrap_err().contains("next"), "{bad}");
        }
    }
}
