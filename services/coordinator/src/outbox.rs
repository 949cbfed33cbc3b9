//! What a decision's effects become: orders in packs, extensions, events. All of it after the commit; all of
//! it may be lost, and the lease repairs it.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sexton_bus::{Delivery, Outgoing, Queue, Target};
use sexton_ledger::{Decided, Dispatch, Intent};
use sexton_model::decide::{Effect, Event as Decide};
use sexton_model::deletion::{Deletion, Due};
use sexton_model::plan::Performer;
use sexton_model::step::Outcome;
use sexton_model::{Fence, Instance, JobId, Kind, Timestamp, undo};
use sexton_protocol::envelope::PACK_MAX;
use sexton_protocol::{
    BeaconSigner, Broadcast, Direction, EncodeError, Event, Extension, Happened, Holder, Keyring, Order,
    Pack, Packed, Packer,
};

use crate::follow::Orders;

/// Below this many orders for one instance in one batch each travels alone, so that all copies of a consumer
/// get some of them; above it packs save the broker's work.
const PACK_FROM: usize = 32;
/// How much longer orders stay in their queue than they may be carried out: whoever comes late rejects them, so that people
/// see them. A restart of a consumer, or of the broker, is over by then; after a longer outage nobody finds a heap of dead
/// orders, of which the broker drops what is left.
const SEEN_FOR: Duration = Duration::from_secs(60);
/// Who says it.
const SOURCE: &str = "/coordinator";

/// Makes messages of decisions.
pub struct Outbox {
    /// Keys of every instance.
    pub keyring: Arc<Keyring>,
    /// Signs what everyone may read.
    pub signer: Arc<BeaconSigner>,
    /// Instances whose steps are slow: a pack would wait behind itself while other copies idle.
    pub unpacked: Vec<Instance>,
}

/// What decisions became.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    /// To be published.
    pub(crate) outgoing: Vec<Outgoing>,
    /// Orders that can never be written down, each with the answer that it gets instead of one by its consumer: given
    /// again and again they would run into one lease after the other.
    pub(crate) unwritable: Vec<Intent>,
}

impl Outbox {
    /// Whether coordinators themselves have sent this: it is signed with the key that they sign with.
    pub(crate) fn signed(&self, direction: Direction, delivery: &Delivery) -> bool {
        let (key_id, signature) = (delivery.key_id.as_deref(), delivery.mac.as_deref());
        self.signer.verifier().verify(direction, &delivery.body, key_id, signature).is_ok()
    }

