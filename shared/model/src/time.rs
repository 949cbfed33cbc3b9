//! Time as the store counts it, and the calendar of policies.
//!
//! Two kinds of time never mix: *protocol time* (leases, deadlines, back-off) is real and counted in
//! milliseconds; *policy time* (offsets, grace) is counted in the policy's [`Day`], which is a calendar day in
//! the record's zone, or a fixed shorter span in a rehearsal.
use chrono::{
    DateTime, Days, NaiveDate, NaiveDateTime, NaiveTime, Offset as _, SecondsFormat, TimeZone, Utc,
};
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A moment: microseconds since 1970-01-01 UTC, by the store's clock. Microseconds, because that is what
/// PostgreSQL keeps; SQLite stores the same integer.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, Default,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The last moment there is; "never" in comparisons.
    pub const MAX: Self = Self(i64::MAX);

    /// This moment, `ms` milliseconds later.
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add_unsigned(ms.saturating_mul(1000)))
    }

    /// Milliseconds from `earlier` to this moment; 0 if it is not later.
    pub fn ms_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0) / 1000).unwrap_or(0)
    }

    /// As a date and time in UTC; the end of what chrono can say if it lies beyond.
    pub fn utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// RFC 3339 with milliseconds, in UTC.
    pub fn rfc3339(self) -> String {
        self.utc().to_rfc3339_opts(SecondsFormat::Millis, true)
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(at: DateTime<Utc>) -> Self {
        Self(at.timestamp_micros())
    }
}

