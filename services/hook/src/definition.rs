//! What a hook's definition file says, checked when it is loaded.
//!
//! ```toml
//! subsystem = "accounting"
//!
//! [place]                       # the proof of place: some answer that only this instance gives
//! http = { method = "GET", url = "/api/instance" }
//! present = { code = [200] }
//! value = "/id"                 # JSON pointer; must be what the configuration says as `place`
//!
//! [object]                      # the object that the actions are about
//! http = { method = "GET", url = "/api/records/{resource.name}" }
//! present = { code = [200] }
//! absent = { code = [404], equals = { "/error" = "no such record" } }
//! identity = { "/uuid" = "{identity.uuid}" }
//! pin = { record = "/id" }      # becomes {target.record}
//!
//! [actions.stop]                # a reversible action
//! capture = { active = "/active" }
//! intended = { active = false }
//! perform = [{ http = { method = "PATCH", url = "/api/records/{target.record}", body = { active = false } }, expect = [200] }]
//! undo = [{ http = { method = "PATCH", url = "/api/records/{target.record}", body = { active = "{manifest.active}" } }, expect = [200] }]
//! ```
//!
//! What is pinned is compared when it is read again. Where it is a list of tables, each needs something that tells it
//! from the others: a text, or a number under `id`. Other numbers are taken for what a thing is like.
//!
//! A destructive action has `perform` and may have `gone`, a list of reads like `[object]`: it is done when all
//! of them are absent. An answer that is neither `present` nor `absent` means unknown, never absent. Instead of
//! `http` there may be `command = ["/absolute/program", "argument", …]`: then `code` is its exit code, and its
//! output is read as JSON. What a call answers proves nothing; `expect` only says when to go on at once.
//!
//! `busy` lists codes that mean to come again later: the subsystem is away, and that spends no attempt. Whatever only
//! looks (`place`, `object`, `gone`) has it, and every call: `busy = [429, 502, 503, 504]` for a look and
//! `busy = [423, 429, 503]` for a call, if nothing else is said. A look that is not answered at all is put off likewise; a
//! call that is not may have been carried out, and is an attempt, as is one that a gateway answers with 502 or 504.
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use sexton_model::catalogue::{Nature, SubsystemActions};
use sexton_model::{ActionName, Subsystem};

use crate::template::{Body, Template};

/// A definition file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// The subsystem whose actions these are.
    pub subsystem: Subsystem,
    /// The proof of place.
    pub place: PlaceRead,
    /// The object that the actions are about.
    pub object: Read,
    /// The actions, but for `inspect`, which reads the object.
    pub actions: BTreeMap<ActionName, Steps>,
}

/// How an instance proves which one it is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceRead {
    /// A request, or
    #[serde(default)]
    pub http: Option<Http>,
    /// a command.
    #[serde(default)]
    pub command: Option<Vec<Template>>,
    /// Longest time for it, in milliseconds.
    #[serde(default = "ten_seconds")]
    pub timeout_ms: u64,
    /// Which answers count.
    pub present: Rule,
    /// Codes, of answers that do not count, that mean that it is away: to come again later.
    #[serde(default = "away")]
    pub busy: Vec<i64>,
    /// JSON pointer to what it is called.
    pub value: String,
}

/// A look at one object.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// A request, or
    #[serde(default)]
    pub http: Option<Http>,
    /// a command.
    #[serde(default)]
    pub command: Option<Vec<Template>>,
    /// Longest time for it, in milliseconds.
    #[serde(default = "ten_seconds")]
    pub timeout_ms: u64,
    /// Which answers mean that it is there.
    pub present: Rule,
    /// Which answers mean that it is not.
    pub absent: Rule,
    /// Codes, of answers that mean neither, that mean that the subsystem is away: to come again later.
    #[serde(default = "away")]
    pub busy: Vec<i64>,
    /// What must be where in the answer if it is this one: JSON pointer → value. Never empty.
    pub identity: BTreeMap<String, Template>,
    /// What is pinned of the answer: name → JSON pointer.
    #[serde(default)]
    pub pin: BTreeMap<String, String>,
}

/// Which answers something holds for: all that is named must hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// HTTP status, or exit code.
    pub code: Vec<i64>,
    /// JSON pointer → value.
    #[serde(default)]
    pub equals: BTreeMap<String, Value>,
}

/// What an action does.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steps {
    /// Reversible: name → JSON pointer in the object, what an undo needs to know.
    #[serde(default)]
    pub capture: BTreeMap<String, String>,
    /// Reversible: what the captured values become; what is not named stays.
    #[serde(default)]
    pub intended: BTreeMap<String, Value>,
    /// What to do, in order.
    pub perform: Vec<Call>,
    /// Reversible: how it is taken back, in order.
    #[serde(default)]
    pub undo: Vec<Call>,
    /// Destructive: what must be absent afterwards; the object, if nothing is named.
    #[serde(default)]
    pub gone: Vec<Read>,
}

