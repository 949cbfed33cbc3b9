//! Holidays from an iCalendar file (RFC 5545): the local days that any of its events touches.
//!
//! Contract: whatever cannot be understood refuses the whole file, naming the event. An event that was left out in
//! silence would be a holiday on which machines are taken apart. What is understood: events of a day or more, events
//! with a time, recurring ones (`RRULE`, `EXDATE`), and cancelled ones, which are no holidays.
use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, anyhow, bail, ensure};
use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone};
use chrono_tz::Tz;
use icalendar::parser::{Component, Property, read_components, unfold};
use icalendar::{CalendarDateTime, DatePerhapsTime};
use rrule::{Frequency, RRule, RRuleSet, Unvalidated};
use sexton_model::Timestamp;

/// Largest file, in bytes: all holidays of a country, for decades, with descriptions.
const FILE_MAX_BYTES: u64 = 4 << 20;
/// Most events.
const EVENTS_MAX: usize = 8192;
/// Deepest nesting of components: an alarm within an event within a calendar, and something to spare. The parser calls
/// itself for each.
const DEPTH_MAX: usize = 8;
/// For so many years, this one included, recurring events are written out: longer than any coordinator runs.
const YEARS: i32 = 10;
/// Longest event, in days: a longer one is a mistake, and would keep everything from beginning.
const LASTS_MAX_DAYS: i64 = 366;
/// Most times that one event recurs until then.
const TIMES_MAX: u16 = 8192;

/// The holidays in a file, for a wall clock in `zone`; of those that have passed at `now`, the last year's and the last.
///
/// # Errors
/// If it cannot be read, is no calendar, holds no event, or holds one that is not understood.
pub fn read(file: &Path, zone: Tz, now: Timestamp) -> anyhow::Result<BTreeSet<NaiveDate>> {
    let mut bytes = Vec::new();
    let open = std::fs::File::open(file).context("cannot be opened")?;
    open.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes).context("cannot be read")?;
    ensure!(bytes.len() as u64 <= FILE_MAX_BYTES, "expected at most {FILE_MAX_BYTES} bytes");
    let text = String::from_utf8(bytes).map_err(|_| anyhow!("expected an iCalendar file in UTF-8"))?;
    let today = now.utc().with_timezone(&zone).date_naive();
    holidays(text.trim_start_matches('\u{feff}'), zone, today)
}

fn holidays(text: &str, zone: Tz, today: NaiveDate) -> anyhow::Result<BTreeSet<NaiveDate>> {
    ensure!(depth(text) <= DEPTH_MAX, "expected components nested {DEPTH_MAX} deep at most");
    let text = unfold(text);
    let roots =
        read_components(&text).map_err(|why| anyhow!("expected an iCalendar file: {}", first_line(&why)))?;
    if let Some(other) = roots.iter().find(|root| !root.name.as_str().eq_ignore_ascii_case("VCALENDAR")) {
        bail!("expected VCALENDAR, and not {}", short(other.name.as_str()));
    }
    let events: Vec<_> = roots
        .iter()
        .flat_map(|root| &root.components)
        .filter(|component| component.name.as_str().eq_ignore_ascii_case("VEVENT"))
        .collect();
    ensure!(!events.is_empty(), "expected at least one event (VEVENT)");
    ensure!(events.len() <= EVENTS_MAX, "{} events: expected at most {EVENTS_MAX}", events.len());
    let end = NaiveDate::from_ymd_opt(today.year() + YEARS, 1, 1).unwrap_or(NaiveDate::MAX);
    let mut days = Found { from: today - Days::new(366), end, days: BTreeSet::new(), last_before: None };
    for event in events {
        add(event, zone, &mut days).with_context(|| format!("event {}", label(event)))?;
    }
    days.days.extend(days.last_before.filter(|_| days.days.is_empty()));
    Ok(days.days)
}

