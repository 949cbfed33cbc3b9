//! What a coordinator does not accept goes to `sexton.rejected` with its reason and is counted, and everything else
//! goes on.
#![expect(clippy::unwrap_used, reason = "a test says what it expected by failing")]
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use sexton_bus::local::Local;
use sexton_bus::{Bus, Outgoing, PublishError, Queue, Subscription, Target};
use sexton_coordinator::{Engine, Options, Witness};
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Ledger, Limits};
use sexton_model::belts::Policy;
use sexton_model::step::{Outcome, Presence};
use sexton_model::time::Day;
use sexton_model::{DeletionId, Fence, Instance, JobId, Timestamp};
use sexton_protocol::{
    BeaconSigner, Event, Holder, Keyring, Message, OutcomeReport, Pack, Pulse, Rejected, Report, StageDue,
};
use sexton_testkit::bus::{Double, Instead};
use tokio_util::sync::CancellationToken;

/// Longest time one message may take: what does not come is a failure, not a wait for ever.
const PATIENCE: Duration = Duration::from_secs(20);
const NOW: Timestamp = Timestamp(1_796_083_200_000_000);

struct Site {
    local: Local,
    keyring: Arc<Keyring>,
    engine: Arc<Engine>,
    rejected: Box<dyn Subscription>,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

/// A message as somebody might send it.
struct Sent {
    user: &'static str,
    body: Bytes,
    key: Holder,
    /// Of what it is sealed as; nothing for no proof at all.
    sealed: Option<sexton_protocol::Direction>,
}

/// A broker that has not confirmed so many more of the messages to `sexton.rejected`, and lost them.
struct Losing {
    local: Local,
    left: Arc<AtomicU64>,
}

#[async_trait]
impl Instead for Losing {
    fn behind(&self) -> &dyn Bus {
        &self.local
    }

    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let mut results = Vec::with_capacity(messages.len());
        for message in messages {
            let left = self.left.load(Ordering::SeqCst);
            if left > 0 && message.target == Target::Queue(Queue::Rejected) {
                self.left.store(left - 1, Ordering::SeqCst);
                let to = Queue::Rejected.to_string();
                results.push(Err(PublishError::Unconfirmed { to, waited_ms: 1 }));
            } else {
                results.extend(self.local.publish(vec![message]).await);
            }
        }
        results
    }
}

impl Site {
    async fn new() -> Self {
        let local = Local::new();
        Self::on(local.clone(), Arc::new(local)).await
    }

    /// Whose coordinator sees the bus as this one.
    async fn on(local: Local, bus: Arc<dyn Bus>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = sexton_ledger::Options {
            day: Day::Calendar,
            limits: Limits::default(),
            policy: Policy::default(),
        };
        let ledger: Arc<dyn Ledger> =
            Arc::new(SqliteLedger::open(&folder.path().join("sexton.db"), options).await.unwrap());
        let witness = folder.path().join("witness");
        let witness = Arc::new(Witness::open(&witness, ledger.as_ref(), false).await.unwrap());
        let mut rng = rand::rng();
        let holders = ["dns.main", "ipam.main", "scheduler"].map(|name| name.parse::<Holder>().unwrap());
        let keyring = Arc::new(Keyring::generate(holders, &mut rng));
        let rejected = bus.consume(&Queue::Rejected, 100).await.unwrap();
        let engine = Arc::new(Engine::new(Options {
            ledger,
            bus: bus.clone(),
            keyring: keyring.clone(),
            signer: Arc::new(BeaconSigner::generate("beacon", &mut rng)),
            unpacked: Vec::new(),
            witness,
        }));
        let stop = CancellationToken::new();
        tokio::spawn(sexton_coordinator::run(engine.clone(), bus, stop.clone()));
        Self { local, keyring, engine, rejected, stop, _folder: folder }
    }

