//! What the platform states under `attributes.SUBSYSTEM`, for subsystems that can find nothing without it.
//!
//! Contract: a missing or empty statement is never read as "there is nothing". That nothing is there has to be said,
//! with `none = true` alone, as to the subsystems that look by name ([`StepContext::none_expected`]).
//!
//! [`StepContext::none_expected`]: crate::driver::StepContext::none_expected
use serde::de::DeserializeOwned;
use serde_json::Value;
use sexton_model::ResourceId;

use crate::driver::Obstacle;

/// The part of one resource that one subsystem looks for.
#[derive(Debug, Clone, Copy)]
pub struct Stated<'a> {
    /// Whose part.
    pub resource: &'a ResourceId,
    /// The subsystem, as the key under `attributes` says it.
    pub subsystem: &'a str,
    /// What was expected, for whoever has to mend it, such as `{"names": […]}`.
    pub form: &'a str,
}

impl Stated<'_> {
    /// The part that `attributes` state; `None` only if they state that there is none.
    ///
    /// # Errors
    /// [`Obstacle::Refuse`], naming the mistake, if nothing is stated, if it contradicts itself, or if it is not of
    /// the expected form.
    pub fn read<T: DeserializeOwned>(&self, attributes: &Value) -> Result<Option<T>, Obstacle> {
        let mut part = match attributes {
            Value::Object(part) if !part.is_empty() => part.clone(),
            Value::Object(_) => return Err(self.wrong("it is empty")),
            Value::Null => return Err(self.wrong("it is missing")),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(self.wrong("it is no object"));
            }
        };
        match part.remove("none") {
            None | Some(Value::Bool(false)) => {}
            Some(Value::Bool(true)) if part.is_empty() => return Ok(None),
            Some(Value::Bool(true)) => {
                return Err(self.wrong("none = true contradicts what stands beside it"));
            }
            Some(_) => return Err(self.wrong("none: expected true or false")),
        }
        serde_json::from_value(Value::Object(part)).map(Some).map_err(|e| self.wrong(e))
    }

    /// The refusal of a part for this reason.
    pub fn wrong(&self, why: impl std::fmt::Display) -> Obstacle {
        let Self { resource, subsystem, form } = self;
        Obstacle::Refuse(format!(
            "{resource}: attributes.{subsystem}: {why}; expected {form}, or {{\"none\": true}} if {subsystem} holds \
             nothing for it"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Part {
        #[serde(default)]
        names: Vec<String>,
    }

    fn read(attributes: &Value) -> Result<Option<Part>, Obstacle> {
        let resource = "vm/web01".parse().unwrap();
        Stated { resource: &resource, subsystem: "dns", form: "{\"names\": […]}" }.read(attributes)
    }

    #[test]
    fn only_a_statement_says_that_there_is_nothing() {
        assert_eq!(read(&json!({ "none": true })), Ok(None));
        let part = || Part { names: vec!["a".to_owned()] };
        assert_eq!(read(&json!({ "names": ["a"] })), Ok(Some(part())));
        assert_eq!(read(&json!({ "names": ["a"], "none": false })), Ok(Some(part())));
        for (bad, says) in [
            (Value::Null, "it is missing"),
            (json!({}), "it is empty"),
            (json!([]), "no object"),
            (json!({ "none": "yes" }), "none: expected"),
            (json!({ "none": true, "names": ["a"] }), "contradicts"),
            (json!({ "name": "a" }), "unknown field"),
        ] {
            match read(&bad) {
                Err(Obstacle::Refuse(why)) => assert!(
                    why.starts_with("vm/web01: attributes.dns: ")
                        && why.contains(says)
                        && why.contains("expected {\"names\": […]}, or {\"none\": true}"),
                    "{why}"
                ),
                other => panic!("{bad}: {other:?}"),
            }
        }
    }
}
