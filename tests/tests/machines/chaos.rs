//! Everything breaks while machines are deleted: processes are killed or stopped past their leases, broker and database
//! die, connections between them are cut, stall or lose answers, queues are emptied, full or flooded, a consumer is cut
//! off from everybody, the job table is put back to an older copy. In the end the audit trails are judged by the rules of
//! the simulator, and the subsystems are asked.
//!
//! A short run is one of the tests; a long one is made by hand, by `scripts/chaos`. What is random follows from
//! `SEXTON_TEST_SEED`.
mod boss;
mod broker;
mod fault;
mod ground;
mod judge;
mod network;
mod notes;
mod people;
mod proxy;
mod report;
mod schedule;
mod services;
mod site;
mod store;
mod witness;

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::glimpse::Part;
use crate::installation::{Answer, Installation};
use crate::machine::Herd;
use crate::platform::Allowed;
use crate::{asked, cancels, check_records, make_searchable, waiting};

use broker::Broker;
use ground::Ground;
use network::Network;
use notes::Notes;
use proxy::Proxy;
use services::Services;
use site::Site;
use store::Store;

/// Services of which a second process runs.
const COPIES: &str = "coordinator hypervisor.main";
/// How long it may take until every part of a machine is shown, before anything breaks.
const FIRST_GLIMPSE: Duration = Duration::from_secs(60);

/// How much is broken, and of what.
#[derive(Debug, Clone)]
pub struct Size {
    pub seed: u64,
    pub faults: usize,
    pub herd: Herd,
    /// Most faults at a time.
    pub at_once: usize,
    /// One, or the nodes of a cluster.
    pub brokers: usize,
    /// Length of a day in milliseconds.
    pub day_ms: u64,
    /// Whether it has to be over soon: then machines are files, and leases are short.
    pub short: bool,
    /// All of it must be over by then.
    pub patience: Duration,
    pub report: Option<PathBuf>,
    /// What happened when.
    pub history: Option<PathBuf>,
}

impl Size {
    /// One fault of each sort; a deletion takes fourteen seconds at least.
    fn of_a_test() -> Self {
        Self {
            seed: seed(),
            faults: 19,
            herd: Herd { machines: 12, retired: 6, cancelled: 4, runs: |_| true },
            at_once: 2,
            brokers: 1,
            day_ms: 300,
            short: true,
            patience: Duration::from_secs(400),
            report: None,
            history: None,
        }
    }

    /// As the variables say. Half of the machines are retired, two in five come back, and one in seven runs.
    fn by_hand() -> Self {
        let number = |name: &str, default: usize| {
            let text = std::env::var(format!("SEXTON_CHAOS_{name}"));
            text.map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("SEXTON_CHAOS_{name}: {e}")))
        };
        let (faults, machines) = (number("FAULTS", 500), number("MACHINES", 300));
        let (retired, cancelled) = (machines / 2, machines * 2 / 5);
        Self {
            seed: seed(),
            faults,
            herd: Herd { machines, retired, cancelled, runs: |number| number.is_multiple_of(7) },
            at_once: number("AT_ONCE", 3),
            brokers: number("BROKERS", 3),
            day_ms: crate::installation::DAY_MS,
            short: false,
            // Twenty seconds for each fault, and half an hour until all records are over.
            patience: Duration::from_secs(1800 + 20 * u64::try_from(faults).unwrap()),
            report: std::env::var_os("SEXTON_CHAOS_REPORT").map(PathBuf::from),
            history: std::env::var_os("SEXTON_CHAOS_HISTORY").map(PathBuf::from),
        }
    }
}

fn seed() -> u64 {
    std::env::var("SEXTON_TEST_SEED").map_or_else(|_| rand::random(), |text| text.parse().unwrap())
}

#[test]
fn a_dozen_machines_while_everything_breaks_once() {
    run(&Size::of_a_test());
}

#[test]
#[ignore = "it takes root and the better part of an hour: scripts/chaos"]
fn hundreds_of_machines_while_everything_breaks() {
    run(&Size::by_hand());
}

