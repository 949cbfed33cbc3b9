//! The main job on real input: an inventory of two hundred machines, of which twenty are retired through every
//! stage and twenty are cancelled at random moments, while the coordinator, a consumer and the broker are
//! killed. Sexton runs as separate processes on PostgreSQL and RabbitMQ; the machines stand on QEMU, BIND, Kea,
//! restic, Prometheus and a mail server. In the end those are asked, not Sexton.
//!
//! Beside it, `watched` asks such processes how they are, follows a deletion through them, and has a machine looked at
//! before there is a record (`surveyed`).
//!
//! What is random follows from a seed, which is printed: `SEXTON_TEST_SEED` plays it again.
#![cfg(feature = "real-servers")]
#![expect(clippy::unwrap_used, reason = "a test says what it expected by failing")]
mod alive;
mod asked;
mod cancels;
mod chaos;
#[path = "../../../services/sexton/tests/collector/mod.rs"]
mod collector;
mod facts;
mod faults;
mod glimpse;
mod installation;
mod kept;
mod machine;
mod platform;
mod program;
mod surveyed;
mod waiting;
mod watched;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sexton_api::DeletionInfo;
use sexton_model::deletion::RecordStatus;

use cancels::Met;
use faults::Ends;
use installation::Installation;
use machine::{Fate, Herd, Machine};
use platform::{Allowed, Platform};

/// Everything must be over by then: 44 days take two minutes, a cancel waits a minute for the order that was out.
const PATIENCE: Duration = Duration::from_secs(400);
/// Days until the soft stage is due: announce begins after one.
const DUE_DAYS: u64 = 6;
/// Those that run are those that are deleted, and four more.
const HERD: Herd = Herd { machines: 200, retired: 20, cancelled: 20, runs: |number| number <= 44 };

#[test]
fn machines_are_retired_and_cancelled_while_everything_is_killed() {
    let seed =
        std::env::var("SEXTON_TEST_SEED").map_or_else(|_| rand::random(), |text| text.parse().unwrap());
    println!("SEXTON_TEST_SEED={seed}");
    let began = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    make_searchable(folder.path());
    let machines = Machine::all(&HERD);
    let platform = Platform::set_up(folder.path(), &machines);
    println!("{:>4} s: the platform stands", began.elapsed().as_secs());
    let installation = Installation::start(folder.path(), &platform.configuration(), &[]);
    import(&platform, &installation, &machines, folder.path());
    cancels::end_at_soft(&installation);
    let before = platform.first_look(&machines);
    println!("{:>4} s: everything was looked at", began.elapsed().as_secs());

    ask_for_deletions(&installation, &machines);
    let (over, until_over) = std::sync::mpsc::channel::<()>();
    let killed = std::thread::scope(|scope| {
        let installation = &installation;
        let faults = scope.spawn(move || faults::kill_things(seed, installation, &until_over));
        let cancelled = &machines[HERD.retired..HERD.retired + HERD.cancelled];
        let all_is_over = || {
            cancels::cancel_all(seed, installation, cancelled);
            println!("{:>4} s: all cancels are taken", began.elapsed().as_secs());
            wait_until_over(installation);
        };
        // Without it the faults would go on for ever.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(all_is_over));
        drop(over);
        let killed = faults.join();
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
        killed.unwrap()
    });
    let who: Vec<&str> = killed.iter().map(|one| one.who).collect();
    println!("{:>4} s: all records are over; killed: {}", began.elapsed().as_secs(), who.join(" "));

    // The last one killed may have been the coordinator.
    waiting::wait_until("the coordinator answers", 120, || installation.lines().is_some());
    let (met, mut mistakes) = check_records(&installation, &machines);
    mistakes.extend(faults::missed(&killed, Ends::of(&records(&installation, &machines))));
    let kept_running = |name: &str| met.get(name).is_some_and(Met::before_soft);
    mistakes.extend(platform.mistakes(&machines, &before, kept_running, &Allowed::default()));
    mistakes.extend(cancels::unmet(met.values()));
    println!("cancels:\n{}", cancels::tally(met.into_values()));
    assert!(mistakes.is_empty(), "SEXTON_TEST_SEED={seed}\n{}", mistakes.join("\n"));
    asked::a_receipt_is_verified_by_the_keys_alone(&installation, &machines[0].resource(), folder.path());
    // Beside those of the records: of resources, pauses and tokens.
    installation.sexton(&["audit"]);
    installation.stop();
    println!("{:>4} s: stopped", began.elapsed().as_secs());
}

