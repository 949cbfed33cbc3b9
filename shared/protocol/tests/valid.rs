//! What is really sent is what the schemas say: to whoever reads them instead of the types.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use jsonschema::Validator;
use serde_json::{Value, json};
use sexton_model::beacon::Beacon;
use sexton_model::catalogue::Nature;
use sexton_model::job::{JobKind, Stage};
use sexton_model::resource::Identity;
use sexton_model::step::{Mode, Outcome, Presence};
use sexton_model::{DeletionId, Fence, Instance, JobId, Timestamp};
use sexton_protocol::schema::{asyncapi, schemas};
use sexton_protocol::{
    Broadcast, Check, Event, Extension, Happened, Message, Order, OutcomeReport, Pack, Progress, Pulse,
    Rejected, Report, StageDue,
};

const NOW: Timestamp = Timestamp(1_796_083_200_123_456);
const JOB: JobId = JobId(17 * 8 + 1);
const FENCE: Fence = Fence { epoch: 1, number: 42 };

/// One message as it travels.
struct Sent {
    /// By its schema's name.
    kind: &'static str,
    body: Bytes,
    /// Whether it would be taken.
    taken: fn(&[u8]) -> bool,
}

fn sent<T: Message>(kind: &'static str, message: T) -> Sent {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let event = Event::new("/test", NOW, message).traced(Some(trace.to_owned()));
    let body = Pack::one(event).encode().unwrap().body;
    Sent { kind, body, taken: |body| Pack::<T>::decode(body).is_ok() }
}

fn dns() -> Instance {
    "dns.main".parse().unwrap()
}

/// With everything that it may carry.
fn whole_order() -> Order {
    Order {
        job: JOB,
        deletion: DeletionId(17),
        resource: "vm/web01".parse().unwrap(),
        kind: JobKind::Stage(Stage::Soft),
        step: 3,
        instance: dns(),
        action: "withdraw".parse().unwrap(),
        mode: Mode::Perform,
        nature: Nature::Reversible,
        identity: Identity::try_from(BTreeMap::from([("uuid".to_owned(), "2f1c".to_owned())])).unwrap(),
        attributes: json!({ "names": ["web01.example.org"] }),
        targets: json!({ "zone": "example.org" }),
        manifest: Some(json!({ "ttl": 300 })),
        params: BTreeMap::from([("grace_s".to_owned(), json!(30))]),
        fence: FENCE,
        revision: 7,
        issued_at: NOW,
        deadline: NOW.plus_ms(30_000),
        longest_call_ms: 10_000,
        long: true,
        attempt: 2,
    }
}

/// With nothing that it need not carry: as one to look, for a restore, is.
fn bare_order() -> Order {
    let kind = JobKind::Restore;
    Order {
        job: JobId::of(DeletionId(17), kind.slot()),
        kind,
        mode: Mode::Undo,
        attributes: Value::Null,
        targets: Value::Null,
        manifest: None,
        params: BTreeMap::new(),
        long: false,
        ..whole_order()
    }
}

fn outcome(outcome: Outcome) -> Sent {
    sent("outcome", Report::from(OutcomeReport { job: JOB, fence: FENCE, instance: dns(), outcome }))
}

