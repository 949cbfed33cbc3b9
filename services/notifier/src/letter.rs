//! What people read: the text of a message, and its calendar entry. Pure; the time comes in.
//!
//! Everybody gets an entry of their own: a REQUEST, with the reader as its only attendee. RFC 5546 demands attendees of
//! a REQUEST (3.2.2), and of what cancels a whole event (3.2.5); calendars file the one, and take it out again by the
//! other, for a reader who is named. What is published (PUBLISH) names nobody, and few calendars take it back by
//! themselves: a deletion that was cancelled would go on standing there. One entry that names everybody would tell each
//! of them who else was told.
use std::str::FromStr;

use chrono::{DateTime, Duration, NaiveDate, Utc};
use icalendar::{Calendar, Component, Event, EventStatus, Property};
use lettre::message::Mailbox;
use serde::{Deserialize, Serialize};
use sexton_model::deletion::Zone;

use crate::spool::Announcement;

/// How long the maintenance window of a moment lasts, in minutes; that of a date is the whole day.
const WINDOW_MINUTES: i64 = 60;

/// When something goes: a date, or a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Due {
    /// On this day.
    Day(NaiveDate),
    /// At this moment.
    At(DateTime<Utc>),
}

/// A text is neither a date nor a moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("due {0:?}: expected a date such as 2026-12-01, or a moment such as 2026-12-01T09:00:00+01:00")]
pub struct NotDue(String);

impl FromStr for Due {
    type Err = NotDue;
    fn from_str(text: &str) -> Result<Self, NotDue> {
        if let Ok(day) = NaiveDate::from_str(text) {
            return Ok(Self::Day(day));
        }
        DateTime::parse_from_rfc3339(text)
            .map(|at| Self::At(at.with_timezone(&Utc)))
            .map_err(|_| NotDue(text.chars().take(40).collect()))
    }
}

impl TryFrom<String> for Due {
    type Error = NotDue;
    fn try_from(text: String) -> Result<Self, NotDue> {
        text.parse()
    }
}

impl From<Due> for String {
    fn from(due: Due) -> Self {
        match due {
            Due::Day(day) => day.to_string(),
            Due::At(at) => at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        }
    }
}

impl std::fmt::Display for Due {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Day(day) => write!(f, "{}", day.format("%-d %B %Y")),
            Self::At(at) => write!(f, "{} UTC", at.format("%-d %B %Y, %H:%M")),
        }
    }
}

/// The maintenance window that people find in their calendars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// It begins then.
    pub from: Due,
    /// It ends then; a day is not part of it any more.
    pub until: Due,
}

impl Window {
    /// The window of something that goes then; `None` at the end of the calendar.
    pub fn of(due: Due) -> Option<Self> {
        let until = match due {
            Due::Day(day) => Due::Day(day.succ_opt()?),
            Due::At(at) => Due::At(at.checked_add_signed(Duration::minutes(WINDOW_MINUTES))?),
        };
        Some(Self { from: due, until })
    }
}

/// Which of the two messages it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It will be deleted.
    Announcement,
    /// It will not be.
    Retraction,
}

/// One message to one person. But for whom its calendar entry names, it is the same for everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The Message-ID's part before the `@`: the same for every repeat of this message.
    pub id: String,
    /// That of the message which this one takes back.
    pub answers: Option<String>,
    /// The subject.
    pub subject: String,
    /// The text.
    pub text: String,
    /// `REQUEST` or `CANCEL`, and the calendar entry with it; `None` if no date is known.
    pub calendar: Option<(&'static str, String)>,
}

/// What the plan or the office says beside what follows from the announcement.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a> {
    /// What happens when.
    pub text: Option<&'a str>,
    /// How to stop it.
    pub cancel: Option<&'a str>,
    /// What that restores, and until when it is certain to be possible.
    pub undo: Option<&'a str>,
    /// Who writes.
    pub from: &'a str,
}

/// The message of an announcement to one of those who are told, as it stands.
pub fn write(kind: Kind, about: &Announcement, to: &str, words: Words<'_>, now: DateTime<Utc>) -> Letter {
    let message = |sequence: u32| format!("{}.{sequence}", about.uid);
    let (subject, text, answers) = match kind {
        Kind::Announcement => announce(about, words),
        Kind::Retraction => {
            let (subject, text) = retract(about);
            (subject, text, about.sequence.checked_sub(1).map(message))
        }
    };
    let entry = about.window.zip(calendar_address(to));
    let calendar =
        entry.map(|(window, attendee)| calendar(kind, about, window, attendee, &subject, words, now));
    Letter { id: message(about.sequence), answers, subject, text, calendar }
}