fn import(platform: &Platform, installation: &Installation, machines: &[Machine], folder: &Path) {
    let file = folder.join("inventory.jsonl");
    platform.write_inventory(machines, &file);
    let imported = installation.sexton(&["import", file.to_str().unwrap()]);
    assert_eq!(imported["imported"], machines.len(), "{imported}");
}

fn ask_for_deletions(installation: &Installation, machines: &[Machine]) {
    let on = date(DUE_DAYS);
    for machine in machines.iter().filter(|m| m.fate != Fate::LeftAlone) {
        let resource = machine.resource();
        installation.sexton(&["delete", &resource, "--on", &on, "--reason", "contract ended"]);
    }
    let twice = installation.try_sexton(&["delete", "vm/vm001", "--on", &on, "--reason", "again"]);
    assert!(String::from_utf8_lossy(&twice.stderr).contains("has a live deletion record already"));
}

/// Wait until every record is; a job that waits for a person ends the wait.
fn wait_until_over(installation: &Installation) {
    waiting::wait_for(PATIENCE, || {
        let lines = installation.lines().ok_or("no coordinator answers")?;
        installation::none_is_parked(&lines);
        let open = |status| !matches!(status, RecordStatus::Recycled | RecordStatus::Cancelled);
        let left: Vec<_> = lines.values().filter(|line| open(line.status)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("not over: {left:#?}")) }
    });
}

/// The records of all machines that have one.
fn records(installation: &Installation, machines: &[Machine]) -> Vec<DeletionInfo> {
    let deleted = machines.iter().filter(|machine| machine.fate != Fate::LeftAlone);
    deleted.map(|machine| installation.record(&machine.resource()).unwrap()).collect()
}

/// What became of the records: where the cancels met them, and what is not as it must be.
fn check_records(installation: &Installation, machines: &[Machine]) -> (BTreeMap<String, Met>, Vec<String>) {
    let (mut met, mut mistakes) = (BTreeMap::new(), Vec::new());
    for machine in machines {
        let (name, resource) = (&machine.name, machine.resource());
        let free = installation.try_sexton(&["name", &resource]).status.success();
        if free != (machine.fate == Fate::Retired) {
            mistakes.push(format!("{name} ({:?}): its name is free: {free}", machine.fate));
        }
        let wanted = match machine.fate {
            Fate::Retired => RecordStatus::Recycled,
            Fate::Cancelled => RecordStatus::Cancelled,
            Fate::LeftAlone => continue,
        };
        let record = installation.record(&resource).unwrap();
        if record.status != wanted || record.chain != "verified" {
            mistakes.push(format!(
                "{name}: expected {wanted:?}, found {:?}, chain {}",
                record.status, record.chain
            ));
        }
        if machine.fate == Fate::Cancelled {
            met.insert(name.clone(), cancels::met(&record));
            mistakes.extend(cancels::late(&record).map(|why| format!("{name}: {why}")));
        }
    }
    (met, mistakes)
}

/// A date so many rehearsal days ahead.
fn date(days: u64) -> String {
    let text = program::run(Command::new("date").args(["-u", "-d", &format!("+{days} days"), "+%F"]));
    text.trim().to_owned()
}

/// User postgres has its data below.
fn make_searchable(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711)).unwrap();
}
