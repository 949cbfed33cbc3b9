//! Working hours: stages past the end of cancel begin only while people are there who could stop them. What has begun
//! goes on, and nothing here stops a restore.
//!
//! The hours are those of a wall clock in one zone: open is whatever that clock shows. Where it jumps over the hours,
//! there are none that day; where it shows them twice, they come twice.
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Offset, TimeZone, Timelike, Weekday};
use chrono_tz::Tz;
use serde::Deserialize;

use crate::deletion::Zone;
use crate::job::{Job, JobState, Stage};
use crate::time::Timestamp;

/// Most holidays: all of them are gone through where many follow each other.
pub const HOLIDAYS_MAX: usize = 4096;
/// Shortest window, in minutes: what is held is looked at once a minute, and many may be.
const SHORTEST_MINUTES: u16 = 15;
/// Minutes of a day.
const DAY_MINUTES: u16 = 24 * 60;

const WEEK: [(Weekday, &str); 7] = [
    (Weekday::Mon, "mon"),
    (Weekday::Tue, "tue"),
    (Weekday::Wed, "wed"),
    (Weekday::Thu, "thu"),
    (Weekday::Fri, "fri"),
    (Weekday::Sat, "sat"),
    (Weekday::Sun, "sun"),
];

/// The section `[windows]`, as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// No window at all: stages begin whenever they are due.
    #[serde(default)]
    always: bool,
    #[serde(default)]
    zone: Option<String>,
    #[serde(default)]
    days: Option<Vec<String>>,
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    to: Option<String>,
    /// The calendar of holidays. Reading it is for whoever may read files.
    #[serde(default)]
    pub holidays: Option<PathBuf>,
}

/// Why a section cannot be used. Each names its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// Both "always" and hours.
    #[error("always = true: expected no other key beside it")]
    AlwaysAndMore,
    /// Hours of which clock?
    #[error("zone: expected an IANA time zone, such as \"Europe/Berlin\", or always = true and nothing else")]
    NoZone,
    /// Not a zone.
    #[error(transparent)]
    Zone(#[from] crate::deletion::NoZone),
    /// No days, or not days.
    #[error("days: expected one or more of mon, tue, wed, thu, fri, sat and sun, each once, and not {0}")]
    Days(String),
    /// Not a time of day.
    #[error("{key} = {text:?}: expected a time of day such as \"09:00\"")]
    Time {
        /// Which key.
        key: &'static str,
        /// What is there.
        text: String,
    },
    /// It ends before it has begun, or so soon that nothing would.
    #[error(
        "to = \"{to}\": expected {SHORTEST_MINUTES} minutes after from = \"{from}\" or later, on the same day"
    )]
    TooShort {
        /// Its begin.
        from: String,
        /// Its end.
        to: String,
    },
    /// More holidays than are gone through.
    #[error("holidays: {0} days: expected at most {HOLIDAYS_MAX}")]
    TooManyHolidays(usize),
}

impl Written {
    /// The hours, without holidays; none if it is to be always.
    ///
    /// # Errors
    /// Naming the key and what was expected.
    pub fn windows(&self) -> Result<Option<Windows>, Mistake> {
        let Self { always, zone, days, from, to, holidays } = self;
        if *always {
            let more =
                zone.is_some() || days.is_some() || from.is_some() || to.is_some() || holidays.is_some();
            return if more { Err(Mistake::AlwaysAndMore) } else { Ok(None) };
        }
        let defaults = Windows::default();
        let Zone(zone) = zone.as_ref().ok_or(Mistake::NoZone)?.parse()?;
        let days = days.as_ref().map_or(Ok(defaults.days), |days| parse_days(days))?;
        let time = |key, text: &Option<String>, default| match text {
            Some(text) => minute(text).ok_or_else(|| Mistake::Time { key, text: short(text) }),
            None => Ok(default),
        };
        let (from, to) = (time("from", from, defaults.from)?, time("to", to, defaults.to)?);
        if to < from.saturating_add(SHORTEST_MINUTES) {
            return Err(Mistake::TooShort { from: clock(from), to: clock(to) });
        }
        Ok(Some(Windows { zone, days, from, to, holidays: BTreeSet::new() }))
    }
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

fn parse_days(words: &[String]) -> Result<[bool; 7], Mistake> {
    let mut days = [false; 7];
    for word in words {
        let place = WEEK.iter().position(|(_, known)| known == word);
        let new = place.and_then(|place| days.get_mut(place)).filter(|there| !**there);
        *new.ok_or_else(|| Mistake::Days(format!("{:?}", short(word))))? = true;
    }
    if words.is_empty() { Err(Mistake::Days("none".to_owned())) } else { Ok(days) }
}

/// Minutes since midnight of "09:00"; "24:00" is the day's end.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |digits: &str| match digits.len() {
        2 if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse::<u16>().ok(),
        _ => None,
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= DAY_MINUTES).then_some(minute)
}

fn clock(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

/// When stages past the end of cancel may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    zone: Tz,
    /// From Monday on.
    days: [bool; 7],
    /// Minutes since local midnight.
    from: u16,
    /// The first minute after it; later than `from`, and at most the day's end.
    to: u16,
    holidays: BTreeSet<NaiveDate>,
}

impl Default for Windows {
    /// Tuesday to Thursday, 9 to 15, UTC: a day before and a day after, on which somebody would notice.
    fn default() -> Self {
        let days = [false, true, true, true, false, false, false];
        Self { zone: Tz::UTC, days, from: 9 * 60, to: 15 * 60, holidays: BTreeSet::new() }
    }
}

impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days: Vec<&str> =
            WEEK.iter().zip(self.days).filter(|(_, open)| *open).map(|((_, word), _)| *word).collect();
        write!(f, "{} {} to {} {}", days.join(", "), clock(self.from), clock(self.to), self.zone)?;
        if self.holidays.is_empty() { Ok(()) } else { f.write_str(", not on holidays") }
    }
}

impl Windows {
    /// The same, but for these days.
    ///
    /// # Errors
    /// If they are too many.
    pub fn with_holidays(self, holidays: BTreeSet<NaiveDate>) -> Result<Self, Mistake> {
        match holidays.len() {
            0..=HOLIDAYS_MAX => Ok(Self { holidays, ..self }),
            many => Err(Mistake::TooManyHolidays(many)),
        }
    }

    /// Whose clock counts.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The last holiday that is known of: after it, none is.
    pub fn last_holiday(&self) -> Option<NaiveDate> {
        self.holidays.last().copied()
    }

    /// The last holiday, if it has passed at `now`: the next one would be worked on.
    pub fn outlived(&self, now: Timestamp) -> Option<NaiveDate> {
        let today = self.local(now)?.date();
        self.last_holiday().filter(|last| *last < today)
    }

    /// Whether it is open at `now`.
    pub fn open(&self, now: Timestamp) -> bool {
        self.local(now).is_some_and(|local| {
            let minute = local.hour() * 60 + local.minute();
            self.works_on(local.date()) && (u32::from(self.from)..u32::from(self.to)).contains(&minute)
        })
    }

    /// `now` if it is open, else the moment at which it opens next: the same from one closing until then.
    /// [`Timestamp::MAX`] where the calendar ends.
    pub fn next_opening(&self, now: Timestamp) -> Timestamp {
        if self.open(now) {
            return now;
        }
        let Some(today) = self.local(now).map(|local| local.date()) else { return Timestamp::MAX };
        // From yesterday on: a clock that goes back over midnight shows it once more. A week has a day of work; each
        // holiday can take one of them, and so can a clock that jumps over its hours, which none does twice a week.
        let begin = today.pred_opt().unwrap_or(today);
        let most = 7 * (self.holidays.len() + 3);
        let mut found: Option<Timestamp> = None;
        for day in begin.iter_days().take(most) {
            let opens = self.opening_on(day, now);
            match (found, opens) {
                (None, opens) => found = opens,
                // Over a midnight that comes twice, the next day's hours may begin before those that come again.
                (Some(at), opens) => return opens.map_or(at, |other| at.min(other)),
            }
        }
        found.unwrap_or(Timestamp::MAX)
    }

    /// The first moment after `now` at which it opens on that local day. It can open where the clock shows its begin, and
    /// where the clock is set.
    fn opening_on(&self, day: NaiveDate, now: Timestamp) -> Option<Timestamp> {
        if !self.works_on(day) {
            return None;
        }
        let begin = day.and_hms_opt(u32::from(self.from / 60), u32::from(self.from % 60), 0)?;
        let shown = self.zone.from_local_datetime(&begin);
        let shown = [shown.earliest(), shown.latest()].into_iter().flatten().map(|at| at.timestamp());
        shown
            .chain(self.clock_changes(day))
            .filter_map(|second| second.checked_mul(1_000_000).map(Timestamp))
            .filter(|at| *at > now && self.open(*at))
            .filter(|at| self.local(*at).is_some_and(|local| local.date() == day))
            .min()
    }

    /// When the zone's clock is set while it shows that day, in seconds of UTC. No zone does it twice an hour.
    fn clock_changes(&self, day: NaiveDate) -> impl Iterator<Item = i64> + '_ {
        const HOUR: i64 = 3600;
        let midnight = day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp();
        // No zone is more than 14 hours ahead of UTC, nor 12 behind.
        (-15..38).filter_map(move |hour| {
            let (mut before, mut after) = (midnight + hour * HOUR, midnight + (hour + 1) * HOUR);
            let old = self.ahead_s(before)?;
            if self.ahead_s(after)? == old {
                return None;
            }
            while after - before > 1 {
                let between = before + (after - before) / 2;
                *(if self.ahead_s(between)? == old { &mut before } else { &mut after }) = between;
            }
            Some(after)
        })
    }

    /// How many seconds the clock is ahead of UTC.
    fn ahead_s(&self, second: i64) -> Option<i32> {
        let utc = DateTime::from_timestamp(second, 0)?.naive_utc();
        Some(self.zone.offset_from_utc_datetime(&utc).fix().local_minus_utc())
    }

    fn works_on(&self, day: NaiveDate) -> bool {
        use chrono::Datelike;
        let place = day.weekday().num_days_from_monday() as usize;
        self.days.get(place).is_some_and(|works| *works) && !self.holidays.contains(&day)
    }

    /// What the clock shows; nothing beyond chrono's calendar.
    fn local(&self, at: Timestamp) -> Option<NaiveDateTime> {
        let utc = at.utc().naive_utc();
        utc.checked_add_offset(self.zone.offset_from_utc_datetime(&utc).fix())
    }
}

/// Whether a job waits for working hours before it begins its stage: past the end of cancel, and not begun yet.
pub(crate) fn bound(stage: Stage, job: &Job) -> bool {
    let begun = match job.state {
        JobState::Scheduled { .. } | JobState::Held { .. } => false,
        JobState::Ready { .. }
        | JobState::Running(_)
        | JobState::Waiting { .. }
        | JobState::Cancelling(_)
        | JobState::Parked { .. }
        | JobState::Done
        | JobState::Cancelled
        | JobState::Rescued => true,
    };
    !stage.reversible() && !begun
}

#[cfg(test)]
mod tests;
