//! Targets against what is seen later: what has appeared since they were pinned, and how things join them. Pure.
//!
//! Targets are JSON that only their driver understands. What follows holds for all of them:
//!
//! - `null`, `false` and what is empty say that there is nothing there. Something in the place of nothing has
//!   appeared; a plain value in the place of another one is a change, and nothing that appeared.
//! - A list is a set. Its elements are of one form, and it names each thing once.
//! - Two tables in a list are the same thing if they agree in every name that both hold, of which there is at least
//!   one. A name is a text (path, file, owner, address), or a number under `path`, `name`, `id`, `owner` or `address`.
//!   Other numbers, and whether something is so, are what a thing is like: a size that grew is nothing new. Of a thing
//!   that is there already only what it contains, lists and tables, can appear.
//! - What is pinned stands for one thing. Of two that are seen, and differ in nothing but what they are like, one is
//!   new if only one is pinned, and what is pinned of the other is not overwritten.
//!
//! Invariant: what has joined has not appeared: `appeared(join(pinned, appeared(pinned, seen)), seen)` is none.
use std::collections::{BTreeSet, HashMap};

use ring::digest::{SHA256, digest};
use serde_json::{Map, Value};

/// Most things that are named in a reason or an event: the rest is counted.
pub const NAMED_MAX: usize = 16;
/// Most things that the audit trail names. What appeared is bounded as every finding is, so this is all of it, unless
/// things have names of a few characters.
pub const LISTED_MAX: usize = 1024;
/// Longest name of one thing, in characters.
pub const NAME_MAX: usize = 120;

/// What a thing is called by, the first that it has; under these a number is a name, too.
const CALLED: [&str; 5] = ["path", "name", "id", "owner", "address"];

/// What of `seen` is not in `pinned`, in the form of `seen`: under each key, and of each thing that has something new,
/// only what is new. None if nothing has appeared.
pub fn appeared(pinned: &Value, seen: &Value) -> Option<Value> {
    match (pinned, seen) {
        (_, seen) if is_nothing(seen) => None,
        (pinned, seen) if is_nothing(pinned) => Some(seen.clone()),
        (Value::Object(pinned), Value::Object(seen)) => {
            let new = seen.iter().filter_map(|(key, value)| {
                let old = pinned.get(key).unwrap_or(&Value::Null);
                Some((key.clone(), appeared(old, value)?))
            });
            let new: Map<_, _> = new.collect();
            (!new.is_empty()).then_some(Value::Object(new))
        }
        (Value::Array(pinned), Value::Array(seen)) => {
            let known = seen.iter().zip(known(pinned, seen, &[alike, same]));
            let new: Vec<_> = known
                .filter_map(|(thing, old)| match old.and_then(|index| pinned.get(index)) {
                    Some(old) => inside(old, thing),
                    None => Some(thing.clone()),
                })
                .collect();
            (!new.is_empty()).then_some(Value::Array(new))
        }
        _ => None,
    }
}

/// What is new inside of `thing`, an element of a list of which `old` is pinned: with the texts that it is known by, and
/// the numbers that it is pinned with, so that it joins that one and no other.
fn inside(old: &Value, thing: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(thing)) = (old, thing) else { return None };
    let mut new = Map::new();
    for (key, value) in thing.iter().filter(|(_, value)| value.is_array() || value.is_object()) {
        if let Some(value) = appeared(old.get(key).unwrap_or(&Value::Null), value) {
            new.insert(key.clone(), value);
        }
    }
    if new.is_empty() {
        return None;
    }
    new.extend(thing.iter().filter(|(_, value)| value.is_string()).map(|(k, v)| (k.clone(), v.clone())));
    new.extend(old.iter().filter(|(_, value)| value.is_number()).map(|(k, v)| (k.clone(), v.clone())));
    Some(Value::Object(new))
}

/// Whether two elements of a list are taken for the same thing.
type Rule = fn(&Value, &Value) -> bool;

/// Which of `pinned` each of `things` is. It is what it equals; of the others each of `pinned` is at most one thing, by
/// the first of `rules` that finds one.
fn known(pinned: &[Value], things: &[Value], rules: &[Rule]) -> Vec<Option<usize>> {
    let places: HashMap<&Value, usize> = pinned.iter().enumerate().map(|(index, old)| (old, index)).collect();
    let mut known: Vec<Option<usize>> = things.iter().map(|thing| places.get(thing).copied()).collect();
    let mut free: BTreeSet<usize> = (0..pinned.len()).collect();
    for index in known.iter().flatten() {
        free.remove(index);
    }
    for rule in rules {
        for (thing, known) in things.iter().zip(&mut known).filter(|(_, known)| known.is_none()) {
            let is = |index: &&usize| pinned.get(**index).is_some_and(|old| rule(old, thing));
            *known = free.iter().find(is).copied();
            if let Some(index) = known {
                free.remove(index);
            }
        }
    }
    known
}

/// They have the same names.
fn same(one: &Value, other: &Value) -> bool {
    let (Value::Object(a), Value::Object(b)) = (one, other) else { return one == other };
    let name = |key: &str, value: &Value| value.is_string() || value.is_number() && CALLED.contains(&key);
    let mut both = a
        .iter()
        .filter(|(key, value)| name(key, value))
        .filter_map(|(key, value)| b.get(key).filter(|other| name(key, other)).map(|other| other == value))
        .peekable();
    if both.peek().is_none() { one == other } else { both.all(|agree| agree) }
}

