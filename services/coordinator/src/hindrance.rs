//! What keeps a coordinator from ordering anything, from signing the audit trail, or from going by the calendar that it was
//! given, although everything answers.
//!
//! It is ready all the same: it takes messages and answers requests, and the request that ends a review has to reach
//! it. So this is told by the log, `sexton health` and a metric of its own, and not by readiness.
use std::fmt;
use std::time::Duration;

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hindrance {
    /// The job table went back in time, and nobody has accepted it yet.
    Review,
    /// What is kept of the job table outside of it could not be kept.
    Witness {
        /// For how long.
        stale: Duration,
    },
    /// The audit trail's heads could not be signed the last time. Orders are given all the same.
    Checkpoints {
        /// Why.
        why: String,
    },
    /// The calendar of holidays was changed, and cannot be used. Orders are given all the same, by the one before it.
    Calendar {
        /// Why.
        why: String,
    },
}

impl Hindrance {
    /// The labels of all reasons.
    pub const LABELS: [&str; 4] = ["review", "witness", "checkpoints", "calendar"];

    /// What the metric calls it.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Review => Self::LABELS[0],
            Self::Witness { .. } => Self::LABELS[1],
            Self::Checkpoints { .. } => Self::LABELS[2],
            Self::Calendar { .. } => Self::LABELS[3],
        }
    }

    /// What follows from it.
    pub fn consequence(&self) -> &'static str {
        match self {
            Self::Review | Self::Witness { .. } => "nothing is ordered",
            Self::Checkpoints { .. } => "nothing more is signed of the audit trail",
            Self::Calendar { .. } => "the holidays that were read before still count",
        }
    }
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Review => {
                f.write_str("the job table went back in time: compare, then `sexton review --accept`")
            }
            Self::Witness { stale } => {
                let seconds = stale.as_secs();
                write!(f, "the witness could not be kept for {seconds} s: is its disk full?")
            }
            Self::Checkpoints { why } | Self::Calendar { why } => f.write_str(why),
        }
    }
}