/// One thing to do.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// A request, or
    #[serde(default)]
    pub http: Option<Http>,
    /// a command.
    #[serde(default)]
    pub command: Option<Vec<Template>>,
    /// Longest time for it, in milliseconds.
    #[serde(default = "ten_seconds")]
    pub timeout_ms: u64,
    /// Status or exit codes after which it goes on.
    pub expect: Vec<i64>,
    /// Codes that mean a person has to look.
    #[serde(default)]
    pub refused: Vec<i64>,
    /// Codes that mean that nothing was done, and to come again later.
    #[serde(default = "not_begun")]
    pub busy: Vec<i64>,
}

/// One HTTP request.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// `GET`, `PUT`, …
    pub method: String,
    /// From `/` on, below the configured `base_url`; or a whole address.
    pub url: Template,
    /// Further headers.
    #[serde(default)]
    pub headers: BTreeMap<String, Template>,
    /// What is sent, as JSON.
    #[serde(default)]
    pub body: Option<Body>,
}

fn ten_seconds() -> u64 {
    10_000
}

/// What a server that cannot answer now says, or who stands before it: too many requests, no good answer behind the
/// gateway, unavailable, no answer in time. No exit code is as great.
fn away() -> Vec<i64> {
    vec![429, 502, 503, 504]
}

/// Those of them after which nothing was changed, and that it is locked. 502 and 504 say only that the answer was lost
/// behind the gateway.
fn not_begun() -> Vec<i64> {
    vec![423, 429, 503]
}

/// One way to ask.
#[derive(Debug, Clone, Copy)]
pub enum Transport<'a> {
    /// By HTTP.
    Http(&'a Http),
    /// By a program.
    Command(&'a [Template]),
}

/// The one of `http` and `command` that is given.
pub(crate) fn transport<'a>(
    http: &'a Option<Http>,
    command: &'a Option<Vec<Template>>,
) -> Option<Transport<'a>> {
    match (http, command) {
        (Some(http), None) => Some(Transport::Http(http)),
        (None, Some(command)) => Some(Transport::Command(command)),
        (Some(_), Some(_)) | (None, None) => None,
    }
}

impl Definition {
    /// Parse `text`, found in `file`, for `actions`.
    ///
    /// # Errors
    /// If it is not TOML of this form, contradicts itself, or does not fit the actions; names the file and the
    /// key.
    pub fn parse(file: &str, text: &str, actions: &SubsystemActions) -> anyhow::Result<Self> {
        let definition: Self = toml::from_str(text).map_err(|e| anyhow::anyhow!("{file}: {e}"))?;
        definition.check(actions).map_err(|why| anyhow::anyhow!("{file}: {why}"))?;
        Ok(definition)
    }

