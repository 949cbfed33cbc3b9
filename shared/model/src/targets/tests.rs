use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn what_has_appeared_and_what_has_not() {
    let volume = |path: &str, size: u32| json!({ "path": path, "file": "inode 1", "size": size });
    let record = |data: &[&str]| json!({ "owner": "web01.", "type": "A", "ttl": 60, "rdata": data });
    let disks = |all: &[(u32, u32)]| {
        let all = all.iter().map(|(id, size)| json!({ "type": "disk", "id": id, "size": size }));
        json!({ "disks": all.collect::<Vec<_>>() })
    };
    let ports = |all: &[u32]| {
        let all = all.iter().map(|port| json!({ "kind": "nic", "port": port }));
        json!({ "ports": all.collect::<Vec<_>>() })
    };
    let cases = [
        // The same, in another order, less, or only changed.
        (json!({ "ids": ["a", "b"] }), json!({ "ids": ["b", "a"] }), None),
        (json!({ "ids": ["a", "b"] }), json!({ "ids": ["b"] }), None),
        (json!({ "ids": ["a"], "place": "x" }), json!({ "place": "y" }), None),
        (json!({ "volumes": [volume("a", 1)] }), json!({ "volumes": [volume("a", 2)] }), None),
        (json!({ "object": true, "serial": 1 }), json!({ "object": false, "serial": 2 }), None),
        (
            json!({ "a": [{ "lease": false, "mac": "m" }] }),
            json!({ "a": [{ "lease": true, "mac": "m" }] }),
            None,
        ),
        // Something new.
        (json!({ "ids": ["a"] }), json!({ "ids": ["a", "b"] }), Some(json!({ "ids": ["b"] }))),
        (json!({ "ids": [] }), json!({ "ids": ["b"] }), Some(json!({ "ids": ["b"] }))),
        (json!({ "at": "x" }), json!({ "ids": ["b"], "none": [] }), Some(json!({ "ids": ["b"] }))),
        (json!({ "object": false }), json!({ "object": true }), Some(json!({ "object": true }))),
        (json!(null), json!({ "ids": ["b"] }), Some(json!({ "ids": ["b"] }))),
        (
            json!({ "volumes": [volume("a", 1)] }),
            json!({ "volumes": [volume("b", 1), volume("a", 1)] }),
            Some(json!({ "volumes": [volume("b", 1)] })),
        ),
        // Another file under the same name is another thing.
        (
            json!({ "volumes": [volume("a", 1)] }),
            json!({ "volumes": [{ "path": "a", "file": "inode 2", "size": 1 }] }),
            Some(json!({ "volumes": [{ "path": "a", "file": "inode 2", "size": 1 }] })),
        ),
        // Inside of a thing, and inside of a table.
        (
            json!({ "rrsets": [record(&["1"])] }),
            json!({ "rrsets": [record(&["1", "2"])] }),
            Some(json!({ "rrsets": [{ "owner": "web01.", "type": "A", "ttl": 60, "rdata": ["2"] }] })),
        ),
        (
            json!({ "snapshots": { "a": ["x"] } }),
            json!({ "snapshots": { "a": ["x", "y"], "b": ["z"] } }),
            Some(json!({ "snapshots": { "a": ["y"], "b": ["z"] } })),
        ),
        // A number may be a name, with a text beside it or without.
        (disks(&[(1, 10)]), disks(&[(1, 20)]), None),
        (disks(&[(1, 10)]), disks(&[(1, 20), (2, 10)]), Some(disks(&[(2, 10)]))),
        (json!([{ "id": 1, "size": 1 }]), json!([{ "id": 1, "size": 2 }]), None),
        // What is pinned stands for one thing: for that one, if it is there, and else for one of the same names.
        (ports(&[1]), ports(&[2, 1]), Some(ports(&[2]))),
        (ports(&[1]), ports(&[2]), None),
        (ports(&[1]), ports(&[2, 3]), Some(ports(&[3]))),
        (ports(&[1]), json!({ "ports": [{ "kind": "nic", "port": 1, "on": true }] }), None),
        // What is new inside of one of them joins that one.
        (
            json!([{ "kind": "nic", "port": 1, "in": ["a"] }, { "kind": "nic", "port": 2, "in": [] }]),
            json!([{ "kind": "nic", "port": 2, "in": ["b"] }]),
            Some(json!([{ "kind": "nic", "port": 2, "in": ["b"] }])),
        ),
        // Things without a name are the same only if they are equal.
        (json!({ "n": [{ "i": 1 }] }), json!({ "n": [{ "i": 2 }] }), Some(json!({ "n": [{ "i": 2 }] }))),
    ];
    for (pinned, seen, wanted) in cases {
        assert_eq!(appeared(&pinned, &seen), wanted, "{pinned} {seen}");
    }
}

