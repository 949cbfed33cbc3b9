//! What has to have happened before a run that finds nothing says anything: that a trouble may come proves nothing unless it
//! did. How often it did is counted by [`Dice`](super::weather::Dice); of what people and accidents do only what had an effect.
use sexton_model::job::Stage;

use super::check::pauses::BESIDE;
use super::hands::{PAST_LEASE, REFUSED_THEN};
use super::platform::pool::GIVEN_ANEW;
use super::platform::{LIE_BELIEVED, LIE_SEEN};
use super::script::{Covers, Fate, Happening, Person, Wish};
use super::weather::Trouble;
use super::world::census::{BELIEVED, BELIEVED_WHEN_DUE, REFUSED};

/// Everything was down for longer than a day, the job table with it.
pub const DOWN_FOR_DAYS: &str = "down for days";
/// A pause was not lifted by who may not let go on at once what it keeps back.
pub const LIFTING_REFUSED: &str = "lifting refused";
/// A batch was not approved by who requested one of it, nor as another set.
pub const APPROVAL_REFUSED: &str = "approval refused";
/// A run in which a machine was recycled while things still happened.
pub const GONE_IN_TIME: &str = "recycled in the storm";
/// A machine was made anew after the one before it was recycled.
pub const MADE_ANEW: &str = "made anew after recycle";

/// A process died in the midst of a request that it carried out.
pub const DIED_MIDWAY: &str = "died midway";
/// Whoever was not answered asked again.
pub const ASKED_AGAIN: &str = "asked again";
/// What was asked again had been done before, as was noted then.
pub const NOTED: &str = "done before";
/// An attempt that was taken for dead, and was not, came to do it when another one had begun: nothing was done.
pub const OVERTAKEN: &str = "overtaken";
/// All keys of requests were forgotten long after a run.
pub const FORGOTTEN: &str = "keys forgotten";
/// Heads of audit chains were signed.
pub const SIGNED: &str = "heads signed";
/// Something was asked for as soon as hard was due.
pub const AT_THE_LAST_MOMENT: &str = "asked at the last moment";
/// A cancel was refused because hard had begun.
pub const TOO_LATE: &str = "too late";

/// What a dozen runs or two meet, whatever their seeds.
const USUAL: [Happening; 28] = [
    Happening::Request(Wish::Delete(0), 0, Fate::Answered),
    Happening::Delete(0, 0),
    Happening::DeleteAll(Person::Ops, 0),
    Happening::Cancel(0),
    Happening::Hold(0),
    Happening::Protect(0, true),
    Happening::Protect(0, false),
    Happening::Pause(Covers::EVERYTHING),
    Happening::Pause(Covers { stage: Some(Stage::Hard), ..Covers::EVERYTHING }),
    Happening::Resume,
    Happening::ChangePlans(0),
    Happening::Start(0),
    Happening::Lock(0, true),
    Happening::KillCoordinator(0, 0),
    Happening::KillConsumer(0, 0),
    Happening::Freeze(0, 0, false),
    Happening::Freeze(0, 0, true),
    Happening::SetClock(0, 0),
    Happening::SetTime(0, false),
    Happening::SetTime(0, true),
    Happening::Drift(0),
    Happening::DriftConsumer(0, 0),
    Happening::Deaf(0),
    Happening::Redeliver,
    Happening::Down(0),
    Happening::Reopen(0),
    Happening::Backup,
    Happening::RestoreBackup,
];
/// What takes budgets.
const WITH_BUDGETS: [Happening; 2] = [Happening::LookAtBatch, Happening::Approve(Person::Auditor)];
/// What takes somebody who counts.
const WITH_CENSUSES: [Happening; 1] = [Happening::TakeCensus(0)];
/// What takes something else before it, that does not come in every run.
const SELDOM: [Happening; 11] = [
    // Only what empties a queue that something waits in counts.
    Happening::Purge,
    Happening::LoseAll,
    Happening::Lift(Covers::EVERYTHING),
    Happening::Release(0),
    Happening::Retry(0),
    Happening::Waive(0, true),
    Happening::Waive(0, false),
    Happening::Recreate(0),
    Happening::Lock(0, false),
    Happening::Undefine(0),
    Happening::AnswerCanary,
];

/// What else people ask for under a key. It counts if it is done.
const REQUESTS: [Happening; 5] = [
    Happening::Request(Wish::Cancel, 0, Fate::Answered),
    Happening::Request(Wish::Hold, 0, Fate::Answered),
    Happening::Request(Wish::Release, 0, Fate::Answered),
    Happening::Request(Wish::Pause(Covers::EVERYTHING), 0, Fate::Answered),
    Happening::Request(Wish::Retry, 0, Fate::Answered),
];
/// And where there are budgets.
const APPROVALS: [Happening; 1] = [Happening::Request(Wish::Approve(Person::Auditor), 0, Fate::Answered)];

/// What has to come in the first seeds.
pub fn usual() -> impl Iterator<Item = &'static str> {
    let troubles = Trouble::ALL.into_iter().filter(|trouble| *trouble != Trouble::Truncate);
    troubles
        .map(Trouble::word)
        .chain([
            LIE_SEEN,
            BESIDE,
            DOWN_FOR_DAYS,
            PAST_LEASE,
            REFUSED_THEN,
            GIVEN_ANEW,
            DIED_MIDWAY,
            ASKED_AGAIN,
        ])
        .chain(words(&USUAL))
}

/// What has to come in seeds with budgets.
pub fn with_budgets() -> impl Iterator<Item = &'static str> {
    words(&WITH_BUDGETS).chain([APPROVAL_REFUSED])
}

/// What has to come in seeds where somebody counts.
pub fn with_censuses() -> impl Iterator<Item = &'static str> {
    words(&WITH_CENSUSES).chain([BELIEVED, REFUSED, Trouble::Truncate.word()])
}

/// What has to come in runs that were made for it.
pub fn seldom() -> impl Iterator<Item = &'static str> {
    words(&SELDOM).chain([GONE_IN_TIME, MADE_ANEW, LIFTING_REFUSED])
}

/// What has to come in runs that were made for requests.
pub fn requests() -> impl Iterator<Item = &'static str> {
    words(&REQUESTS).chain([NOTED, OVERTAKEN, AT_THE_LAST_MOMENT])
}

/// What has to come in runs that were made for requests for approvals.
pub fn approvals() -> impl Iterator<Item = &'static str> {
    words(&APPROVALS).chain([NOTED, DIED_MIDWAY, ASKED_AGAIN])
}

/// What has to come in runs in which coordinators do what has no haste.
pub fn tending() -> impl Iterator<Item = &'static str> {
    [FORGOTTEN, SIGNED, BELIEVED_WHEN_DUE].into_iter()
}

/// Everything that is counted.
pub fn all() -> impl Iterator<Item = &'static str> {
    usual()
        .chain([LIE_BELIEVED, TOO_LATE])
        .chain(with_budgets())
        .chain(with_censuses())
        .chain(seldom())
        .chain(requests())
        .chain(words(&APPROVALS))
        .chain(tending())
}

fn words(happenings: &'static [Happening]) -> impl Iterator<Item = &'static str> {
    happenings.iter().map(|happening| happening.word())
}
