//! What a canary says that is not so: another identity, and another place. Pure.
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::resource::Identity;
use crate::step::FINDING_MAX_BYTES;
use crate::targets::is_nothing;

/// What another place is called by, behind the name of the one that was seen. A consumer that says it has looked at what was
/// pinned: it stands nowhere else.
pub const ELSEWHERE: &str = "-sexton-canary-elsewhere";
/// Most that is kept of what was seen in the right place, in bytes of JSON: all that one instance may pin, by another name. A
/// machine that was backed up every day for a year is asked about as any other.
pub const ELSEWHERE_MAX_BYTES: usize = FINDING_MAX_BYTES + ELSEWHERE.len();
/// How JSON writes the one character that PostgreSQL has no text for: it cannot look into a body that says it.
const ZERO: &str = "\\u0000";

/// An identity of the same form that is another one: each attribute differs in its last letter or digit, and one that is
/// hexadecimal stays so.
pub fn another(identity: &Identity) -> Option<Identity> {
    let differing: BTreeMap<String, String> = identity
        .attributes()
        .map(|(name, value)| Some((name.to_owned(), changed(value)?)))
        .collect::<Option<_>>()?;
    Identity::try_from(differing).ok()
}

fn changed(value: &str) -> Option<String> {
    let at = value.rfind(|c: char| c.is_ascii_alphanumeric())?;
    let hexadecimal = value.chars().all(|c| !c.is_ascii_alphabetic() || c.is_ascii_hexdigit());
    let next = match value.as_bytes()[at] {
        b'9' => '0',
        b'f' if hexadecimal => 'a',
        b'F' if hexadecimal => 'A',
        b'z' => 'a',
        b'Z' => 'A',
        byte => char::from(byte + 1),
    };
    Some(format!("{}{next}{}", &value[..at], &value[at + 1..]))
}

/// What was seen, as if it had been pinned in another place: the texts under these keys go on with [`ELSEWHERE`].
///
/// # Errors
/// Why it cannot be asked about. Where nothing is pinned no place is compared: it is as much everywhere, and an order that
/// says so would be right.
pub fn elsewhere(seen: &Value, under: &BTreeSet<String>) -> Result<Value, &'static str> {
    let Value::Object(seen) = seen else { return Err("it does not say what it pins") };
    let mut pinned = seen.clone();
    let (mut moved, mut holds) = (false, false);
    for (key, value) in &mut pinned {
        match value {
            Value::String(place) if under.contains(key) => {
                moved |= !place.is_empty();
                place.push_str(ELSEWHERE);
            }
            other => holds |= !is_nothing(other),
        }
    }
    if !moved {
        return Err("what it pins does not say in which place");
    }
    if !holds {
        return Err("it pins nothing there");
    }
    let pinned = Value::Object(pinned);
    let text = pinned.to_string();
    if text.len() > ELSEWHERE_MAX_BYTES {
        return Err("what it pins is more than is kept of it");
    }
    if text.contains(ZERO) {
        return Err("what it pins holds a character that not every job table can keep");
    }
    Ok(pinned)
}
