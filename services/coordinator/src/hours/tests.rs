use std::path::Path;

use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp::from(chrono::DateTime::parse_from_rfc3339(text).unwrap().to_utc())
}

fn of(folder: &Path, text: &str) -> Result<Option<Windows>, String> {
    let config = Config::parse(&folder.join("sexton.toml"), text, &["windows"]).unwrap();
    windows(&config, at("2026-11-28T12:00:00Z")).map_err(|why| format!("{why:#}"))
}

fn christmas(folder: &Path) {
    let text = "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nSUMMARY:Christmas\r\nDTSTART;VALUE=DATE:20261222\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
    std::fs::write(folder.join("holidays.ics"), text).unwrap();
    std::fs::write(folder.join("broken.ics"), text.replace("20261222", "2026")).unwrap();
    std::fs::write(folder.join("latin1.ics"), [0xe4, 0xf6]).unwrap();
    std::fs::write(folder.join("large.ics"), vec![b'x'; (4 << 20) + 1]).unwrap();
}

#[test]
fn there_are_hours_unless_they_are_switched_off() {
    let folder = tempfile::tempdir().unwrap();
    christmas(folder.path());
    assert_eq!(of(folder.path(), ""), Ok(Some(Windows::default())));
    assert_eq!(of(folder.path(), "[windows]\nalways = true\n"), Ok(None));
    let text = "[windows]\nzone = \"Europe/Berlin\"\nholidays = \"holidays.ics\"\n";
    let windows = of(folder.path(), text).unwrap().unwrap();
    assert_eq!(windows.last_holiday(), Some("2026-12-22".parse().unwrap()));
    assert_eq!(windows.next_opening(at("2026-12-22T10:00:00+01:00")), at("2026-12-23T09:00:00+01:00"));
}

#[test]
fn a_mistake_names_the_file_and_the_key() {
    let folder = tempfile::tempdir().unwrap();
    christmas(folder.path());
    for (text, part) in [
        ("", "sexton.toml: [windows]: zone: expected an IANA time zone"),
        ("zone = \"Berlin\"", "[windows]: zone \"Berlin\""),
        ("zone = \"UTC\"\nform = \"09:00\"", "form"),
        ("zone = \"UTC\"\nfrom = 9", "from"),
        ("zone = \"UTC\"\nholidays = \"gone.ics\"", "gone.ics: cannot be opened"),
        ("zone = \"UTC\"\nholidays = \"latin1.ics\"", "latin1.ics: expected an iCalendar file in UTF-8"),
        ("zone = \"UTC\"\nholidays = \"large.ics\"", "large.ics: expected at most 4194304 bytes"),
        (
            "zone = \"UTC\"\nholidays = \"broken.ics\"",
            "broken.ics: event \"Christmas\" (DTSTART 2026): DTSTART = 2026",
        ),
    ] {
        let error = of(folder.path(), &format!("[windows]\n{text}\n")).unwrap_err();
        assert!(error.contains(part) && error.contains("sexton.toml: [windows]: "), "{error}");
    }
}

#[test]
fn a_calendar_that_is_over_is_told() {
    let folder = tempfile::tempdir().unwrap();
    christmas(folder.path());
    let text = "[windows]\nzone = \"Europe/Berlin\"\nholidays = \"holidays.ics\"\n";
    let windows = of(folder.path(), text).unwrap().unwrap();
    assert_eq!(outlived(&windows, at("2026-12-22T10:00:00+01:00")), None);
    let why = outlived(&windows, at("2026-12-23T10:00:00+01:00")).unwrap();
    assert!(why.contains("ended on 2026-12-22"), "{why}");
    assert_eq!(outlived(&Windows::default(), at("2026-12-23T10:00:00+01:00")), None);
}
