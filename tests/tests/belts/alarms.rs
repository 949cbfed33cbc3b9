//! Alarms: told by routes that need neither broker nor consumers, by the second one while the first one fails, and once.
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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
use sexton_model::alarm::{AlarmKind, BackOff, Notice, Phase, Rules, Subject};
use sexton_model::belts::Policy;
use sexton_model::belts::budget::Written;
use sexton_model::belts::census::{Census, Listed, Rules as CensusRules, Sentinel};
use sexton_model::belts::one_shot::{NewOneShot, Passable};
use sexton_model::belts::resource_hold::{NewHold, Which};
use sexton_model::canary::{Canary, Probe};
use sexton_model::decide::Event;
use sexton_model::deletion::RecordStatus;
use sexton_model::digest::Daily;
use sexton_model::job::{JobKind, Stage, StateName};
use sexton_model::plan::Plan;
use sexton_model::resource::{Criticality, Resource};
use sexton_model::{ResourceId, Scope, Timestamp};

use super::gate::Flaw;
use super::system::{System, U1, monitoring, on_many_machines, ops, until, web01};

on_many_machines! {
    a_frozen_batch_is_told_by_both_routes_and_once,
    a_date_that_was_missed_is_told_by_the_second_route_while_the_first_fails,
    another_machine_of_that_name_is_refused_and_told,
    what_is_parked_for_long_is_told,
    a_credential_that_should_be_gone_is_told,
    whoever_breaks_the_glass_is_told_of,
    that_others_delete_is_told,
    a_census_that_is_refused_is_told_until_one_is_believed,
    a_drill_that_shows_nothing_is_told,
    a_canary_that_nobody_answers_and_one_that_is_accepted_are_told,
    a_job_table_that_cannot_be_reached_is_told_without_it_and_once,
    the_digest_is_told_once_a_day_over_restarts_and_coordinators,
}

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

