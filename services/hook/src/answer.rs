//! What an answer means. No I/O.
use std::collections::BTreeMap;

use serde_json::Value;
use sexton_consumer::driver::Obstacle;

use crate::definition::{Read, Rule};
use crate::template::Values;

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// HTTP status, or exit code.
    pub(crate) code: i64,
    /// The body as JSON; null if it is none.
    pub(crate) body: Value,
    /// The beginning of the body or of what a command complained, for people.
    pub(crate) said: String,
}

/// What a look at an object saw.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Saw {
    Same(Value),
    Absent,
    Different(String),
}

impl Rule {
    pub(crate) fn holds(&self, answer: &Answer) -> bool {
        self.code.contains(&answer.code)
            && self.equals.iter().all(|(held, wanted)| answer.body.pointer(held) == Some(wanted))
    }
}

/// Judge an answer.
///
/// # Errors
/// [`Obstacle::Busy`] if it only says that the subsystem is away; [`Obstacle::Unclear`] if it is neither clearly present
/// nor clearly absent, or tells no identity.
pub(crate) fn judge(what: &str, read: &Read, answer: Answer, values: &Values<'_>) -> Result<Saw, Obstacle> {
    let text = |why: &str| format!("{what}: the answer {} {why}: {}", answer.code, answer.said);
    let unclear = |why: &str| Obstacle::Unclear(text(why));
    match (read.present.holds(&answer), read.absent.holds(&answer)) {
        (true, true) => return Err(unclear("means both present and absent")),
        (false, false) if read.busy.contains(&answer.code) => {
            return Err(Obstacle::Busy(text("means that it is away")));
        }
        (false, false) => return Err(unclear("means neither present nor absent")),
        (false, true) => return Ok(Saw::Absent),
        (true, false) => {}
    }
    for (pointer, template) in &read.identity {
        let wanted = template.fill_json(values)?;
        match answer.body.pointer(pointer) {
            Some(held) if *held == wanted => {}
            None | Some(Value::Null) => return Err(unclear(&format!("has no {pointer}"))),
            Some(held) => {
                return Ok(Saw::Different(format!("{what}: {pointer} is {held}, expected {wanted}")));
            }
        }
    }
    Ok(Saw::Same(answer.body))
}

/// The values at `pointers` in `body`.
///
/// # Errors
/// [`Obstacle::Unclear`] if one is missing: what is not shown cannot be restored.
pub(crate) fn values_at(
    what: &str,
    pointers: &BTreeMap<String, String>,
    body: &Value,
) -> Result<BTreeMap<String, Value>, Obstacle> {
    pointers
        .iter()
        .map(|(name, pointer)| {
            let value = body
                .pointer(pointer)
                .ok_or_else(|| Obstacle::Unclear(format!("{what}: the answer has no {pointer}")))?;
            Ok((name.clone(), value.clone()))
        })
        .collect()
}

/// What the captured values become when `intended` is done.
pub(crate) fn intended(
    captured: &BTreeMap<String, Value>,
    intended: &BTreeMap<String, Value>,
) -> BTreeMap<String, Value> {
    let mut all = captured.clone();
    all.extend(intended.iter().map(|(name, value)| (name.clone(), value.clone())));
    all
}

/// Whether each value now is one of `allowed`; names the first that is not.
pub(crate) fn changed_by_others(
    now: &BTreeMap<String, Value>,
    allowed: [&BTreeMap<String, Value>; 2],
) -> Option<String> {
    now.iter()
        .find(|(name, value)| !allowed.iter().any(|known| known.get(*name) == Some(value)))
        .map(|(name, value)| format!("{name} was changed by others and is {value}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sexton_testkit::fuzz::{Form, Fuzz};

    use super::*;

    /// What is read of an answer is what stands there, and what is missing is never made up.
    #[test]
    fn fuzz_answers() {
        let rule = Rule { code: vec![200], equals: [("/state".to_owned(), json!("on"))].into() };
        let pointers: BTreeMap<String, String> =
            [("uuid", "/uuid"), ("first", "/list/0/name")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        let seed = json!({ "state": "on", "uuid": "u", "list": [{ "name": "a", "weight": 0.1 }] });
        Fuzz::new("hook", Form::Json).seed(seed.to_string()).run(|bytes| {
            let body: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
            let mut answer = Answer { code: 200, body, said: String::new() };
            let holds = rule.holds(&answer);
            assert_eq!(holds, answer.body["state"] == "on");
            let values = values_at("asking", &pointers, &answer.body).map_err(|error| error.to_string())?;
            assert_eq!((values.len(), &values["uuid"]), (2, &answer.body["uuid"]));
            assert_eq!(changed_by_others(&values, [&values, &intended(&values, &values)]), None);
            answer.code = 404;
            assert!(!rule.holds(&answer));
            Ok(())
        });
    }
}
