//! Alarms: told by routes that need neither broker nor consumers, by the second one while the first one fails, and once.
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use sexton_coordinator::alarms::command::Command;
use sexton_coordinator::alarms::webhook::{Webhook, address};
use sexton_coordinator::alarms::{Alarmer, Options};
use sexton_ledger::{AlarmFilter, AlarmSeen, AlarmView};
use sexton_model::alarm::{AlarmKind, BackOff, Notice, Phase, Subject};
use sexton_model::belts::Policy;
use sexton_model::belts::budget::Written;
use sexton_model::belts::resource_hold::{NewHold, Which};
use sexton_model::deletion::RecordStatus;
use sexton_model::digest::Daily;

use super::system::{System, ops, until, web01};

/// The token that the server asks for.
const TOKEN: &str = "let-me-in";

/// Whoever is on call: a server that notes what it is told, and a file that a program writes.
struct OnCall {
    folder: tempfile::TempDir,
    server: Arc<Server>,
    address: SocketAddr,
}

/// The server's part.
struct Server {
    told: Mutex<Vec<Notice>>,
    /// What it answers.
    answer: AtomicU16,
}

async fn take(State(server): State<Arc<Server>>, headers: HeaderMap, body: Json<Notice>) -> StatusCode {
    let shown = headers.get("authorization").and_then(|value| value.to_str().ok());
    if shown != Some(&format!("Bearer {TOKEN}")) {
        return StatusCode::UNAUTHORIZED;
    }
    let answer = StatusCode::from_u16(server.answer.load(Ordering::SeqCst)).unwrap();
    if answer.is_success() {
        server.told.lock().unwrap().push(body.0);
    }
    answer
}