/// At least one of every kind, and of those that may look different some.
fn all() -> Vec<Sent> {
    let done = |finding| Outcome::Done { presence: Presence::Present, evidence: "seen".into(), finding };
    let (progress, total) =
        (Progress { job: JOB, fence: FENCE, instance: dns(), nonce: 9, done: 0, total: 0 }, 10);
    let rejected = Rejected::new("stale", "sexton.orders.dns.main", Some("order-1:42"), None, b"{}");
    let happened = Happened {
        deletion: DeletionId(17),
        resource: "vm/web01".parse().unwrap(),
        what: "stage.done".into(),
        at: NOW,
        sequence: 5,
        job: Some(JOB),
        text: "soft".into(),
    };
    let (consumer, version) = ("c1".to_owned(), "1.2.3".to_owned());
    let pulse = Pulse { instance: dns(), consumer, version, concurrency: 4, answered: 3, at: NOW };
    let extension = Extension { job: JOB, fence: FENCE, nonce: u64::MAX, deadline: NOW };
    vec![
        sent("order", whole_order()),
        sent("order", bare_order()),
        outcome(done(Some(json!({ "ttl": 300 })))),
        outcome(Outcome::done(Presence::Absent, "")),
        outcome(Outcome::failed("no answer")),
        outcome(Outcome::spared("locked")),
        outcome(Outcome::refused("another zone")),
        sent("progress", Report::from(Progress { total, ..progress.clone() })),
        sent("progress", Report::from(progress)),
        sent("stage-due", StageDue { jobs: vec![JOB] }),
        sent("pulse", pulse),
        sent("beacon", Broadcast::from(Beacon { epoch: 1, revision: 7, read_at: NOW })),
        sent("extension", Broadcast::from(extension)),
        sent("rejected", Rejected { check: Some(Check::Stale), user: Some("dns.main".into()), ..rejected }),
        sent("rejected", Rejected::new("not JSON", "sexton.outcomes", None, None, b"\xff")),
        sent("happened", happened.clone()),
        sent("happened", Happened { job: None, text: String::new(), ..happened }),
    ]
}

fn errors(by: &Validator, what: &Value) -> Vec<String> {
    by.iter_errors(what).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn event_of(body: &[u8]) -> Value {
    serde_json::from_slice::<Vec<Value>>(body).unwrap().remove(0)
}

#[test]
fn every_kind_of_message_is_what_its_schema_says() {
    let by_name: BTreeMap<&str, Validator> =
        schemas().iter().map(|of| (of.name, jsonschema::validator_for(&of.schema).unwrap())).collect();
    let mut seen = BTreeSet::new();
    for Sent { kind, body, taken } in all() {
        let by = &by_name[kind];
        seen.insert(kind);
        assert!(taken(&body), "{kind}: not even we take it");
        let event = event_of(&body);
        assert_eq!(errors(by, &event["data"]), Vec::<String>::new(), "{kind}: {}", event["data"]);
        // And what it says is not just anything: what we do not take is not valid, field by field.
        let spoilt = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
            let mut spoilt = event.clone();
            change(spoilt["data"].as_object_mut().unwrap());
            let ours = taken(json!([spoilt]).to_string().as_bytes());
            (ours, errors(by, &spoilt["data"]))
        };
        let (ours, found) = spoilt(&|data| drop(data.insert("surprise".into(), json!(1))));
        // The beacon alone is open.
        let open = kind == "beacon";
        assert_eq!((ours, found.is_empty()), (open, open), "{kind} with another field: {found:?}");
        for field in event["data"].as_object().unwrap().keys() {
            let (ours, found) = spoilt(&|data| drop(data.remove(field)));
            assert_eq!(ours, found.is_empty(), "{kind} without {field}: {found:?}");
            let (ours, found) = spoilt(&|data| data[field] = json!([[]]));
            assert!(ours || !found.is_empty(), "{kind} with {field} = [[]] is valid, and we do not take it");
        }
    }
    assert_eq!(seen, by_name.into_keys().collect::<BTreeSet<_>>(), "a kind of message that nobody looked at");
}

/// The envelope around it, as the AsyncAPI document says it.
#[test]
fn every_message_is_what_the_document_says_around_its_data() {
    let document = asyncapi();
    for Sent { kind, body, .. } in all() {
        let mut payload = document["components"]["messages"][kind]["payload"].clone();
        let properties = &mut payload["items"]["properties"];
        assert_eq!(properties["data"], json!({ "$ref": format!("./schemas/{kind}.json") }));
        properties["data"] = json!(true);
        let by = jsonschema::validator_for(&payload).unwrap();
        let mut pack: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(errors(&by, &pack), Vec::<String>::new(), "{kind}");
        pack[0]["type"] = json!("dev.sexton.surprise.v1");
        assert_eq!(errors(&by, &pack).len(), 1, "{kind}: of any type");
        assert!(!by.is_valid(&json!([])), "{kind}: no event at all");
    }
}