#[test]
fn joining_drops_nothing_that_is_pinned() {
    let pinned = json!({ "images": ["a", "b"], "pool": { "id": 1 }, "final": ["f"], "things": [{ "id": "x", "n": 1 }] });
    let more = json!({
        "images": ["b", "c"], "pool": { "name": "p" }, "backups": ["d"], "final": [], "things": [{ "id": "x", "in": [1] }],
    });
    let wanted = json!({
        "images": ["a", "b", "c"], "pool": { "id": 1, "name": "p" }, "backups": ["d"], "final": ["f"],
        "things": [{ "id": "x", "n": 1, "in": [1] }],
    });
    assert_eq!(join(pinned.clone(), more), wanted);
    assert_eq!(join(pinned.clone(), Value::Null), pinned);
    // Another one that differs in a number alone, and what is inside of one of them.
    let one = json!([{ "kind": "nic", "port": 1, "in": ["a"] }]);
    let both = json!([{ "kind": "nic", "port": 1, "in": ["a"] }, { "kind": "nic", "port": 2, "in": [] }]);
    let other = json!([{ "kind": "nic", "port": 2, "in": [] }, { "kind": "nic", "port": 2, "in": [] }]);
    assert_eq!(join(one, other), both);
    let inside = json!([{ "kind": "nic", "port": 2, "in": ["b"] }]);
    assert_eq!(join(both, inside)[1], json!({ "kind": "nic", "port": 2, "in": ["b"] }));
    assert_eq!(join(json!({ "n": 1 }), json!({ "n": 2 })), json!({ "n": 2 }));
}

#[test]
fn what_appeared_is_named_and_bounded() {
    let appeared = json!({
        "volumes": [{ "path": "web01-data.qcow2", "file": "inode 3", "size": 4 }],
        "rrsets": [{ "owner": "web01.", "type": "A", "rdata": ["192.0.2.9"] }],
        "snapshots": { "web01-root": ["nightly"] }, "object": true, "serial": 7, "ids": ["a"],
    });
    let names = named(&appeared);
    assert_eq!(
        names,
        [
            "ids a",
            "object",
            "rrsets web01. (A) rdata 192.0.2.9",
            "serial 7",
            "snapshots web01-root nightly",
            "volumes web01-data.qcow2 (inode 3)",
        ]
    );
    let many: Vec<String> = (0..40).map(|n| format!("{n}{}", "x".repeat(1000))).collect();
    let names = named(&json!({ "ids": many }));
    assert_eq!((names.len(), names[NAMED_MAX].as_str()), (NAMED_MAX + 1, "and 24 more"));
    assert!(names.iter().all(|name| name.chars().count() <= NAME_MAX), "{names:?}");
    let many: Vec<u32> = (0..LISTED_MAX as u32 + 1).collect();
    let all = listed(&json!({ "ids": many }));
    assert_eq!(all[NAMED_MAX..][..2], ["ids 16", "ids 17"]);
    assert_eq!((all.len(), all[LISTED_MAX].as_str()), (LISTED_MAX + 1, "and 1 more"));
}

#[test]
fn a_mark_is_of_all_that_appeared() {
    let one = json!({ "volumes": ["a", "b"] });
    assert_eq!(mark(&one), mark(&one.clone()));
    assert_ne!(mark(&one), mark(&json!({ "volumes": ["a", "c"] })));
}