    async fn send(&self, queue: Queue, sent: Sent) {
        let (key_id, mac) = match sent.sealed {
            Some(direction) => {
                let seal = self.keyring.sign(&sent.key, direction, &sent.body).unwrap();
                (seal.key_id, seal.mac)
            }
            None => (String::new(), String::new()),
        };
        let target = Target::Queue(queue);
        let message =
            Outgoing { target, body: sent.body, key_id, mac, message_id: "m-1".to_owned(), ttl: None };
        self.local.as_user(sent.user).publish(vec![message]).await.remove(0).unwrap();
    }

    async fn next_reason(&mut self) -> String {
        let delivery = tokio::time::timeout(PATIENCE, self.rejected.next()).await.unwrap().unwrap();
        self.rejected.ack(vec![delivery.tag]).await;
        Pack::<Rejected>::decode(&delivery.body).unwrap().events.remove(0).data.reason
    }

    /// A pulse is heard: the coordinator is still there.
    async fn still_hears(&mut self, instance: &Instance) {
        let good = packed(pulse("ipam.main"));
        let sealed = |sealed| Sent {
            user: "ipam.main",
            body: good.clone(),
            key: Holder::Instance(instance.clone()),
            sealed,
        };
        self.send(Queue::Pulses, sealed(Some(Pulse::DIRECTION))).await;
        // The first bad one may be of the same batch; the next comes after that batch, and so after the good one.
        for _ in 0..2 {
            self.send(Queue::Pulses, sealed(None)).await;
            self.next_reason().await;
        }
        let heard = self.engine.ledger.instances().await.unwrap();
        assert!(heard.contains_key(instance), "a good message is not heard any more");
    }
}

fn packed<T: Message>(message: T) -> Bytes {
    Pack::one(Event::new("/test", NOW, message)).encode().unwrap().body
}

/// A rejection that is none comes from nobody: rejecting it would bring it back for ever. What coordinators reject comes
/// back once, and is theirs.
#[tokio::test]
async fn a_rejection_that_is_not_believed_is_counted_and_rejected_no_further() {
    let mut site = Site::new().await;
    let dns: Holder = "dns.main".parse().unwrap();
    let rejected = packed(Rejected::new("expired", "sexton.orders.dns.main", Some("m-1"), None, b"[]"));
    let by = |user: &'static str, body: &Bytes, sealed| {
        let (body, key) = (body.clone(), dns.clone());
        Sent { user, body, key, sealed }
    };
    let direction = Some(Rejected::DIRECTION);
    let malformed = Bytes::from_static(b"[]]");
    let large = Bytes::from(vec![b' '; Rejected::PACK_MAX_BYTES + 1]);
    for (what, sent) in [
        ("without a proof", by("dns.main", &rejected, None)),
        ("by another's user", by("ipam.main", &rejected, direction)),
        ("sealed as something else", by("dns.main", &rejected, Some(Pulse::DIRECTION))),
        ("not understood", by("dns.main", &malformed, direction)),
        ("too large", by("dns.main", &large, direction)),
    ] {
        let before = site.engine.counters.disbelieved.load(Ordering::Relaxed);
        site.send(Queue::Rejected, sent).await;
        // It stands where people look, as it was sent.
        let shown = tokio::time::timeout(PATIENCE, site.rejected.next()).await.unwrap().unwrap();
        site.rejected.ack(vec![shown.tag]).await;
        let counted = async {
            while site.engine.counters.disbelieved.load(Ordering::Relaxed) == before {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, counted).await.expect(what);
    }
    site.send(Queue::Rejected, by("dns.main", &rejected, direction)).await;
    let good = tokio::time::timeout(PATIENCE, site.rejected.next()).await.unwrap().unwrap();
    site.rejected.ack(vec![good.tag]).await;
    // Twice: what a coordinator rejected goes the way of the rejections, in their order.
    site.still_hears(&"ipam.main".parse().unwrap()).await;
    site.send(Queue::Rejected, by("dns.main", &rejected, None)).await;
    let last = async {
        while site.engine.counters.disbelieved.load(Ordering::Relaxed) < 6 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, last).await.expect("the last one is counted");
    assert_eq!(site.engine.counters.disbelieved.load(Ordering::Relaxed), 6);
    assert_eq!(
        site.engine.counters.rejected.load(Ordering::Relaxed),
        2,
        "none of them was rejected in its turn"
    );
    site.stop.cancel();
}

