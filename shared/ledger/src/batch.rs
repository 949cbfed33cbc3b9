//! Deciding a batch, the same on both footings: what was loaded goes in, what is to be written comes out.
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;
use sexton_model::audit::{self, AuditEvent, Hash};
use sexton_model::belts::budget::Standing;
use sexton_model::belts::healthy::Healthy;
use sexton_model::belts::redundancy::Groups;
use sexton_model::belts::{InForce, Policy};
use sexton_model::credit::Draw;
use sexton_model::decide::{Capacity, Change, Context, Decision, Effect, Lane, OrderSpec, decide};
use sexton_model::deletion::{Deletion, Hold, RecordStatus, Waiver};
use sexton_model::job::JobKind;
use sexton_model::resource::Presence;
use sexton_model::time::Day;
use sexton_model::{DeletionId, Fence, Instance, JobId, ResourceId, Timestamp};

use crate::{Intent, LedgerError, Limits, NotDone, Pulsed, fit};

/// What was read under the locks.
#[derive(Debug)]
pub struct Loaded {
    /// The store's clock in this transaction.
    pub now: Timestamp,
    /// What a day is.
    pub day: Day,
    /// The ledger's epoch.
    pub epoch: u32,
    /// The first of as many fence numbers as the batch has intents.
    pub first_fence: i64,
    /// Deletions of the batch with the head of their audit chain.
    pub deletions: HashMap<DeletionId, (Deletion, Hash)>,
    /// Pauses and ceilings.
    pub in_force: Arc<InForce>,
    /// The epoch that a person has to review first, if there is one.
    pub review: Option<u32>,
    /// Where jobs of the batch stand that have to be admitted.
    pub standing: HashMap<JobId, Standing>,
    /// When people could have cancelled, if something of the batch may begin a stage that has a grace; else nothing is
    /// known, by which none would begin.
    pub healthy: Healthy,
    /// Redundancy groups of what of the batch may begin a stage that is bound by them.
    pub groups: Groups,
    /// Orders out by instance and lane.
    pub out: HashMap<(Instance, Lane), u32>,
    /// What is known of each instance.
    pub pulses: HashMap<Instance, Pulsed>,
    /// Targets that something of the batch is to join.
    pub pinned: HashMap<(DeletionId, Instance), Value>,
}

/// One audit event to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditWrite {
    /// Whose chain.
    pub deletion: DeletionId,
    /// Its number.
    pub seq: i64,
    /// The event as it is stored and hashed.
    pub body: String,
    /// The hash.
    pub hash: Hash,
}

/// Everything a batch writes. Maps, so that a row changed twice in one batch is written once.
#[derive(Debug, Default)]
pub struct Writes {
    /// Jobs that changed, as they are afterwards, with their deletion.
    pub jobs: BTreeMap<JobId, crate::row::JobRow>,
    /// New end of each touched chain, and the record's status.
    pub heads: BTreeMap<DeletionId, (i64, Hash, RecordStatus)>,
    /// Events, ascending by deletion and number.
    pub audit: Vec<AuditWrite>,
    /// Holds placed.
    pub holds: Vec<(DeletionId, Hold)>,
    /// Holds released.
    pub released: Vec<(DeletionId, i64)>,
    /// Waivers.
    pub waivers: Vec<(DeletionId, Waiver)>,
    /// Targets; `true` joins what is there.
    pub targets: Vec<(DeletionId, Instance, Value, bool)>,
    /// Manifests: the first one written stays.
    pub manifests: Vec<(DeletionId, u8, u16, Value)>,
    /// Resources in the inventory.
    pub resources: Vec<(ResourceId, Presence)>,
}

/// What one intent came to, before targets and manifests are read for its order.
#[derive(Debug, Clone)]
pub struct Settled {
    /// Whose.
    pub deletion: DeletionId,
    /// The order it gave.
    pub order: Option<OrderSpec>,
    /// Everything else that is to happen.
    pub effects: Vec<Effect>,
    /// Where the record stands after it.
    pub status: RecordStatus,
    /// Number of its audit event.
    pub audit_seq: i64,
    /// When a job that it changed is to be looked at again, if something that ends by itself holds it.
    pub again_at: Option<Timestamp>,
}

