//! Many that come back together: each has a lock of its own, and none waits for another.
use serde_json::json;
use sexton_ledger::{DeletionFilter, Intent};
use sexton_model::ResourceId;
use sexton_model::belts::ceiling::{Ceiling, NewCeiling};
use sexton_model::decide::Event;
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{JobKind, Stage, StateName};
use sexton_model::resource::Resource;
use sexton_testkit::bench::identity;

use super::system::{System, U1, monitoring, on_many_machines, ops, until};

on_many_machines! {
    all_that_are_cancelled_together_are_ordered_at_once,
}

/// As many as the design has restored in parallel, and no more than the one consumer here can within a deadline: sixteen hands,
/// each with sixty-six calls. One page of deletions lists as many.
const MANY: usize = 1000;

const PLAN: &str = r#"
kind = "vm"
version = 1
criticality = "reproducible"
rehearsal = true
[stages.announce]
offset_days = 0
steps = [{ do = "monitoring.inspect" }]
[stages.soft]
offset_days = 0
steps = [{ do = "monitoring.silence", deadline_ms = 20000, longest_call_ms = 300 }]
[stages.hard]
offset_days = 1
steps = [{ do = "monitoring.remove_target" }]
[stages.purge]
offset_days = 2
steps = [{ do = "monitoring.delete_history" }]
[stages.recycle]
offset_days = 3
steps = []
"#;

/// How many records there are of that sort.
async fn count(system: &System, sort: DeletionFilter) -> usize {
    let filter = DeletionFilter { limit: 1000, ..sort };
    system.ledger.deletions(&filter).await.unwrap().items.len()
}

async fn in_state(system: &System, state: StateName) -> usize {
    count(system, DeletionFilter { state: Some(state), ..DeletionFilter::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_are_cancelled_together_are_ordered_at_once() {
    let system = System::start_on(PLAN).await;
    // They are to stay where they can be cancelled.
    let (by, reason) = (ops(), "a test".to_owned());
    let soft = NewCeiling { scope: None, to: Some(Ceiling::Soft), by, reason };
    system.ledger.set_ceiling(soft, None).await.unwrap().unwrap();
    let machines: Vec<ResourceId> = (0..MANY).map(|n| format!("vm/m{n:03}").parse().unwrap()).collect();
    let rebuilt = system.rebuilt().await;
    let mut resources: Vec<Resource> = Vec::new();
    for id in &machines {
        let (root, u1) = (system.folder(), identity(U1));
        sexton_monitoring::sandbox::create(root, &monitoring(), id, &u1, "192.0.2.20:9100").unwrap();
        let resource = json!({
            "id": id, "scope": "tenants/acme", "identity": { "uuid": U1 }, "criticality": "reproducible",
            "rebuilt": &rebuilt,
        });
        resources.push(serde_json::from_value(resource).unwrap());
    }
    let registered = system.ledger.register(resources, &ops(), true).await.unwrap();
    assert!(registered.iter().all(Result::is_ok));
    let mut ids = Vec::new();
    // Piece by piece: a busy machine does not get through with all of them in the time there is for one wait.
    for piece in machines.chunks(MANY / 4) {
        ids.extend(system.delete_all(piece.to_vec()).await);
        until("all are off, and held there", async || in_state(&system, StateName::Held).await == ids.len())
            .await;
    }
    let mut quiet = system.ledger.facts().await.unwrap().now;
    for id in &ids {
        quiet = quiet.max(system.job(*id, JobKind::Stage(Stage::Soft)).await.quiet_after);
    }
    let is_quiet = async || system.ledger.facts().await.unwrap().now > quiet;
    until("no order of soft can be carried out any more", is_quiet).await;

    system.monitoring.hold_undo();
    let cancel = |id| Intent { deletion: id, event: Event::Cancel { by: ops(), reason: "wanted".into() } };
    let decided = system.engine.run(ids.iter().copied().map(cancel).collect()).await.unwrap();
    let ordered = decided.iter().filter(|one| one.as_ref().unwrap().dispatch.is_some()).count();
    assert_eq!(ordered, MANY, "each by the decision that cancels it");
    assert_eq!(in_state(&system, StateName::Running).await, MANY, "all of them are out at the same time");
    assert_eq!(in_state(&system, StateName::Ready).await, 0, "and nobody is in line");
    system.monitoring.let_undo();
    let cancelled = || DeletionFilter { status: Some(RecordStatus::Cancelled), ..DeletionFilter::default() };
    for back in [MANY / 2, MANY] {
        until("they are back", async || count(&system, cancelled()).await >= back).await;
    }
}