impl OnCall {
    async fn new() -> Self {
        let server = Arc::new(Server { told: Mutex::default(), answer: AtomicU16::new(204) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/alarms", post(take)).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let folder = tempfile::tempdir().unwrap();
        let token = token_file(folder.path());
        std::fs::write(&token, TOKEN).unwrap();
        private(&token);
        Self { folder, server, address }
    }

    fn answers(&self, status: u16) {
        self.server.answer.store(status, Ordering::SeqCst);
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("told")
    }

    /// Both routes, and quick.
    fn options(&self) -> Options {
        let url = address(&format!("http://{}/alarms", self.address)).unwrap();
        let timeout = Duration::from_secs(30);
        let token = Some(token_file(self.folder.path()));
        let webhook = Webhook::new(url, token, timeout).unwrap();
        // One line each: JSON has no line ends of its own.
        let script = format!("{{ cat; echo; }} >> '{}'", self.file().display());
        let command = Command::new("sh".into(), vec!["-c".into(), script], timeout);
        Options {
            routes: vec![Arc::new(webhook), Arc::new(command)],
            every: Duration::from_millis(50),
            round_ms: 100,
            outage: Duration::from_millis(100),
            // The job table's file is waited for much longer: a lock in it is no reason to give up a change.
            answer: Duration::from_secs(2),
            back_off: BackOff { first_ms: 500, longest_ms: 2_000 },
            ..Options::default()
        }
    }

    /// What the server was told of alarms of this kind.
    fn by_webhook(&self, kind: AlarmKind) -> Vec<(Phase, Subject)> {
        of(&self.server.told.lock().unwrap(), kind)
    }

    /// What the program was told.
    fn by_command(&self, kind: AlarmKind) -> Vec<(Phase, Subject)> {
        of(&self.all_by_command(), kind)
    }

    fn all_by_command(&self) -> Vec<Notice> {
        let text = std::fs::read_to_string(self.file()).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn token_file(folder: &Path) -> PathBuf {
    folder.join("token")
}

fn private(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn of(told: &[Notice], kind: AlarmKind) -> Vec<(Phase, Subject)> {
    let one = |notice: &Notice| match notice {
        Notice::Alarm { phase, alarm, .. } if alarm.alarm.kind == kind => {
            Some((*phase, alarm.alarm.subject.clone()))
        }
        Notice::Alarm { .. } | Notice::Digest { .. } => None,
    };
    told.iter().filter_map(one).collect()
}

fn one_a_day() -> Policy {
    let written: Written = toml::from_str("a_day = 1\nstages = [\"announce\"]").unwrap();
    Policy { windows: None, budgets: Some(written.budgets().unwrap()), ..Policy::default() }
}

fn any_time() -> Policy {
    let written: Written = toml::from_str("none = true").unwrap();
    Policy { windows: None, budgets: Some(written.budgets().unwrap()), ..Policy::default() }
}

async fn open(system: &System) -> Vec<AlarmView> {
    let filter = AlarmFilter { ended: false, before: None, limit: 100 };
    system.ledger.alarms(filter).await.unwrap().items
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_batch_is_told_by_both_routes_and_once() {
    let on_call = OnCall::new().await;
    let system = System::start_telling(one_a_day(), on_call.options()).await;
    let other = "vm/web02".parse().unwrap();
    system.register_named(&other, false).await;
    let then = system.ledger.facts().await.unwrap().now.plus_ms(500);
    let ids = [system.delete_named(web01(), then).await, system.delete_named(other, then).await];
    let kind = AlarmKind::FrozenBatch;
    until("both routes are told", async || {
        !on_call.by_webhook(kind).is_empty() && !on_call.by_command(kind).is_empty()
    })
    .await;
    // Who is stopped before that is noted has its lease, and nobody else tells anything until that is over.
    let noted = async || {
        let told = open(&system).await.into_iter().flat_map(|view| view.told);
        told.filter(|(_, telling)| telling.told.is_some()).count() == 2
    };
    until("that is noted", noted).await;
    let batch = system.ledger.batches().await.unwrap()[0].batch;
    let raised = vec![(Phase::Raised, Subject::Batch { batch })];
    assert_eq!((on_call.by_webhook(kind), on_call.by_command(kind)), (raised.clone(), raised.clone()));

    // Another coordinator, and this one started anew, have nothing to tell.
    let system = system.restarted().await;
    let another = Alarmer::new(Options { name: "another".into(), ..on_call.options() });
    for _ in 0..20 {
        let (one, two) = tokio::join!(another.tick(&*system.ledger, &[]), system.engine.alarm());
        one.and(two).unwrap();
    }
    assert_eq!((on_call.by_webhook(kind), on_call.by_command(kind)), (raised.clone(), raised));

    // Somebody has seen it. It holds until nobody waits any more, and that is told, too.
    let [view] = open(&system).await.try_into().unwrap();
    let seen = system.ledger.acknowledge_alarm(view.standing.id, &ops(), "both stay").await.unwrap();
    assert!(matches!(seen, AlarmSeen::Done(_)), "{seen:?}");
    for id in ids {
        let cancel = sexton_model::decide::Event::Cancel { by: ops(), reason: "kept".into() };
        system.tell(id, cancel).await.unwrap();
    }
    until("its end is told", async || {
        on_call.by_webhook(kind).len() == 2 && on_call.by_command(kind).len() == 2
    })
    .await;
    assert_eq!(on_call.by_webhook(kind)[1].0, Phase::Ended);
    assert_eq!(open(&system).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_that_was_missed_is_told_by_the_second_route_while_the_first_fails() {
    let on_call = OnCall::new().await;
    on_call.answers(500);
    let system = System::start_telling(any_time(), on_call.options()).await;
    let legal = "legal".parse().unwrap();
    let hold = NewHold { resource: web01(), origin: legal, reason: "evidence".into(), by: ops() };
    system.ledger.hold_resource(hold).await.unwrap().unwrap();
    let now = system.ledger.facts().await.unwrap().now;
    let yesterday = now.utc().date_naive().pred_opt();
    let id = system.delete_by(web01(), now, yesterday).await;
    let kind = AlarmKind::MissedGoneBy;
    until("the program is told", async || !on_call.by_command(kind).is_empty()).await;
    let failing = async || {
        let views = open(&system).await;
        let told = views.first().map(|view| view.told.clone()).unwrap_or_default();
        told.iter().any(|(route, telling)| {
            route == "webhook" && telling.error.as_ref().is_some_and(|why| why.contains("500"))
        })
    };
    until("whoever looks sees that the other one fails", failing).await;
    assert_eq!(on_call.by_webhook(kind), []);
    let raised = (Phase::Raised, Subject::Deletion { deletion: id, resource: web01() });
    assert_eq!(on_call.by_command(kind), std::slice::from_ref(&raised));

    // It is tried again, and told once it works.
    on_call.answers(204);
    until("the server is told, late", async || !on_call.by_webhook(kind).is_empty()).await;
    assert_eq!(on_call.by_webhook(kind), std::slice::from_ref(&raised));
    assert_eq!(on_call.by_command(kind), [raised], "and nobody twice");
    system.ledger.release_resource(&web01(), Which::Origin("legal".parse().unwrap()), &ops()).await.unwrap();
    system.until_over(id, RecordStatus::Recycled).await;
    until("its end is told", async || on_call.by_webhook(kind).len() == 2).await;
    assert_eq!(on_call.by_webhook(kind)[1].0, Phase::Ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_machine_of_that_name_is_refused_and_told() {
    let on_call = OnCall::new().await;
    let system = System::start_telling(any_time(), on_call.options()).await;
    system.recreate();
    let id = system.delete().await;
    let kind = AlarmKind::Refused;
    until("both routes are told", async || {
        !on_call.by_webhook(kind).is_empty() && !on_call.by_command(kind).is_empty()
    })
    .await;
    let subject = Subject::Deletion { deletion: id, resource: web01() };
    assert_eq!(on_call.by_command(kind), [(Phase::Raised, subject)]);
}

/// Somebody else who writes in the job table's file, and does not end before it is dropped.
struct Thief(std::process::Child);

impl Thief {
    fn of(file: &Path) -> Self {
        let script = "import sqlite3, sys\n\
                      job_table = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)\n\
                      job_table.execute('BEGIN IMMEDIATE')\n\
                      print('mine', flush=True)\n\
                      sys.stdin.read()\n";
        let mut process = std::process::Command::new("python3")
            .args(["-c", script])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "mine\n");
        Self(process)
    }
}

impl Drop for Thief {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_table_that_cannot_be_reached_is_told_without_it_and_once() {
    let on_call = OnCall::new().await;
    on_call.answers(503);
    let system = System::start_telling(any_time(), on_call.options()).await;
    let kind = AlarmKind::JobTable;
    let thief = Thief::of(&system.file());
    until("the program is told", async || !on_call.by_command(kind).is_empty()).await;
    on_call.answers(204);
    until("the server is told, once it answers", async || !on_call.by_webhook(kind).is_empty()).await;
    assert_eq!((on_call.by_webhook(kind).len(), on_call.by_command(kind).len()), (1, 1), "once an outage");
    drop(thief);
    until("its end is told", async || {
        on_call.by_webhook(kind).len() == 2 && on_call.by_command(kind).len() == 2
    })
    .await;
    assert_eq!((on_call.by_webhook(kind)[1].0, on_call.by_command(kind)[1].0), (Phase::Ended, Phase::Ended));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_digest_is_told_once_a_day_over_restarts_and_coordinators() {
    let on_call = OnCall::new().await;
    // From midnight on it is time, whenever this runs.
    let daily = Daily { at: chrono::NaiveTime::MIN, zone: chrono_tz::UTC };
    let options = || Options { daily, ..on_call.options() };
    let system = System::start_telling(one_a_day(), options()).await;
    let days = |told: &[Notice]| {
        let day = |notice: &Notice| match notice {
            Notice::Digest { digest, .. } => Some(digest.day),
            Notice::Alarm { .. } => None,
        };
        told.iter().filter_map(day).collect::<Vec<_>>()
    };
    let both = || [days(&on_call.server.told.lock().unwrap()), days(&on_call.all_by_command())];
    until("both routes are told", async || both().iter().all(|days| !days.is_empty())).await;
    let system = system.restarted().await;
    let another = Alarmer::new(Options { name: "another".into(), ..options() });
    for _ in 0..20 {
        let (one, two) = tokio::join!(another.tick(&*system.ledger, &[]), system.engine.alarm());
        one.and(two).unwrap();
    }
    // Midnight may pass meanwhile: each day once.
    for days in both() {
        let mut once = days.clone();
        once.dedup();
        assert!(days == once && days.len() <= 2, "{days:?}");
    }
}
