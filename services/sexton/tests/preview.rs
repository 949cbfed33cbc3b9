//! What a deletion would do, before there is one.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod served;
mod site;
mod waiting;

use std::process::Command;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Offset as _, TimeDelta, TimeZone as _, Utc};
use serde_json::{Value, json};
use served::{Served, said};
use sexton_model::deletion::Zone;
use site::{Site, get};
use waiting::until;

/// The date so many days from now.
fn day(ahead: i32) -> String {
    let date = Command::new("date").args(["-u", "-d", &format!("{ahead} days"), "+%F"]).output().unwrap();
    String::from_utf8(date.stdout).unwrap().trim().to_owned()
}

#[test]
fn it_says_what_the_configuration_protects() {
    let site = Site::start(2, "[protect]\nresources = [\"vm/vm0001\"]\n");
    let why = "vm/vm0001 is protected by [protect] in the coordinator's configuration";
    let (done, said) = site.says(&["plan", "vm/vm0001", "--on", &day(7), "--no-look"]);
    assert!(!done && said.contains(why), "{said}");
    let (done, said) = site.says(&["delete", "vm/vm0001", "--on", &day(7), "--reason", "a test"]);
    assert!(!done && said.contains(why), "{said}");
    let refused = site.says(&["audit", "--access"]).1;
    assert!(
        refused.contains("422 POST /v1/deletions") && refused.contains(why),
        "it is written down: {refused}"
    );
    assert!(site.says(&["delete", "vm/vm0002", "--on", &day(7), "--reason", "a test"]).0);
}

/// In Los Angeles the day begins seven or eight hours later than in UTC: whose midnight is meant is said by whoever asks, or by
/// the configuration; and always by Sexton.
#[test]
fn a_date_without_a_zone_is_of_the_configured_calendar_and_each_answer_names_it() {
    let configured = "America/Los_Angeles";
    let site = Site::start_with_days_of(500, 2, &format!("[policy]\nzone = \"{configured}\"\n"));
    let on = day(7);
    let delete = |machine: &str, further: &[&str]| {
        let asked = ["delete", machine, "--on", on.as_str(), "--reason", "a test"];
        site.says(&[&asked[..], further].concat())
    };
    let (done, said) = site.says(&["plan", "vm/vm0001", "--on", &on, "--no-look"]);
    assert!(done && said.contains(&format!("would be switched off on {on} ({configured})")), "{said}");
    let (done, said) = delete("vm/vm0001", &[]);
    assert!(done && said.contains(&format!("will delete vm/vm0001 on {on} ({configured})")), "{said}");
    let (done, said) = delete("vm/vm0002", &["--zone", "Europe/Berlin"]);
    assert!(done && said.contains(&format!("will delete vm/vm0002 on {on} (Europe/Berlin)")), "{said}");
    for (machine, zone) in [("vm/vm0001", configured), ("vm/vm0002", "Europe/Berlin")] {
        let shown = site.says(&["show", machine]).1;
        assert!(shown.contains(&format!("due {on} {zone}")), "{shown}");
    }
    let notices = site.folder.path().join("platform/notifier/main/announcements");
    until("whoever is told is told whose day it is", || {
        let all = std::fs::read_dir(&notices).into_iter().flatten().flatten();
        let texts: Vec<String> = all.flat_map(|notice| std::fs::read_to_string(notice.path())).collect();
        [configured, "Europe/Berlin"].iter().all(|zone| texts.iter().any(|text| text.contains(zone)))
    });
}