/// How deep components are nested.
fn depth(text: &str) -> usize {
    let begins =
        |line: &str, what: &str| line.get(..what.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(what));
    let (mut depth, mut deepest) = (0_usize, 0);
    for line in text.lines().map(str::trim_start) {
        if begins(line, "BEGIN:") {
            depth += 1;
            deepest = deepest.max(depth);
        } else if begins(line, "END:") {
            depth = depth.saturating_sub(1);
        }
    }
    deepest
}

fn first_line(text: &str) -> String {
    short(text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default())
}

fn short(text: &str) -> String {
    text.chars().take(120).collect()
}

/// What a person knows an event by.
fn label(event: &Component<'_>) -> String {
    let said = |name| property(event, name).map(|property| short(property.val.as_str()));
    let name = said("SUMMARY").or_else(|| said("UID")).unwrap_or_else(|| "without SUMMARY".to_owned());
    match said("DTSTART") {
        Some(start) => format!("{name:?} (DTSTART {start})"),
        None => format!("{name:?}"),
    }
}

/// Days that were found.
struct Found {
    /// Earlier ones are of no interest, but for the last of them.
    from: NaiveDate,
    /// Nor are those from here on.
    end: NaiveDate,
    days: BTreeSet<NaiveDate>,
    last_before: Option<NaiveDate>,
}

impl Found {
    /// Both days, and those between them.
    fn add(&mut self, first: NaiveDate, last: NaiveDate) {
        if last < self.from {
            self.last_before = self.last_before.max(Some(last));
            return;
        }
        let days = first.max(self.from).iter_days();
        self.days.extend(days.take_while(|day| *day <= last && *day < self.end));
    }
}

/// When something begins, or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Day(NaiveDate),
    /// What the clock of a zone shows.
    Time(NaiveDateTime, Tz),
}

impl At {
    /// `zone` is that of times which name none.
    fn parse(property: &Property<'_>, zone: Tz) -> anyhow::Result<Self> {
        let (name, value) = (property.name.as_str(), short(property.val.as_str()));
        let expected = || anyhow!("{name} = {value}: expected a date, or a date and time");
        match date_or_time(property).ok_or_else(expected)? {
            DatePerhapsTime::Date(day) => Ok(Self::Day(day)),
            DatePerhapsTime::DateTime(CalendarDateTime::Floating(time)) => Ok(Self::Time(time, zone)),
            DatePerhapsTime::DateTime(CalendarDateTime::Utc(at)) => Ok(Self::Time(at.naive_utc(), Tz::UTC)),
            DatePerhapsTime::DateTime(CalendarDateTime::WithTimezone { date_time, tzid }) => {
                let zone = tzid.trim_matches('"').parse().map_err(|_| {
                    anyhow!(
                        "{name}: TZID = {}: expected an IANA time zone, such as Europe/Berlin",
                        short(&tzid)
                    )
                })?;
                Ok(Self::Time(date_time, zone))
            }
        }
    }

    fn local(self) -> NaiveDateTime {
        match self {
            Self::Day(day) => day.and_time(NaiveTime::MIN),
            Self::Time(time, _) => time,
        }
    }

    /// The same, with its clock showing `local`.
    fn moved(self, local: NaiveDateTime) -> Self {
        match self {
            Self::Day(_) => Self::Day(local.date()),
            Self::Time(_, zone) => Self::Time(local, zone),
        }
    }
}

/// What a property says, in years that every zone's clock shows: the parser takes a sign and more digits, too, and at the
/// ends of its calendar there are no local times.
fn date_or_time(property: &Property<'_>) -> Option<DatePerhapsTime> {
    let said = DatePerhapsTime::try_from(property).ok()?;
    let year = match &said {
        DatePerhapsTime::Date(day) => day.year(),
        DatePerhapsTime::DateTime(CalendarDateTime::Floating(time)) => time.year(),
        DatePerhapsTime::DateTime(CalendarDateTime::Utc(at)) => at.year(),
        DatePerhapsTime::DateTime(CalendarDateTime::WithTimezone { date_time, .. }) => date_time.year(),
    };
    (1..=9999).contains(&year).then_some(said)
}