fn announce(about: &Announcement, words: Words<'_>) -> (String, String, Option<String>) {
    let resource = &about.resource;
    let when = about.due.map_or_else(String::new, |due| format!(" on {}", of_zone(due, about.zone)));
    let subject = format!("{resource} will be deleted{when}");
    let mut text = format!("{resource} will be deleted{when}.\n");
    for (name, value) in about.identity.attributes() {
        text.push_str(&format!("  {name}: {value}\n"));
    }
    text.push_str("\nWhat happens:\n");
    text.push_str(words.text.unwrap_or(
        "It is switched off first, and can be brought back as it was until it is taken apart, some days\n\
         later. Some days after that its data is destroyed; then nothing brings it back.",
    ));
    text.push_str("\n\nIf it must stay, cancel:\n");
    match words.cancel {
        Some(cancel) => text.push_str(cancel),
        None => text.push_str(&format!("  sexton cancel {resource}")),
    }
    text.push('\n');
    if let Some(undo) = words.undo {
        text.push_str(&format!("\nWhat a cancel restores: {undo}\n"));
    }
    (subject, text, None)
}

/// When, with whose calendar a date is of: there is more than one midnight between two days.
fn of_zone(due: Due, zone: Option<Zone>) -> String {
    match (due, zone) {
        (Due::At(_), _) => due.to_string(),
        (Due::Day(_), Some(zone)) => format!("{due} ({})", zone.0.name()),
        (Due::Day(_), None) => format!("{due} (its time zone is not stated)"),
    }
}

fn retract(about: &Announcement) -> (String, String) {
    let resource = &about.resource;
    let subject = format!("{resource} stays: its deletion was cancelled");
    let mut text = format!("The deletion of {resource} was cancelled. It stays, as it was.\n");
    for (name, value) in about.identity.attributes() {
        text.push_str(&format!("  {name}: {value}\n"));
    }
    text.push_str("\nThis takes back what was announced before; its calendar entry is cancelled.\n");
    (subject, text)
}

/// A person's address as calendars write it (RFC 6068); `None` if no mail can be addressed to them either.
fn calendar_address(to: &str) -> Option<String> {
    let address = to.parse::<Mailbox>().ok()?.email;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$'*+".contains(&byte);
    let escaped = |part: &str| -> String {
        let byte = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        part.bytes().map(byte).collect()
    };
    Some(format!("mailto:{}@{}", escaped(address.user()), escaped(address.domain())))
}