#[test]
fn it_shows_each_step_and_what_would_stop_it_and_makes_nothing() {
    let site = Site::start(1, "");
    let plan = |on: &str, gone_by: &str| {
        site.says(&["plan", "vm/vm0001", "--on", on, "--gone-by", gone_by, "--no-look"])
    };
    until("every consumer is there", || !plan(&day(7), &day(30)).1.contains("no consumer is there"));
    let (done, said) = plan(&day(7), &day(30));
    assert!(done, "{said}");
    for part in
        ["hypervisor.stop", "can be undone", "dns.remove", "DESTROYS", "hypervisor.delete_volumes", "purge"]
    {
        assert!(said.contains(part), "expected {part:?} in {said}");
    }
    assert!(!said.contains("WARNING") && !said.contains("would begin"), "{said}");
    assert!(said.contains("NOT LOOKED AT: --no-look"), "{said}");
    assert!(plan(&day(1), &day(2)).1.contains("gone by"), "a date that cannot be met");

    for to in ["soft", "observe"] {
        assert!(site.says(&["ceiling", "--everywhere", "--to", to, "--reason", "a test"]).0);
        let said = plan(&day(7), &day(30)).1;
        assert!(said.contains("would begin hard"), "{said}");
        assert_eq!(said.contains("would begin soft"), to == "observe", "{said}");
    }
    let pause = ["pause", "--subsystem", "dns", "--reason", "dns is being moved"];
    assert!(site.says(&pause).0);
    let answer = site.post("/v1/preview", "", &json!({ "resource": "vm/vm0001", "on": day(7) }).to_string());
    let preview: Value = serde_json::from_str(&answer.1).unwrap();
    let hard = preview["stages"][2]["steps"].as_array().unwrap();
    let of = |name: &str| hard.iter().find(|step| step["name"] == name).unwrap();
    assert_eq!(of("dns.remove")["stopped"]["by"], "pause", "{preview}");
    assert_eq!(of("hypervisor.undefine")["stopped"]["by"], "pause", "it does not begin: {preview}");
    assert_eq!(of("ipam.release")["stopped"]["by"], "ceiling", "{preview}");
    // Every belt says what it would say now, also those behind the first one that stops it.
    let belts = preview["stages"][2]["belts"].as_array().unwrap();
    let holds = |belt: &str| {
        belts.iter().find(|said| said["belt"] == belt).unwrap_or_else(|| panic!("no {belt}: {preview}"))["holds"]
            == true
    };
    assert!(holds("pause") && holds("ceiling"), "{preview}");
    for belt in ["protection", "drill", "hold", "notice", "redundancy", "healthy_time", "window", "budget"] {
        assert!(!holds(belt), "{belt}: {preview}");
    }
    let said = plan(&day(7), &day(30)).1;
    assert!(said.contains("HOLDS pauses: ") && said.contains("dns is being moved"), "{said}");
    assert!(said.contains("HOLDS ceiling: would begin hard"), "{said}");

    assert_eq!(records(&site), json!([]), "nothing was made");
    assert!(site.says(&["name", "vm/vm0001"]).1.contains("registered"));
}

/// Hours let hard and purge begin later than they are due; but they may change, so nobody counts on them.
#[test]
fn it_promises_no_more_than_the_record_that_is_made_of_it() {
    let served = Served::start(false);
    let root = served.token("root2", "admin", &[]);
    let mut later = 0;
    for n in 0..7 {
        let (name, on) = (format!("n{n}"), day(300 + n));
        served.register(&name, "acme");
        let asked = json!({ "resource": format!("vm/{name}"), "on": on });
        let (status, preview) = served.with(&root, "POST", "/v1/preview", &asked);
        assert_eq!(status, 200, "{preview}");
        let mut asked = asked;
        asked["reason"] = json!("a test");
        let (status, made) = served.with(&root, "POST", "/v1/deletions", &asked);
        assert_eq!(status, 201, "{made}");
        assert!(preview["cancel_until"].is_i64(), "{preview}");
        assert_eq!(preview["cancel_until"], made["cancel_until"], "{preview}");
        let at = |stage: usize| preview["stages"][stage]["at"].as_i64().unwrap();
        let (cancel, data) =
            (preview["cancel_until"].as_i64().unwrap(), preview["data_until"].as_i64().unwrap());
        assert!(cancel < data && cancel <= at(2) && data <= at(3), "{preview}");
        later += usize::from(cancel < at(2)) + usize::from(data < at(3));
    }
    assert!(later > 0, "there are hours, and on one of seven days they begin later");
    served.register("last", "acme");
    let plan = said(&served.sexton(&root, &["plan", "vm/last", "--on", &day(300), "--no-look"]));
    let made = said(&served.sexton(&root, &["delete", "vm/last", "--on", &day(300), "--reason", "a test"]));
    let until = |text: &str, before: &str| -> String {
        let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before:?} in {text}"));
        rest.split(" UTC at the earliest").next().unwrap().to_owned()
    };
    let promised = until(&plan, "takes everything back until hard begins: ");
    assert_eq!(promised, until(&made, "brings it back until the hard stage begins: "), "{plan}\n{made}");
}