/// The moment at which a clock shows this; the first one if it does so twice, the next if it never does.
fn moment(mut local: NaiveDateTime, zone: Tz) -> anyhow::Result<DateTime<Tz>> {
    // No clock is set by more than a day.
    for _ in 0..=48 {
        if let Some(at) = zone.from_local_datetime(&local).earliest() {
            return Ok(at);
        }
        local += TimeDelta::minutes(30);
    }
    bail!("{local}: expected a time that the clock of {zone} shows")
}

fn property<'a>(event: &'a Component<'a>, name: &str) -> Option<&'a Property<'a>> {
    event.properties.iter().find(|property| property.name.as_str().eq_ignore_ascii_case(name))
}

fn add(event: &Component<'_>, zone: Tz, found: &mut Found) -> anyhow::Result<()> {
    if property(event, "STATUS").is_some_and(|status| status.val.as_str().eq_ignore_ascii_case("CANCELLED")) {
        return Ok(());
    }
    for unknown in ["RDATE", "EXRULE", "RECURRENCE-ID"] {
        ensure!(
            property(event, unknown).is_none(),
            "{unknown} is not understood: expected RRULE and EXDATE only, or single events"
        );
    }
    let start = At::parse(property(event, "DTSTART").ok_or_else(|| anyhow!("DTSTART is missing"))?, zone)?;
    let lasts = lasts(event, start, zone)?;
    for begin in times(event, start, zone, found.end)? {
        let (first, last) = days(start.moved(begin), lasts, zone)?;
        found.add(first, last);
    }
    Ok(())
}

/// By how much the clock goes on from an event's begin to its end.
fn lasts(event: &Component<'_>, start: At, zone: Tz) -> anyhow::Result<TimeDelta> {
    let lasts = match (property(event, "DTEND"), property(event, "DURATION")) {
        (Some(_), Some(_)) => bail!("expected DTEND or DURATION, and not both"),
        (Some(end), None) => match (start, At::parse(end, zone)?) {
            (At::Day(start), At::Day(end)) => end - start,
            (At::Time(start, from), At::Time(end, to)) => moment(end, to)? - moment(start, from)?,
            (At::Day(_), At::Time(..)) | (At::Time(..), At::Day(_)) => {
                bail!("expected DTSTART and DTEND to be dates both, or times both")
            }
        },
        (None, Some(duration)) => {
            let text = duration.val.as_str();
            let parsed = iso8601::duration(text.trim_start_matches('+')).ok();
            let parsed = parsed.and_then(|parsed| TimeDelta::from_std(parsed.into()).ok());
            parsed.ok_or_else(|| anyhow!("DURATION = {}: expected one such as P1D", short(text)))?
        }
        (None, None) => TimeDelta::zero(),
    };
    ensure!(lasts >= TimeDelta::zero(), "it ends before it begins");
    ensure!(lasts <= TimeDelta::days(LASTS_MAX_DAYS), "it lasts longer than {LASTS_MAX_DAYS} days");
    Ok(lasts)
}

/// The first and the last local day in `zone` that an event touches. Its end does not belong to it.
fn days(start: At, lasts: TimeDelta, zone: Tz) -> anyhow::Result<(NaiveDate, NaiveDate)> {
    let within = (lasts - TimeDelta::microseconds(1)).max(TimeDelta::zero());
    let beyond = || anyhow!("it ends beyond the calendar");
    match start {
        At::Day(day) => {
            let last = day.and_time(NaiveTime::MIN).checked_add_signed(within).ok_or_else(beyond)?;
            Ok((day, last.date()))
        }
        At::Time(local, from) => {
            let begin = moment(local, from)?;
            let last = begin.checked_add_signed(within).ok_or_else(beyond)?;
            let day = |at: DateTime<Tz>| at.with_timezone(&zone).date_naive();
            Ok((day(begin), day(last)))
        }
    }
}