    /// All messages that these decisions ask for. `traced` are the orders among them that are traced.
    pub(crate) fn messages(&self, decided: &[&Decided], traced: &Orders, now: Timestamp) -> Messages {
        let mut orders: BTreeMap<Instance, Vec<Order>> = BTreeMap::new();
        let mut messages = Messages::default();
        let mut events: BTreeMap<(&Kind, &'static str), Vec<Happened>> = BTreeMap::new();
        for one in decided {
            if let Some(order) = one.dispatch.as_ref().and_then(|d| order_of(d, now)) {
                orders.entry(order.instance.clone()).or_default().push(order);
            }
            for effect in &one.effects {
                match effect {
                    Effect::Order(_) => {}
                    Effect::Extend { job, fence, performer, deadline } => {
                        let extension =
                            Extension { job: *job, fence: *fence, nonce: *performer, deadline: *deadline };
                        messages.outgoing.extend(self.broadcast(Broadcast::Extension(extension), now));
                    }
                    Effect::Happened { what, detail } => {
                        let happened = happened(one, what, detail, now);
                        events.entry((&one.resource.kind, what)).or_default().push(happened);
                    }
                }
            }
        }
        for ((kind, what), events) in events {
            self.announce(&format!("{kind}.{what}"), events, now, &mut messages.outgoing);
        }
        for (instance, orders) in orders {
            self.pack(&instance, orders, traced, now, &mut messages);
        }
        messages
    }

    fn pack(
        &self,
        instance: &Instance,
        orders: Vec<Order>,
        traced: &Orders,
        now: Timestamp,
        into: &mut Messages,
    ) {
        let alone = orders.len() < PACK_FROM || self.unpacked.contains(instance);
        let most = if alone { 1 } else { PACK_MAX };
        let mut packer = Packer::new(most);
        // A pack stays for as long as any order in it has to.
        let mut longest: Option<Duration> = None;
        for order in orders {
            let stays = stays(order.deadline, now);
            let (job, fence) = (order.job, order.fence);
            let traceparent = traced.traceparent(order.fence);
            match packer.push(&Event::new(SOURCE, now, order).traced(traceparent)) {
                Ok(None) => longest = longest.max(Some(stays)),
                // It was the last one that this pack takes.
                Ok(Some(full)) if full.events == most => {
                    let ttl = longest.take().max(Some(stays));
                    into.outgoing.extend(self.seal(instance, full, ttl));
                }
                // The pack before was too large for it, too: it begins the next one.
                Ok(Some(full)) => {
                    let ttl = longest.replace(stays);
                    into.outgoing.extend(self.seal(instance, full, ttl));
                }
                Err(error) => {
                    tracing::error!(%job, %error, "an order cannot be written down");
                    into.unwritable.push(unwritable(job, instance, fence, &error));
                }
            }
        }
        if let Some(packed) = packer.finish() {
            into.outgoing.extend(self.seal(instance, packed, longest));
        }
    }

    fn seal(&self, instance: &Instance, packed: Packed, ttl: Option<Duration>) -> Option<Outgoing> {
        let holder = Holder::Instance(instance.clone());
        match self.keyring.sign(&holder, Direction::Order, &packed.body) {
            Ok(seal) => Some(Outgoing {
                target: Target::Queue(Queue::Orders(instance.clone())),
                body: packed.body,
                key_id: seal.key_id,
                mac: seal.mac,
                message_id: packed.message_id,
                ttl,
            }),
            Err(error) => {
                tracing::error!(%instance, %error, "orders cannot be sealed");
                None
            }
        }
    }

    /// Events of one topic, in packs: a signature takes longer than all the rest of an event.
    fn announce(&self, topic: &str, events: Vec<Happened>, now: Timestamp, into: &mut Vec<Outgoing>) {
        let mut packer = Packer::new(PACK_MAX);
        let mut packs = Vec::new();
        for event in events {
            match packer.push(&Event::new(SOURCE, now, event)) {
                Ok(full) => packs.extend(full),
                Err(error) => tracing::error!(%error, "an event cannot be written down"),
            }
        }
        packs.extend(packer.finish());
        for packed in packs {
            let seal = self.signer.sign(Direction::Event, &packed.body);
            into.push(Outgoing {
                target: Target::Event { topic: topic.to_owned() },
                body: packed.body,
                key_id: seal.key_id,
                mac: seal.mac,
                message_id: packed.message_id,
                ttl: None,
            });
        }
    }

    /// A signed message for every consumer.
    pub fn broadcast(&self, message: Broadcast, now: Timestamp) -> Option<Outgoing> {
        let packed = encode(Pack::one(Event::new(SOURCE, now, message)).encode())?;
        let seal = self.signer.sign(Direction::Beacon, &packed.body);
        Some(Outgoing {
            target: Target::Beacon,
            body: packed.body,
            key_id: seal.key_id,
            mac: seal.mac,
            message_id: packed.message_id,
            // A beacon that waited longer is worth nothing to anybody.
            ttl: Some(Duration::from_millis(sexton_model::beacon::FRESH_MS)),
        })
    }
}

/// How long an order stays in its queue at most.
fn stays(deadline: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(deadline.ms_since(now)) + SEEN_FOR
}

/// What stands in for the answer to an order that nobody will ever get. Nobody can carry it out, so it is as good as
/// refused: a person has to look, and the reason says why.
fn unwritable(job: JobId, from: &Instance, fence: Fence, error: &EncodeError) -> Intent {
    let outcome = Outcome::refused(format!("the order cannot be written down: {error}")).bounded();
    Intent { deletion: job.deletion(), event: Decide::Outcome { job, from: from.clone(), fence, outcome } }
}

fn happened(decided: &Decided, what: &str, detail: &str, now: Timestamp) -> Happened {
    Happened {
        deletion: decided.deletion,
        resource: decided.resource.clone(),
        what: what.to_owned(),
        at: now,
        sequence: decided.audit_seq,
        job: None,
        text: detail.chars().take(500).collect(),
    }
}

fn encode(packed: Result<Packed, sexton_protocol::EncodeError>) -> Option<Packed> {
    packed.inspect_err(|error| tracing::error!(%error, "a message cannot be written down")).ok()
}

/// The order that a dispatch asks for; none for a step of the coordinator's own, which is never dispatched.
fn order_of(dispatch: &Dispatch, now: Timestamp) -> Option<Order> {
    let spec = &dispatch.spec;
    let step = dispatch.plan.stage(spec.stage).steps.get(usize::from(spec.step))?;
    let Performer::Subsystem { subsystem, action } = &step.performer else { return None };
    let resource = &dispatch.record.resource;
    Some(Order {
        job: spec.job,
        deletion: spec.job.deletion(),
        resource: resource.id.clone(),
        kind: spec.kind,
        step: spec.step,
        instance: spec.instance.clone(),
        action: action.clone(),
        mode: spec.mode,
        nature: step.nature,
        identity: resource.identity.clone(),
        attributes: resource.attributes.get(subsystem.as_str()).cloned().unwrap_or_default(),
        targets: dispatch.targets.clone().unwrap_or_default(),
        manifest: dispatch.manifest.clone(),
        params: filled(&step.params, &dispatch.record.due, || offer(dispatch)),
        fence: spec.fence,
        revision: dispatch.revision,
        issued_at: now,
        deadline: spec.deadline,
        longest_call_ms: step.longest_call_ms,
        long: step.long,
        attempt: spec.attempts,
    })
}

/// What a cancel would restore and until when, as it is promised when the record is made: the same in each repeat of an
/// order, and never later than it is in the end.
fn offer(dispatch: &Dispatch) -> String {
    let (record, plan) = (&*dispatch.record, dispatch.plan.clone());
    let made = record.created_at;
    // Whether it might be made today does not matter: it was made.
    let d = Deletion::begin(dispatch.spec.job.deletion(), record.clone(), plan, dispatch.day);
    undo::undo(&d, dispatch.day, made).offer()
}

/// A plan's parameters, with the record's due date where the plan says `"{due}"`: a date, or in a rehearsal the
/// moment that stands for it; with whose calendar that date is of where it says `"{zone}"`; and with what a cancel would
/// restore, and until when, where it says `"{undo}"`.
pub(crate) fn filled(
    params: &BTreeMap<String, Value>,
    due: &Due,
    undo: impl Fn() -> String,
) -> BTreeMap<String, Value> {
    let fill = |value: &Value| match value {
        Value::String(text) if text == "{due}" => {
            Value::String(due.moment.map_or_else(|| due.date.to_string(), |moment| moment.rfc3339()))
        }
        Value::String(text) if text == "{zone}" => Value::String(due.zone.0.name().to_owned()),
        Value::String(text) if text == "{undo}" => Value::String(undo()),
        other => other.clone(),
    };
    params.iter().map(|(name, value)| (name.clone(), fill(value))).collect()
}

#[cfg(test)]
mod tests {
    use sexton_model::DeletionId;
    use sexton_model::catalogue::Nature;
    use sexton_model::job::{JobKind, Stage};
    use sexton_model::resource::Identity;
    use sexton_model::step::Mode;