/// The next two days on which the clocks of this zone change, ten days ahead at least.
fn changes(zone: Zone) -> Vec<NaiveDate> {
    let offset = |date: NaiveDate| zone.0.offset_from_utc_datetime(&date.and_time(NaiveTime::MIN)).fix();
    let today = Utc::now().date_naive();
    let changes = |date: &NaiveDate| offset(*date) != offset(*date + Days::new(1));
    (10..500).map(|days| today + Days::new(days)).filter(changes).take(2).collect()
}

/// Switched off on the day before, and removed two days after it: days are those of a calendar, and not of 24 hours.
#[test]
fn each_stage_is_at_its_local_time_across_a_change_of_the_clocks() {
    let served = Served::start_with(false, "[windows]\nalways = true\n");
    let root = served.token("root2", "admin", &[]);
    served.register("web01", "acme");
    let zone: Zone = "Europe/Berlin".parse().unwrap();
    let changes = changes(zone);
    assert_eq!(changes.len(), 2, "in spring, and in autumn");
    for change in changes {
        let on = change - Days::new(1);
        let date = on.to_string();
        let asked = json!({ "resource": "vm/web01", "on": date, "zone": "Europe/Berlin" });
        let (status, preview) = served.with(&root, "POST", "/v1/preview", &asked);
        assert_eq!(status, 200, "{preview}");
        let asked = ["plan", "vm/web01", "--on", date.as_str(), "--zone", "Europe/Berlin", "--no-look"];
        let plan = said(&served.sexton(&root, &asked));
        let mut offsets = Vec::new();
        // Announce, soft, hard, purge and recycle, as the plan has them.
        for (stage, days) in preview["stages"].as_array().unwrap().iter().zip([-5, 0, 3, 8, 38]) {
            let at = DateTime::from_timestamp_micros(stage["at"].as_i64().unwrap()).unwrap();
            let local = at.with_timezone(&zone.0);
            let wanted = format!("{} 00:05", on + TimeDelta::days(days));
            assert_eq!(local.format("%Y-%m-%d %H:%M").to_string(), wanted, "{stage}");
            let shown = at.format("%Y-%m-%d %H:%M:%S").to_string();
            assert!(plan.contains(&shown), "{} is not at {shown}: {plan}", stage["stage"]);
            offsets.push(local.offset().fix());
        }
        assert_eq!(offsets.len(), 5);
        assert!(offsets[1] != offsets[2], "the clocks change between soft and hard");
    }
}

/// All records.
fn records(site: &Site) -> Value {
    let records: Value = serde_json::from_str(&get(site.api, "/v1/deletions").unwrap().1).unwrap();
    records["items"].clone()
}

