//! Configuration and plans, read when `sexton serve` starts.
use std::net::TcpListener;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::served::{Served, configuration, deploy, said, sexton};

#[test]
fn a_bad_configuration_names_section_key_and_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sexton.toml");
    let dns = "[consumers.\"dns.main\"]";
    for (heading, keys, parts) in [
        ("[apii]", "", vec!["[apii] is unknown", "known are"]),
        ("[api]", "listen = \"here\"", vec!["[api]", "listen", "socket address"]),
        ("[api]", "listen = \"0.0.0.0:1\"", vec!["[api]", "token_file"]),
        (
            "[api]",
            "listen = \"127.0.0.1:0\"\ntoken_file = \"no.token\"",
            vec!["[api]", "token_file", "no.token"],
        ),
        ("[ledger]", "sqlit = \"x\"", vec!["[ledger]: unknown field `sqlit`, expected one of `sqlite`, "]),
        ("[ledger]", "", vec!["[ledger]", "missing field `sqlite`"]),
        ("[plans]", "folder = \"nowhere\"\nsubsystems = \"nowhere\"", vec!["[plans]", "folder", "nowhere"]),
        (
            "[consumers.\"dsn.main\"]",
            "driver = \"sandbox\"\nroot = \"x\"",
            vec!["dsn.main", "actions", "nobody knows"],
        ),
        ("[credit]", "per_instance = 0", vec!["[credit]", "per_instance", "1 to 65536"]),
        (
            "[credit]",
            "instances = { dns = 4 }",
            vec!["[credit]: instance \"dns\": expected SUBSYSTEM.NAME, such as ", "`instances`"],
        ),
        ("[windows]", "", vec!["[windows]: zone: expected an IANA time zone", "always = true"]),
        ("[windows]", "zone = \"UTC\"\nto = \"08:00\"", vec!["[windows]: to = \"08:00\"", "after from"]),
        ("[windows]", "zone = \"UTC\"\ndays = [\"tues\"]", vec!["[windows]: days: expected", "\"tues\""]),
        ("[windows]", "always = true\nfrom = \"09:00\"", vec!["[windows]: always = true: expected no other"]),
        (
            "[windows]",
            "zone = \"UTC\"\nholidays = \"no.ics\"",
            vec!["[windows]: holidays = ", "no.ics: cannot be opened"],
        ),
        (
            "[telemetry]",
            "log = 7",
            vec!["[telemetry]: invalid type: integer `7`, expected a string", "`log`"],
        ),
        (
            "[consumers.\"dns\"]",
            "driver = \"sandbox\"",
            vec!["[consumers.\"dns\"]: instance \"dns\": expected SUBSYSTEM.NAME, such as "],
        ),
        (dns, "driver = \"fax\"", vec!["dns.main", "fax", "sandbox"]),
        (dns, "driver = \"sandbox\"\nroot = 1", vec!["dns.main", "root", "path"]),
        (
            dns,
            "driver = \"sandbox\"\nroot = \"x\"\nrot = 1",
            vec!["[consumers.\"dns.main\"]: unknown field `rot`, expected `root` or `instance`"],
        ),
        (dns, "driver = \"sandbox\"", vec!["dns.main", "missing field `root`"]),
        (
            dns,
            "driver = \"sandbox\"\nroot = \"x\"\ninstance = \"dns.other\"",
            vec!["dns.main", "instance", "heading"],
        ),
        (
            dns,
            "driver = \"rfc2136\"\nserver = \"127.0.0.1:53\"\nkey_name = \"k\"\nzones = []",
            vec!["key_secret"],
        ),
        (dns, "root = \"x\"", vec!["dns.main", "driver"]),
        ("[workers.\"dns.main\"]", "concurrency = 0", vec!["workers", "dns.main", "concurrency", "1 to 256"]),
        ("[workers.\"dns.mian\"]", "concurrency = 1", vec!["workers", "dns.mian", "[consumers"]),
    ] {
        std::fs::write(&file, configuration(&[(heading, keys)])).unwrap();
        let output = sexton(&["serve", "--config", file.to_str().unwrap()]);
        let said = said(&output);
        assert!(!output.status.success(), "{heading} {keys}: it was taken");
        for part in parts.into_iter().chain(["sexton.toml"]) {
            assert!(said.contains(part), "{heading} {keys}: expected {part:?} in: {said}");
        }
    }
    std::fs::write(&file, "[api\n").unwrap();
    assert!(said(&sexton(&["serve", "--config", file.to_str().unwrap()])).contains("line 1"));
    let missing = said(&sexton(&["serve", "--config", "no/such.toml"]));
    assert!(missing.contains("no/such.toml") && missing.contains("--config"), "{missing}");
}

