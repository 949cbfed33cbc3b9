//! What people and accidents may do.
use sexton_model::belts::PauseSelector;
use sexton_model::job::Stage;

use super::Person;

/// What a pause covers: whatever fits all that is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Covers {
    /// Only this stage.
    pub stage: Option<Stage>,
    /// Only machines of this kind.
    pub kind: Option<&'static str>,
    /// Only those in this scope, and below it.
    pub scope: Option<&'static str>,
    /// Only steps of this subsystem.
    pub subsystem: Option<&'static str>,
}

impl Covers {
    /// Nothing is given.
    pub const EVERYTHING: Self = Self { stage: None, kind: None, scope: None, subsystem: None };

    /// Whether nothing is given.
    pub const fn everything(self) -> bool {
        matches!(self, Self { stage: None, kind: None, scope: None, subsystem: None })
    }

    /// As Sexton is told.
    pub fn selector(self) -> PauseSelector {
        let Self { stage, kind, scope, subsystem } = self;
        PauseSelector {
            stage,
            kind: kind.map(|kind| kind.parse().unwrap()),
            scope: scope.map(|scope| scope.parse().unwrap()),
            subsystem: subsystem.map(|subsystem| subsystem.parse().unwrap()),
        }
    }
}

/// What people ask for by a request under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// That a machine is to go, in so many milliseconds.
    Delete(u64),
    /// A cancel.
    Cancel,
    /// A hold.
    Hold,
    /// That a hold is released.
    Release,
    /// That so much is paused.
    Pause(Covers),
    /// That a parked job is tried again.
    Retry,
    /// That this one's approval of the batch that was looked at last counts, as it was then.
    Approve(Person),
}

impl Wish {
    /// Its name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Delete(_) => "request a deletion",
            Self::Cancel => "request a cancel",
            Self::Hold => "request a hold",
            Self::Release => "request a release",
            Self::Pause(_) => "request a pause",
            Self::Retry => "request a retry",
            Self::Approve(_) => "request an approval",
        }
    }
}

/// What becomes of the first attempt at a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is answered, as far as nothing else goes wrong.
    Answered,
    /// At the so manyth moment of it, from one on, the process that carries it out dies.
    Dies(u32),
    /// There it is stopped for so long that it is taken for dead, and then goes on.
    Stalls(u32),
}

/// What happens besides what Sexton does by itself. Machines, coordinators and consumers are meant by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// A person states that a machine is to go, in so many milliseconds.
    Delete(usize, u64),
    /// This one states it of all machines at once.
    DeleteAll(Person, u64),
    /// A person cancels.
    Cancel(usize),
    /// A person has a reason not to go on.
    Hold(usize),
    /// That is gone.
    Release(usize),
    /// The platform says that the machine must never be deleted; or that it may be.
    Protect(usize, bool),
    /// So much is paused.
    Pause(Covers),
    /// All pauses are lifted, and a review is accepted.
    Resume,
    /// Pauses of just so much are lifted, and no others.
    Lift(Covers),
    /// A person has a parked job tried again.
    Retry(usize),
    /// A person lets the step of a parked job pass: what it is about is gone, or may remain.
    Waive(usize, bool),
    /// A person asks for this, of a machine if it is about one, until it is answered.
    Request(Wish, usize, Fate),
    /// A person has a census taken of all scopes, or of the one with this number from one on.
    TakeCensus(usize),
    /// A person looks at the oldest batch that waits.
    LookAtBatch,
    /// This one approves the batch that was looked at last, as it was then.
    Approve(Person),
    /// Records are made by another version of the plans from now on.
    ChangePlans(usize),
    /// Somebody makes another machine in the place of this one, without asking anybody.
    Recreate(usize),
    /// Somebody starts a machine by hand.
    Start(usize),
    /// Somebody else begins to use a machine's definition, so that it cannot be removed; or leaves it.
    Lock(usize, bool),
    /// Whoever uses the definition of a machine removes it by hand, once that is what its record waits for.
    Undefine(usize),
    /// Somebody with a consumer's key answers a canary that must not be believed.
    AnswerCanary,
    /// A coordinator dies (SIGKILL), and is started again after so many milliseconds.
    KillCoordinator(usize, u64),
    /// A consumer dies (SIGKILL), and is started again after so many milliseconds.
    KillConsumer(usize, u64),
    /// A consumer is stopped where it stands, and goes on after so many milliseconds; its machine slept if that is set.
    Freeze(usize, u64, bool),
    /// The wall clock of a consumer is set to be so many milliseconds ahead of the truth.
    SetClock(usize, i64),
    /// The same of the job table's clock; of everybody's, if that is set.
    SetTime(i64, bool),
    /// The job table's clock gains so many millionths from now on.
    Drift(i64),
    /// The wall clock of a consumer does.
    DriftConsumer(usize, i64),
    /// No beacon reaches any consumer for so many milliseconds.
    Deaf(u64),
    /// All queues are emptied.
    Purge,
    /// The broker loses every message, also those that it has handed out and that are not acked.
    LoseAll,
    /// The broker forgets what was acked: orders that would still be in their queues come once more.
    Redeliver,
    /// Consumers, coordinators, scheduler and job table are down for so many milliseconds.
    Down(u64),
    /// The process that writes the job table is started anew; coordinators follow after so many milliseconds.
    Reopen(u64),
    /// The job table is copied aside.
    Backup,
    /// The copy is put in its place.
    RestoreBackup,
}

impl Happening {
    /// Its name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Delete(..) => "delete",
            Self::DeleteAll(..) => "delete all",
            Self::Cancel(_) => "cancel",
            Self::Hold(_) => "hold",
            Self::Release(_) => "release",
            Self::Protect(_, true) => "protect",
            Self::Protect(_, false) => "no longer protect",
            Self::Pause(covers) if covers.everything() => "pause",
            Self::Pause(_) => "pause a part",
            Self::Resume => "resume",
            Self::Lift(_) => "lift one pause",
            Self::Retry(_) => "retry",
            Self::Waive(_, true) => "waive as absent",
            Self::Waive(_, false) => "waive as may remain",
            Self::Request(wish, ..) => wish.word(),
            Self::TakeCensus(_) => "take a census",
            Self::LookAtBatch => "look at a batch",
            Self::Approve(_) => "approve",
            Self::ChangePlans(_) => "change plans",
            Self::Recreate(_) => "recreate",
            Self::Start(_) => "start by hand",
            Self::Lock(_, true) => "use",
            Self::Lock(_, false) => "leave",
            Self::Undefine(_) => "undefine by hand",
            Self::AnswerCanary => "answer a canary",
            Self::KillCoordinator(..) => "kill a coordinator",
            Self::KillConsumer(..) => "kill a consumer",
            Self::Freeze(_, _, false) => "freeze",
            Self::Freeze(_, _, true) => "sleep",
            Self::SetClock(..) => "set a consumer's clock",
            Self::SetTime(_, false) => "set the job table's clock",
            Self::SetTime(_, true) => "set all clocks",
            Self::Drift(_) => "drift",
            Self::DriftConsumer(..) => "drift of a consumer",
            Self::Deaf(_) => "no beacon",
            Self::Purge => "purge",
            Self::LoseAll => "lose all messages",
            Self::Redeliver => "deliver once more",
            Self::Down(_) => "everything down",
            Self::Reopen(_) => "reopen",
            Self::Backup => "back up",
            Self::RestoreBackup => "put back",
        }
    }
}
