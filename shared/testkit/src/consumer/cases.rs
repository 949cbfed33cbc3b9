//! The cases, and which of them an action of each nature must stand.
use sexton_consumer::Verdict;
use sexton_model::ActionName;
use sexton_model::catalogue::{Action, Nature};
use sexton_model::step::{Mode, Outcome, Presence, RetryClass};

use super::bench::{Bench, refused, retried};
use super::fault::Fault;
use super::{CannotBe, FENCE_AT_TARGET, Fixture, asleep, broker, looks, reread};

/// One promise, put to the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    LooksOnly,
    LooksAgain,
    Twice,
    FailsBefore,
    AnswerLost,
    Panics,
    UndoIsExact,
    UndoAfterLostAnswer,
    CapturedAgain,
    CapturedLate,
    UndoFails,
    UndoOfNothing,
    WrongIdentity,
    UndoOfAnother,
    GoneByHand,
    PlaceLost,
    VerifyIsHonest,
    VerifyOfAnother,
    OldFence,
    FenceAtTarget,
    Expired,
    StaleBeacon,
    Paused,
    SleptPastTheLease,
    UndoSlept,
    SleptUnderPermit,
    UndoSleptUnderPermit,
    Tampered,
    WrongKey,
    Reread,
    RereadOfAnother,
    RereadOfNothing,
    RereadElsewhere,
    NamedElsewhere,
    SomethingNew,
}

/// What an action of `nature` must stand, of a subsystem that compares places by name, or does not.
pub(super) fn of(nature: Nature, compares_place: bool) -> Vec<Case> {
    use Case::*;
    // The SDK compares no identity for a check: that is the driver's own.
    let mut cases = vec![WrongIdentity, OldFence, Expired, StaleBeacon, Paused, Tampered, WrongKey];
    match nature {
        Nature::Inspect => {
            cases.extend([LooksOnly, LooksAgain]);
            cases.extend([Reread, RereadOfAnother, RereadOfNothing, RereadElsewhere, SomethingNew]);
            cases.extend(compares_place.then_some(NamedElsewhere));
        }
        // It comes after a step that saw the resource, and before what relies on it.
        Nature::Check => cases.extend([LooksOnly, LooksAgain, GoneByHand, PlaceLost]),
        Nature::Adds | Nature::Reversible | Nature::Destructive => {
            cases.extend([Twice, FailsBefore, AnswerLost, Panics, SleptPastTheLease, GoneByHand]);
            cases.push(FenceAtTarget);
            cases.push(SleptUnderPermit);
        }
    }
    if nature == Nature::Destructive {
        cases.push(PlaceLost);
    }
    if nature == Nature::Reversible {
        cases.extend([UndoIsExact, UndoAfterLostAnswer, UndoFails, UndoOfNothing, UndoOfAnother, UndoSlept]);
        cases.extend([CapturedAgain, CapturedLate, VerifyIsHonest, VerifyOfAnother, UndoSleptUnderPermit]);
    }
    cases
}

impl Case {
    /// What is promised.
    pub(super) fn promise(self) -> &'static str {
        match self {
            Self::LooksOnly => "looking changes nothing, and twice finds the same",
            Self::LooksAgain => {
                "a look that failed, or whose answer was lost, is repeated and finds the same"
            }
            Self::Twice => "performed twice is the same as once",
            Self::FailsBefore => "failed before the effect, then tried again",
            Self::AnswerLost => "failed after the effect, then tried again",
            Self::Panics => "panicked after the effect, then tried again",
            Self::UndoIsExact => "an undo restores the exact world, twice too",
            Self::UndoAfterLostAnswer => "an undo is exact though the answer was lost and the step repeated",
            Self::CapturedAgain => "a capture that failed, or whose answer was lost, is repeated",
            Self::CapturedLate => {
                "a capture repeated after the effect does not spoil the manifest that counts"
            }
            Self::UndoFails => "an undo that failed is repeated",
            Self::UndoOfNothing => "an undo of what was never done changes nothing",
            Self::WrongIdentity => "another identity is refused",
            Self::UndoOfAnother => "another identity is not undone",
            Self::GoneByHand => "gone already: done if that was wanted, refused before hard",
            Self::PlaceLost => "what is not seen in another place is not gone",
            Self::VerifyIsHonest => "verifying an undo that never was does not say that it holds",
            Self::VerifyOfAnother => "of another identity it is not said that its undo holds",
            Self::OldFence => "an order with an old fence changes nothing",
            Self::FenceAtTarget => FENCE_AT_TARGET,
            Self::Expired => "an expired order changes nothing",
            Self::StaleBeacon => "without a fresh beacon nothing is done",
            Self::Paused => "under a pause nothing is done",
            Self::SleptPastTheLease => "slept past the lease between look and change: nothing is done",
            Self::UndoSlept => "slept past the lease before an undo: nothing is done",
            Self::SleptUnderPermit => "slept under its permit: nothing is done, and a later order does it",
            Self::UndoSleptUnderPermit => {
                "slept under the permit of an undo: nothing is done, and a later order does it"
            }
            Self::Tampered => "an altered order is rejected",
            Self::WrongKey => "an order under another key is rejected",
            Self::Reread => "reading targets again finds nothing new and changes nothing, however often",
            Self::RereadOfAnother => "another identity is refused when targets are read again",
            Self::RereadOfNothing => {
                "gone when targets are read again: nothing new, and not absent before hard"
            }
            Self::RereadElsewhere => "what is seen in another place is not the resource's",
            Self::NamedElsewhere => {
                "what is pinned in a place of another name is refused because of that name"
            }
            Self::SomethingNew => "something that was not there when targets were pinned is reported",
        }
    }
}