    use super::*;

    const NOW: Timestamp = Timestamp(1_796_083_200_000_000);

    fn dns() -> Instance {
        "dns.main".parse().unwrap()
    }

    /// An order with this deadline, which is about so many bytes long.
    fn order(number: usize, deadline: Timestamp, bytes: usize) -> Order {
        let (deletion, kind) = (DeletionId(17), JobKind::Stage(Stage::Announce));
        let identity = BTreeMap::from([("uuid".to_owned(), "u1".to_owned())]);
        Order {
            job: JobId::of(deletion, kind.slot()),
            deletion,
            resource: "vm/web01".parse().unwrap(),
            kind,
            step: 0,
            instance: dns(),
            action: "inspect".parse().unwrap(),
            mode: Mode::Inspect,
            nature: Nature::Inspect,
            identity: Identity::try_from(identity).unwrap(),
            attributes: Value::Null,
            targets: Value::Null,
            manifest: None,
            params: BTreeMap::from([("text".to_owned(), Value::from("x".repeat(bytes)))]),
            fence: Fence { epoch: 1, number: i64::try_from(number).unwrap() },
            revision: 1,
            issued_at: NOW,
            deadline,
            longest_call_ms: 1_000,
            long: false,
            attempt: 0,
        }
    }

    /// How long the messages stay that these orders become, in milliseconds: so much is left of each, so long is each.
    fn stay_ms(left_ms: impl IntoIterator<Item = u64>, bytes: usize) -> Vec<u128> {
        let mut rng = rand::rng();
        let outbox = Outbox {
            keyring: Arc::new(Keyring::generate([dns().into()], &mut rng)),
            signer: Arc::new(BeaconSigner::generate("beacon", &mut rng)),
            unpacked: Vec::new(),
        };
        let orders = left_ms.into_iter().enumerate();
        let orders = orders.map(|(number, left)| order(number, NOW.plus_ms(left), bytes)).collect();
        let mut messages = Messages::default();
        outbox.pack(&dns(), orders, &Orders::default(), NOW, &mut messages);
        assert!(messages.unwritable.is_empty());
        messages.outgoing.iter().map(|message| message.ttl.unwrap().as_millis()).collect()
    }

