//! What is decoded, and what is turned away, with a reason that names the field.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use sexton_model::beacon::Beacon;
use sexton_model::catalogue::Nature;
use sexton_model::job::{JobKind, Stage};
use sexton_model::plan::PARAMS_MAX_BYTES;
use sexton_model::resource::{ATTRIBUTES_MAX_BYTES, Identity};
use sexton_model::step::{FINDING_MAX_BYTES, Mode, Outcome, Presence, TARGETS_MAX_BYTES};
use sexton_model::{DeletionId, Fence, JobId, Timestamp};
use sexton_protocol::{
    Broadcast, DecodeError, EncodeError, Event, Extension, Message, Order, OutcomeReport, Pack, Packer,
    Progress, Report, StageDue,
};

const NOW: Timestamp = Timestamp(1_796_083_200_123_456);

fn order(number: i64) -> Order {
    let identity = BTreeMap::from([("uuid".to_owned(), "2f1c".to_owned())]);
    let deletion = DeletionId(17);
    Order {
        job: JobId::of(deletion, 1),
        deletion,
        resource: "vm/web01".parse().unwrap(),
        kind: JobKind::Stage(Stage::Soft),
        step: 3,
        instance: "hypervisor.main".parse().unwrap(),
        action: "stop".parse().unwrap(),
        mode: Mode::Perform,
        nature: Nature::Reversible,
        identity: Identity::try_from(identity).unwrap(),
        attributes: json!({"hosts": ["a", "b"]}),
        targets: json!({"domain": "web01"}),
        manifest: Some(json!({"on": true})),
        params: BTreeMap::from([("grace_s".to_owned(), json!(30))]),
        fence: Fence { epoch: 1, number },
        revision: 7,
        issued_at: NOW,
        deadline: NOW.plus_ms(30_000),
        longest_call_ms: 10_000,
        long: false,
        attempt: 0,
    }
}

fn event(number: i64) -> Event<Order> {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    Event::new("/coordinator", NOW, order(number)).traced(Some(trace.to_owned()))
}

fn as_json() -> Value {
    let packed = Pack::one(event(1)).encode().unwrap();
    serde_json::from_slice(&packed.body).unwrap()
}

fn reason(body: &Value) -> String {
    Pack::<Order>::decode(&serde_json::to_vec(body).unwrap()).unwrap_err().to_string()
}

#[test]
fn a_pack_round_trips() {
    let pack = Pack { events: (1..=16).map(event).collect() };
    let packed = pack.encode().unwrap();
    assert_eq!(packed.events, 16);
    assert_eq!(Pack::<Order>::decode(&packed.body).unwrap(), pack);
    assert_eq!(pack.encode().unwrap(), packed, "the same pack has the same body and id");
}

/// Whatever a plan, a resource and its targets may be: an order about them can be written down.
#[test]
fn an_order_fits_with_all_that_it_may_carry_at_its_largest() {
    // As JSON a text has two quotes around it, and a table of one has its key as well.
    let text = |bytes: usize| Value::from("x".repeat(bytes));
    let mut order = order(1);
    order.targets = text(TARGETS_MAX_BYTES - 2);
    order.manifest = Some(text(FINDING_MAX_BYTES - 2));
    order.attributes = text(ATTRIBUTES_MAX_BYTES - 2);
    order.params = BTreeMap::from([("a".to_owned(), text(PARAMS_MAX_BYTES - 8))]);
    let packed = Pack::one(Event::new("/coordinator", NOW, order.clone())).encode().unwrap();
    // Half of it is left, so that what is filled into parameters does not matter.
    assert!(packed.body.len() < Order::PACK_MAX_BYTES / 2, "{}", packed.body.len());
    order.targets = text(Order::PACK_MAX_BYTES);
    Pack::one(Event::new("/coordinator", NOW, order)).encode().unwrap_err();
}

#[test]
fn what_shares_a_queue_keeps_its_type() {
    let fence = Fence { epoch: 1, number: 2 };
    let instance: sexton_model::Instance = "dns.main".parse().unwrap();
    let outcome = Outcome::done(Presence::Absent, "gone");
    let events = vec![
        Event::new(
            "/c",
            NOW,
            Report::from(OutcomeReport { job: JobId(9), fence, instance: instance.clone(), outcome }),
        ),
        Event::new(
            "/c",
            NOW,
            Report::from(Progress { job: JobId(9), fence, instance, nonce: u64::MAX, done: 0, total: 0 }),
        ),
    ];
    let pack = Pack { events };
    assert_eq!(Pack::<Report>::decode(&pack.encode().unwrap().body).unwrap(), pack);
    let events = vec![
        Event::new("/c", NOW, Broadcast::from(Beacon { epoch: 1, revision: 7, read_at: NOW })),
        Event::new("/c", NOW, Broadcast::from(Extension { job: JobId(9), fence, nonce: 5, deadline: NOW })),
    ];
    let pack = Pack { events };
    assert_eq!(Pack::<Broadcast>::decode(&pack.encode().unwrap().body).unwrap(), pack);
}

