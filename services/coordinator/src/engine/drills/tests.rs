//! Drills between coordinators that know different things, and at moments that no running system waits for. Nothing is
//! carried out here; `tests/tests/belts/drills.rs` has what is.
use std::path::Path;

use serde_json::json;
use sexton_bus::local::Local;
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Ledger, Limits};
use sexton_model::belts::Policy;
use sexton_model::deletion::RecordStatus;
use sexton_model::time::Day;
use sexton_protocol::{BeaconSigner, Holder, Keyring};
use sexton_service::Config;

use super::*;
use crate::{Options, Plans, Witness};

const SUBSYSTEM: &str = r#"
subsystem = "dns"
[actions.inspect]
nature = "inspect"
earliest = "announce"
deadline_ms = 1000
longest_call_ms = 100
about = "looks"
[actions.withdraw]
nature = "reversible"
earliest = "soft"
deadline_ms = 1000
longest_call_ms = 100
about = "withdraws"
"#;
const PLAN: &str = r#"
kind = "vm"
version = 1
criticality = "reproducible"
rehearsal = true
[stages.announce]
offset_days = 0
steps = [{ do = "dns.inspect" }]
[stages.soft]
offset_days = 1
steps = [{ do = "dns.withdraw" }]
[stages.hard]
offset_days = 2
steps = []
[stages.purge]
offset_days = 3
steps = []
[stages.recycle]
offset_days = 4
steps = []
"#;

/// A section that has them held with `vm/drill01`.
const HELD: &str = "drill = [\"vm/drill01\"]";

fn plans() -> Plans {
    Plans::of(&[("dns.toml", SUBSYSTEM)], &[("vm.toml", PLAN)], true).unwrap()
}

fn plan() -> Arc<Plan> {
    plans().of_kind(&"vm".parse().unwrap()).unwrap().clone()
}

fn drill01() -> ResourceId {
    "vm/drill01".parse().unwrap()
}

fn ops() -> Actor {
    "ops".parse().unwrap()
}

fn text(drill: &Drill) -> String {
    drill.judged.as_ref().map_or_else(String::new, |judged| judged.verdict.text().to_owned())
}

/// A coordinator, and `vm/drill01` in its job table.
struct Alone {
    engine: Engine,
    /// What the job table lies in.
    _folder: tempfile::TempDir,
}

impl Alone {
    /// With this section `[canaries]`.
    async fn new(section: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = sexton_ledger::Options {
            day: Day::Rehearsal { length_ms: 1000 },
            limits: Limits::default(),
            policy: Policy::default(),
        };
        let ledger = SqliteLedger::open(folder.path().join("sexton.db"), options).await.unwrap();
        let ledger: Arc<dyn Ledger> = Arc::new(ledger);
        let witness = Witness::open(&folder.path().join("witness"), ledger.as_ref(), false).await.unwrap();
        let config = format!("[canaries]\n{section}\n");
        let config = Config::parse(Path::new("sexton.toml"), &config, &["canaries"]).unwrap();
        let canaries = Canaries::read(&config, Arc::new(plans())).unwrap();
        let today = ledger.facts().await.unwrap().now.utc().date_naive();
        let resource = serde_json::from_value(json!({
            "id": drill01(), "scope": "drills", "identity": { "uuid": "1" }, "criticality": "reproducible",
            "rebuilt": { "on": today, "evidence": "a test" },
        }))
        .unwrap();
        assert_eq!(ledger.register(vec![resource], &ops(), true).await.unwrap(), [Ok(())]);
        let mut rng = rand::rng();
        let engine = Engine::new(Options {
            ledger,
            bus: Arc::new(Local::new()),
            keyring: Arc::new(Keyring::generate([Holder::Scheduler, "dns.main".parse().unwrap()], &mut rng)),
            signer: Arc::new(BeaconSigner::generate("beacon", &mut rng)),
            unpacked: Vec::new(),
            witness: Arc::new(witness),
        });
        Self { engine: engine.with_canaries(Some(canaries)), _folder: folder }
    }

    async fn facts(&self) -> Facts {
        self.engine.ledger.facts().await.unwrap()
    }

    async fn drills(&self) -> Vec<Drill> {
        self.engine.ledger.drills().await.unwrap()
    }

    /// Write down what some coordinator does about one.
    async fn keep(&self, before: Option<&Drill>, drill: &Drill) {
        assert!(self.engine.ledger.keep_drill(before, drill).await.unwrap());
    }

    /// One with `vm/drill01` begins, and has no record yet.
    async fn begun(&self) -> Drill {
        let facts = self.facts().await;
        let drill = Drill::begin((drill01(), &plan()), None, None, (facts.now, facts.day));
        self.keep(None, &drill).await;
        drill
    }

    /// A record is made as for a drill, and nobody writes down for which.
    async fn made(&self) -> DeletionId {
        let wanted = new(&drill01(), &plan(), &self.facts().await);
        self.engine.ledger.create(vec![wanted]).await.unwrap().remove(0).unwrap()
    }

    async fn status(&self, record: DeletionId) -> RecordStatus {
        self.engine.ledger.deletion(record).await.unwrap().unwrap().deletion.status
    }

    /// The last record of `vm/drill01`.
    async fn last_record(&self) -> Option<DeletionId> {
        self.engine.ledger.deletion_of(&drill01()).await.unwrap()
    }