fn one_a_day_at_hard() -> Policy {
    let written: Written = toml::from_str("a_day = 1\nstages = [\"hard\"]").unwrap();
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
    let ids = system.delete_both([web01(), other]).await;
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

/// Until both routes were told that it began.
async fn both_are_told(on_call: &OnCall, kind: AlarmKind, subject: Subject) {
    let raised = (Phase::Raised, subject);
    until(&format!("both routes are told of {}", kind.word()), async || {
        [on_call.by_webhook(kind), on_call.by_command(kind)].iter().all(|told| told.contains(&raised))
    })
    .await;
}

/// A hold of the lawyers' on `vm/web01`.
async fn hold(system: &System) {
    let legal = "legal".parse().unwrap();
    let hold = NewHold { resource: web01(), origin: legal, reason: "evidence".into(), by: ops() };
    system.ledger.hold_resource(hold).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_parked_for_long_is_told() {
    let on_call = OnCall::new().await;
    // Long is at once.
    let options = Options { rules: Rules { parked_ms: 0, ..Rules::default() }, ..on_call.options() };
    let system = System::start_telling(any_time(), options).await;
    system.monitoring.set_flaw("silence", Some(Flaw::SeesNothing));
    let id = system.delete().await;
    let soft = JobKind::Stage(Stage::Soft);
    // It waits between two attempts, in vain; whoever looks has it wait for a person instead.
    until("it is parked", async || {
        let park = Event::Park { by: ops(), reason: "the cluster is gone".into() };
        system.tell(id, park).await.is_ok() || system.job(id, soft).await.state.name() == StateName::Parked
    })
    .await;
    both_are_told(&on_call, AlarmKind::Parked, Subject::Deletion { deletion: id, resource: web01() }).await;
    assert_eq!(on_call.by_command(AlarmKind::Refused), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_should_be_gone_is_told() {
    let on_call = OnCall::new().await;
    let mut system = System::start_telling(any_time(), on_call.options()).await;
    system.plan = Arc::new(Plan { criticality: Criticality::Credential, ..Plan::clone(&system.plan) });
    let credential: Resource = serde_json::from_value(serde_json::json!({
        "id": web01(), "scope": "tenants/acme", "identity": { "uuid": U1 }, "criticality": "credential",
    }))
    .unwrap();
    assert_eq!(system.ledger.register(vec![credential], &ops(), true).await.unwrap(), [Ok(())]);
    hold(&system).await;
    let now = system.ledger.facts().await.unwrap().now;
    let days_ago = Timestamp(now.0 - 3 * 24 * 3_600_000_000);
    let id = system.delete_at(days_ago).await;
    let subject = Subject::Deletion { deletion: id, resource: web01() };
    both_are_told(&on_call, AlarmKind::OverdueCredential, subject).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_breaks_the_glass_is_told_of() {
    let on_call = OnCall::new().await;
    let system = System::start_telling(any_time(), on_call.options()).await;
    hold(&system).await;
    let id = system.delete().await;
    let (stage, belt) = (Stage::Hard, Passable::Window);
    let reason = "nobody else is awake".to_owned();
    let new = NewOneShot { deletion: id, stage, belt, by: ops(), reason, break_glass: true };
    let given = system.ledger.give_one_shot(new).await.unwrap().unwrap();
    both_are_told(&on_call, AlarmKind::BrokenGlass, Subject::Override { id: given.id }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_others_delete_is_told() {
    let on_call = OnCall::new().await;
    let scope: Scope = "tenants/acme".parse().unwrap();
    let sentinels = vec![Sentinel { scope: scope.clone(), resource: web01() }];
    let policy =
        Policy { census: CensusRules { sentinels, ..CensusRules::default() }, ..one_a_day_at_hard() };
    let system = System::start_telling(policy, on_call.options()).await;
    let others = ["vm/web02", "vm/web03", "vm/web04"].map(|id| id.parse::<ResourceId>().unwrap());
    // Each has a record, and none of it has been done yet.
    let in_a_year = system.ledger.facts().await.unwrap().now.plus_ms(365 * 86_400_000);
    for id in &others {
        system.register_named(id, false).await;
        system.delete_named(id.clone(), in_a_year).await;
    }
    let count = async |ids: &[ResourceId]| {
        let listed: Vec<Listed> =
            ids.iter().map(|id| Listed { id: id.clone(), scope: scope.clone() }).collect();
        let census = Census {
            kind: "vm".parse().unwrap(),
            scope: scope.clone(),
            credential: "census-ro".into(),
            new_credential: false,
            fewer: true,
            taken_at: system.ledger.facts().await.unwrap().now,
            total: listed.len() as u64,
            listed,
            unregistered: Vec::new(),
        };
        system.ledger.take_census(census, &ops()).await.unwrap().unwrap()
    };
    assert_eq!(count(&[&[web01()][..], &others[..]].concat()).await.paused, None);
    let counted = count(&[web01()]).await;
    let pause = counted.paused.unwrap_or_else(|| panic!("{:?}", counted.taken));
    both_are_told(&on_call, AlarmKind::ForeignDeletions, Subject::Pause { pause }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_census_that_is_refused_is_told_until_one_is_believed() {
    let on_call = OnCall::new().await;
    let scope: Scope = "tenants/acme".parse().unwrap();
    let sentinels = vec![Sentinel { scope: scope.clone(), resource: web01() }];
    let policy =
        Policy { census: CensusRules { sentinels, ..CensusRules::default() }, ..one_a_day_at_hard() };
    let system = System::start_telling(policy, on_call.options()).await;
    let hand_in = async |total: u64| {
        let census = Census {
            kind: "vm".parse().unwrap(),
            scope: scope.clone(),
            credential: "census-ro".into(),
            new_credential: false,
            fewer: false,
            taken_at: system.ledger.facts().await.unwrap().now,
            total,
            listed: vec![Listed { id: web01(), scope: scope.clone() }],
            unregistered: Vec::new(),
        };
        system.ledger.take_census(census, &ops()).await.unwrap()
    };
    hand_in(1).await.unwrap();
    hand_in(2).await.unwrap_err();
    let subject = || Subject::Censuses { kind: "vm".parse().unwrap(), scope: scope.clone() };
    both_are_told(&on_call, AlarmKind::Census, subject()).await;
    let text = open(&system).await.remove(0).standing.alarm.text;
    assert!(text.contains("the platform counts 2, and 1 are listed"), "{text}");
    hand_in(1).await.unwrap();
    until("its end is told", async || {
        on_call.by_command(AlarmKind::Census).contains(&(Phase::Ended, subject()))
    })
    .await;
    assert_eq!(open(&system).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_that_shows_nothing_is_told() {
    let on_call = OnCall::new().await;
    let gone: ResourceId = "vm/gone".parse().unwrap();
    let mut system = System::with_drills_told(vec![gone.clone()], on_call.options()).await;
    system.start_coordinator();
    system.engine.run_drills(&ops(), None).await.unwrap();
    both_are_told(&on_call, AlarmKind::Drill, Subject::Resource { resource: gone }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_nobody_answers_and_one_that_is_accepted_are_told() {
    let on_call = OnCall::new().await;
    let mut system = System::with_canaries_told(2_000, Policy::default(), on_call.options()).await;
    system.start_coordinator();
    assert!(system.engine.run_canaries(&ops(), None).await.unwrap().is_some());
    let all = system.until_judged().await;
    let subject = || Subject::Instance { instance: monitoring() };
    both_are_told(&on_call, AlarmKind::CanaryUnproved, subject()).await;
    // It counts whenever it comes.
    let forged = |canary: &&Canary| canary.probe == Probe::ForgedOrder { instance: monitoring() };
    system.believe(all.iter().find(forged).unwrap()).await;
    both_are_told(&on_call, AlarmKind::CanaryAccepted, subject()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_table_that_cannot_be_reached_is_told_without_it_and_once() {
    let on_call = OnCall::new().await;
    on_call.answers(503);
    let system = System::start_telling(any_time(), on_call.options()).await;
    let kind = AlarmKind::JobTable;
    let thief = system.lock_job_table();
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