#[test]
fn it_shows_exactly_what_a_record_pins_afterwards() {
    let site = Site::start(2, "");
    let no_look = || site.says(&["plan", "vm/vm0001", "--on", &day(5), "--no-look"]).1;
    until("every consumer is there", || !no_look().contains("no consumer is there"));
    let platform = site.folder.path().join("platform");
    let world = || site.says(&["sandbox", platform.to_str().unwrap(), "--describe", "vm0001"]);
    let before = world();
    assert!(before.0, "{before:?}");
    let (done, said) = site.says(&["plan", "vm/vm0001", "--on", &day(5)]);
    assert!(done, "{said}");
    assert!(!said.contains("NOT KNOWN") && !said.contains("NOT LOOKED AT"), "{said}");
    for part in [
        "targets     as seen now (survey ",
        "  hypervisor.main:\n",
        "      for hypervisor.stop (soft), hypervisor.check_off (hard), hypervisor.undefine (hard), \
         hypervisor.delete_volumes (purge)\n",
        "volumes ",
        "nothing was made",
    ] {
        assert!(said.contains(part), "expected {part:?} in {said}");
    }
    let (done, json) = site.says(&["-o", "json", "plan", "vm/vm0001", "--on", &day(5)]);
    assert!(done, "{json}");
    let planned: Value = serde_json::from_str(&json).unwrap();
    let survey = &planned["survey"];
    assert_eq!((&survey["open"], &survey["resource"]), (&json!(false), &json!("vm/vm0001")));
    let undefine =
        survey["steps"].as_array().unwrap().iter().find(|step| step["step"] == "hypervisor.undefine");
    assert_eq!(undefine.unwrap()["about"]["known"], "exact", "{survey}");
    assert_eq!(planned["stages"][2]["stage"], "hard", "the preview stands beside it");
    let kept = get(site.api, &format!("/v1/surveys/{}", survey["survey"])).unwrap();
    assert_eq!((kept.0, &serde_json::from_str::<Value>(&kept.1).unwrap()), (200, survey));
    assert_eq!(get(site.api, "/v1/surveys/999999").unwrap().0, 404);

    // Nothing was made, nothing was changed, and no decision was written down.
    assert_eq!(records(&site), json!([]));
    assert_eq!(world(), before);
    let id = site.delete("vm/vm0001", None);
    let pinned = || {
        let (status, text) = get(site.api, &format!("/v1/deletions/{id}")).unwrap();
        assert_eq!(status, 200, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()["targets"].clone()
    };
    let all = survey["targets"].as_object().unwrap().len();
    until("announce has looked at all", || pinned().as_object().unwrap().len() == all);
    assert_eq!(pinned(), survey["targets"]);

    // Now there is a record: its orders are not disturbed.
    let body = json!({ "resource": "vm/vm0001", "on": day(5) }).to_string();
    let (status, answer) = site.post("/v1/surveys", "", &body);
    assert_eq!(status, 409, "{answer}");
    assert!(answer.contains("live deletion record") && answer.contains(&id), "{answer}");
}

#[test]
fn what_is_not_looked_at_says_why() {
    let site = Site::start(1, "");
    let plan = || site.says(&["plan", "vm/vm0001", "--on", &day(7), "--within", "5"]);
    let body =
        |within: i32| json!({ "resource": "vm/vm0001", "on": day(7), "within_secs": within }).to_string();
    for within in [0, 121] {
        let (status, answer) = site.post("/v1/surveys", "", &body(within));
        assert!(status == 422 && answer.contains("within_secs") && answer.contains("1 to 120"), "{answer}");
    }
    assert!(site.says(&["pause", "--subsystem", "dns", "--reason", "it is moved"]).0);
    let said = plan().1;
    assert!(said.contains("dns.main: NOT KNOWN, not looked at: pause 1: test: it is moved\n"), "{said}");
    assert!(said.contains("      for dns.remove (hard)\n"), "{said}");
    assert!(site.says(&["pause", "--reason", "everything"]).0);
    let (done, said) = plan();
    assert!(done && said.contains("NOT LOOKED AT: nobody is asked: pause "), "{said}");
}

#[test]
fn what_could_not_be_made_is_not_shown_either() {
    let site = Site::start(1, "");
    let plan = |resource: &str, on: &str| site.says(&["plan", resource, "--on", on]);
    for (resource, on, why) in [
        ("vm/vm0001", day(-2), "is past"),
        ("vm/vm0009", day(3), "not registered"),
        ("pool/a", day(3), "no plan for pool"),
        ("vm/vm0001", day(9999), "days ahead"),
    ] {
        let (done, said) = plan(resource, &on);
        assert!(!done && said.contains(why), "{resource} on {on}: {said}");
    }
    let id = site.delete("vm/vm0001", None);
    let (done, said) = plan("vm/vm0001", &day(3));
    assert!(!done && said.contains(&id), "it has a record already: {said}");
}