    /// Go on with one as it was read, at a moment.
    async fn go_on(&self, drill: &Drill, now: Timestamp) {
        let (canaries, facts) = (self.engine.canaries().unwrap(), Facts { now, ..self.facts().await });
        self.engine.go_on_with_drill(canaries, drill, &facts).await.unwrap();
    }
}

/// Somebody else has judged it, or has gone on to the end with another record, since it was read.
#[tokio::test]
async fn a_record_that_no_drill_knows_of_is_cancelled() {
    let on = Alone::new(HELD).await;
    let read = on.begun().await;
    let now = on.facts().await.now;
    let over = read.clone().judged(Verdict::unclear("by another coordinator"), now);
    on.keep(Some(&read), &over).await;
    on.go_on(&read, now).await;
    let made = on.last_record().await.unwrap();
    assert_eq!(on.status(made).await, RecordStatus::Cancelled);
    assert_eq!(on.drills().await, [over]);
}

/// Somebody else has found it before whoever made it has written it down.
#[tokio::test]
async fn a_record_that_its_drill_knows_of_is_kept() {
    let on = Alone::new(HELD).await;
    let read = on.begun().await;
    let made = on.made().await;
    on.keep(Some(&read), &Drill { deletion: Some(made), ..read.clone() }).await;
    on.engine.leave_none_behind(&drill01(), made).await.unwrap();
    assert_eq!(on.status(made).await, RecordStatus::Live);
}

/// Whoever made it has died since.
#[tokio::test]
async fn whoever_looks_next_finds_the_record_that_was_made() {
    let on = Alone::new(HELD).await;
    let begun = on.begun().await;
    let made = on.made().await;
    on.engine.tend_drills().await.unwrap();
    assert_eq!(on.drills().await, [Drill { deletion: Some(made), ..begun }]);
    assert_eq!(on.status(made).await, RecordStatus::Live);
}

#[tokio::test]
async fn one_that_waits_for_what_was_left_behind_is_judged_in_the_end() {
    let on = Alone::new(HELD).await;
    let left = on.made().await;
    let drill = on.begun().await;
    on.go_on(&drill, drill.finish_by).await;
    let judged = on.drills().await.remove(0);
    assert!(text(&judged).contains(&format!("{left}: look at that one first")), "{judged:?}");
    assert_eq!((judged.deletion, on.status(left).await), (None, RecordStatus::Live));
}

#[tokio::test]
async fn what_was_left_behind_is_cancelled_while_there_is_time() {
    let on = Alone::new(HELD).await;
    let left = on.made().await;
    let drill = on.begun().await;
    on.go_on(&drill, Timestamp(drill.finish_by.0 - 1)).await;
    assert_eq!(on.status(left).await, RecordStatus::Cancelled);
    assert_eq!(on.drills().await, std::slice::from_ref(&drill), "it still waits for a record of its own");
    on.engine.tend_drills().await.unwrap();
    let own = on.drills().await.remove(0).deletion.unwrap();
    assert_eq!((on.last_record().await, on.status(own).await), (Some(own), RecordStatus::Live));
    assert_ne!(own, left);
}

#[tokio::test]
async fn where_none_are_held_no_record_is_made() {
    let off = format!("off = \"the broker is being moved\"\n{HELD}");
    for section in ["drill = []", off.as_str()] {
        let on = Alone::new(section).await;
        on.begun().await;
        on.engine.tend_drills().await.unwrap();
        let said = text(&on.drills().await.remove(0));
        assert!(said.contains("no drills are held with vm/drill01 any more"), "{section}: {said}");
        assert_eq!(on.last_record().await, None, "{section}");
    }
}

#[tokio::test]
async fn none_begins_before_the_record_of_the_last_one_is_over() {
    let on = Alone::new(HELD).await;
    let begun = on.begun().await;
    let record = on.made().await;
    let failed = Drill { deletion: Some(record), ..begun.clone() };
    let failed = failed.judged(Verdict::failed("soft is parked"), on.facts().await.now);
    on.keep(Some(&begun), &failed).await;
    assert_eq!(on.engine.run_drills(&ops(), None).await.unwrap(), Some(0));
    assert_eq!(on.drills().await, [failed]);
    on.engine.cancel_drill(record, "a test").await.unwrap();
    assert_eq!(on.engine.run_drills(&ops(), None).await.unwrap(), Some(1));
    let next = on.drills().await.remove(0);
    assert!(next.is_open() && next.deletion.is_some_and(|next| next != record), "{next:?}");
}

#[tokio::test]
async fn whoever_asks_again_under_a_key_begins_no_other() {
    // The second one is over at once: there is no such machine.
    let on = Alone::new("drill = [\"vm/drill01\", \"vm/gone\"]").await;
    let sent = Some(on.facts().await.now);
    assert_eq!(on.engine.run_drills(&ops(), sent).await.unwrap(), Some(2));
    let begun = on.drills().await;
    let open: Vec<_> = begun.iter().map(|drill| (drill.resource.to_string(), drill.is_open())).collect();
    assert_eq!(open, [("vm/drill01".to_owned(), true), ("vm/gone".to_owned(), false)]);
    // Whoever died before it was answered is answered the same.
    assert_eq!(on.engine.run_drills(&ops(), sent).await.unwrap(), Some(2));
    assert_eq!(on.drills().await, begun);
    // Somebody else means another one.
    assert_eq!(on.engine.run_drills(&ops(), None).await.unwrap(), Some(1));
    let now = on.drills().await;
    assert_eq!(now[0], begun[0], "it goes on");
    assert!(now[1].begun_at > begun[1].begun_at);
}