#[test]
fn each_mistake_names_its_field() {
    type Spoil = fn(&mut Value);
    let spoilt: [(&str, Spoil); 20] = [
        ("surprise", |b| b[0]["surprise"] = json!(1)),
        ("surprise", |b| b[0]["data"]["surprise"] = json!(1)),
        ("specversion", |b| b[0]["specversion"] = json!("1.1")),
        ("type", |b| b[0]["type"] = json!("dev.sexton.order.v2")),
        ("type", |b| b[0]["type"] = json!("dev.sexton.outcome.v1")),
        ("time", |b| b[0]["time"] = json!("yesterday")),
        ("traceparent", |b| b[0]["traceparent"] = json!("00-xyz")),
        ("datacontenttype", |b| b[0]["datacontenttype"] = json!("text/xml")),
        ("id", |b| b[0]["id"] = json!("")),
        ("source", |b| b[0]["source"] = json!(7)),
        ("time", |b| b[0]["time"] = json!("9999-12-31T23:59:59-00:01")),
        ("deadline", |b| b[0]["data"]["deadline"] = json!("soon")),
        ("attempt", |b| b[0]["data"]["attempt"] = json!(65_536)),
        ("fence.epoch", |b| b[0]["data"]["fence"]["epoch"] = json!(-1)),
        ("identity", |b| b[0]["data"]["identity"]["uuid"] = json!(null)),
        ("long", |b| b[0]["data"]["long"] = json!([])),
        ("identity", |b| b[0]["data"]["identity"] = json!({})),
        ("resource", |b| b[0]["data"]["resource"] = json!("web01")),
        ("deletion", |b| b[0]["data"]["deletion"] = json!("d-18")),
        ("fence", |b| {
            b[0]["data"].as_object_mut().unwrap().remove("fence");
        }),
    ];
    for (field, spoil) in spoilt {
        let mut body = as_json();
        spoil(&mut body);
        let reason = reason(&body);
        assert!(reason.contains(field), "{field} is not named: {reason}");
    }
}

/// Whoever hands a number on does not change it, however many hands it goes through.
#[test]
fn a_number_stays_the_same_number() {
    let numbers =
        json!([0.1, 1e23, 5e-324, 1.7976931348623157e308, -0.0, 9_007_199_254_740_993_u64, u64::MAX]);
    let mut one = event(1);
    one.data.targets = numbers;
    for text in ["2.2250738585072011e-308", "123456789012345678901234567890", "0.30000000000000004"] {
        one.data.attributes = serde_json::from_str(text).unwrap();
        let pack = Pack::one(one.clone());
        let again = Pack::<Order>::decode(&pack.encode().unwrap().body).unwrap();
        assert_eq!(again, pack, "{text}");
    }
}

#[test]
fn the_count_is_1_to_16() {
    assert!(reason(&json!([])).contains("no event"));
    let one = as_json()[0].clone();
    assert!(reason(&json!(vec![one.clone(); 17])).contains("more than 16"));
    assert!(reason(&one).contains("array of 1 to 16"));
    let too_many = Pack { events: (0..17).map(event).collect() };
    assert!(matches!(too_many.encode(), Err(EncodeError::Count { count: 17 })));
    let jobs = vec![JobId(9); 1025];
    let pack = Pack::one(Event::new("/s", NOW, StageDue { jobs }));
    assert!(Pack::<StageDue>::decode(&pack.encode().unwrap().body).is_err());
}

#[test]
fn what_is_oversized_is_not_looked_at() {
    let body = vec![b' '; Order::PACK_MAX_BYTES + 1];
    assert!(matches!(Pack::<Order>::decode(&body), Err(DecodeError::TooLarge { .. })));
}

#[test]
fn a_packer_splits_by_size_and_lets_what_is_too_large_fail_alone() {
    let mut large = event(1);
    large.data.targets = json!("x".repeat(200_000));
    let mut monstrous = event(2);
    monstrous.data.targets = json!("x".repeat(2_000_000));
    let mut packer = Packer::new(16);
    let mut packs = Vec::new();
    for at in 0..12 {
        packs.extend(packer.push(&large).unwrap());
        if at == 5 {
            assert!(matches!(packer.push(&monstrous), Err(EncodeError::TooLarge { .. })));
        }
    }
    packs.extend(packer.finish());
    assert_eq!(packs.iter().map(|p| p.events).sum::<usize>(), 12);
    for packed in packs {
        assert_eq!(Pack::<Order>::decode(&packed.body).unwrap().events.len(), packed.events);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = Pack::<Order>::decode(&bytes);
        let _ = Pack::<Report>::decode(&bytes);
        let _ = Pack::<Broadcast>::decode(&bytes);
    }

    #[test]
    fn a_changed_byte_never_panics(at in 0usize..700, to in any::<u8>()) {
        let mut body = Pack::one(event(1)).encode().unwrap().body.to_vec();
        let at = at % body.len();
        body[at] = to;
        let _ = Pack::<Order>::decode(&body);
    }

    #[test]
    fn what_is_encoded_is_decoded(number in any::<i64>(), step in any::<u16>(), text in ".{0,64}", count in 1usize..=16) {
        let mut one = event(number);
        one.data.step = step;
        one.data.attributes = json!({text.clone(): text});
        let pack = Pack { events: vec![one; count] };
        prop_assert_eq!(Pack::<Order>::decode(&pack.encode().unwrap().body).unwrap(), pack);
    }
}