    #[test]
    fn orders_stay_for_a_minute_behind_the_last_deadline_of_their_message() {
        assert_eq!(stay_ms([1_000, 2_000, 0], 1), [61_000, 62_000, 60_000], "each travels alone");
        let packed = (1..=16).chain([90, 30]).chain([0; 14]).map(|left_s| left_s * 1_000);
        assert_eq!(stay_ms(packed, 1), [76_000, 150_000], "as long as any of them");
        // So large that ten fill a pack: the next one is not counted with it, and is not forgotten.
        let large = (0..PACK_FROM as u64).map(|number| if number == 10 { 90_000 } else { 1_000 });
        assert_eq!(stay_ms(large, 100_000), [61_000, 150_000, 61_000, 61_000]);
    }

    #[test]
    fn the_due_date_its_zone_and_what_can_be_undone_are_filled_in_and_nothing_else() {
        let param = |name: &str, value: &str| (name.to_owned(), Value::from(value));
        let stated = [("due", "{due}"), ("zone", "{zone}"), ("text", "due {due} {zone}"), ("undo", "{undo}")];
        let params = BTreeMap::from(stated.map(|(name, value)| param(name, value)));
        let zone = "Europe/Berlin".parse().unwrap();
        let due = Due { date: "2026-12-01".parse().unwrap(), zone, moment: None };
        let filled = filled(&params, &due, || "everything".to_owned());
        assert_eq!(filled["due"], "2026-12-01");
        assert_eq!(filled["zone"], "Europe/Berlin");
        assert_eq!(filled["text"], "due {due} {zone}");
        assert_eq!(filled["undo"], "everything");
    }

    #[test]
    fn the_bus_says_what_the_protocol_writes() {
        assert_eq!(sexton_bus::CONTENT_TYPE, sexton_protocol::CONTENT_TYPE);
    }
}