#[test]
fn a_calendar_of_holidays_that_is_over_is_told() {
    let event = "BEGIN:VEVENT\r\nSUMMARY:Christmas\r\nDTSTART;VALUE=DATE:20191225\r\nEND:VEVENT\r\n";
    let calendar = format!("BEGIN:VCALENDAR\r\n{event}END:VCALENDAR\r\n");
    let windows = "zone = \"Europe/Berlin\"\nholidays = \"old.ics\"";
    let served = Served::start_as("nothing", &[("[windows]", windows)], &[("old.ics", &calendar)]);
    let over = "the calendar of holidays ended on 2019-12-25";
    let shown = said(&served.sexton(&["health"]));
    for part in ["begin tue, wed, thu 09:00 to 15:00 Europe/Berlin, not on holidays: ", over] {
        assert!(shown.contains(part), "expected {part:?} in: {shown}");
    }
    let log = std::fs::read_to_string(served.folder.path().join("log")).unwrap();
    assert!(log.contains(over), "{log}");
    let (status, health) = served.ask("GET", "/v1/health", Some("test"), b"");
    assert_eq!((status, &health["windows"]["holidays_until"]), (200, &serde_json::json!("2019-12-25")));
}

/// It hinders nothing, and nobody would find out.
#[test]
fn that_nothing_is_protected_is_said_unless_it_is_a_rehearsal() {
    let lack = "no resource is configured to be protected";
    let protects = ("[protect]", "resources = [\"vm/sexton-db\"]");
    let rehearsal = ("[ledger]", "sqlite = \"sexton.db\"\nrehearsal_day_ms = 60000");
    for (sections, expected) in [
        (vec![], true),
        (vec![("[protect]", "resources = []")], true),
        (vec![protects], false),
        (vec![rehearsal], false),
    ] {
        let served = Served::start_as("nothing", &sections, &[]);
        let log = std::fs::read_to_string(served.folder.path().join("log")).unwrap();
        for shown in [log, said(&served.sexton(&["health"])), said(&served.sexton(&["digest"]))] {
            assert_eq!(shown.contains(lack), expected, "{sections:?}: {shown}");
        }
    }
}

/// A folder of plans to be tried, beside what the delivered one of a machine says.
struct Tried {
    file: PathBuf,
    plans: PathBuf,
    good: String,
    _folder: TempDir,
    /// Listens where the API would: who takes a plan ends at that.
    _other: TcpListener,
}

impl Tried {
    fn lay_out() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (file, plans) = (folder.path().join("sexton.toml"), folder.path().join("plans"));
        std::fs::create_dir(&plans).unwrap();
        let keys = format!("folder = \"plans\"\nsubsystems = \"{}/subsystems\"", deploy().display());
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = format!("listen = \"{}\"", other.local_addr().unwrap());
        std::fs::write(&file, configuration(&[("[api]", &listen), ("[plans]", &keys)])).unwrap();
        let good = std::fs::read_to_string(deploy().join("plans/vm.toml")).unwrap();
        Self { file, plans, good, _folder: folder, _other: other }
    }
}

