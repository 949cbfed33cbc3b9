use chrono_tz::Europe::Berlin;
use sexton_testkit::fuzz::{Form, Fuzz};

use super::*;

const TODAY: &str = "2026-11-28";

fn calendar(events: &str) -> String {
    let text = format!("BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//x//y//EN\n{events}END:VCALENDAR\n");
    text.replace('\n', "\r\n")
}

fn event(lines: &str) -> String {
    format!(
        "BEGIN:VEVENT\nUID:1@example.org\nDTSTAMP:20260101T000000Z\nSUMMARY:Founders' day\n{lines}\nEND:VEVENT\n"
    )
}

fn of(lines: &str) -> Result<Vec<String>, String> {
    let found = holidays(&calendar(&event(lines)), Berlin, TODAY.parse().unwrap());
    found.map(|days| days.iter().map(ToString::to_string).collect()).map_err(|why| format!("{why:#}"))
}

#[test]
fn an_event_covers_every_local_day_that_it_touches() {
    for (lines, days) in [
        ("DTSTART;VALUE=DATE:20261225", &["2026-12-25"][..]),
        ("DTSTART;VALUE=DATE:20261225\nDTEND;VALUE=DATE:20261227", &["2026-12-25", "2026-12-26"]),
        // An end that is none: a day all the same.
        ("DTSTART;VALUE=DATE:20261225\nDTEND;VALUE=DATE:20261225", &["2026-12-25"]),
        ("DTSTART:20261225\nDURATION:P2D", &["2026-12-25", "2026-12-26"]),
        (
            "DTSTART:20261225\nDURATION:P1W",
            &[
                "2026-12-25",
                "2026-12-26",
                "2026-12-27",
                "2026-12-28",
                "2026-12-29",
                "2026-12-30",
                "2026-12-31",
            ],
        ),
        // A time: in the calendar's own zone, in UTC, in another one.
        ("DTSTART:20261224T120000\nDTEND:20261224T180000", &["2026-12-24"]),
        ("DTSTART:20261224T120000\nDTEND:20261225T000000", &["2026-12-24"]),
        ("DTSTART:20261224T120000\nDTEND:20261225T000001", &["2026-12-24", "2026-12-25"]),
        ("DTSTART:20261224T120000", &["2026-12-24"]),
        ("DTSTART:20261224T230000Z\nDTEND:20261225T230000Z", &["2026-12-25"]),
        ("DTSTART;TZID=America/New_York:20261224T190000\nDURATION:PT1H", &["2026-12-25"]),
        ("DTSTART;TZID=\"America/New_York\":20261224T190000\nDURATION:PT1H", &["2026-12-25"]),
        // A time that the clock jumps over.
        ("DTSTART;TZID=Europe/Berlin:20260329T023000\nDURATION:PT1H", &["2026-03-29"]),
        ("DTSTART;VALUE=DATE:20261225\nSTATUS:CANCELLED", &[]),
    ] {
        assert_eq!(of(lines), Ok(days.iter().map(ToString::to_string).collect()), "{lines}");
    }
}

#[test]
fn recurring_events_are_written_out() {
    let years = |lines: &str| {
        let days = of(lines).unwrap_or_else(|why| panic!("{lines}: {why}"));
        let (first, last) = (days.first().cloned().unwrap(), days.last().cloned().unwrap());
        (first, last, days.len())
    };
    let is = |first: &str, last: &str, count| (first.to_owned(), last.to_owned(), count);
    for (lines, wanted) in [
        // From last year on, for ten years.
        ("DTSTART;VALUE=DATE:19700101\nRRULE:FREQ=YEARLY", is("2026-01-01", "2035-01-01", 10)),
        (
            "DTSTART;VALUE=DATE:20001225\nDTEND;VALUE=DATE:20001227\nRRULE:FREQ=YEARLY;BYMONTH=12;BYMONTHDAY=25",
            is("2025-12-25", "2035-12-26", 22),
        ),
        ("DTSTART;VALUE=DATE:20240101\nRRULE:FREQ=YEARLY;COUNT=4", is("2026-01-01", "2027-01-01", 2)),
        ("DTSTART;VALUE=DATE:20240101\nRRULE:FREQ=YEARLY;UNTIL=20280101", is("2026-01-01", "2028-01-01", 3)),
        (
            "DTSTART;VALUE=DATE:20240101\nRRULE:UNTIL=20280101T000000Z;FREQ=YEARLY",
            is("2026-01-01", "2028-01-01", 3),
        ),
        ("DTSTART;VALUE=DATE:20240229\nRRULE:FREQ=YEARLY", is("2028-02-29", "2032-02-29", 2)),
        // The fourth Thursday of November.
        (
            "DTSTART;VALUE=DATE:20221124\nRRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH",
            is("2025-11-27", "2035-11-22", 11),
        ),
        (
            "DTSTART;VALUE=DATE:20240101\nRRULE:FREQ=YEARLY\nEXDATE;VALUE=DATE:20260101,20270101\nEXDATE;VALUE=DATE:20350101",
            is("2028-01-01", "2034-01-01", 7),
        ),
        // Over clock changes: always at that hour of that day.
        (
            "DTSTART;TZID=America/New_York:20260701T190000\nDURATION:PT1H\nRRULE:FREQ=MONTHLY;UNTIL=20270102T000000Z",
            is("2026-07-02", "2027-01-02", 7),
        ),
        (
            "DTSTART;TZID=America/New_York:20260701T190000\nRRULE:FREQ=MONTHLY;COUNT=3\nEXDATE:20260801T230000Z",
            is("2026-07-02", "2026-09-02", 2),
        ),
        ("DTSTART:20260105T000000\nRRULE:FREQ=WEEKLY;BYDAY=TU;COUNT=2", is("2026-01-05", "2026-01-13", 3)),
    ] {
        assert_eq!(years(lines), wanted, "{lines}");
    }
}

