//! The dated proof that something can be rebuilt, and what it counts as without one.
//!
//! Contract: what says that it is reproducible is taken for it only while it states when it was last shown that it can be
//! rebuilt, and what shows it. Without such a proof, or with one from the future or one that is too old, it counts as
//! irreplaceable: only a plan with that grace deletes it. That is asked once, when a record is made, with the date in UTC by
//! the job table's clock: a proof that grows old later stops nothing.
//!
//! Why not refuse such a resource when it is registered: proofs grow old by themselves, and what is registered without one
//! is better known, and treated as irreplaceable, than not known at all.
use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::date;
use crate::resource::{Criticality, Resource};
use crate::time::Timestamp;

#[cfg(test)]
mod tests;

/// Longest evidence, in characters.
pub const EVIDENCE_MAX: usize = 500;

/// How many days a proof holds. A year: images, tools and people change meanwhile, so what was rebuilt longer ago shows
/// little; and a rebuild that is asked for more often than once a year would be stated rather than done.
pub const PROOF_DAYS: i64 = 365;

/// When it was last shown that a resource can be rebuilt, and what shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rebuilt {
    /// The date, in UTC.
    #[serde(deserialize_with = "date::required")]
    #[schemars(with = "String")]
    pub on: NaiveDate,
    /// What shows it, such as the number of a run or of a ticket: 1 to [`EVIDENCE_MAX`] characters.
    #[serde(deserialize_with = "plain_evidence")]
    pub evidence: String,
}

/// The text, if it may be evidence.
///
/// # Errors
/// What was expected.
pub fn evidence(text: String) -> Result<String, String> {
    let plain = !text.trim().is_empty() && !text.chars().any(char::is_control);
    let fits = plain && text.chars().count() <= EVIDENCE_MAX;
    if fits { Ok(text) } else { Err(format!("expected 1 to {EVIDENCE_MAX} characters in one line")) }
}

fn plain_evidence<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    evidence(String::deserialize(from)?).map_err(D::Error::custom)
}

/// Why what says that it is reproducible is not taken for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// It states no proof.
    #[error("states no dated proof (`rebuilt`) that it can be rebuilt")]
    Missing,
    /// Its proof is from the future.
    #[error("its proof that it can be rebuilt is dated {on} (`rebuilt.on`), and today is {today} in UTC")]
    Future {
        /// The proof's date.
        on: NaiveDate,
        /// The date when that was asked.
        today: NaiveDate,
    },
    /// Its proof is too old.
    #[error(
        "its proof that it can be rebuilt is dated {on} (`rebuilt.on`), {days} days ago, and one holds {PROOF_DAYS} days"
    )]
    Old {
        /// The proof's date.
        on: NaiveDate,
        /// How many days ago that was.
        days: i64,
    },
}

/// Why `resource` says that it is reproducible and is not taken for it at `now`: it counts as irreplaceable then. Nothing if
/// it counts as what it says.
pub fn unproven(resource: &Resource, now: Timestamp) -> Option<Unproven> {
    if resource.criticality != Criticality::Reproducible {
        return None;
    }
    let Some(Rebuilt { on, .. }) = resource.rebuilt else { return Some(Unproven::Missing) };
    let today = now.utc().date_naive();
    match (today - on).num_days() {
        ..0 => Some(Unproven::Future { on, today }),
        0..=PROOF_DAYS => None,
        days => Some(Unproven::Old { on, days }),
    }
}