#[test]
fn only_what_is_wanted_is_taken() {
    let appeared = json!({ "volumes": ["a"], "snapshots": ["b"], "none": [] });
    assert_eq!(under(&appeared, |key| key == "volumes"), Some(json!({ "volumes": ["a"] })));
    assert_eq!(under(&appeared, |key| key == "none" || key == "other"), None);
    assert_eq!(under(&json!("text"), |_| true), None);
}

fn text() -> impl Strategy<Value = Value> {
    prop::sample::select(vec!["a", "b", "c"]).prop_map(Value::from)
}

/// Targets as drivers pin them: each key has values of one form, and a list names each thing once.
fn targets() -> impl Strategy<Value = Value> {
    let plain = || prop_oneof![Just(Value::Null), text()];
    let ids = || prop::collection::vec(text(), 0..4).prop_map(Value::Array);
    let thing = (0..3u8, any::<bool>(), ids());
    // Some of them differ in nothing but a number, which may be a name of theirs.
    let names = ("[ab]", "[ab]", 0..2u8, 0..2u8);
    let things = prop::collection::btree_map(names, thing, 0..5).prop_map(|things| {
        let things = things.into_iter().map(|((path, file, id, port), (size, lease, data))| {
            json!({ "path": path, "file": file, "id": id, "port": port, "size": size, "lease": lease, "data": data })
        });
        Value::Array(things.collect())
    });
    let table = prop::collection::btree_map("[ab]", ids(), 0..3).prop_map(|table| json!(table));
    let keep = prop::collection::vec(any::<bool>(), 5);
    (things, ids(), table, any::<bool>(), plain(), keep).prop_map(
        |(things, ids, table, there, place, keep)| {
            let all = [
                ("volumes", things),
                ("ids", ids),
                ("snapshots", table),
                ("there", there.into()),
                ("place", place),
            ];
            Value::Object(
                all.into_iter()
                    .zip(keep)
                    .filter(|(_, keep)| *keep)
                    .map(|((k, v), _)| (k.into(), v))
                    .collect(),
            )
        },
    )
}

/// Everything plain in it, with the keys it stands under.
fn leaves(value: &Value, under: &str, all: &mut Vec<String>) {
    match value {
        Value::Object(table) => table.iter().for_each(|(k, v)| leaves(v, &format!("{under}/{k}"), all)),
        Value::Array(list) => list.iter().for_each(|v| leaves(v, under, all)),
        plain => all.push(format!("{under}={plain}")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_equal_or_was_joined_has_not_appeared(pinned in targets(), seen in targets()) {
        prop_assert_eq!(appeared(&pinned, &pinned), None);
        let joined = match appeared(&pinned, &seen) {
            Some(new) => join(pinned.clone(), new),
            None => pinned.clone(),
        };
        prop_assert_eq!(appeared(&joined, &seen), None, "{} {} {}", pinned, seen, joined);
        prop_assert_eq!(appeared(&joined, &pinned), None, "{} {} {}", pinned, seen, joined);
        // And so has what joined as a whole.
        prop_assert_eq!(appeared(&join(pinned.clone(), seen.clone()), &seen), None);
    }

    #[test]
    fn joining_keeps_every_text_and_number_that_is_pinned(pinned in targets(), seen in targets()) {
        let Some(new) = appeared(&pinned, &seen) else { return Ok(()) };
        let (mut before, mut after) = (Vec::new(), Vec::new());
        leaves(&pinned, "", &mut before);
        leaves(&join(pinned.clone(), new), "", &mut after);
        let lost = before.iter().find(|leaf| {
            (leaf.ends_with('"') || leaf.ends_with(char::is_numeric)) && !after.contains(leaf)
        });
        prop_assert_eq!(lost, None);
    }

    #[test]
    fn something_that_appeared_has_a_name(pinned in targets(), seen in targets()) {
        if let Some(new) = appeared(&pinned, &seen) {
            prop_assert!(!named(&new).is_empty(), "{}", new);
        }
    }
}