/// The lane of a job's orders.
pub fn lane(kind: JobKind) -> Lane {
    match kind {
        JobKind::Restore => Lane::Restores,
        JobKind::Stage(_) => Lane::Stages,
    }
}

/// Decide every intent in order, each on what the ones before it left.
///
/// # Errors
/// If an audit event cannot be written down, which would be a defect.
pub fn decide_all(
    loaded: &mut Loaded,
    batch: &[Intent],
    limits: &Limits,
    policy: &Policy,
) -> Result<(Vec<Result<Settled, NotDone>>, Writes), LedgerError> {
    let mut writes = Writes::default();
    let mut results = Vec::with_capacity(batch.len());
    let out = RefCell::new(std::mem::take(&mut loaded.out));
    let passed_over = RefCell::new(HashSet::new());
    for (intent, number) in batch.iter().zip(loaded.first_fence..) {
        let Some((deletion, head)) = loaded.deletions.get_mut(&intent.deletion) else {
            results.push(Err(NotDone::NoSuchDeletion(intent.deletion)));
            continue;
        };
        let now = loaded.now;
        let pulses = &loaded.pulses;
        let freed = freed_by(deletion, intent);
        let capacity = |instance: &Instance, lane: Lane, draw: Draw| {
            let pulsed = pulses.get(instance);
            let silent_ms = pulsed.map_or(u64::MAX, |pulsed| now.ms_since(pulsed.at));
            let hands = pulsed.map_or(0, |pulsed| pulsed.hands);
            if silent_ms > limits.gone_after_ms {
                return Capacity::Gone;
            }
            if silent_ms > limits.down_after_ms {
                return Capacity::Down;
            }
            // It takes nothing, and stands in nobody's way.
            if draw == Draw::ANY {
                return Capacity::Free;
            }
            let key = (instance.clone(), lane);
            let own = freed.as_ref() == Some(&key);
            let out_in = |lane| out.borrow().get(&(instance.clone(), lane)).copied().unwrap_or(0);
            let used = out_in(lane).saturating_sub(u32::from(own));
            // Restores go first: what they keep busy is not there for stages.
            let hands = match lane {
                Lane::Stages => hands.saturating_sub(out_in(Lane::Restores)),
                Lane::Restores => hands,
            };
            if used >= draw.most(hands, limits.of(instance, lane))
                || !own && passed_over.borrow().contains(&key)
            {
                // Nobody overtakes in a batch: a slow order would wait for ever behind ever more quick ones.
                passed_over.borrow_mut().insert(key);
                Capacity::Full
            } else {
                Capacity::Free
            }
        };
        let answered = |instance: &Instance| pulses.get(instance).and_then(|pulsed| pulsed.answered_at);
        let known = &loaded.standing;
        let standing = |job: JobId| known.get(&job).cloned().unwrap_or_default();
        let context = Context {
            now,
            day: loaded.day,
            in_force: &loaded.in_force,
            policy,
            review: loaded.review,
            fence: Fence { epoch: loaded.epoch, number },
            capacity: &capacity,
            standing: &standing,
            healthy: &loaded.healthy,
            groups: &loaded.groups,
            answered: &answered,
        };
        let event = fit::fitting(deletion, &intent.event, &loaded.pinned);
        match decide(deletion, &event, &context) {
            Err(refusal) => results.push(Err(refusal.into())),
            Ok(decision) => {
                let before = orders_out(deletion);
                let settled = take_over(deletion, head, decision, &mut writes)?;
                // Whoever of its groups comes later in the batch sees what it has begun.
                loaded.groups.note(deletion);
                let mut out = out.borrow_mut();
                for key in before {
                    if let Some(n) = out.get_mut(&key) {
                        *n = n.saturating_sub(1);
                    }
                }
                for key in orders_out(deletion) {
                    *out.entry(key).or_insert(0) += 1;
                }
                results.push(Ok(settled));
            }
        }
    }
    loaded.out = out.into_inner();
    Ok((results, writes))
}

