//! What one order asks of a consumer, and what it may answer.
use schemars::JsonSchema;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};

/// What a consumer is asked to do with an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Look: identity, targets, protection. Changes nothing.
    Inspect,
    /// Look again before a later stage: what is there that was not when the targets were pinned. Changes nothing.
    Reread,
    /// Take the manifest that an exact undo needs. Changes nothing.
    Capture,
    /// Do it.
    Perform,
    /// Take it back, by the captured manifest.
    Undo,
    /// Look whether an undo holds, once every order that could still disturb it has expired.
    Verify,
}

impl Mode {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Inspect => "inspect",
            Self::Reread => "reread",
            Self::Capture => "capture",
            Self::Perform => "perform",
            Self::Undo => "undo",
            Self::Verify => "verify",
        }
    }

    /// Whether carrying it out may change the resource.
    pub fn changes(self) -> bool {
        match self {
            Self::Perform | Self::Undo => true,
            Self::Inspect | Self::Reread | Self::Capture | Self::Verify => false,
        }
    }
}

/// Whether a thing is there. `Unknown` never counts as absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Seen to be gone, at the place where it would be.
    Absent,
    /// Seen to be there.
    Present,
    /// Neither was seen.
    Unknown,
}

/// Why an order is to be given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetryClass {
    /// It was tried and failed: counts as an attempt.
    Failed,
    /// It was not tried, or somebody else's lock or an outage stood in the way: spends no attempt.
    Spared,
}

/// A consumer's answer to one order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "result", rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// It is as wanted.
    Done {
        /// Whether what the step is about is there now.
        presence: Presence,
        /// What was seen, for the audit trail and the receipt. At most [`EVIDENCE_MAX_BYTES`].
        #[serde(default, skip_serializing_if = "String::is_empty")]
        evidence: String,
        /// What was looked at: the manifest of a capture, the targets of an inspection or those a step created; of
        /// targets that were read again, what has appeared.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        finding: Option<serde_json::Value>,
    },
    /// Not now: give it again later.
    Retry {
        /// Whether this counts as an attempt.
        class: RetryClass,
        /// What went wrong, for people.
        reason: String,
    },
    /// It must not be done: a person has to look.
    Refused {
        /// Why, for people.
        reason: String,
    },
}

/// All fields of all answers. Read as one flat structure: what serde makes of a tagged one keeps every value aside until
/// it has seen the tag, which takes several times as long, and one is read for every step.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    result: AnswerKind,
    presence: Option<Presence>,
    evidence: Option<String>,
    finding: Option<serde_json::Value>,
    class: Option<RetryClass>,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum AnswerKind {
    Done,
    Retry,
    Refused,
}

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let missing = D::Error::missing_field;
        let strange = |field: &str, result: &str| {
            D::Error::custom(format_args!("field `{field}`: not expected in an answer that is {result}"))
        };
        match Answer::deserialize(from)? {
            Answer { class: Some(_), result: AnswerKind::Done, .. } => Err(strange("class", "done")),
            Answer { reason: Some(_), result: AnswerKind::Done, .. } => Err(strange("reason", "done")),
            Answer { result: AnswerKind::Done, presence, evidence, finding, .. } => Ok(Self::Done {
                presence: presence.ok_or_else(|| missing("presence"))?,
                evidence: evidence.unwrap_or_default(),
                finding,
            }),
            Answer { presence: Some(_), .. } => Err(strange("presence", "not done")),
            Answer { evidence: Some(_), .. } => Err(strange("evidence", "not done")),
            Answer { finding: Some(_), .. } => Err(strange("finding", "not done")),
            Answer { result: AnswerKind::Retry, class, reason, .. } => Ok(Self::Retry {
                class: class.ok_or_else(|| missing("class"))?,
                reason: reason.ok_or_else(|| missing("reason"))?,
            }),
            Answer { class: Some(_), .. } => Err(strange("class", "refused")),
            Answer { result: AnswerKind::Refused, reason, .. } => {
                Ok(Self::Refused { reason: reason.ok_or_else(|| missing("reason"))? })
            }
        }
    }
}

/// Longest evidence or reason, in bytes: it is stored once for every step.
pub const EVIDENCE_MAX_BYTES: usize = 2048;
/// Largest manifest or target list of one instance, in bytes of JSON: it travels with every order.
pub const FINDING_MAX_BYTES: usize = 65_536;
/// Largest target list of one instance with all that the deletion's own steps have added to it, in bytes of JSON. With
/// a manifest and the resource's attributes it fills a third of the largest order.
pub const TARGETS_MAX_BYTES: usize = 4 * FINDING_MAX_BYTES;