#[test]
fn what_is_not_understood_refuses_the_file_and_names_the_event() {
    for (lines, part) in [
        ("DTEND;VALUE=DATE:20261227", "event \"Founders' day\": DTSTART is missing"),
        (
            "DTSTART;VALUE=DATE:20261332",
            "event \"Founders' day\" (DTSTART 20261332): DTSTART = 20261332: expected a date",
        ),
        ("DTSTART;VALUE=DATE:20261225\nDTEND;VALUE=DATE:20261224", "it ends before it begins"),
        ("DTSTART;VALUE=DATE:20261225\nDTEND:20261226T000000Z", "dates both, or times both"),
        ("DTSTART;VALUE=DATE:20261225\nDTEND;VALUE=DATE:20261226\nDURATION:P1D", "and not both"),
        ("DTSTART;VALUE=DATE:20261225\nDURATION:a day", "DURATION = a day: expected one such as P1D"),
        ("DTSTART;TZID=Berlin:20261225T000000", "TZID = Berlin: expected an IANA time zone"),
        // Beyond the calendars of most zones.
        ("DTSTART:+262142 12 31T235959", "DTSTART = +262142 12 31T235959: expected a date"),
        ("DTSTART;TZID=Pacific/Kiritimati:-262143 01 01T000000", "expected a date, or a date and time"),
        (
            "DTSTART:20261225T000000\nDTEND:+262142 12 31T235959Z",
            "DTEND = +262142 12 31T235959Z: expected a date",
        ),
        (
            "DTSTART;VALUE=DATE:20261225\nEXDATE;VALUE=DATE:+262142 12 31\nRRULE:FREQ=YEARLY",
            "EXDATE = +262142 12 31: ",
        ),
        (
            "DTSTART;TZID=Pacific/Kiritimati:20261225T000000\nRRULE:FREQ=YEARLY;UNTIL=+262142 12 31T235959Z",
            "UNTIL = ",
        ),
        ("DTSTART;VALUE=DATE:20261225\nRRULE:FREQ=NEVER", "RRULE = FREQ=NEVER: "),
        ("DTSTART;VALUE=DATE:20261225\nRRULE:FREQ=YEARLY;UNTIL=soon", "UNTIL = soon: expected a date"),
        ("DTSTART;VALUE=DATE:20261225\nRRULE:FREQ=YEARLY\nRRULE:FREQ=WEEKLY", "expected one RRULE at most"),
        (
            "DTSTART;VALUE=DATE:20261225\nRRULE:FREQ=YEARLY\nEXDATE:20261225T000000Z",
            "expected a date if DTSTART is one",
        ),
        ("DTSTART;VALUE=DATE:20261225\nRDATE;VALUE=DATE:20271225", "RDATE is not understood"),
        ("DTSTART;VALUE=DATE:20261225\nRECURRENCE-ID;VALUE=DATE:20271225", "RECURRENCE-ID is not understood"),
        (
            "DTSTART:20260101T000000Z\nRRULE:FREQ=HOURLY",
            "expected FREQ to be DAILY, WEEKLY, MONTHLY or YEARLY",
        ),
        ("DTSTART:20260101T000000Z\nRRULE:BYMINUTE=0;FREQ=SECONDLY", "expected FREQ to be DAILY"),
        ("DTSTART;VALUE=DATE:19000101\nRRULE:FREQ=DAILY", "expected it to recur 8192 times at most"),
        ("DTSTART;VALUE=DATE:20250101\nRRULE:FREQ=DAILY\nDURATION:P5000D", "it lasts longer than 366 days"),
    ] {
        let error = of(lines).expect_err(lines);
        assert!(error.contains(part) && error.contains("event \"Founders' day\""), "{lines}: {error}");
    }
}

