//! Many that come back together, cancelled by the API: each has a lock of its own, and none waits for another. Where there is
//! credit for a few, so many come back at once, whoever has the lower priority first, as it is by then.
use serde_json::json;
use sexton_api::{CANCEL_MAX, CancelCursor, CancelScope, Cancellations, Client};
use sexton_ledger::{DeletionFilter, Limits};
use sexton_model::audit::{AuditEvent, What};
use sexton_model::belts::ceiling::{Ceiling, NewCeiling};
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{JobKind, Stage, StateName};
use sexton_model::resource::Resource;
use sexton_model::{DeletionId, Fence, ResourceId};
use sexton_testkit::bench::identity;

use super::system::{System, U1, monitoring, on_many_machines, ops, until};

on_many_machines! {
    all_that_are_cancelled_together_are_ordered_at_once,
    a_scope_comes_back_a_few_at_a_time_by_the_priority_that_there_is_by_then,
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

/// How many have come back.
async fn are_back(system: &System) -> usize {
    let status = Some(RecordStatus::Cancelled);
    count(system, DeletionFilter { status, ..DeletionFilter::default() }).await
}

/// All of them, each with its priority, are deleted as far as they can be cancelled, and no order of that can be carried out
/// any more.
async fn switched_off(system: &System, machines: &[(ResourceId, i16)]) -> Vec<DeletionId> {
    // They are to stay where they can be cancelled.
    let (by, reason) = (ops(), "a test".to_owned());
    let soft = NewCeiling { scope: None, to: Some(Ceiling::Soft), by, reason };
    system.ledger.set_ceiling(soft, None).await.unwrap().unwrap();
    let rebuilt = system.rebuilt().await;
    let mut resources: Vec<Resource> = Vec::new();
    for (id, priority) in machines {
        let (root, u1) = (system.folder(), identity(U1));
        sexton_monitoring::sandbox::create(root, &monitoring(), id, &u1, "192.0.2.20:9100").unwrap();
        let resource = json!({
            "id": id, "scope": "tenants/acme", "identity": { "uuid": U1 }, "criticality": "reproducible",
            "rebuilt": &rebuilt, "priority": priority,
        });
        resources.push(serde_json::from_value(resource).unwrap());
    }
    let registered = system.ledger.register(resources, &ops(), true).await.unwrap();
    assert!(registered.iter().all(Result::is_ok));
    let mut ids = Vec::new();
    // Piece by piece: a busy machine does not get through with all of them in the time there is for one wait.
    for piece in machines.chunks(MANY / 4) {
        let piece = piece.iter().map(|(id, _)| id.clone()).collect();
        ids.extend(system.delete_all(piece).await);
        until("all are off, and held there", async || in_state(system, StateName::Held).await == ids.len())
            .await;
    }
    let mut quiet = system.ledger.facts().await.unwrap().now;
    for id in &ids {
        quiet = quiet.max(system.job(*id, JobKind::Stage(Stage::Soft)).await.quiet_after);
    }
    let is_quiet = async || system.ledger.facts().await.unwrap().now > quiet;
    until("no order of soft can be carried out any more", is_quiet).await;
    ids
}

/// Ask for one page of a cancel of all that there is.
async fn cancel(client: &Client, after: Option<CancelCursor>, limit: usize) -> Cancellations {
    let (scope, reason) = ("tenants".parse().unwrap(), "wanted".to_owned());
    let asked = CancelScope { scope, reason, dry_run: false, after, limit: Some(limit) };
    client.cancel_scope(&asked).await.unwrap()
}

/// Which ones a page has cancelled.
fn cancelled(page: &Cancellations) -> Vec<DeletionId> {
    page.items.iter().filter(|item| item.cancelled).map(|item| item.deletion).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_are_cancelled_together_are_ordered_at_once() {
    let mut system = System::start_on(PLAN).await;
    let client = system.client().await;
    let machines: Vec<(ResourceId, i16)> =
        (0..MANY).map(|n| (format!("vm/m{n:03}").parse().unwrap(), 100)).collect();
    let mut ids = switched_off(&system, &machines).await;

    system.monitoring.hold_undo();
    let (mut done, mut pages, mut after) = (Vec::new(), Vec::new(), None);
    loop {
        // However many are asked for.
        let page = cancel(&client, after, MANY).await;
        let told = page.items.iter().all(|item| item.restores == ["monitoring.silence"]);
        assert!(told, "each says what is taken back");
        pages.push(page.items.len());
        done.extend(cancelled(&page));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    // Behind them it looks for what was moved before the page meanwhile, and there is nothing.
    assert_eq!(pages, [CANCEL_MAX, CANCEL_MAX, CANCEL_MAX, MANY - 3 * CANCEL_MAX, 0]);
    ids.sort_unstable();
    done.sort_unstable();
    assert!(done == ids, "each of them, and once");
    system.monitoring.let_undo();
    for back in [MANY / 2, MANY] {
        until("they are back", async || are_back(&system).await >= back).await;
    }
    // By what was written down, not by how many are out at one moment: where the pages take long, the first leases run out.
    let (mut ordered, mut back) = (Vec::new(), Vec::new());
    for id in ids {
        let since = since_cancelled(&system, id).await;
        ordered.extend(since.iter().find(|event| event.ordered.is_some()).map(|event| event.at));
        back.extend(since.last().map(|event| event.at));
    }
    assert_eq!((ordered.len(), back.len()), (MANY, MANY));
    let (last, first) = (ordered.iter().max(), back.iter().min());
    assert!(last <= first, "the last was ordered at {last:?}, when one had come back at {first:?}");
}

/// What has happened to it since it was cancelled.
async fn since_cancelled(system: &System, id: DeletionId) -> Vec<AuditEvent> {
    let trail = system.view(id).await.audit.into_iter().map(|row| row.event);
    trail.skip_while(|event| event.what != What::Cancelled).collect()
}

/// When the first order of its restore was given, among all.
async fn begun(system: &System, id: DeletionId) -> Fence {
    since_cancelled(system, id).await.into_iter().find_map(|event| event.ordered).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_comes_back_a_few_at_a_time_by_the_priority_that_there_is_by_then() {
    const AT_ONCE: u32 = 2;
    let limits = Limits { restore_credit: AT_ONCE, ..Limits::default() };
    let mut system = System::start_on_within(&PLAN.replacen("20000", "8000", 1), limits).await;
    let client = system.client().await;
    let priorities = [40, 30, 20, 10, 50, 60].into_iter().enumerate();
    let machines: Vec<(ResourceId, i16)> =
        priorities.map(|(n, priority)| (format!("vm/m{n}").parse().unwrap(), priority)).collect();
    let ids = switched_off(&system, &machines).await;

    system.monitoring.hold_undo();
    let first = cancel(&client, None, 3).await;
    assert_eq!(cancelled(&first), [3, 2, 1].map(|n| ids[n]));
    // Meanwhile: whoever was the last is to be the next, before what is cancelled already, and whoever was the next the last.
    for (n, priority) in [(5, -5), (1, 900)] {
        let (machine, _) = &machines[n];
        assert_eq!(client.prioritize(machine, priority).await.unwrap().resource.priority, priority);
    }
    let second = cancel(&client, first.next, 3).await;
    assert_eq!(cancelled(&second), [0, 4].map(|n| ids[n]));
    let third = cancel(&client, second.next, 3).await;
    assert_eq!((cancelled(&third), third.next), (vec![ids[5]], None));
    let out = async || in_state(&system, StateName::Running).await;
    let most = usize::try_from(AT_ONCE).unwrap();
    assert_eq!(out().await, most);
    assert_eq!(in_state(&system, StateName::Ready).await, ids.len() - most, "the others are in line");

    system.monitoring.let_undo();
    until("they are back", async || {
        let out = out().await;
        assert!(out <= most, "{out} are out at once");
        are_back(&system).await == ids.len()
    })
    .await;
    let mut order = Vec::new();
    for (n, id) in ids.iter().enumerate() {
        order.push((begun(&system, *id).await, n));
    }
    order.sort_unstable();
    let order: Vec<usize> = order.into_iter().map(|(_, n)| n).collect();
    assert_eq!(order, [3, 2, 5, 0, 4, 1]);
}