/// Put it to the test. Gives back why it could not be, if so.
pub(super) async fn run(
    fixture: &dyn Fixture,
    name: &ActionName,
    action: &Action,
    case: Case,
) -> Result<Option<CannotBe>, String> {
    let bench = Bench::new(fixture, name, action).await?;
    let kept = match case {
        Case::LooksOnly => looks::twice(&bench).await,
        Case::LooksAgain => looks::again(&bench).await,
        Case::Twice => twice(&bench).await,
        Case::FailsBefore => again_after(&bench, Fault::BeforeEffect).await,
        Case::AnswerLost => again_after(&bench, Fault::AfterEffect).await,
        Case::Panics => again_after(&bench, Fault::PanicAfterEffect).await,
        Case::UndoIsExact => undo(&bench, None, None).await,
        Case::UndoAfterLostAnswer => undo(&bench, Some(Fault::AfterEffect), None).await,
        Case::CapturedAgain => looks::captured_again(&bench).await,
        Case::CapturedLate => looks::captured_late(&bench).await,
        Case::UndoFails => {
            undo(&bench, None, Some(Fault::BeforeEffect)).await?;
            let bench = Bench::new(fixture, name, action).await?;
            undo(&bench, None, Some(Fault::AfterEffect)).await
        }
        Case::UndoOfNothing => {
            let manifest = bench.capture().await?;
            bench.succeed(Mode::Undo, manifest.as_ref()).await?;
            bench.unchanged("an undo of nothing").await
        }
        Case::WrongIdentity => wrong_identity(&bench).await,
        Case::UndoOfAnother => {
            let manifest = bench.capture().await?;
            bench.succeed(Mode::Perform, manifest.as_ref()).await?;
            bench.world.other_identity().await;
            let other = bench.world.snapshot().await;
            refused(&bench.give(&bench.order(Mode::Undo, manifest.as_ref()), None).await)?;
            bench.is(&other, "a refused undo").await
        }
        Case::GoneByHand => gone(&bench).await,
        Case::PlaceLost => return place_lost(&bench).await,
        Case::VerifyIsHonest => {
            let manifest = bench.capture().await?;
            bench.succeed(Mode::Perform, manifest.as_ref()).await?;
            let done = bench.world.snapshot().await;
            match bench.give(&bench.order(Mode::Verify, manifest.as_ref()), None).await {
                Verdict::Answer(Outcome::Done { evidence, .. }) => Err(format!("it says: {evidence}")),
                _ => bench.is(&done, "verifying").await,
            }
        }
        Case::VerifyOfAnother => {
            let manifest = bench.capture().await?;
            bench.succeed(Mode::Perform, manifest.as_ref()).await?;
            bench.succeed(Mode::Undo, manifest.as_ref()).await?;
            bench.world.other_identity().await;
            let other = bench.world.snapshot().await;
            refused(&bench.give(&bench.order(Mode::Verify, manifest.as_ref()), None).await)?;
            bench.is(&other, "verifying").await
        }
        Case::FenceAtTarget => return fence_at_target(&bench).await,
        Case::OldFence | Case::Expired | Case::StaleBeacon | Case::Paused => not_now(&bench, case).await,
        Case::SleptPastTheLease => {
            let manifest = bench.capture().await?;
            slept(&bench, Mode::Perform, manifest).await
        }
        Case::UndoSlept => {
            let manifest = bench.capture().await?;
            bench.succeed(Mode::Perform, manifest.as_ref()).await?;
            slept(&bench, Mode::Undo, manifest).await
        }
        Case::SleptUnderPermit => asleep::perform(&bench).await,
        Case::UndoSleptUnderPermit => asleep::undo(&bench).await,
        Case::Tampered => broker::rejected(&bench, broker::Forgery::Tampered).await,
        Case::WrongKey => broker::rejected(&bench, broker::Forgery::WrongKey).await,
        Case::Reread => reread::nothing_new(bench).await,
        Case::RereadOfAnother => reread::another(bench).await,
        Case::RereadOfNothing => reread::gone(bench).await,
        Case::RereadElsewhere => return reread::elsewhere(bench).await,
        Case::NamedElsewhere => reread::named_elsewhere(bench, &fixture.actions().compares_place).await,
        Case::SomethingNew => reread::something_new(bench).await,
    };
    kept.map(|()| None)
}