#[test]
fn what_is_no_calendar_is_refused() {
    let whole = calendar(&event("DTSTART;VALUE=DATE:20261225"));
    let deep = "BEGIN:X\r\n".repeat(100_000);
    let many = calendar(&event("DTSTART;VALUE=DATE:20261225").repeat(EVENTS_MAX + 1));
    for (text, part) in [
        ("", "expected an iCalendar file"),
        ("days = 1", "expected an iCalendar file"),
        (&whole[..whole.len() - 20], "expected an iCalendar file"),
        (&whole.repeat(2), "expected an iCalendar file"),
        (&calendar(""), "expected at least one event"),
        (&event("DTSTART;VALUE=DATE:20261225"), "expected VCALENDAR, and not VEVENT"),
        (&deep, "nested 8 deep"),
        (&many, "8193 events: expected at most 8192"),
    ] {
        let error = format!("{:#}", holidays(text, Berlin, TODAY.parse().unwrap()).unwrap_err());
        assert!(error.contains(part), "{}: {error}", short(text));
    }
}

#[test]
fn zones_alarms_and_folded_lines_do_not_disturb() {
    let zone = "BEGIN:VTIMEZONE\nTZID:Europe/Berlin\nBEGIN:STANDARD\nDTSTART:19701025T030000\nTZOFFSETFROM:+0200\nTZOFFSETTO:+0100\nRRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU\nEND:STANDARD\nEND:VTIMEZONE\n";
    let alarm = "BEGIN:VALARM\nACTION:DISPLAY\nTRIGGER:-PT30M\nDESCRIPTION:x\nEND:VALARM";
    let folded = "DESCRIPTION:a long\n  text\nDTSTART;VALUE=DA\n TE:20261225";
    let text = calendar(&format!(
        "{zone}{}{}",
        event(folded),
        event(&format!("DTSTART;VALUE=DATE:20261226\n{alarm}"))
    ));
    let days = holidays(&text, Berlin, TODAY.parse().unwrap()).unwrap();
    assert_eq!(days, ["2026-12-25", "2026-12-26"].map(|day| day.parse().unwrap()).into());
}

#[test]
fn of_a_calendar_that_is_over_the_last_day_is_known() {
    let text = calendar(&format!(
        "{}{}",
        event("DTSTART;VALUE=DATE:20191225"),
        event("DTSTART;VALUE=DATE:20181225")
    ));
    let days = holidays(&text, Berlin, TODAY.parse().unwrap()).unwrap();
    assert_eq!(days, ["2019-12-25".parse().unwrap()].into());
}

#[test]
fn fuzz_calendars() {
    let events = [
        "DTSTART;VALUE=DATE:20261225\nDTEND;VALUE=DATE:20261227",
        "DTSTART;VALUE=DATE:20001225\nRRULE:FREQ=YEARLY;BYMONTH=12;BYMONTHDAY=25;UNTIL=20280101T000000Z",
        "DTSTART;TZID=America/New_York:20260701T190000\nDURATION:PT1H\nRRULE:FREQ=MONTHLY;COUNT=3\nEXDATE:20260801T230000Z",
        "DTSTART;VALUE=DATE:20221124\nRRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH;INTERVAL=2\nSTATUS:CONFIRMED",
        "DTSTART:20261224T230000Z\nDURATION:P1W\nDESCRIPTION:a long\n  text",
    ];
    let mut target = Fuzz::new("calendars", Form::Text).seed(calendar(&events.map(event).concat())).slow(20);
    for lines in events {
        target = target.seed(calendar(&event(lines)));
    }
    let (today, end): (NaiveDate, NaiveDate) = (TODAY.parse().unwrap(), "2036-01-01".parse().unwrap());
    target.run(|bytes| {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let days = holidays(text, Berlin, today).map_err(|why| format!("{why:#}"))?;
        assert!(days.iter().all(|day| *day < end), "{days:?}");
        Ok(())
    });
}
