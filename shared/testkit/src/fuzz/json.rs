//! Changes of JSON that leave it JSON: what parses gets further than what does not.
use serde_json::{Map, Value, json};

use super::dice::Dice;

/// Deepest nesting that is made: deeper than readers go.
const DEPTH: usize = 300;

/// What texts are, that are looked at closely.
const TEXTS: &[&str] = &[
    "",
    " ",
    "\0",
    "\u{7f}",
    "\u{85}",
    "\u{2028}",
    "ä",
    "💣",
    "\u{202e}",
    "d-1",
    "d-0",
    "d-1152921504606846974",
    "vm/web01",
    "vm/",
    "/",
    "dns.main",
    ".",
    "2026-12-01",
    "2026-02-30",
    "0000-01-01",
    "9999-12-31",
    "9999-12-31T23:59:59.999999999Z",
    "9999-12-31T23:59:59-23:59",
    "0000-01-01T00:00:00+23:59",
    "2026-12-01T00:00:60Z",
    "Europe/Berlin",
    "${x}",
    "{target.x}",
    "1e400",
    "00-00000000000000000000000000000000-0000000000000000-00",
];

/// The same with one change; none if it is no JSON.
pub(super) fn changed(dice: &mut Dice, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(bytes).ok()?;
    change(dice, &mut value);
    serde_json::to_vec(&value).ok()
}

/// The same of one of the lines.
pub(super) fn changed_line(dice: &mut Dice, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let at = dice.below(lines.len());
    let line = lines.get_mut(at)?;
    *line = changed(dice, line)?;
    line.push(b'\n');
    Some(lines.concat())
}