async fn twice(bench: &Bench<'_>) -> Result<(), String> {
    let manifest = bench.capture().await?;
    bench.succeed(Mode::Perform, manifest.as_ref()).await?;
    let once = bench.world.snapshot().await;
    if once == bench.before {
        return Err("it was done, and nothing has changed".into());
    }
    bench.succeed(Mode::Perform, manifest.as_ref()).await?;
    bench.is(&once, "the second time").await?;
    // The broker may deliver the very same order again, too.
    let order = bench.order(Mode::Perform, manifest.as_ref());
    let performer = bench.performer(None);
    for _ in 0..2 {
        match performer.perform_order(&order).await {
            Verdict::Answer(Outcome::Done { .. }) => {}
            other => return Err(format!("the same order again was not done: {other:?}")),
        }
    }
    bench.is(&once, "the same order again").await
}

async fn again_after(bench: &Bench<'_>, fault: Fault) -> Result<(), String> {
    let reference = Bench::new(bench.fixture, bench.name, bench.action).await?;
    let manifest = reference.capture().await?;
    reference.succeed(Mode::Perform, manifest.as_ref()).await?;
    let wanted = reference.world.snapshot().await;

    let manifest = bench.capture().await?;
    let verdict = bench.give(&bench.order(Mode::Perform, manifest.as_ref()), Some(fault)).await;
    retried(&verdict, RetryClass::Failed)?;
    if fault == Fault::BeforeEffect {
        bench.unchanged("a failure before the effect").await?;
    }
    bench.pass(1_000);
    bench.succeed(Mode::Perform, manifest.as_ref()).await?;
    bench.is(&wanted, "trying again").await
}

async fn undo(bench: &Bench<'_>, performing: Option<Fault>, undoing: Option<Fault>) -> Result<(), String> {
    let manifest = bench.capture().await?;
    if performing.is_some() {
        let verdict = bench.give(&bench.order(Mode::Perform, manifest.as_ref()), performing).await;
        retried(&verdict, RetryClass::Failed)?;
    }
    bench.succeed(Mode::Perform, manifest.as_ref()).await?;
    if undoing.is_some() {
        let verdict = bench.give(&bench.order(Mode::Undo, manifest.as_ref()), undoing).await;
        retried(&verdict, RetryClass::Failed)?;
    }
    take_back(bench, manifest.as_ref()).await
}

/// Undo it, twice: either time everything is as it was.
pub(super) async fn take_back(bench: &Bench<'_>, manifest: Option<&serde_json::Value>) -> Result<(), String> {
    for time in ["an undo", "a second undo"] {
        bench.succeed(Mode::Undo, manifest).await?;
        bench.unchanged(time).await?;
    }
    bench.succeed(Mode::Verify, manifest).await?;
    bench.unchanged("verifying").await
}

async fn wrong_identity(bench: &Bench<'_>) -> Result<(), String> {
    let manifest = bench.capture().await?;
    bench.world.other_identity().await;
    let other = bench.world.snapshot().await;
    let mut modes = vec![bench.mode()];
    if bench.action.nature.captures() {
        modes.push(Mode::Capture);
    }
    for mode in modes {
        refused(&bench.give(&bench.order(mode, manifest.as_ref()), None).await)?;
        bench.is(&other, "a refusal").await?;
    }
    Ok(())
}

