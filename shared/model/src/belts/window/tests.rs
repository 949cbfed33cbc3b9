use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp::from(DateTime::parse_from_rfc3339(text).unwrap().to_utc())
}

fn written(text: &str) -> Result<Option<Windows>, String> {
    let written: Written = toml::from_str(text).map_err(|e| e.to_string())?;
    written.windows().map_err(|e| e.to_string())
}

fn windows(text: &str, holidays: &[&str]) -> Windows {
    let holidays = holidays.iter().map(|day| day.parse().unwrap()).collect();
    written(text).unwrap().unwrap().with_holidays(holidays).unwrap()
}

const BERLIN: &str = "zone = \"Europe/Berlin\"";

#[test]
fn a_mistake_names_the_key_and_what_was_expected() {
    let berlin = |more: &str| format!("{BERLIN}\n{more}");
    for (text, part) in [
        (String::new(), "zone: expected an IANA time zone"),
        ("zone = \"Berlin\"".into(), "zone \"Berlin\": expected an IANA time zone"),
        ("always = true\nzone = \"UTC\"".into(), "always = true: expected no other key"),
        ("always = true\nholidays = \"h.ics\"".into(), "always = true: expected no other key"),
        (
            berlin("days = []"),
            "days: expected one or more of mon, tue, wed, thu, fri, sat and sun, each once, and not none",
        ),
        (berlin("days = [\"tue\", \"tue\"]"), "each once, and not \"tue\""),
        (berlin("days = [\"Tuesday\"]"), "and not \"Tuesday\""),
        (berlin("from = \"9:00\""), "from = \"9:00\": expected a time of day such as \"09:00\""),
        (berlin("from = \"09:60\""), "from = \"09:60\": expected"),
        (berlin("to = \"24:01\""), "to = \"24:01\": expected"),
        (berlin("to = \"+9:00\""), "to = \"+9:00\": expected"),
        (berlin("to = \"15\""), "to = \"15\": expected"),
        (berlin("to = \"09:00\""), "to = \"09:00\": expected 15 minutes after from = \"09:00\" or later"),
        (berlin("from = \"16:00\""), "to = \"15:00\": expected 15 minutes after from = \"16:00\""),
        (berlin("from = \"14:46\""), "to = \"15:00\": expected 15 minutes after from = \"14:46\""),
        (berlin("until = \"16:00\""), "until"),
        (berlin("days = \"tue\""), "days"),
    ] {
        let error = written(&text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
    let begin: NaiveDate = "2026-01-01".parse().unwrap();
    let many = begin.iter_days().take(HOLIDAYS_MAX + 1).collect();
    assert_eq!(Windows::default().with_holidays(many), Err(Mistake::TooManyHolidays(HOLIDAYS_MAX + 1)));
}

#[test]
fn what_is_not_said_is_as_by_default_but_the_zone_is_said() {
    let default = Windows::default();
    assert_eq!(default.to_string(), "tue, wed, thu 09:00 to 15:00 UTC");
    assert_eq!(written("zone = \"UTC\""), Ok(Some(default.clone())));
    assert_eq!(written("always = false\nzone = \"UTC\""), Ok(Some(default)));
    assert_eq!(written("always = true"), Ok(None));
    let text = format!("{BERLIN}\ndays = [\"fri\", \"mon\"]\nfrom = \"00:00\"\nto = \"24:00\"");
    let windows = windows(&text, &["2026-12-25"]);
    assert_eq!(windows.to_string(), "mon, fri 00:00 to 24:00 Europe/Berlin, not on holidays");
}

#[test]
fn when_it_is_open_and_when_it_opens_next() {
    let week = BERLIN.to_owned();
    let nightly = |days: &str| format!("{BERLIN}\ndays = [{days}]\nfrom = \"02:15\"\nto = \"02:45\"");
    let whole = format!("{BERLIN}\ndays = [\"mon\"]\nfrom = \"00:00\"\nto = \"24:00\"");
    let christmas: &[&str] = &["2026-12-22", "2026-12-23", "2026-12-24", "2026-12-29"];
    for (text, holidays, now, opens) in [
        // Saturday, and the very bounds.
        (&week, &[][..], "2026-11-28T12:00:00+01:00", "2026-12-01T09:00:00+01:00"),
        (&week, &[], "2026-12-01T08:59:59.999999+01:00", "2026-12-01T09:00:00+01:00"),
        (&week, &[], "2026-12-01T09:00:00+01:00", "2026-12-01T09:00:00+01:00"),
        (&week, &[], "2026-12-01T14:59:59.999999+01:00", "2026-12-01T14:59:59.999999+01:00"),
        (&week, &[], "2026-12-01T15:00:00+01:00", "2026-12-02T09:00:00+01:00"),
        (&week, &[], "2026-12-03T15:00:00+01:00", "2026-12-08T09:00:00+01:00"),
        // The zone's clock counts, not UTC's.
        (&week, &[], "2026-12-01T08:30:00Z", "2026-12-01T08:30:00Z"),
        (&week, &[], "2026-12-01T14:30:00Z", "2026-12-02T08:00:00Z"),
        // Over a clock change.
        (&week, &[], "2026-03-28T12:00:00+01:00", "2026-03-31T09:00:00+02:00"),
        (&week, &[], "2026-10-24T12:00:00+02:00", "2026-10-27T09:00:00+01:00"),
        // Holidays, one after the other.
        (&week, christmas, "2026-12-22T10:00:00+01:00", "2026-12-30T09:00:00+01:00"),
        // A holiday is a whole local day.
        (&whole, &["2026-11-30"], "2026-11-30T12:00:00+01:00", "2026-12-07T00:00:00+01:00"),
        (&whole, &[], "2026-11-29T23:59:59+01:00", "2026-11-30T00:00:00+01:00"),
        (&whole, &[], "2026-11-30T23:59:59+01:00", "2026-11-30T23:59:59+01:00"),
        (&whole, &[], "2026-12-01T00:00:00+01:00", "2026-12-07T00:00:00+01:00"),
        // Hours that the clock jumps over: the next day that has them.
        (&nightly("\"sun\""), &[], "2026-03-28T12:00:00+01:00", "2026-04-05T02:15:00+02:00"),
        // Hours that come twice, with an hour between them that is closed.
        (&nightly("\"sun\""), &[], "2026-10-25T00:00:00+02:00", "2026-10-25T02:15:00+02:00"),
        (&nightly("\"sun\""), &[], "2026-10-25T02:44:00+02:00", "2026-10-25T02:44:00+02:00"),
        (&nightly("\"sun\""), &[], "2026-10-25T02:50:00+02:00", "2026-10-25T02:15:00+01:00"),
        (&nightly("\"sun\""), &[], "2026-10-25T02:45:00+01:00", "2026-11-01T02:15:00+01:00"),
    ] {
        let windows = windows(text, holidays);
        let (now, opens) = (at(now), at(opens));
        assert_eq!(windows.next_opening(now), opens, "{windows} at {now}: {}", windows.next_opening(now));
        assert_eq!(windows.open(now), now == opens, "{windows} at {now}");
    }
}

/// The clock can be set into the hours from either side.
#[test]
fn it_opens_where_the_clock_is_set_into_the_hours() {
    let hours = |from: &str, to: &str| {
        windows(&format!("{BERLIN}\ndays = [\"sun\"]\nfrom = \"{from}\"\nto = \"{to}\""), &[])
    };
    let jumped = hours("02:30", "04:00");
    assert_eq!(jumped.next_opening(at("2026-03-29T01:59:00+01:00")), at("2026-03-29T03:00:00+02:00"));
    let back = hours("01:30", "02:30");
    assert_eq!(back.next_opening(at("2026-10-25T02:45:00+02:00")), at("2026-10-25T02:00:00+01:00"));
    // Over midnight: 23:30 of the day before comes again, after the next day has begun for an hour.
    let text = "zone = \"America/Sao_Paulo\"\ndays = [\"sat\"]\nfrom = \"23:15\"\nto = \"23:45\"";
    let again = windows(text, &[]);
    assert_eq!(again.next_opening(at("2018-02-17T23:50:00-02:00")), at("2018-02-17T23:15:00-03:00"));
}

#[test]
fn as_many_holidays_as_there_may_be_end() {
    let begin: NaiveDate = "2026-01-01".parse().unwrap();
    let all = Windows::default().with_holidays(begin.iter_days().take(HOLIDAYS_MAX).collect()).unwrap();
    let last = all.last_holiday().unwrap();
    let opens = all.next_opening(at("2026-01-05T00:00:00Z"));
    assert!(
        all.open(opens)
            && opens.utc().date_naive() > last
            && opens.ms_since(crate::time::start_of(last, Tz::UTC)) < 8 * 86_400_000
    );
    // Every Tuesday, Wednesday and Thursday among them, over many years.
    let works = |day: &NaiveDate| Windows::default().works_on(*day);
    let all = Windows::default().with_holidays(begin.iter_days().filter(works).take(HOLIDAYS_MAX).collect());
    let all = all.unwrap();
    assert!(all.open(all.next_opening(at("2026-01-05T00:00:00Z"))));
    // At the end of all calendars there is none, and nothing panics.
    for windows in [Windows::default(), all, windows("zone = \"Pacific/Kiritimati\"", &[])] {
        assert_eq!(windows.next_opening(Timestamp::MAX), Timestamp::MAX);
        assert!(!windows.open(Timestamp::MAX));
        windows.next_opening(Timestamp(i64::MIN));
    }
}

#[test]
fn a_calendar_is_outlived_the_day_after_its_last_holiday() {
    let windows = windows(BERLIN, &["2026-12-25", "2026-12-26"]);
    let last = windows.last_holiday();
    assert_eq!(windows.outlived(at("2026-12-26T23:59:59+01:00")), None);
    assert_eq!(windows.outlived(at("2026-12-27T00:00:00+01:00")), last);
    assert_eq!(Windows::default().outlived(at("2026-12-27T00:00:00+01:00")), None);
}

/// Zones with daylight saving at night and at midnight, by half an hour, and one that left out a day.
const ZONES: [Tz; 9] = [
    Tz::UTC,
    Tz::Europe__Berlin,
    Tz::America__New_York,
    Tz::America__Sao_Paulo,
    Tz::America__Havana,
    Tz::Australia__Lord_Howe,
    Tz::Pacific__Apia,
    Tz::Africa__Casablanca,
    Tz::Asia__Kathmandu,
];

fn any_windows() -> impl Strategy<Value = (Windows, NaiveDate)> {
    let days = prop::array::uniform7(prop::bool::weighted(0.4));
    let days = days.prop_filter("none", |days| days.contains(&true));
    let hours = (0..DAY_MINUTES - SHORTEST_MINUTES, SHORTEST_MINUTES..DAY_MINUTES);
    // Around the days on which clocks are set in one of the zones, as often as not.
    let near = prop::sample::select(vec![
        "2011-12-29",
        "2018-02-17",
        "2018-11-03",
        "2026-03-28",
        "2026-10-24",
        "2026-04-04",
        "2026-11-01",
        "2026-02-14",
    ]);
    let base = prop_oneof![
        near.prop_map(|day| day.parse::<NaiveDate>().unwrap()),
        (0..20_000u64).prop_map(|n| NaiveDate::from_ymd_opt(1990, 1, 1).unwrap() + chrono::Days::new(n)),
    ];
    let holidays = prop::collection::btree_set(0..20u64, 0..6);
    (prop::sample::select(ZONES.to_vec()), days, hours, base, holidays).prop_map(
        |(zone, days, (from, lasts), base, holidays)| {
            let holidays = holidays.into_iter().map(|n| base + chrono::Days::new(n)).collect();
            let to = from.saturating_add(lasts).min(DAY_MINUTES);
            (Windows { zone, days, from, to, holidays }, base)
        },
    )
}

proptest! {
    /// It is open then, and was not a moment before nor at any quarter of an hour in between; and from all of them one
    /// sees the same opening.
    #[test]
    fn the_next_opening_is_the_next((windows, base) in any_windows(), minute in 0..4320i64, us in 0..60_000_000i64) {
        let begin = base.and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp() + minute * 60;
        let now = Timestamp(begin * 1_000_000 + us);
        let opens = windows.next_opening(now);
        prop_assert!(opens >= now && windows.open(opens), "{} at {}: {}", windows, now, opens);
        prop_assert_eq!(windows.open(now), opens == now);
        if opens > now {
            prop_assert!(!windows.open(Timestamp(opens.0 - 1)), "{} at {}: {}", windows, now, opens);
        }
        let mut between = now;
        while between < opens {
            prop_assert!(!windows.open(between), "{} at {}: open at {}", windows, now, between);
            prop_assert_eq!(windows.next_opening(between), opens);
            between = between.plus_ms(if opens.ms_since(now) > 3 * 86_400_000 { 15 * 60_000 } else { 60_000 });
        }
    }
}