    fn check(&self, actions: &SubsystemActions) -> Result<(), String> {
        if self.subsystem != actions.subsystem {
            return Err(format!("subsystem = {}: the actions are of {}", self.subsystem, actions.subsystem));
        }
        let place = &self.place;
        request("place", &place.http, &place.command, false)?;
        rule("place.present", &place.present)?;
        pointer("place.value", &place.value)?;
        read("object", &self.object)?;
        if self.object.pin.keys().any(|name| name == "place" || name == "object") {
            return Err("object.pin: place and object are pinned anyway; choose another name".into());
        }
        for name in self.actions.keys() {
            if !actions.actions.contains_key(name) {
                return Err(format!("actions.{name}: the subsystem has no such action"));
            }
        }
        for (name, action) in &actions.actions {
            match (action.nature, self.actions.get(name)) {
                (Nature::Inspect, None) => {}
                (Nature::Inspect, Some(_)) => {
                    return Err(format!("actions.{name}: inspecting reads the object"));
                }
                (Nature::Reversible, Some(steps)) => steps.check_reversible(&format!("actions.{name}"))?,
                (Nature::Destructive, Some(steps)) => steps.check_destructive(&format!("actions.{name}"))?,
                (Nature::Check | Nature::Adds, _) => {
                    return Err(format!(
                        "actions.{name}: a hook inspects, does what can be undone, or deletes"
                    ));
                }
                (Nature::Reversible | Nature::Destructive, None) => {
                    return Err(format!("actions.{name}: missing"));
                }
            }
        }
        let is = |nature: Nature| actions.actions.values().any(|action| action.nature == nature);
        if is(Nature::Destructive) && !is(Nature::Inspect) {
            return Err(
                "a hook that deletes needs an action that inspects: only what is pinned is removed, and nothing would be"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

impl Steps {
    fn check_reversible(&self, at: &str) -> Result<(), String> {
        if self.capture.is_empty() || self.intended.is_empty() || self.undo.is_empty() {
            return Err(format!("{at}: a reversible action needs capture, intended and undo"));
        }
        if !self.gone.is_empty() {
            return Err(format!("{at}.gone: only a destructive action has it"));
        }
        if let Some(name) = self.intended.keys().find(|name| !self.capture.contains_key(*name)) {
            return Err(format!("{at}.intended.{name}: is not captured, so it could not be undone"));
        }
        for (name, at_pointer) in &self.capture {
            pointer(&format!("{at}.capture.{name}"), at_pointer)?;
        }
        calls(&format!("{at}.perform"), &self.perform, true)?;
        calls(&format!("{at}.undo"), &self.undo, true)
    }

    fn check_destructive(&self, at: &str) -> Result<(), String> {
        if !self.capture.is_empty() || !self.intended.is_empty() || !self.undo.is_empty() {
            return Err(format!("{at}: a destructive action has no capture, intended or undo"));
        }
        for (index, gone) in self.gone.iter().enumerate() {
            read(&format!("{at}.gone[{index}]"), gone)?;
        }
        calls(&format!("{at}.perform"), &self.perform, false)
    }
}

fn calls(at: &str, calls: &[Call], manifest: bool) -> Result<(), String> {
    if calls.is_empty() {
        return Err(format!("{at}: expected at least one call"));
    }
    for (index, call) in calls.iter().enumerate() {
        request(&format!("{at}[{index}]"), &call.http, &call.command, manifest)?;
        if call.expect.is_empty() {
            return Err(format!("{at}[{index}].expect: expected at least one code"));
        }
    }
    Ok(())
}

fn read(at: &str, read: &Read) -> Result<(), String> {
    request(at, &read.http, &read.command, false)?;
    rule(&format!("{at}.present"), &read.present)?;
    rule(&format!("{at}.absent"), &read.absent)?;
    if read.identity.is_empty() {
        return Err(format!("{at}.identity: must not be empty, or a namesake would be taken for it"));
    }
    for (held, template) in &read.identity {
        pointer(&format!("{at}.identity"), held)?;
        if template.is_fixed() || template.needs_manifest() {
            return Err(format!("{at}.identity.{held:?}: expected what makes the resource this one"));
        }
    }
    // The delivered actions say that whoever performs them compares it, and are asked so every day.
    if !read.identity.values().any(Template::names_identity) {
        return Err(format!(
            "{at}.identity: expected an attribute of the identity, such as {{identity.uuid}}"
        ));
    }
    read.pin.values().try_for_each(|pinned| pointer(&format!("{at}.pin"), pinned))
}

fn rule(at: &str, rule: &Rule) -> Result<(), String> {
    if rule.code.is_empty() {
        return Err(format!("{at}.code: expected at least one code"));
    }
    rule.equals.keys().try_for_each(|held| pointer(&format!("{at}.equals"), held))
}

fn pointer(at: &str, text: &str) -> Result<(), String> {
    if text.is_empty() || text.starts_with('/') {
        return Ok(());
    }
    Err(format!("{at}: {text:?} is no JSON pointer; it begins with /"))
}

fn request(
    at: &str,
    http: &Option<Http>,
    command: &Option<Vec<Template>>,
    manifest: bool,
) -> Result<(), String> {
    let needs_manifest = match transport(http, command) {
        None => return Err(format!("{at}: expected either http or command")),
        Some(Transport::Command(command)) => {
            let program = command.first().filter(|program| program.is_fixed());
            if !program.is_some_and(|program| program.beginning().starts_with('/')) {
                return Err(format!("{at}.command: expected the absolute path of a program first"));
            }
            command.iter().any(Template::needs_manifest)
        }
        Some(Transport::Http(http)) => {
            http_is_sound(http).map_err(|why| format!("{at}.http.{why}"))?;
            http.url.needs_manifest()
                || http.headers.values().any(Template::needs_manifest)
                || http.body.as_ref().is_some_and(Body::needs_manifest)
        }
    };
    if needs_manifest && !manifest {
        return Err(format!("{at}: there is no manifest here"));
    }
    Ok(())
}

fn http_is_sound(http: &Http) -> Result<(), String> {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
    if !known.contains(&http.method.as_str()) {
        return Err(format!("method: {:?}, expected one of {}", http.method, known.join(", ")));
    }
    let beginning = http.url.beginning();
    let host = beginning.strip_prefix("https://").or_else(|| beginning.strip_prefix("http://"));
    // Nothing may be filled in before the end of the host: it would decide whom to ask.
    if !beginning.starts_with('/') && host.is_none_or(|host| host.find('/').is_none_or(|at| at == 0)) {
        return Err(format!("url: begins with {beginning:?}, expected / or http(s)://HOST/"));
    }
    for name in http.headers.keys() {
        reqwest::header::HeaderName::from_bytes(name.as_bytes())
            .map_err(|e| format!("headers.{name}: {e}"))?;
    }
    http.body.as_ref().and_then(Body::mistake).map_or(Ok(()), |why| Err(format!("body: {why}")))
}

#[cfg(test)]
mod tests;