impl From<std::time::SystemTime> for Timestamp {
    fn from(at: std::time::SystemTime) -> Self {
        let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

/// What a policy's day is in this ledger. Fixed when the ledger is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "day")]
pub enum Day {
    /// A calendar day in the record's time zone.
    Calendar,
    /// A rehearsal: a day is this long. Tests and the demo; shown wherever one looks.
    Rehearsal {
        /// Length of a day in milliseconds, at least 1 and less than 24 hours.
        length_ms: u64,
    },
}

impl Day {
    /// How long it is, but for the clock changes of a calendar; milliseconds.
    pub fn length_ms(self) -> u64 {
        match self {
            Self::Calendar => 86_400_000,
            Self::Rehearsal { length_ms } => length_ms,
        }
    }

    /// Whether this is a rehearsal.
    pub fn is_rehearsal(self) -> bool {
        matches!(self, Self::Rehearsal { .. })
    }

    /// How long a rehearsal's day is, in milliseconds; nothing of a calendar.
    pub fn rehearsal_ms(self) -> Option<u64> {
        match self {
            Self::Calendar => None,
            Self::Rehearsal { length_ms } => Some(length_ms),
        }
    }
}

/// How a rehearsal is told wherever one looks. `day_ms`: how long its day is, in milliseconds.
pub fn rehearsal_notice(day_ms: u64) -> String {
    format!("REHEARSAL: a day lasts {day_ms} ms")
}

/// Stages are due this long after local midnight, so that a date never begins with a race against its own
/// first second. Minutes.
const AFTER_MIDNIGHT_MINUTES: i64 = 5;

/// Local midnight (and a little) of `date` in `zone`. If the clock jumps over it, the first moment after the
/// jump; if it comes twice, the later one: a doubt never makes anything earlier.
pub fn start_of(date: NaiveDate, zone: Tz) -> Timestamp {
    let midnight = date.and_time(NaiveTime::MIN) + chrono::Duration::minutes(AFTER_MIDNIGHT_MINUTES);
    resolve(midnight, zone)
}

/// The moment at which the clock of `zone` shows this. [`Timestamp::MAX`] where the calendar ends.
fn resolve(local: NaiveDateTime, zone: Tz) -> Timestamp {
    // No jump of any zone is longer than a day, so the loop ends.
    let mut candidate = local;
    for _ in 0..96 {
        if let Some(at) = zone.from_local_datetime(&candidate).latest() {
            return Timestamp::from(at.with_timezone(&Utc));
        }
        let Some(later) = candidate.checked_add_signed(chrono::Duration::minutes(15)) else {
            return Timestamp::MAX;
        };
        candidate = later;
    }
    Timestamp::from(Utc.from_utc_datetime(&candidate))
}

/// The moment `days` calendar days after (or before, if negative) `at`, at the same local time in `zone`;
/// right across daylight-saving changes. In a rehearsal, `days` times the length of its day. [`Timestamp::MAX`] where the
/// calendar ends.
pub fn add_days(at: Timestamp, days: i32, zone: Tz, day: Day) -> Timestamp {
    match day {
        Day::Rehearsal { length_ms } => {
            let span = i64::from(days).saturating_mul(i64::try_from(length_ms).unwrap_or(i64::MAX / 1000));
            Timestamp(at.0.saturating_add(span.saturating_mul(1000)))
        }
        Day::Calendar => {
            let utc = at.utc().naive_utc();
            // East of Greenwich the last hours of the calendar have no local time.
            let local = utc.checked_add_offset(zone.offset_from_utc_datetime(&utc).fix());
            let count = Days::new(u64::from(days.unsigned_abs()));
            let moved = local.and_then(|local| {
                if days >= 0 { local.checked_add_days(count) } else { local.checked_sub_days(count) }
            });
            moved.map_or(Timestamp::MAX, |local| resolve(local, zone))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::Europe::Berlin;

    fn at(text: &str) -> Timestamp {
        Timestamp::from(DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc))
    }

    #[test]
    fn a_day_across_the_clock_change_is_a_calendar_day() {
        let before = at("2026-03-28T12:00:00+01:00");
        assert_eq!(add_days(before, 1, Berlin, Day::Calendar), at("2026-03-29T12:00:00+02:00"));
        let before = at("2026-10-24T12:00:00+02:00");
        assert_eq!(add_days(before, 1, Berlin, Day::Calendar), at("2026-10-25T12:00:00+01:00"));
    }

    #[test]
    fn a_local_time_that_does_not_exist_becomes_later_never_earlier() {
        let before = at("2026-03-28T02:30:00+01:00");
        assert_eq!(add_days(before, 1, Berlin, Day::Calendar), at("2026-03-29T03:00:00+02:00"));
    }

    #[test]
    fn midnight_is_local() {
        let date = NaiveDate::from_ymd_opt(2026, 12, 1).unwrap();
        assert_eq!(start_of(date, Berlin), at("2026-12-01T00:05:00+01:00"));
    }

    /// A record's plan may count as far as it likes, and what has no date is "never".
    #[test]
    fn the_calendar_ends_in_every_zone() {
        let last = Timestamp::from(DateTime::<Utc>::MAX_UTC);
        for zone in [Berlin, chrono_tz::America::New_York, chrono_tz::Pacific::Kiritimati, chrono_tz::UTC] {
            for end in [Timestamp::MAX, Timestamp(i64::MIN), last] {
                for days in [0, 1, i32::MAX] {
                    assert!(add_days(end, days, zone, Day::Calendar) >= last, "{zone} {days}");
                }
                for days in [i32::MIN, -1] {
                    add_days(end, days, zone, Day::Calendar);
                }
            }
            assert!(start_of(NaiveDate::MAX, zone) > at("9999-12-31T00:00:00Z"));
            assert!(start_of(NaiveDate::MIN, zone) < at("0001-01-01T00:00:00Z"));
        }
    }

    #[test]
    fn a_rehearsal_day_is_short() {
        let day = Day::Rehearsal { length_ms: 1000 };
        assert_eq!(add_days(Timestamp(0), 3, Berlin, day), Timestamp(3_000_000));
        assert_eq!(add_days(Timestamp(0), -3, Berlin, day), Timestamp(-3_000_000));
    }
}