/// One change, of any place in it.
pub(super) fn change(dice: &mut Dice, value: &mut Value) {
    let nodes = count(value);
    let donor = nth(value, &mut dice.below(nodes)).cloned().unwrap_or_default();
    let Some(node) = nth(value, &mut dice.below(nodes)) else { return };
    match dice.below(8) {
        0 | 1 => *node = strange(dice),
        2 => *node = donor,
        3 => *node = nested(dice, node.take()),
        _ => match node {
            Value::Object(fields) => change_fields(dice, fields, donor),
            Value::Array(items) => change_items(dice, items, donor),
            Value::String(text) => change_text(dice, text),
            Value::Null | Value::Bool(_) | Value::Number(_) => *node = strange(dice),
        },
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// The value at that place, counted through all of them.
fn nth<'v>(value: &'v mut Value, at: &mut usize) -> Option<&'v mut Value> {
    if *at == 0 {
        return Some(value);
    }
    *at -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, at)),
        Value::Object(fields) => fields.values_mut().find_map(|field| nth(field, at)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// Something of any type, at the ends of what there is of it.
fn strange(dice: &mut Dice) -> Value {
    match dice.below(12) {
        0 => Value::Null,
        1 => json!(dice.one_in(2)),
        2 => json!(dice.pick(&[0, -1, 1, i64::MAX, i64::MIN, i64::MAX / 8, i64::MAX / 1000]).copied()),
        3 => json!(dice.pick(&[u64::MAX, 1 << 32, 1 << 31, 65_536, 65_535, 256]).copied()),
        4 => json!(dice.pick(&[0.1, -0.0, 1e308, 5e-324, 1e18, 0.5]).copied()),
        5 => json!(dice.roll() as i64),
        6 => json!([]),
        7 => json!({}),
        8 => json!("x".repeat(1 << dice.below(13))),
        9 => json!([[], {}, "", 0]),
        10 => json!({ "": { "": [] } }),
        _ => json!(dice.pick(TEXTS).copied()),
    }
}

fn nested(dice: &mut Dice, mut value: Value) -> Value {
    let lists = dice.one_in(2);
    for _ in 0..dice.below(DEPTH) {
        value = if lists {
            Value::Array(vec![value])
        } else {
            Value::Object(Map::from_iter([("a".to_owned(), value)]))
        };
    }
    value
}

fn change_fields(dice: &mut Dice, fields: &mut Map<String, Value>, donor: Value) {
    let names: Vec<String> = fields.keys().cloned().collect();
    let name = dice.pick(&names).cloned().unwrap_or_default();
    match dice.below(5) {
        0 => drop(fields.remove(&name)),
        1 => drop(fields.insert("surprise".to_owned(), donor)),
        2 => {
            let value = fields.remove(&name).unwrap_or_default();
            let other = dice.pick(TEXTS).copied().unwrap_or_default().to_owned();
            fields.insert(other, value);
        }
        3 => {
            for n in 0..1usize << dice.below(6) {
                fields.insert(format!("{name}{n}"), donor.clone());
            }
        }
        _ => drop(fields.insert(name, donor)),
    }
}

fn change_items(dice: &mut Dice, items: &mut Vec<Value>, donor: Value) {
    let at = dice.below(items.len() + 1);
    match dice.below(4) {
        0 => items.truncate(at),
        1 => items.insert(at, donor),
        2 => {
            let item = items.get(at).cloned().unwrap_or(donor);
            let times = 1usize << dice.below(7);
            items.extend(std::iter::repeat_n(item, times));
        }
        _ => items.push(strange(dice)),
    }
}

fn change_text(dice: &mut Dice, text: &mut String) {
    let piece = dice.pick(TEXTS).copied().unwrap_or_default();
    match dice.below(5) {
        0 => *text = piece.to_owned(),
        1 => text.push_str(piece),
        2 => text.insert_str(0, piece),
        3 => text.truncate(text.floor_char_boundary(dice.below(text.len() + 1))),
        _ => *text = text.repeat(dice.below(64)),
    }
}

/// Whatever `read` refuses of `seed` once a field is missing or of another type: the reason names the field, or the one
/// that it is in, unless that is one of `envelopes`, which hold everything.
///
/// # Panics
/// If one is refused and not named.
pub fn each_wrong_field_is_named(
    seed: &[u8],
    envelopes: &[&str],
    read: impl Fn(&[u8]) -> Result<(), String>,
) {
    let seed: Value =
        serde_json::from_slice(seed).unwrap_or_else(|error| panic!("the seed is no JSON: {error}"));
    for path in fields(&seed) {
        let own = path.rsplit('/').find(|part| part.parse::<usize>().is_err()).unwrap_or_default();
        let around = path.rsplit('/').filter(|part| part.parse::<usize>().is_err()).nth(1).unwrap_or(own);
        let around = if around.is_empty() || envelopes.contains(&around) { own } else { around };
        let check = |what: &str, changed: &Value| {
            let text = serde_json::to_vec(changed).unwrap_or_default();
            if let Err(reason) = read(&text) {
                let named = reason.contains(own) || reason.contains(around);
                assert!(named, "{path} {what}: neither {own} nor {around} is named: {reason}");
            }
        };
        for wrong in [json!(null), json!(true), json!(-1), json!(""), json!([]), json!({})] {
            let mut changed = seed.clone();
            if let Some(field) = changed.pointer_mut(&path) {
                field.clone_from(&wrong);
            }
            check(&format!("= {wrong}"), &changed);
        }
        let mut changed = seed.clone();
        let (parent, name) = path.rsplit_once('/').unwrap_or_default();
        if let Some(parent) = changed.pointer_mut(parent).and_then(Value::as_object_mut) {
            parent.remove(&unescaped(name));
        }
        check("is missing", &changed);
    }
}

/// JSON pointers to every field.
fn fields(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    gather(value, "", &mut found);
    found
}

fn gather(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
                gather(value, &path, found);
                found.push(path);
            }
        }
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                gather(item, &format!("{path}/{n}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn unescaped(name: &str) -> String {
    name.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_field_is_found_and_a_reader_that_names_none_is_found_out() {
        let seed = json!({ "a": { "b/c": 1 }, "list": [{ "d": 2 }] });
        assert_eq!(fields(&seed), ["/a/b~1c", "/a", "/list/0/d", "/list"]);
        let seed = br#"{"attempt":1}"#;
        let read = |bytes: &[u8]| -> Result<(), String> {
            let wanted: BTreeMap<String, u8> = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
            if wanted.get("attempt") == Some(&1) { Ok(()) } else { Err("attempt: expected 1".to_owned()) }
        };
        let unnamed = std::panic::catch_unwind(|| each_wrong_field_is_named(seed, &[], read)).unwrap_err();
        let unnamed = unnamed.downcast_ref::<String>().unwrap();
        assert!(unnamed.contains("/attempt = null"), "{unnamed}");
        each_wrong_field_is_named(seed, &[], |bytes| read(bytes).map_err(|e| format!("attempt: {e}")));
    }
}