/// The credit that the intent itself gives back, so that a step may follow on the same instance.
fn freed_by(deletion: &Deletion, intent: &Intent) -> Option<(Instance, Lane)> {
    use sexton_model::decide::Event;
    match &intent.event {
        Event::Outcome { job, .. } | Event::LeaseOver { job, .. } => {
            let job = deletion.job(*job).filter(|j| j.state.out().is_some())?;
            Some((deletion.wants(job)?, lane(job.kind)))
        }
        Event::Claim { .. }
        | Event::Proceed { .. }
        | Event::Recheck { .. }
        | Event::Progress { .. }
        | Event::Cancel { .. }
        | Event::PlaceHold { .. }
        | Event::ReleaseHold { .. }
        | Event::Park { .. }
        | Event::Retry { .. }
        | Event::Waive { .. }
        | Event::Acknowledge { .. }
        | Event::Bounced { .. }
        | Event::Rescue { .. } => None,
    }
}

fn orders_out(deletion: &Deletion) -> Vec<(Instance, Lane)> {
    deletion
        .jobs
        .iter()
        .filter(|job| job.state.out().is_some())
        .filter_map(|job| Some((deletion.wants(job)?, lane(job.kind))))
        .collect()
}

fn take_over(
    deletion: &mut Deletion,
    head: &mut Hash,
    decision: Decision,
    writes: &mut Writes,
) -> Result<Settled, LedgerError> {
    let id = deletion.id;
    let mut changed = Vec::new();
    for change in decision.changes {
        deletion.apply(&change);
        match change {
            Change::Job(job) => changed.push(job.id),
            Change::Status(_) => {}
            Change::HoldPlaced(hold) => writes.holds.push((id, hold)),
            Change::HoldReleased(hold) => writes.released.push((id, hold)),
            Change::Waived(waiver) => writes.waivers.push((id, waiver)),
            Change::Targets { instance, value, join } => writes.targets.push((id, instance, value, join)),
            Change::Manifest { slot, step, value } => writes.manifests.push((id, slot, step, value)),
            Change::Resource(presence) => {
                writes.resources.push((deletion.record.resource.id.clone(), presence));
            }
        }
    }
    // Rows are made from what the deletion is after all of its changes: what a job wants next depends on its
    // siblings.
    let again_at = changed.iter().filter_map(|id| deletion.job(*id)?.state.again_at()).min();
    for job in changed.iter().filter_map(|id| deletion.job(*id)) {
        writes.jobs.insert(job.id, crate::row::JobRow::of(deletion, job));
    }
    append(deletion, head, &decision.audit, writes)?;
    let mut order = None;
    let mut effects = Vec::new();
    for effect in decision.effects {
        match effect {
            Effect::Order(spec) => order = Some(spec),
            Effect::Extend { .. } | Effect::Happened { .. } => effects.push(effect),
        }
    }
    let (status, audit_seq) = (deletion.status, deletion.audit_seq);
    Ok(Settled { deletion: id, order, effects, status, audit_seq, again_at })
}

fn append(
    deletion: &mut Deletion,
    head: &mut Hash,
    event: &AuditEvent,
    writes: &mut Writes,
) -> Result<(), LedgerError> {
    let body = serde_json::to_string(event)
        .map_err(|e| LedgerError::Store { doing: "writing down an audit event", source: Box::new(e) })?;
    deletion.audit_seq += 1;
    *head = audit::link(head, deletion.audit_seq, body.as_bytes());
    writes.audit.push(AuditWrite { deletion: deletion.id, seq: deletion.audit_seq, body, hash: *head });
    writes.heads.insert(deletion.id, (deletion.audit_seq, *head, deletion.status));
    Ok(())
}