/// Why something that was found cannot travel with orders, if it cannot.
pub fn too_large(finding: &serde_json::Value) -> Option<String> {
    let bytes = serde_json::to_vec(finding).map_or(usize::MAX, |text| text.len());
    (bytes > FINDING_MAX_BYTES).then(|| {
        format!(
            "what was found takes {bytes} bytes, more than the {FINDING_MAX_BYTES} that travel with an order"
        )
    })
}

impl Outcome {
    /// A short `done` without a finding.
    pub fn done(presence: Presence, evidence: impl Into<String>) -> Self {
        Self::Done { presence, evidence: evidence.into(), finding: None }
    }

    /// A `retry` that counts as an attempt.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Retry { class: RetryClass::Failed, reason: reason.into() }
    }

    /// A `retry` that spends no attempt.
    pub fn spared(reason: impl Into<String>) -> Self {
        Self::Retry { class: RetryClass::Spared, reason: reason.into() }
    }

    /// A `refused`.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }

    /// The same outcome with its texts cut to [`EVIDENCE_MAX_BYTES`] and without control characters, so that a
    /// talkative subsystem, or one that answers in bytes, cannot make an answer undeliverable.
    pub fn bounded(self) -> Self {
        match self {
            Self::Done { presence, evidence, finding } => {
                Self::Done { presence, evidence: cut(evidence), finding }
            }
            Self::Retry { class, reason } => Self::Retry { class, reason: cut(reason) },
            Self::Refused { reason } => Self::Refused { reason: cut(reason) },
        }
    }
}

fn cut(mut text: String) -> String {
    if text.contains(|c: char| c.is_control() && c != '\n') {
        text = text.replace(|c: char| c.is_control() && c != '\n', " ");
    }
    if text.len() > EVIDENCE_MAX_BYTES {
        let mut end = EVIDENCE_MAX_BYTES;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

/// Why a job is parked whose step was refused.
pub fn refusal(step: &str, reason: &str) -> String {
    format!("{step} refused: {reason}")
}

/// Whether a job is parked for this reason because its step was refused.
pub fn is_refusal(step: &str, parked: &str) -> bool {
    parked.strip_prefix(step).is_some_and(|rest| rest.starts_with(" refused: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_subsystem_says_is_text_and_short() {
        let said = format!("bytes: \0\u{1b}[31m\n{}", "ä".repeat(EVIDENCE_MAX_BYTES));
        for outcome in
            [Outcome::failed(&*said), Outcome::refused(&*said), Outcome::done(Presence::Present, &*said)]
        {
            let text = serde_json::to_value(outcome.bounded()).unwrap();
            let kept = text.get("reason").or(text.get("evidence")).unwrap().as_str().unwrap();
            assert!(kept.starts_with("bytes:   [31m\n") && kept.len() <= EVIDENCE_MAX_BYTES, "{kept}");
        }
    }

    #[test]
    fn an_answer_is_read_as_it_was_written_and_nothing_else_is() {
        for outcome in [
            Outcome::done(Presence::Absent, "gone"),
            Outcome::Done { presence: Presence::Present, evidence: String::new(), finding: Some(1.into()) },
            Outcome::failed("why"),
            Outcome::spared("why"),
            Outcome::refused("why"),
        ] {
            let text = serde_json::to_string(&outcome).unwrap();
            assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome, "{text}");
        }
        for (text, named) in [
            (r#"{"result":"done"}"#, "presence"),
            (r#"{"result":"done","presence":"maybe"}"#, "maybe"),
            (r#"{"result":"done","presence":"absent","reason":"why"}"#, "reason"),
            (r#"{"result":"done","presence":"absent","class":"failed"}"#, "class"),
            (r#"{"result":"retry","reason":"why"}"#, "class"),
            (r#"{"result":"retry","class":"failed"}"#, "reason"),
            (r#"{"result":"retry","class":"failed","reason":"why","presence":"absent"}"#, "presence"),
            (r#"{"result":"refused"}"#, "reason"),
            (r#"{"result":"refused","reason":"why","class":"failed"}"#, "class"),
            (r#"{"result":"refused","reason":"why","evidence":"seen"}"#, "evidence"),
            (r#"{"result":"gone"}"#, "gone"),
            (r#"{"presence":"absent"}"#, "result"),
            (r#"{"result":"done","presence":"absent","extra":1}"#, "extra"),
        ] {
            let error = serde_json::from_str::<Outcome>(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