fn run(size: &Size) {
    println!("SEXTON_TEST_SEED={}", size.seed);
    let folder = tempfile::tempdir().unwrap();
    make_searchable(folder.path());
    let notes = Notes::begin(size.history.as_deref());
    let broker = Broker::of(&folder.path().join("dev"), size.brokers);
    let servers = broker.clone();
    let to_broker = Proxy::start(move || servers.addresses());
    let database = folder.path().join("dev/postgres");
    let to_database = Proxy::start(move || store::address(&database).into_iter().collect());
    let ground = Ground::set_up(size, folder.path());
    notes.say("the platform stands");
    let variables = variables(size, folder.path(), &to_broker, &to_database);
    let sections = ground.configuration(folder.path()) + &boss::budgets();
    let installation = Installation::start_with_days_of(size.day_ms, folder.path(), &sections, variables);
    let machines = ground.populate(&installation, folder.path());
    cancels::end_at_soft(&installation);
    asked::a_token_is_good_at_both_coordinators(&installation, folder.path());
    let before = ground.first_look(&installation, &machines);
    let first = waiting::wait_for(FIRST_GLIMPSE, || {
        let first = ground.glimpse(&installation, &machines);
        // Nothing of a part that is missing here would be judged later.
        let seen = |part: &Part| first.get(part).is_some_and(|machines| !machines.is_empty());
        let whole = ground.parts().iter().all(seen);
        if whole { Ok(first) } else { Err(format!("what is asked for on the way is not seen: {first:?}")) }
    });
    notes.say("everything runs, and was looked at");
    let mut site = Site {
        services: Services::of(&installation),
        store: Store::of(&installation, size.day_ms),
        installation: &installation,
        broker,
        to_broker,
        to_database,
        network: None,
        dead_node: None,
        ground: &ground,
        notes: &notes,
    };
    match Network::make() {
        Ok(network) => site.move_apart(network),
        Err(why) => {
            assert!(size.short, "no consumer can be cut off: {why}");
            notes
                .say(format!("SKIPPED: no consumer is cut off, since there is no network of its own: {why}"));
        }
    }

    let (tally, ended) = std::thread::scope(|scope| {
        let breaking = scope.spawn(|| schedule::break_things(size, &mut site, &notes));
        let judging = scope.spawn(|| judge::watch(size, &installation, &notes));
        let witnessing =
            scope.spawn(|| witness::watch(size, &installation, (&ground, &machines), &first, &notes));
        let deleting = AssertUnwindSafe(|| people::delete_and_cancel(size, &installation, &machines, &notes));
        let deleted = std::panic::catch_unwind(deleting);
        // Without it the others would go on for ever.
        notes.set_over();
        let (broken, judged) = (breaking.join(), judging.join().and(witnessing.join()));
        let tally = broken.as_ref().cloned().unwrap_or_default();
        (tally, deleted.and(broken.map(drop)).and(judged))
    });
    if let Err(panic) = ended {
        report::write(size, &tally, &notes, &judge::Judged::default(), false);
        std::panic::resume_unwind(panic);
    }
    notes.say("all records are over");

    waiting::wait_until("a coordinator answers", 120, || installation.lines().is_some());
    let judged = judge::last(size, &installation, &notes);
    if judged.holds == 0 {
        notes.mistake("nobody has held anything".to_owned());
    }
    let shown = notes.shown();
    for part in ground.parts().iter().filter(|part| !shown.contains_key(*part)) {
        notes.mistake(format!("whether each {part:?} is there was never shown on the way"));
    }
    let known = notes.known();
    if known.pauses.is_empty() || known.approved.is_empty() {
        notes.mistake("nobody has paused everything, or approved anything".to_owned());
    }
    let (met, mistakes) = check_records(&installation, &machines);
    notes.mistakes(mistakes);
    let allowed = Allowed { changed: notes.lost(), told_again: true };
    let kept_running = |name: &str| met.get(name).is_some_and(cancels::Met::before_soft);
    notes.mistakes(ground.mistakes(&installation, &machines, &before, kept_running, &allowed));
    notes.mistakes(what_nobody_asked_for(&installation));
    notes.say(format!("cancels:\n{}", cancels::tally(met.into_values())));
    let report = report::write(size, &tally, &notes, &judged, true);
    println!("{report}");
    let mistakes = notes.all_mistakes();
    assert!(mistakes.is_empty(), "SEXTON_TEST_SEED={}\n{}", size.seed, mistakes.join("\n"));
    installation.stop();
}

fn variables(size: &Size, folder: &Path, to_broker: &Proxy, to_database: &Proxy) -> Vec<(String, String)> {
    let mut variables = vec![
        ("COPIES".to_owned(), COPIES.to_owned()),
        ("BROKERS".to_owned(), size.brokers.to_string()),
        ("BROKER_AT".to_owned(), to_broker.address.to_string()),
        ("DATABASE_AT".to_owned(), to_database.address.to_string()),
    ];
    if size.short {
        let quick = quick_subsystems(folder);
        variables.push(("SUBSYSTEMS".to_owned(), quick.display().to_string()));
    }
    variables
}

/// The delivered subsystems, whose orders are soon taken for lost: their machines are files.
fn quick_subsystems(folder: &Path) -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let quick = folder.join("subsystems");
    std::fs::create_dir(&quick).unwrap();
    for entry in std::fs::read_dir(top.join("deploy/subsystems")).unwrap() {
        let path = entry.unwrap().path();
        let shorter = |line: &str| match line.split_once(" = ") {
            Some((key @ "deadline_ms", _)) => format!("{key} = 5000\n"),
            Some((key @ "longest_call_ms", _)) => format!("{key} = 1000\n"),
            _ => format!("{line}\n"),
        };
        let text: String = std::fs::read_to_string(&path).unwrap().lines().map(shorter).collect();
        std::fs::write(quick.join(path.file_name().unwrap()), text).unwrap();
    }
    quick
}

/// A pause, which only a canary that was accepted can have made once people have lifted theirs, and defects that services tell in their logs.
fn what_nobody_asked_for(installation: &Installation) -> Vec<String> {
    let mut found = Vec::new();
    match installation.ask(|client| async move { client.pauses().await }) {
        Answer::Done(pauses) => {
            found.extend(pauses.iter().map(|pause| format!("somebody paused: {pause:?}")))
        }
        Answer::Refused(_) | Answer::Unknown => found.push("whether something is paused is not known".into()),
    }
    for entry in std::fs::read_dir(installation.folder().join("log")).unwrap() {
        let path = entry.unwrap().path();
        let log = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        let panics = log.lines().filter(|line| line.contains("panicked at"));
        found.extend(panics.map(|line| format!("{}: {line}", path.display())));
    }
    found
}

/// The port that a server's folder remembers under this name.
fn port(folder: &Path, name: &str) -> Option<u16> {
    let ports = std::fs::read_to_string(folder.join("ports")).ok()?;
    ports.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}