fn pulse(instance: &str) -> Pulse {
    Pulse {
        instance: instance.parse().unwrap(),
        consumer: "c1".into(),
        version: "1".into(),
        concurrency: 1,
        answered: 0,
        at: NOW,
    }
}

fn report(instance: &str) -> Report {
    let outcome = Outcome::done(Presence::Absent, "seen");
    let instance = instance.parse().unwrap();
    OutcomeReport {
        job: JobId::of(DeletionId(1), 0),
        fence: Fence { epoch: 1, number: 1 },
        instance,
        outcome,
    }
    .into()
}

fn due() -> StageDue {
    StageDue { jobs: vec![JobId::of(DeletionId(1), 0)] }
}

/// The same message, changed.
fn changed(body: &Bytes, change: impl Fn(&mut Value)) -> Bytes {
    let mut json: Value = serde_json::from_slice(body).unwrap();
    change(&mut json[0]);
    json.to_string().into()
}

/// What is wrong, the message, and what its reason has to say.
fn bad<T: Message>(
    good: &Bytes,
    user: &'static str,
    other: &'static str,
) -> Vec<(&'static str, Sent, &'static str)> {
    let key: Holder = user.parse().unwrap();
    let own = |body: Bytes| Sent { user, body, key: key.clone(), sealed: Some(T::DIRECTION) };
    let with = |field: &'static str, value: Value| own(changed(good, |event| event[field] = value.clone()));
    let elsewhere: Holder = other.parse().unwrap();
    let all = sexton_protocol::Direction::Event;
    let of_later_version = changed(good, |event| {
        event["type"] = json!(event["type"].as_str().unwrap().replace(".v1", ".v2"));
    });
    vec![
        ("not JSON", own(Bytes::from_static(b"delete everything")), "not understood"),
        ("nothing", own(Bytes::new()), "not understood"),
        ("deeply nested", own("[".repeat(10_000).into()), "not understood"),
        ("of an unknown type", with("type", json!("dev.sexton.surprise.v1")), "type"),
        ("of a later version", own(of_later_version), ".v2\""),
        ("of another channel", with("type", json!("dev.sexton.order.v1")), "type"),
        ("with an unknown field", own(changed(good, |e| e["data"]["force"] = json!(true))), "force"),
        ("without data", own(changed(good, |e| drop(e.as_object_mut().unwrap().remove("data")))), "data"),
        ("without a proof", Sent { sealed: None, ..own(good.clone()) }, "not authentic"),
        ("sealed for another direction", Sent { sealed: Some(all), ..own(good.clone()) }, "does not fit"),
        ("under another's key", Sent { key: elsewhere, ..own(good.clone()) }, "under the key of"),
        ("by another's user", Sent { user: other, ..own(good.clone()) }, "sent by broker user"),
    ]
}