/// What the clock shows whenever the event begins, before `end`.
fn times(
    event: &Component<'_>,
    start: At,
    zone: Tz,
    end: NaiveDate,
) -> anyhow::Result<BTreeSet<NaiveDateTime>> {
    let mut times = BTreeSet::from([start.local()]);
    let rules: Vec<_> =
        event.properties.iter().filter(|p| p.name.as_str().eq_ignore_ascii_case("RRULE")).collect();
    ensure!(rules.len() <= 1, "expected one RRULE at most");
    let Some(rule) = rules.first() else { return Ok(times) };
    let text = short(rule.val.as_str());
    let wrong = |why: String| anyhow!("RRULE = {text}: {why}");
    // Counted on the clock's own dial, as if it were UTC's: days stay days over every change of the clock.
    let dial = |local: NaiveDateTime| rrule::Tz::UTC.from_utc_datetime(&local);
    let rule: RRule<Unvalidated> =
        format!("RRULE:{}", until_by(rule.val.as_str(), start).map_err(|e| wrong(e.to_string()))?)
            .parse()
            .map_err(|why: rrule::RRuleError| wrong(why.to_string()))?;
    if matches!(rule.get_freq(), Frequency::Hourly | Frequency::Minutely | Frequency::Secondly) {
        // Going through every second of ten years takes as long as it sounds.
        return Err(wrong("expected FREQ to be DAILY, WEEKLY, MONTHLY or YEARLY".to_owned()));
    }
    let rule = rule.validate(dial(start.local())).map_err(|why| wrong(why.to_string()))?;
    let all = RRuleSet::new(dial(start.local())).rrule(rule).before(dial(end.and_time(NaiveTime::MIN)));
    let all = all.all(TIMES_MAX);
    if all.limited && all.dates.len() >= usize::from(TIMES_MAX) {
        return Err(wrong(format!("expected it to recur {TIMES_MAX} times at most until {end}")));
    }
    times.extend(all.dates.into_iter().map(|at| at.naive_utc()));
    for except in event.properties.iter().filter(|p| p.name.as_str().eq_ignore_ascii_case("EXDATE")) {
        for value in except.val.as_str().split(',') {
            let one = Property {
                name: except.name.clone(),
                val: value.trim().into(),
                params: except.params.clone(),
            };
            let local = match (start, At::parse(&one, zone)?) {
                (At::Day(_), At::Day(day)) => day.and_time(NaiveTime::MIN),
                (At::Time(_, own), At::Time(local, other)) => {
                    moment(local, other)?.with_timezone(&own).naive_local()
                }
                (At::Day(_), At::Time(..)) | (At::Time(..), At::Day(_)) => {
                    bail!("EXDATE = {}: expected a date if DTSTART is one, else a time", short(value))
                }
            };
            times.remove(&local);
        }
    }
    Ok(times)
}

/// The rule with its end as the event's own clock shows it, written as if that were UTC.
fn until_by(rule: &str, start: At) -> anyhow::Result<String> {
    let part = |part: &str| -> anyhow::Result<String> {
        let Some((_, until)) = part.split_once('=').filter(|(key, _)| key.eq_ignore_ascii_case("UNTIL"))
        else {
            return Ok(part.to_owned());
        };
        let expected = || anyhow!("UNTIL = {}: expected a date, or a date and time", short(until));
        let local = match date_or_time(&Property::new_ref("UNTIL", until)).ok_or_else(expected)? {
            // The whole day, whatever the hour.
            DatePerhapsTime::Date(day) => day.and_hms_opt(23, 59, 59).ok_or_else(expected)?,
            DatePerhapsTime::DateTime(CalendarDateTime::Floating(local)) => local,
            DatePerhapsTime::DateTime(CalendarDateTime::Utc(at)) => match start {
                At::Day(_) => at.naive_utc(),
                At::Time(_, zone) => at.with_timezone(&zone).naive_local(),
            },
            DatePerhapsTime::DateTime(CalendarDateTime::WithTimezone { .. }) => return Err(expected()),
        };
        Ok(format!("UNTIL={}", local.format("%Y%m%dT%H%M%SZ")))
    };
    let parts: anyhow::Result<Vec<_>> = rule.split(';').map(part).collect();
    Ok(parts?.join(";"))
}

#[cfg(test)]
mod tests;