/// They have the same names, and differ in no number that both hold.
fn alike(one: &Value, other: &Value) -> bool {
    let numbers = match (one, other) {
        (Value::Object(a), Value::Object(b)) => a
            .iter()
            .filter(|(_, value)| value.is_number())
            .all(|(key, value)| b.get(key).is_none_or(|other| !other.is_number() || other == value)),
        _ => true,
    };
    numbers && same(one, other)
}

/// Whether it says that nothing is there.
pub(crate) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) | Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.iter().all(is_nothing),
        Value::Object(table) => table.values().all(is_nothing),
    }
}

/// Join `more` into what is pinned: tables by key, lists by what they do not hold yet. Nothing that is pinned is ever
/// dropped by it; of two plain values that say something the new one stays.
pub fn join(pinned: Value, more: Value) -> Value {
    let pinned = match (&pinned, &more) {
        // Things join each other, too.
        (Value::Null | Value::Bool(false), Value::Array(_)) => Value::Array(Vec::new()),
        (Value::Null | Value::Bool(false), Value::Object(_)) => Value::Object(Map::new()),
        _ => pinned,
    };
    match (pinned, more) {
        (pinned, more) if is_nothing(&more) && !is_nothing(&pinned) => pinned,
        (Value::Object(mut pinned), Value::Object(more)) => {
            for (key, value) in more {
                let old = pinned.remove(&key).unwrap_or_default();
                pinned.insert(key, join(old, value));
            }
            Value::Object(pinned)
        }
        (Value::Array(mut pinned), Value::Array(more)) => {
            // Whose numbers differ stays beside what is pinned: it may be another one.
            let known = known(&pinned, &more, &[alike]);
            for (thing, old) in more.into_iter().zip(known) {
                if let Some(old) = old.and_then(|index| pinned.get_mut(index)) {
                    *old = join(old.take(), thing);
                } else if !pinned.contains(&thing) {
                    pinned.push(thing);
                }
            }
            Value::Array(pinned)
        }
        (_, more) => more,
    }
}

/// What of something that appeared stands under these top-level keys, if anything does.
pub fn under(appeared: &Value, wanted: impl Fn(&str) -> bool) -> Option<Value> {
    let table = appeared.as_object()?;
    let found: Map<_, _> = table
        .iter()
        .filter(|(key, value)| wanted(key) && !is_nothing(value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    (!found.is_empty()).then_some(Value::Object(found))
}

/// What appeared, for people: at most [`NAMED_MAX`] things, and how many more.
pub fn named(appeared: &Value) -> Vec<String> {
    bounded(appeared, NAMED_MAX)
}

/// All of what appeared, for people: at most [`LISTED_MAX`] things, and how many more.
pub fn listed(appeared: &Value) -> Vec<String> {
    bounded(appeared, LISTED_MAX)
}

fn bounded(appeared: &Value, most: usize) -> Vec<String> {
    let mut names = Vec::new();
    if let Value::Object(table) = appeared {
        for (key, value) in table {
            name(value, key, &mut names);
        }
    }
    let more = names.len().saturating_sub(most);
    names.truncate(most);
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    names
}

fn name(value: &Value, prefix: &str, names: &mut Vec<String>) {
    let called = |what: &str| format!("{prefix} {what}").chars().take(NAME_MAX).collect::<String>();
    match value {
        value if is_nothing(value) => {}
        Value::Null | Value::Bool(_) => names.push(prefix.to_owned()),
        Value::Number(number) => names.push(called(&number.to_string())),
        Value::String(text) => names.push(called(text)),
        Value::Array(list) => {
            for thing in list {
                match thing {
                    Value::Object(table) => name_thing(table, prefix, names),
                    other => name(other, prefix, names),
                }
            }
        }
        Value::Object(table) => {
            for (key, value) in table {
                name(value, &called(key), names);
            }
        }
    }
}

/// A table in a list: what is new in it, or, if all of it is, itself.
fn name_thing(table: &Map<String, Value>, prefix: &str, names: &mut Vec<String>) {
    let text = |key: &str| table.get(key).and_then(Value::as_str);
    let first = CALLED.into_iter().find(|key| text(key).is_some());
    let rest: Vec<&str> =
        table.keys().filter(|key| Some(key.as_str()) != first).filter_map(|k| text(k)).collect();
    let mut called = prefix.to_owned();
    if let Some(first) = first.and_then(text) {
        called = format!("{called} {first}");
    }
    if !rest.is_empty() {
        called = format!("{called} ({})", rest.join(", "));
    }
    let called: String = called.chars().take(NAME_MAX).collect();
    let before = names.len();
    for (key, value) in table.iter().filter(|(_, value)| value.is_array() || value.is_object()) {
        name(value, &format!("{called} {key}"), names);
    }
    if names.len() == before {
        names.push(called);
    }
}

/// What tells this from anything else that may appear, for as long as it is the same: short, and all of it counts.
pub fn mark(appeared: &Value) -> String {
    let hash = digest(&SHA256, appeared.to_string().as_bytes());
    hash.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
