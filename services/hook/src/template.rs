//! Texts with places to fill in: `{resource.name}`, `{identity.uuid}`, `{attributes.x}`, `{target.x}`,
//! `{manifest.x}`. `{{` and `}}` stand for braces.
//!
//! A template is parsed when the definition is loaded; what it cannot mean is an error there. What is filled in
//! is data for whoever reads the text next: percent-encoded in a URL, a value in a JSON body, one argument of a
//! command. It never passes through a shell.
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use sexton_consumer::driver::{Obstacle, StepContext};

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The resource: `name`, `kind`, or `id` for both.
    Resource,
    /// What makes it this one.
    Identity,
    /// What the platform registered for this subsystem.
    Attributes,
    /// What was pinned.
    Target,
    /// What was captured for this step.
    Manifest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Value(Source, String),
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template(Vec<Part>);

impl TryFrom<String> for Template {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

/// How a filled-in value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// As it is: in a header, or within a JSON string, which is escaped as a whole.
    Plain,
    /// Percent-encoded, but for letters, digits, `-`, `_`, `.` and `~`.
    Url,
    /// As it is, refused where it would be taken for an option.
    Argument,
}

impl Template {
    /// Parse `text`.
    ///
    /// # Errors
    /// If a placeholder is unknown, or a brace has no partner.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?}: {why}");
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("{{") {
                literal.push('{');
                rest = after;
            } else if let Some(after) = rest.strip_prefix("}}") {
                literal.push('}');
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                let (inside, after) =
                    after.split_once('}').ok_or_else(|| wrong("a { without its }; write {{ for a brace"))?;
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(placeholder(inside).map_err(|why| wrong(&why))?);
                rest = after;
            } else {
                return Err(wrong("a } without its {; write }} for a brace"));
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self(parts))
    }

    /// Whether it needs a captured manifest.
    pub fn needs_manifest(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Value(Source::Manifest, _)))
    }

    /// Whether it is filled in with what makes the resource this one.
    pub fn names_identity(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Value(Source::Identity, _)))
    }

    /// The text before the first value.
    pub fn beginning(&self) -> &str {
        match self.0.first() {
            Some(Part::Literal(text)) => text,
            Some(Part::Value(..)) | None => "",
        }
    }

    /// Whether it is fixed text.
    pub fn is_fixed(&self) -> bool {
        self.0.iter().all(|part| matches!(part, Part::Literal(_)))
    }

    /// Fill it in.
    ///
    /// # Errors
    /// [`Obstacle::Refuse`] if a value is missing, is no plain value, or cannot be written that way.
    pub fn fill(&self, values: &Values<'_>, writing: Writing) -> Result<String, Obstacle> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Value(source, key) => {
                    let value = values.text(*source, key)?;
                    if writing == Writing::Argument && text.is_empty() && value.starts_with('-') {
                        return Err(values.refuse(*source, key, "would be taken for an option"));
                    }
                    // Without it an object's address is that of the whole collection.
                    if value.is_empty() && matches!(writing, Writing::Url | Writing::Argument) {
                        return Err(values.refuse(*source, key, "is empty"));
                    }
                    match writing {
                        Writing::Url => percent_encode(&value, &mut text),
                        Writing::Plain | Writing::Argument => text.push_str(&value),
                    }
                }
            }
        }
        if text.contains('\0') {
            return Err(Obstacle::Refuse(format!("{}: a value with a zero byte", values.step.resource)));
        }
        Ok(text)
    }

    /// Fill it in as JSON: a lone placeholder keeps its type, anything else becomes a string.
    ///
    /// # Errors
    /// As [`Self::fill`].
    pub fn fill_json(&self, values: &Values<'_>) -> Result<Value, Obstacle> {
        match self.0.as_slice() {
            [Part::Value(source, key)] => values.value(*source, key),
            _ => self.fill(values, Writing::Plain).map(Value::String),
        }
    }
}

