//! Why nothing was decided.
use crate::belts::resource_hold::HOLDS_MAX;
use crate::deletion::RecordStatus;
use crate::id::{Actor, Fence, Instance, JobId};
use crate::job::{Stage, StateName};
use crate::time::Timestamp;
use crate::undo::Salvage;

/// Why nothing was decided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such job.
    #[error("{0} is no job of this deletion")]
    NoSuchJob(JobId),
    /// The event is about an order that is no longer out: it came late, or twice.
    #[error("the order {fence} of {job} is not out any more")]
    Stale {
        /// The job.
        job: JobId,
        /// The fence that was named.
        fence: Fence,
    },
    /// The ledger went back in time, and nobody has accepted it yet.
    #[error("the ledger went back in time: nothing goes on in epoch {0} before a person has reviewed it")]
    UnderReview(u32),
    /// An order is answered that this ledger has never given: it must have been a later state of it.
    #[error("the order {fence} of {job} was never given here: the ledger went back in time")]
    NeverGiven {
        /// The job.
        job: JobId,
        /// The fence that was named.
        fence: Fence,
    },
    /// Somebody else was asked: an instance answers for itself only.
    #[error("{from} answers for {job}, but was not asked")]
    NotAsked {
        /// The job.
        job: JobId,
        /// Who answered.
        from: Instance,
    },
    /// The job is not in a state for this.
    #[error("{job} is {state}")]
    NotInState {
        /// The job.
        job: JobId,
        /// Its state.
        state: StateName,
    },
    /// It is not time yet, or nothing has changed.
    #[error("{0}: not yet")]
    NotYet(JobId),
    /// The instance that is needed next has no credit or is down.
    #[error("no credit at {0}")]
    NoCredit(Instance),
    /// Nobody has looked yet whether it may begin, as far as budgets go.
    #[error("{0} is not admitted yet")]
    NotAdmitted(JobId),
    /// An earlier job of the deletion is not over.
    #[error("{0} has to wait for an earlier stage")]
    NotItsTurn(JobId),
    /// The end of cancel is over.
    #[error("too late to cancel: {reached} has begun, which cannot be undone. {still}")]
    TooLate {
        /// The stage it has reached.
        reached: Stage,
        /// What a person can still save by hand, and until when.
        still: Salvage,
    },
    /// The record is over, or being cancelled already.
    #[error("the record is {}", .0.word())]
    NotLive(RecordStatus),
    /// Nothing can be parked.
    #[error(
        "no job of this deletion is in line or backs off, and only such a job can be parked. One that is not due yet \
         is stopped by a hold; an order that is out is answered, or its lease runs out"
    )]
    NothingToPark,
    /// Only what has appeared since the targets were pinned can be stated to belong to the deletion.
    #[error(
        "the step that is parked reads no targets again, so nothing was shown that could belong to the deletion"
    )]
    NothingAppeared,
    /// Something else stands there by now than what the person has looked at who states something about it, or nothing was
    /// named: another step is parked, for another reason, something else has appeared, or the notice came back once more.
    #[error(
        "mark: what stands there now is marked {mark}, and is not what was looked at: look at it (show), and name its mark \
         if it is meant"
    )]
    OtherThings {
        /// The mark of what is shown.
        mark: String,
    },
    /// There is no notice that could not be delivered.
    #[error(
        "nothing to acknowledge: the record is not at a notice that could not be delivered. What cannot be done of other \
         steps is waived"
    )]
    NothingToAcknowledge,
    /// A notice has not failed for long enough.
    #[error("the notice is still tried: it can be acknowledged from {0} on, if it was not delivered by then")]
    StillTried(Timestamp),
    /// A notice came back not long ago.
    #[error("the notice came back: it can be acknowledged from {0} on, by whoever told everybody otherwise")]
    CameBack(Timestamp),
    /// No notice is ever sent that could come back, or what it announced has begun.
    #[error(
        "no notice of this record could come back any more: its plan has none, or soft has begun. Whoever was not told can \
         be heard all the same: place a hold, or cancel"
    )]
    NothingBounced,
    /// It is not known to be sent: the mail may be back before its consumer has answered.
    #[error("no notice of this record is known to be sent yet: say so again once the announcement is done")]
    NotSentYet,
    /// It was said already that the notice came back, for this reason or for as many others as are kept.
    #[error("it is known that the notice came back: nothing changes by saying so again")]
    KnownToBeBack,
    /// A notice is not let pass by a waiver, and nothing else is stated to have been told.
    #[error(
        "a notice is not waived: it is tried again (retry), or, once it could not be delivered for three days, \
         acknowledged by whoever told everybody otherwise"
    )]
    NotWaived,
    /// Whoever requested a deletion does not let it pass what stopped it.
    #[error("{by} requested this deletion: somebody else has to {what}")]
    Requested {
        /// Who.
        by: Actor,
        /// What somebody else has to do.
        what: &'static str,
    },
    /// Nothing is parked.
    #[error("no job of this deletion is parked")]
    NothingParked,
    /// At the end of recycle: the name is not given away while what used it may still exist.
    #[error(
        "the name stays taken while something may remain: {0}. Have it removed by hand; once it was seen to be \
         gone, waive it as absent, with the evidence"
    )]
    NameInUse(String),
    /// There are as many holds as may be.
    #[error(
        "there are {HOLDS_MAX} holds on this deletion, and there may be no more: release some of them first; any one of them \
         stops it"
    )]
    TooManyHolds,
    /// There is no such hold.
    #[error("there is no hold {0} on this deletion")]
    NoSuchHold(i64),
    /// A rescue has to wait until the last order can do nothing any more.
    #[error("an order of the stages can still be carried out until {0}: try again after that")]
    OrderMayRun(Timestamp),
    /// Only between the end of cancel and the point of no return.
    #[error("rescue is for records between hard and purge; {0}")]
    NoRescue(&'static str),
    /// No evidence or reason was given.
    #[error("{0}: expected 1 to 1000 characters")]
    Missing(&'static str),
}
