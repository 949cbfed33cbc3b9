//! What an earlier version wrote is read by this one, and what a later one may write is refused with a reason.
//!
//! The files in `written/v1` are frozen: as 0.1.0 wrote messages of version 1 (`*.first.json`), and with all that they may
//! say since. Nothing in them is ever changed; what this version reads in another way is a new version of its type. So are
//! those in `written/0.1.0`: the schemas that 0.1.0 had of its messages, whole. `tests/tests/belts/versions.rs` has processes
//! speak, and understand, by them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use sexton_protocol::schema::schemas;
use sexton_protocol::{Broadcast, Happened, Message, Order, Pack, Pulse, Rejected, Report, StageDue};

/// What this version reads, and would write of it.
type Reader = fn(&[u8]) -> Result<Value, String>;

fn again<T: Message>(body: &[u8]) -> Result<Value, String> {
    let pack = Pack::<T>::decode(body).map_err(|error| error.to_string())?;
    Ok(serde_json::from_slice(&pack.encode().unwrap().body).unwrap())
}

/// Who reads a message of this name.
fn reader(name: &str) -> Reader {
    match name {
        "order" => again::<Order>,
        "outcome" | "progress" => again::<Report>,
        "stage-due" => again::<StageDue>,
        "pulse" => again::<Pulse>,
        "beacon" | "extension" => again::<Broadcast>,
        "rejected" => again::<Rejected>,
        "happened" => again::<Happened>,
        other => panic!("nobody reads a message that is called {other}"),
    }
}

/// Every frozen file: the name of its message, its own, and what stands in it.
fn frozen() -> Vec<(String, String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/written/v1");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |file: &std::path::PathBuf| {
        let own = file.file_name().unwrap().to_str().unwrap().to_owned();
        let name = own.split('.').next().unwrap().to_owned();
        (name, own, serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap())
    };
    files.iter().map(read).collect()
}

/// Whether all that was written is there when it is written again; what said nothing may be left out.
fn kept(written: &Value, again: &Value) -> bool {
    match (written, again) {
        (Value::Object(fields), Value::Object(others)) => fields.iter().all(|(name, value)| {
            let says_nothing = value.is_null() || *value == json!(false) || name == "datacontenttype";
            others.get(name).map_or(says_nothing, |other| kept(value, other))
        }),
        (Value::Array(items), Value::Array(others)) => {
            items.len() == others.len() && items.iter().zip(others).all(|(item, other)| kept(item, other))
        }
        _ => written == again,
    }
}

#[test]
fn everything_that_version_1_wrote_is_read_and_nothing_of_it_is_lost() {
    let frozen = frozen();
    for (name, file, written) in &frozen {
        let read = reader(name)(written.to_string().as_bytes()).unwrap_or_else(|why| panic!("{file}: {why}"));
        assert!(kept(written, &read), "{file}: {written}\nis now {read}");
        if !file.contains(".first.") {
            assert_eq!(read, *written, "{file}: version 1 is written in another way");
        }
    }
    for message in schemas() {
        assert!(frozen.iter().any(|(name, ..)| name == message.name), "no {} is frozen", message.name);
        assert!(message.event_type.ends_with(".v1"), "{}: freeze the new version, too", message.event_type);
    }
}

/// The schema that 0.1.0 had of a message of this name.
fn schema_of_0_1_0(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/written/0.1.0");
    serde_json::from_slice(&std::fs::read(folder.join(format!("{name}.json"))).unwrap()).unwrap()
}

/// Every field and every word that stands anywhere in a schema.
fn named(schema: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let parts: Vec<&Value> = match schema {
        Value::Object(parts) => {
            if let Some(Value::Object(fields)) = parts.get("properties") {
                names.extend(fields.keys().cloned());
            }
            if let Some(Value::String(word)) = parts.get("const") {
                names.insert(word.clone());
            }
            parts.values().collect()
        }
        Value::Array(parts) => parts.iter().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    names.extend(parts.into_iter().flat_map(named));
    names
}

#[test]
fn what_0_1_0_wrote_is_what_its_own_schemas_say() {
    for (name, file, written) in frozen() {
        let by = jsonschema::validator_for(&schema_of_0_1_0(&name)).unwrap();
        let fits = written.as_array().unwrap().iter().all(|event| by.is_valid(&event["data"]));
        let grew = ["pulse.json", "rejected.json"].contains(&&*file);
        assert_eq!(fits, !grew, "{file}");
    }
}

/// Whoever adds to this says in the README ("Upgrades") what becomes of two versions beside each other, and shows it in
/// `tests/tests/belts/versions.rs`.
#[test]
fn what_messages_say_that_0_1_0_does_not_know_is_this() {
    let mut all = Vec::new();
    for message in schemas() {
        let known = named(&schema_of_0_1_0(message.name));
        let new: Vec<String> = named(&message.schema).difference(&known).cloned().collect();
        if !new.is_empty() {
            all.push(format!("{}: {}", message.name, new.join(", ")));
        }
    }
    let expected = [
        "order: reread",
        "pulse: answered, concurrency",
        "rejected: check, expired, malformed, oversized, stale, unauthenticated",
    ];
    assert_eq!(all, expected);
}

/// A field that a later version has added to a message says something that this one does not know.
#[test]
fn what_this_version_does_not_know_refuses_the_message_and_is_named() {
    for (name, file, written) in frozen() {
        let refused = |change: &dyn Fn(&mut Value)| {
            let mut changed = written.clone();
            change(&mut changed[0]);
            reader(&name)(changed.to_string().as_bytes()).unwrap_err()
        };
        let added = refused(&|event| event["added"] = json!(1));
        assert!(added.contains("unknown field `added`"), "{file}: {added}");
        // A beacon alone may grow: whoever does not know a field of it is as safe without it.
        if name != "beacon" {
            let added = refused(&|event| event["data"]["added"] = json!(1));
            assert!(added.contains("unknown field `added`"), "{file}: {added}");
        }
        let kind = written[0]["type"].as_str().unwrap().to_owned();
        let later = kind.replace(".v1", ".v2");
        let why = refused(&|event| event["type"] = json!(later));
        assert!(why.contains(&kind) && why.contains(&later), "{file}: {why}");
    }
    for (field, word) in [("mode", "rehearse"), ("nature", "harmless"), ("kind", "clone")] {
        let (_, _, mut order) = frozen().into_iter().find(|(name, ..)| name == "order").unwrap();
        order[0]["data"][field] = json!(word);
        let why = reader("order")(order.to_string().as_bytes()).unwrap_err();
        assert!(why.contains(field) && why.contains(word), "{why}");
    }
}

#[test]
fn a_beacon_may_say_more_than_is_known() {
    let (_, _, mut beacon) = frozen().into_iter().find(|(name, ..)| name == "beacon").unwrap();
    beacon[0]["data"]["added"] = json!(1);
    let read = reader("beacon")(beacon.to_string().as_bytes()).unwrap();
    assert_eq!(read[0]["data"].get("added"), None);
}
