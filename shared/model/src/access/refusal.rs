//! Who was refused what, as the audit trail has it.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest text of a refusal that is written down, in characters.
pub const REFUSAL_MAX: usize = 300;

/// Somebody was refused, as the audit trail has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// What was asked for: method and path, cut.
    pub request: String,
    /// Why it was refused.
    pub why: String,
    /// The status that was answered.
    pub status: u16,
    /// How many more were refused within the same minute, and are not written down one by one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
    /// What all of these were, this one among them, if it was counted with others; nothing if it is written down by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counted: Vec<CountedRefusals>,
}

/// How often one request was refused, whatever it was about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CountedRefusals {
    /// Method and route, with the names of what the path names in place of these.
    pub request: String,
    /// The status that was answered.
    pub status: u16,
    /// How often.
    pub count: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Refusal {
    /// Cut to what is written down.
    pub fn new(request: &str, why: &str, status: u16, more: u64) -> Self {
        let cut = |text: &str| text.chars().take(REFUSAL_MAX).collect();
        Self { request: cut(request), why: cut(why), status, more, counted: Vec::new() }
    }
}