fn calendar(
    kind: Kind,
    about: &Announcement,
    window: Window,
    attendee: String,
    subject: &str,
    words: Words<'_>,
    now: DateTime<Utc>,
) -> (&'static str, String) {
    let (method, status) = match kind {
        Kind::Announcement => ("REQUEST", EventStatus::Confirmed),
        Kind::Retraction => ("CANCEL", EventStatus::Cancelled),
    };
    let mut event = Event::with_uid(&about.uid.to_string());
    event.timestamp(now).sequence(about.sequence).summary(subject).status(status);
    if kind == Kind::Announcement {
        // Some calendars offer to answer whatever they are told.
        event.description("Declining this does not stop the deletion. The mail says how to cancel it.");
    }
    for (name, at) in [("DTSTART", window.from), ("DTEND", window.until)] {
        event.append_property(match at {
            Due::Day(day) => {
                Property::new(name, day.format("%Y%m%d").to_string()).add_parameter("VALUE", "DATE").done()
            }
            Due::At(at) => Property::new(name, at.format("%Y%m%dT%H%M%SZ").to_string()),
        });
    }
    event.append_property(Property::new("ORGANIZER", format!("mailto:{}", words.from)));
    // Nobody has to come, or to answer.
    event.append_property(
        Property::new("ATTENDEE", attendee)
            .add_parameter("ROLE", "OPT-PARTICIPANT")
            .add_parameter("PARTSTAT", "NEEDS-ACTION")
            .add_parameter("RSVP", "FALSE")
            .done(),
    );
    // A window, not an appointment: nobody is busy because of it.
    event.append_property(Property::new("TRANSP", "TRANSPARENT"));
    let mut calendar = Calendar::new();
    calendar.append_property(Property::new("METHOD", method));
    calendar.push(event.done());
    (method, calendar.done().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::State;

    fn about(due: Option<&str>, sequence: u32) -> Announcement {
        let due: Option<Due> = due.map(|text| text.parse().unwrap());
        Announcement {
            uid: uuid::Uuid::from_u128(7),
            resource: "vm/web01".into(),
            identity: serde_json::from_str(r#"{"uuid": "2f1c"}"#).unwrap(),
            due,
            zone: Some("Europe/Berlin".parse().unwrap()),
            window: due.and_then(Window::of),
            to: Vec::new(),
            state: State::Announcing,
            sequence,
            tried: Default::default(),
            accepted: Default::default(),
            rejected: Default::default(),
        }
    }

    fn words<'a>() -> Words<'a> {
        let undo = Some("everything; at least until 2026-12-04T00:05:00.000Z");
        Words { text: None, cancel: Some("call 112"), undo, from: "sexton@example.org" }
    }

    const OWNER: &str = "The Owner <owner@example.org>";
    const ATTENDEE: &str =
        "ATTENDEE;PARTSTAT=NEEDS-ACTION;ROLE=OPT-PARTICIPANT;RSVP=FALSE:mailto:owner@example.org";

    /// The method of a letter's entry, and its lines.
    fn entry(letter: &Letter) -> (&'static str, Vec<String>) {
        let (method, entry) = letter.calendar.as_ref().unwrap();
        (*method, entry.replace("\r\n ", "").lines().map(str::to_owned).collect())
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000, 0).unwrap()
    }

    #[test]
    fn a_due_is_a_date_or_a_moment() {
        assert_eq!("2026-12-01".parse::<Due>().unwrap().to_string(), "1 December 2026");
        let moment: Due = "2026-12-01T09:30:00+01:00".parse().unwrap();
        assert_eq!(moment.to_string(), "1 December 2026, 08:30 UTC");
        assert_eq!(String::from(moment), "2026-12-01T08:30:00Z");
        for bad in ["", "tomorrow", "2026-13-01", "2026-12-01T09:30:00", "1.12.2026"] {
            let error = bad.parse::<Due>().unwrap_err().to_string();
            assert!(error.contains("expected a date"), "{error}");
        }
    }

    #[test]
    fn an_announcement_says_what_goes_when_and_how_to_stop_it() {
        let letter = write(Kind::Announcement, &about(Some("2026-12-01"), 1), OWNER, words(), now());
        assert_eq!(letter.subject, "vm/web01 will be deleted on 1 December 2026 (Europe/Berlin)");
        let restores = "What a cancel restores: everything; at least until 2026-12-04";
        for part in ["vm/web01", "2f1c", "1 December 2026 (Europe/Berlin)", "call 112", restores] {
            assert!(letter.text.contains(part), "{part} is missing:\n{}", letter.text);
        }
        let (method, entry) = entry(&letter);
        assert_eq!(method, "REQUEST");
        for line in [
            "METHOD:REQUEST",
            "UID:00000000-0000-0000-0000-000000000007",
            "SEQUENCE:1",
            "STATUS:CONFIRMED",
            "DTSTART;VALUE=DATE:20261201",
            "DTEND;VALUE=DATE:20261202",
            "SUMMARY:vm/web01 will be deleted on 1 December 2026 (Europe/Berlin)",
            "ORGANIZER:mailto:sexton@example.org",
            ATTENDEE,
            "DESCRIPTION:Declining this does not stop the deletion. The mail says how to cancel it.",
        ] {
            assert!(entry.iter().any(|l| l == line), "{line} is missing:\n{entry:#?}");
        }
    }

    #[test]
    fn whose_calendar_a_date_is_of_is_said_or_that_nobody_says_it() {
        let subject = |about: &Announcement| write(Kind::Announcement, about, OWNER, words(), now()).subject;
        let older = Announcement { zone: None, ..about(Some("2026-12-01"), 1) };
        let unsaid = "vm/web01 will be deleted on 1 December 2026 (its time zone is not stated)";
        assert_eq!(subject(&older), unsaid);
        let moment = about(Some("2026-12-01T09:30:00+01:00"), 1);
        assert_eq!(subject(&moment), "vm/web01 will be deleted on 1 December 2026, 08:30 UTC");
    }

    #[test]
    fn a_retraction_cancels_the_same_entry_under_a_higher_number() {
        let letter = write(Kind::Retraction, &about(Some("2026-12-01T08:30:00Z"), 2), OWNER, words(), now());
        assert_eq!(letter.answers.as_deref(), Some("00000000-0000-0000-0000-000000000007.1"));
        assert_eq!(letter.id, "00000000-0000-0000-0000-000000000007.2");
        let (method, entry) = entry(&letter);
        assert_eq!(method, "CANCEL");
        for line in [
            "METHOD:CANCEL",
            "UID:00000000-0000-0000-0000-000000000007",
            "SEQUENCE:2",
            "STATUS:CANCELLED",
            "DTSTART:20261201T083000Z",
            "DTEND:20261201T093000Z",
            "ORGANIZER:mailto:sexton@example.org",
            ATTENDEE,
        ] {
            assert!(entry.iter().any(|l| l == line), "{line} is missing:\n{entry:#?}");
        }
    }

    /// Whoever is named in a REQUEST has to be named in its CANCEL; and nobody learns who else was told.
    #[test]
    fn an_entry_names_whom_it_is_sent_to_and_nobody_else() {
        let mut both = about(Some("2026-12-01"), 1);
        both.to = vec![OWNER.to_owned(), "second@example.org".to_owned()];
        for kind in [Kind::Announcement, Kind::Retraction] {
            for (to, address) in [(OWNER, "owner@example.org"), ("second@example.org", "second@example.org")]
            {
                let (_, entry) = entry(&write(kind, &both, to, words(), now()));
                let named: Vec<_> = entry.iter().filter(|line| line.starts_with("ATTENDEE")).collect();
                assert!(named.len() == 1 && named[0].ends_with(&format!(":mailto:{address}")), "{named:?}");
            }
        }
        assert_eq!(calendar_address("a/b%c+d@example.org").unwrap(), "mailto:a%2Fb%25c+d@example.org");
        assert_eq!(calendar_address("nobody"), None);
    }

    #[test]
    fn without_a_date_none_is_made_up() {
        let letter = write(Kind::Announcement, &about(None, 1), OWNER, words(), now());
        assert_eq!(letter.subject, "vm/web01 will be deleted");
        assert_eq!(letter.calendar, None);
    }
}