#[test]
fn a_bad_plan_names_file_line_and_reason() {
    let tried = Tried::lay_out();
    let Tried { file, plans, good, .. } = &tried;
    for (from, to, reason) in [
        ("kind = \"vm\"", "kind = \"VM!\"", "kind \"VM!\": expected at most 32 lower-case letters"),
        ("version = 5", "version = \"one\"", "version: invalid type: string \"one\", expected u32"),
        (
            "# The most critical machines",
            "unannounced = \"why\" #",
            "unannounced: somebody is told, by notifier.announce: leave one of the two out",
        ),
        ("offset_days = 3", "", "stages.hard: missing field `offset_days`"),
        ("offset_days = 3", "offset_days = -9", "offset_days: hard would be due before the stage it follows"),
        ("dns.remove", "dns.forget", "unknown action \"dns.forget\": dns has inspect, remove"),
        (
            "{ do = \"dns.inspect\" }",
            "{ do = \"dns.inspect\", afterr = [] }",
            "stages.announce.steps: unknown field `afterr`, expected one of `do`, ",
        ),
        (
            ", after = [\"hypervisor.undefine\"] },\n  { do = \"monitoring",
            " },\n  { do = \"monitoring",
            "step ipam.release releases address: expected after = [\"hypervisor.undefine\"]",
        ),
        (
            "{ do = \"backup.final\" }",
            "{ do = \"backup.final\" }, { do = \"dns.remove\", name = \"early\" }",
            "step early: soft can be cancelled, but this step has no undo",
        ),
        (
            "{ do = \"monitoring.remove_target\",",
            "{ do = \"hypervisor.delete_volumes\", name = \"early\" }, { do = \"monitoring.remove_target\",",
            "step early: hard is before purge, its earliest stage",
        ),
        (
            "{ do = \"hypervisor.undefine\"",
            "{ do = \"ipam.release\", name = \"early\" }, { do = \"hypervisor.undefine\"",
            "step early releases address before hypervisor.undefine, which still uses it",
        ),
        (
            "after = [\"hypervisor.undefine\", \"backup.remove_schedule\"]",
            "after = [\"backup.remove_schedule\"]",
            "step backup.delete_archives withdraws backup: expected after = [\"hypervisor.undefine\"]",
        ),
        (
            "offset_days = 3",
            "offset_days = 2",
            "offset_days: hard follows after 2 days, but Irreplaceable resources need at least 3",
        ),
    ] {
        let before = good.split_once(from).unwrap().0;
        // What is missing in a table is missed where that begins, a line before its first key.
        let line = before.matches('\n').count() + usize::from(!to.is_empty());
        std::fs::write(plans.join("vm.toml"), good.replacen(from, to, 1)).unwrap();
        let output = sexton(&["serve", "--config", file.to_str().unwrap()]);
        let said = said(&output);
        assert!(!output.status.success(), "{to}: it was taken");
        let expected = format!("{}:{line}: {reason}", plans.join("vm.toml").display());
        assert!(said.contains(&expected), "{to}: expected {expected:?} in: {said}");
    }
}

/// The notice starts the clock. Without one, or without time behind it, nothing is served unless the plan says why.
#[test]
fn a_plan_that_tells_nobody_in_time_is_refused() {
    let tried = Tried::lay_out();
    let Tried { file, plans, good, .. } = &tried;
    let tells = good.lines().find(|line| line.contains("notifier.announce")).unwrap();
    for (from, to, stage, reason) in [
        (
            tells,
            "",
            "[stages.announce]",
            "announce: expected a step that tells people, such as notifier.announce",
        ),
        (
            "offset_days = -5",
            "offset_days = 0",
            "[stages.soft]",
            "offset_days: soft follows the notice at once",
        ),
    ] {
        std::fs::write(plans.join("vm.toml"), good.replacen(from, to, 1)).unwrap();
        let output = sexton(&["serve", "--config", file.to_str().unwrap()]);
        let said = said(&output);
        assert!(!output.status.success(), "{to}: it was taken");
        // The offset is the first key of each stage.
        let line = good.split_once(stage).unwrap().0.matches('\n').count() + 2;
        let expected = format!("{}:{line}: {reason}", plans.join("vm.toml").display());
        assert!(said.contains(&expected), "{to}: expected {expected:?} in: {said}");
    }
}

#[test]
fn a_job_table_of_another_day_is_told_from_the_configuration_in_its_words() {
    let served = Served::start();
    let file = served.folder.path().join("sexton.toml");
    let rehearsal = "sqlite = \"sexton.db\"\nrehearsal_day_ms = 60000";
    std::fs::write(&file, configuration(&[("[ledger]", rehearsal)])).unwrap();
    let output = served.end_and(&["serve", "--config", file.to_str().unwrap()]);
    let said = said(&output);
    assert!(!output.status.success());
    for part in ["sexton.db", "calendar days", "rehearsal_day_ms = 60000", "[ledger]"] {
        assert!(said.contains(part), "expected {part:?} in: {said}");
    }
    assert!(!said.contains("length_ms"), "{said}");
}

#[test]
fn a_sandbox_that_is_no_place_yet_is_said_at_the_start() {
    let served = Served::start();
    let log = std::fs::read_to_string(served.folder.path().join("log")).unwrap();
    for instance in ["hypervisor", "ipam", "dns", "backup", "monitoring", "notifier", "accounting", "config"]
    {
        let place = format!("platform/{instance}/main/place.json is missing");
        assert!(log.contains(&place), "expected {place:?} in: {log}");
    }
    assert!(!log.contains('\u{1b}'), "colours in a file: {log:?}");
}

#[test]
fn where_something_else_listens_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sexton.toml");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    std::fs::write(&file, configuration(&[("[api]", &format!("listen = \"{address}\""))])).unwrap();
    let output = sexton(&["serve", "--config", file.to_str().unwrap()]);
    let said = said(&output);
    assert!(!output.status.success() && said.contains(&format!("[api]: listening on {address}")), "{said}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(left, ["sexton.toml"]);
}