#[tokio::test]
async fn what_is_not_accepted_is_shown_and_counted_and_stops_nothing() {
    let mut site = Site::new().await;
    let (mut sent, mut count) = (Vec::new(), 0);
    for (queue, cases) in [
        (Queue::Outcomes, bad::<Report>(&packed(report("dns.main")), "dns.main", "ipam.main")),
        (Queue::Pulses, bad::<Pulse>(&packed(pulse("dns.main")), "dns.main", "ipam.main")),
        (Queue::StageDue, bad::<StageDue>(&packed(due()), "scheduler", "dns.main")),
    ] {
        sent.extend(cases.into_iter().map(|(what, message, reason)| (queue.clone(), what, message, reason)));
    }
    let speaks_for = |body: Bytes, direction| Sent {
        user: "dns.main",
        body,
        key: "dns.main".parse().unwrap(),
        sealed: Some(direction),
    };
    let impostor = "speaks for ipam.main";
    let outcome = speaks_for(packed(report("ipam.main")), Report::DIRECTION);
    sent.push((Queue::Outcomes, "for another instance", outcome, impostor));
    let alive = speaks_for(packed(pulse("ipam.main")), Pulse::DIRECTION);
    sent.push((Queue::Pulses, "for another instance", alive, impostor));
    let unasked = speaks_for(packed(due()), StageDue::DIRECTION);
    sent.push((Queue::StageDue, "by no scheduler", unasked, "is not the scheduler"));
    for (queue, what, message, expected) in sent {
        let name = queue.to_string();
        site.send(queue, message).await;
        let reason = site.next_reason().await;
        assert!(reason.contains(expected), "{name}: {what}: {reason}");
        count += 1;
        assert_eq!(site.engine.counters.rejected.load(Ordering::Relaxed), count, "{name}: {what}");
    }
    assert_eq!(count, 39);
    let larger = |user: &'static str, max: usize, direction| {
        let (body, key) = (vec![b' '; max + 1].into(), user.parse().unwrap());
        (max, Sent { user, body, key, sealed: Some(direction) })
    };
    for (queue, (max, message)) in [
        (Queue::Pulses, larger("dns.main", Pulse::PACK_MAX_BYTES, Pulse::DIRECTION)),
        (Queue::StageDue, larger("scheduler", StageDue::PACK_MAX_BYTES, StageDue::DIRECTION)),
    ] {
        let name = queue.to_string();
        site.send(queue, message).await;
        let (reason, expected) =
            (site.next_reason().await, format!("more than the {max} that a message may have"));
        assert!(reason.contains(&expected), "{name}: {reason}");
        count += 1;
        assert_eq!(site.engine.counters.rejected.load(Ordering::Relaxed), count, "{name}: too large");
    }
    // What is too large to be a report is larger than this bus carries: another publisher's broker would.
    let spare = Sent { sealed: None, ..speaks_for(packed(due()), StageDue::DIRECTION) };
    site.send(Queue::StageDue, spare).await;
    let mut large = tokio::time::timeout(PATIENCE, site.rejected.next()).await.unwrap().unwrap();
    large.body = vec![b' '; Report::PACK_MAX_BYTES + 1].into();
    let seal = site.keyring.sign(&"dns.main".parse().unwrap(), Report::DIRECTION, &large.body).unwrap();
    (large.key_id, large.mac, large.user_id) = (Some(seal.key_id), Some(seal.mac), Some("dns.main".into()));
    assert_eq!(site.engine.on_reports(&[large]).await.unwrap(), [], "it is shown");
    let reason = site.next_reason().await;
    assert!(reason.contains("more than the 1048576 that a message may have"), "{reason}");
    let rejected = site.engine.counters.rejected.load(Ordering::Relaxed);
    assert_eq!(rejected, count + 2, "what had no proof, and what is too large");
    let states = site.engine.ledger.instances().await.unwrap();
    assert!(states.is_empty(), "a rejected pulse counted: {states:?}");
    site.still_hears(&"ipam.main".parse().unwrap()).await;
    site.stop.cancel();
}

/// Nobody else has it any more once it is acked: so it is not, until the broker has confirmed that it is shown. Those behind
/// it do not wait for that.
#[tokio::test]
async fn what_is_not_confirmed_to_be_shown_is_put_back_and_comes_again() {
    let (local, left) = (Local::new(), Arc::new(AtomicU64::new(2)));
    let losing = Losing { local: local.clone(), left: left.clone() };
    let mut site = Site::on(local, Arc::new(Double(losing))).await;
    let instance: Instance = "ipam.main".parse().unwrap();
    for sealed in [None, Some(Pulse::DIRECTION)] {
        let (body, key) = (packed(pulse("ipam.main")), Holder::Instance(instance.clone()));
        site.send(Queue::Pulses, Sent { user: "ipam.main", body, key, sealed }).await;
    }
    let heard = async {
        while !site.engine.ledger.instances().await.unwrap().contains_key(&instance) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("the good one behind it is heard");
    let reason = site.next_reason().await;
    assert!(reason.contains("not authentic"), "{reason}");
    assert_eq!(left.load(Ordering::SeqCst), 0, "it was lost before");
    assert_eq!(site.engine.counters.rejected.load(Ordering::Relaxed), 3, "each time it came");
    site.still_hears(&instance).await;
    site.stop.cancel();
}
