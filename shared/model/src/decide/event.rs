//! What happens to a deletion.
use crate::deletion::WaiverClaim;
use crate::id::{Actor, Fence, Instance, JobId};
use crate::step::Outcome;

/// Something that happened, or that somebody wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A job is due: take the lock, unless a belt says not now. If it is in line already, it goes on.
    Claim {
        /// Which one.
        job: JobId,
    },
    /// A locked job may go on: credit came free, its back-off is over, or what blocked it is gone.
    Proceed {
        /// Which one.
        job: JobId,
    },
    /// Look again whether what held a job is gone.
    Recheck {
        /// Which one.
        job: JobId,
    },
    /// A consumer answered.
    Outcome {
        /// Which job.
        job: JobId,
        /// Who answers, as its key and broker user prove: it can answer for itself only.
        from: Instance,
        /// The fence of the order that is answered.
        fence: Fence,
        /// The answer.
        outcome: Outcome,
    },
    /// A consumer said that it began, or that it goes on.
    Progress {
        /// Which job.
        job: JobId,
        /// Whose consumer it is, as its key and broker user prove.
        from: Instance,
        /// The fence of its order.
        fence: Fence,
        /// Which copy of it.
        performer: u64,
    },
    /// The lease of the order that is out ran out.
    LeaseOver {
        /// Which job.
        job: JobId,
        /// The fence of that order.
        fence: Fence,
    },
    /// Somebody wants the resource back.
    Cancel {
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
    },
    /// Somebody has a reason not to go on.
    PlaceHold {
        /// Who or what.
        by: Actor,
        /// The reason.
        reason: String,
    },
    /// That reason is gone.
    ReleaseHold {
        /// Which hold.
        hold: i64,
        /// Who says so.
        by: Actor,
    },
    /// A person wants to decide about a job that is in line or backs off: it parks.
    Park {
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
    },
    /// A person wants a parked job tried again.
    Retry {
        /// Who.
        by: Actor,
    },
    /// A person lets the step of a parked job pass.
    Waive {
        /// Who.
        by: Actor,
        /// What is stated.
        claim: WaiverClaim,
        /// The mark of what the person has looked at ([`super::mark`]): it is stated of that, and of nothing else.
        mark: String,
        /// On what evidence.
        evidence: String,
    },
    /// A person told everybody otherwise, since the notice could not be delivered for days.
    Acknowledge {
        /// Who.
        by: Actor,
        /// The mark of what the person has looked at ([`super::mark`]): whom the notice did not reach, by then.
        mark: String,
        /// Who was told, and how.
        reason: String,
    },
    /// A notice that was sent came back.
    Bounced {
        /// Who says so: a person, or what reads the mail that comes back.
        by: Actor,
        /// Whom it did not reach, and why.
        reason: String,
    },
    /// A person saved the resource by hand.
    Rescue {
        /// Who.
        by: Actor,
        /// How.
        evidence: String,
    },
}

impl Event {
    /// The job that may begin with it.
    pub fn begins(&self) -> Option<JobId> {
        match self {
            Self::Claim { job } | Self::Recheck { job } => Some(*job),
            Self::Proceed { .. }
            | Self::Outcome { .. }
            | Self::Progress { .. }
            | Self::LeaseOver { .. }
            | Self::Cancel { .. }
            | Self::PlaceHold { .. }
            | Self::ReleaseHold { .. }
            | Self::Park { .. }
            | Self::Retry { .. }
            | Self::Acknowledge { .. }
            | Self::Bounced { .. }
            | Self::Waive { .. }
            | Self::Rescue { .. } => None,
        }
    }
}