async fn gone(bench: &Bench<'_>) -> Result<(), String> {
    let manifest = bench.capture().await?;
    bench.world.make_absent().await;
    let without = bench.world.snapshot().await;
    let verdict = bench.give(&bench.order(Mode::Perform, manifest.as_ref()), None).await;
    if bench.action.nature != Nature::Destructive {
        refused(&verdict)?;
        return bench.is(&without, "a refusal").await;
    }
    match verdict {
        Verdict::Answer(Outcome::Done { presence: Presence::Absent, evidence, .. })
            if !evidence.is_empty() =>
        {
            bench.is(&without, "finding it gone").await
        }
        other => Err(format!("gone already, and yet: {other:?}")),
    }
}

async fn place_lost(bench: &Bench<'_>) -> Result<Option<CannotBe>, String> {
    if let Err(why) = bench.world.lose_place().await {
        return Ok(Some(why));
    }
    let lost = bench.world.snapshot().await;
    match bench.give(&bench.order(Mode::Perform, None), None).await {
        Verdict::Answer(Outcome::Done { evidence, .. }) => Err(format!("it says: {evidence}")),
        _ => bench.is(&lost, "looking in another place").await.map(|()| None),
    }
}

async fn not_now(bench: &Bench<'_>, case: Case) -> Result<(), String> {
    let manifest = bench.capture().await?;
    let mut order = bench.order(bench.mode(), manifest.as_ref());
    let performer = bench.performer(None);
    let verdict = match case {
        Case::OldFence => {
            let later = bench.order(bench.mode(), manifest.as_ref());
            performer.perform_order(&later).await;
            let after_later = bench.world.snapshot().await;
            let verdict = performer.perform_order(&order).await;
            bench.is(&after_later, "a stale order").await?;
            return match verdict {
                Verdict::Stale(_) => Ok(()),
                other => Err(format!("was not dropped as stale: {other:?}")),
            };
        }
        Case::Expired => {
            order.deadline = bench.past();
            performer.perform_order(&order).await
        }
        Case::Paused => {
            order.revision -= 1;
            performer.perform_order(&order).await
        }
        _ => {
            order.deadline = order.deadline.plus_ms(60_000);
            bench.clock.advance(5_001);
            performer.perform_order(&order).await
        }
    };
    bench.unchanged("an order that must not be carried out").await?;
    match (case, &verdict) {
        (Case::Expired, Verdict::Expired(_)) => Ok(()),
        _ => retried(&verdict, RetryClass::Spared),
    }
}

/// Every order goes to a consumer that was just started, so only the target itself can know of later ones.
async fn fence_at_target(bench: &Bench<'_>) -> Result<Option<CannotBe>, String> {
    let manifest = bench.capture().await?;
    let old = bench.order(Mode::Perform, manifest.as_ref());
    let later = bench.order(Mode::Perform, manifest.as_ref());
    if let Err(why) = bench.world.raise_fence(later.fence).await {
        return Ok(Some(why));
    }
    refused(&bench.give(&old, None).await)?;
    bench.unchanged("an order older than its target's fence").await?;
    if bench.action.nature != Nature::Reversible {
        return Ok(None);
    }
    // The step sleeps, its undo comes, whether there was anything to undo or not, and then the step wakes up.
    for performed in [false, true] {
        let bench = Bench::new(bench.fixture, bench.name, bench.action).await?;
        let manifest = bench.capture().await?;
        let old = bench.order(Mode::Perform, manifest.as_ref());
        if performed {
            bench.succeed(Mode::Perform, manifest.as_ref()).await?;
        }
        bench.succeed(Mode::Undo, manifest.as_ref()).await?;
        refused(&bench.give(&old, None).await).map_err(|e| format!("an order from before the undo {e}"))?;
        bench.unchanged("an order from before the undo").await?;
    }
    let bench = Bench::new(bench.fixture, bench.name, bench.action).await?;
    let manifest = bench.capture().await?;
    let old = bench.order(Mode::Undo, manifest.as_ref());
    bench.succeed(Mode::Perform, manifest.as_ref()).await?;
    let performed = bench.world.snapshot().await;
    refused(&bench.give(&old, None).await).map_err(|e| format!("an old undo {e}"))?;
    bench.is(&performed, "an old undo").await.map(|()| None)
}

async fn slept(bench: &Bench<'_>, mode: Mode, manifest: Option<serde_json::Value>) -> Result<(), String> {
    let before = bench.world.snapshot().await;
    let nap = Fault::SleepAfterFind(bench.action.deadline_ms + bench.action.longest_call_ms + 10_000);
    let verdict = bench.give(&bench.order(mode, manifest.as_ref()), Some(nap)).await;
    bench.is(&before, "sleeping past the lease").await?;
    match verdict {
        Verdict::Answer(Outcome::Retry { .. }) => Ok(()),
        other => Err(format!("was not answered with retry: {other:?}")),
    }
}