fn placeholder(inside: &str) -> Result<Part, String> {
    let known = "expected resource, identity, attributes, target or manifest, a dot and a key";
    let (source, key) = inside.split_once('.').ok_or_else(|| format!("{{{inside}}}: {known}"))?;
    let source = match source {
        "resource" => Source::Resource,
        "identity" => Source::Identity,
        "attributes" => Source::Attributes,
        "target" => Source::Target,
        "manifest" => Source::Manifest,
        _ => return Err(format!("{{{inside}}}: {known}")),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if key.is_empty() || key.len() > 64 || !key.bytes().all(plain) {
        return Err(format!("{{{inside}}}: a key is 1 to 64 letters, digits, '_' or '-'"));
    }
    if source == Source::Resource && !matches!(key, "name" | "kind" | "id") {
        return Err(format!("{{{inside}}}: a resource has a name, a kind and an id"));
    }
    Ok(Part::Value(source, key.to_owned()))
}

fn percent_encode(value: &str, into: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// What can be filled in.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// The step.
    pub step: &'a StepContext,
    /// What was captured, if anything.
    pub manifest: Option<&'a Value>,
}

impl Values<'_> {
    fn value(&self, source: Source, key: &str) -> Result<Value, Obstacle> {
        let step = self.step;
        let of = |held: &Value| held.get(key).cloned();
        let found = match source {
            Source::Resource => Some(Value::String(match key {
                "name" => step.resource.name.to_string(),
                "kind" => step.resource.kind.to_string(),
                _ => step.resource.to_string(),
            })),
            Source::Identity => step.identity.get(key).map(|value| Value::String(value.to_owned())),
            Source::Attributes => of(&step.attributes),
            Source::Target => of(&step.targets),
            Source::Manifest => self.manifest.and_then(of),
        };
        found.ok_or_else(|| self.refuse(source, key, "is missing"))
    }

    fn text(&self, source: Source, key: &str) -> Result<String, Obstacle> {
        match self.value(source, key)? {
            Value::String(text) => Ok(text),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(flag) => Ok(flag.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                Err(self.refuse(source, key, "is no text, number or truth value"))
            }
        }
    }

    fn refuse(&self, source: Source, key: &str, why: &str) -> Obstacle {
        let source = format!("{source:?}").to_lowercase();
        Obstacle::Refuse(format!("{}: {source}.{key} {why}", self.step.resource))
    }
}

/// A JSON body with templates in its strings.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Body {
    /// A text, or a lone placeholder of any type.
    Text(Template),
    /// A list.
    List(Vec<Body>),
    /// A table.
    Table(BTreeMap<String, Body>),
    /// A number or a truth value.
    Fixed(Value),
}

impl Body {
    /// Fill it in.
    ///
    /// # Errors
    /// As [`Template::fill`].
    pub fn fill(&self, values: &Values<'_>) -> Result<Value, Obstacle> {
        Ok(match self {
            Self::Text(template) => template.fill_json(values)?,
            Self::List(items) => {
                Value::Array(items.iter().map(|i| i.fill(values)).collect::<Result<_, _>>()?)
            }
            Self::Table(items) => {
                Value::Object(items.iter().map(|(k, v)| Ok((k.clone(), v.fill(values)?))).collect::<Result<
                    _,
                    Obstacle,
                >>(
                )?)
            }
            Self::Fixed(value) => value.clone(),
        })
    }

    /// The strings that are no templates, though they should be; such a body would otherwise pass as fixed.
    pub(crate) fn mistake(&self) -> Option<String> {
        match self {
            Self::Text(_) => None,
            Self::List(items) => items.iter().find_map(Self::mistake),
            Self::Table(items) => items.values().find_map(Self::mistake),
            Self::Fixed(value) => fixed_mistake(value),
        }
    }

    pub(crate) fn needs_manifest(&self) -> bool {
        match self {
            Self::Text(template) => template.needs_manifest(),
            Self::List(items) => items.iter().any(Self::needs_manifest),
            Self::Table(items) => items.values().any(Self::needs_manifest),
            Self::Fixed(_) => false,
        }
    }
}

fn fixed_mistake(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Template::parse(text).err(),
        Value::Array(items) => items.iter().find_map(fixed_mistake),
        Value::Object(items) => items.values().find_map(fixed_mistake),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_template_cannot_mean_is_an_error() {
        let wrong = [
            "{resource}",
            "{resource.uuid}",
            "{host.name}",
            "{identity.}",
            "{identity.a b}",
            "{",
            "}",
            "a{b",
            "a}b",
            "{attributes.a.b}",
            "{{identity.uuid}",
            "{}",
        ];
        for text in wrong {
            assert!(Template::parse(text).is_err(), "{text} was taken");
        }
        let template = Template::parse("/x/{resource.name}?u={identity.uuid}").unwrap();
        assert_eq!(template.beginning(), "/x/");
        assert!(!template.needs_manifest() && !template.is_fixed());
        assert_eq!(Template::parse("{{a}}").unwrap(), Template(vec![Part::Literal("{a}".into())]));
        assert!(Template::parse("{manifest.active}").unwrap().needs_manifest());
    }

    #[test]
    fn a_wrong_template_deep_in_a_body_is_found() {
        let body: Body = serde_json::from_str(r#"{"a": [{"b": "{nobody.knows}"}]}"#).unwrap();
        assert!(body.mistake().unwrap().contains("nobody.knows"));
        let body: Body =
            serde_json::from_str(r#"{"a": [{"b": "{manifest.x}"}], "c": 7, "d": true}"#).unwrap();
        assert!(body.mistake().is_none() && body.needs_manifest());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "[{}a-z. ]{0,40}|.{0,40}") {
            let _ = Template::parse(&text);
        }

        #[test]
        fn text_without_braces_is_itself(text in "[^{}]{1,40}") {
            prop_assert_eq!(Template::parse(&text).unwrap(), Template(vec![Part::Literal(text)]));
        }

        #[test]
        fn an_encoded_value_is_one_segment(value in ".{0,40}") {
            let mut encoded = String::new();
            percent_encode(&value, &mut encoded);
            prop_assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~%".contains(&b)));
        }
    }
}
