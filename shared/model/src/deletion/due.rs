//! When a resource is to go.
use std::str::FromStr;

use chrono::NaiveDate;
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::{self, Day, Timestamp};

/// An IANA time zone, such as `Europe/Berlin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Zone(pub Tz);

/// The text is no time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("zone {0:?}: expected an IANA time zone, such as Europe/Berlin")]
pub struct NoZone(pub String);

impl FromStr for Zone {
    type Err = NoZone;
    fn from_str(text: &str) -> Result<Self, NoZone> {
        text.parse().map(Self).map_err(|_| NoZone(text.chars().take(60).collect()))
    }
}

impl TryFrom<String> for Zone {
    type Error = NoZone;
    fn try_from(text: String) -> Result<Self, NoZone> {
        text.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> String {
        zone.0.name().to_owned()
    }
}

/// When a resource is to go: the date of its soft stage, in its record's zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Due {
    /// The date.
    #[schemars(with = "String")]
    pub date: NaiveDate,
    /// Whose calendar.
    pub zone: Zone,
    /// In a rehearsal: the moment that counts as the date's midnight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moment: Option<Timestamp>,
}

impl Due {
    /// The moment `days` after the due date.
    pub(super) fn at(&self, days: i32, day: Day) -> Timestamp {
        match (day, self.moment) {
            (Day::Rehearsal { .. }, Some(moment)) => time::add_days(moment, days, self.zone.0, day),
            (Day::Rehearsal { .. }, None) | (Day::Calendar, _) => {
                let date = if days >= 0 {
                    self.date.checked_add_days(chrono::Days::new(u64::from(days.unsigned_abs())))
                } else {
                    self.date.checked_sub_days(chrono::Days::new(u64::from(days.unsigned_abs())))
                };
                date.map_or(Timestamp::MAX, |date| time::start_of(date, self.zone.0))
            }
        }
    }
}
