//! What a person states about a step, so that it is let pass, or for another reason.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::Actor;
use crate::time::Timestamp;

/// What a person states about a step that is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaiverClaim {
    /// It is gone: what depends on it runs.
    Absent,
    /// It may still be there: what depends on it is waived too.
    MayRemain,
    /// What has appeared since the targets were pinned belongs to the deletion: it joins them, if it is still exactly
    /// what the person was shown when they are read again.
    Belongs,
    /// Not everybody could be told: the coordinator states it of a notice, once, when it fails for the first time. It
    /// lets nothing pass.
    Untold,
    /// Everybody was told otherwise, after the notice had failed for days: it counts as delivered from then on.
    Told,
    /// A notice that was sent came back: it does not count as delivered until [`WaiverClaim::Told`] is stated. It lets
    /// nothing pass.
    Bounced,
}

impl WaiverClaim {
    /// It in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::MayRemain => "may remain",
            Self::Belongs => "belongs to it",
            Self::Untold => "untold",
            Self::Told => "told otherwise",
            Self::Bounced => "came back",
        }
    }
}

/// A step that a person let pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Waiver {
    /// The job's slot.
    pub slot: u8,
    /// The step's index in its job; at the end of recycle, the number of its steps.
    pub step: u16,
    /// What is stated.
    pub claim: WaiverClaim,
    /// Who stated it.
    pub by: Actor,
    /// On what evidence.
    pub evidence: String,
    /// When.
    pub at: Timestamp,
    /// Nothing that changes anything had been ordered for the step, so a cancel has nothing to take back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untouched: bool,
    /// Of [`WaiverClaim::Belongs`]: why the job was parked, which names what had appeared. It holds for nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<String>,
}

impl Waiver {
    /// Whether the step is let pass by it.
    pub fn passes(&self) -> bool {
        match self.claim {
            WaiverClaim::Absent | WaiverClaim::MayRemain | WaiverClaim::Told => true,
            WaiverClaim::Belongs | WaiverClaim::Untold | WaiverClaim::Bounced => false,
        }
    }
}
