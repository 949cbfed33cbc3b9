//! What it means that something has appeared since the targets were pinned.
//!
//! Steps touch pinned targets and nothing else, so whatever appeared would stay behind. What can be made again is told
//! and left alone. What cannot, a volume, stops the job before the stage has touched anything: a person has it removed
//! and tries again, states that it belongs to the deletion, lets the step pass, or cancels. Invariant: by itself nothing
//! ever joins the targets but what the plan declares *rolling*, and that only at hard, when the resource is off.
use serde_json::{Value, json};

use super::dispatch::{advance, go_on, park};
use super::{Change, Draft};
use crate::deletion::WaiverClaim;
use crate::id::Instance;
use crate::job::{Job, Stage};
use crate::plan::Step;
use crate::targets::{NAMED_MAX, listed, mark, named, under};

/// Targets were read again at the step `index` of `stage`.
pub(super) fn reread(
    draft: &mut Draft<'_>,
    mut job: Job,
    (stage, index): (Stage, u16),
    step: &Step,
    appeared: &Value,
) {
    let Some(instance) = draft.deletion.instance_for(step) else { return go_on(draft, job) };
    // Until the resource is off they grow by themselves; afterwards that they still do is news.
    let rolls = |key: &str| match stage {
        Stage::Announce | Stage::Soft | Stage::Hard => listed_in(&step.rolling, key),
        Stage::Purge | Stage::Recycle => false,
    };
    let mut joins = under(appeared, |key| stage == Stage::Hard && rolls(key));
    let drift = under(appeared, |key| !rolls(key));
    if let Some(lost) = under(appeared, |key| listed_in(&step.irreplaceable, key)) {
        let reason = stopped(step, stage, &instance, &lost);
        if !belongs(draft, (stage, index), &reason) {
            // What stops it comes first: a person has to see all of that.
            note(draft, Some(&lost));
            let rest = under(appeared, |key| !rolls(key) && !listed_in(&step.irreplaceable, key));
            note(draft, rest.as_ref());
            return park(draft, job, reason);
        }
        joins =
            under(appeared, |key| listed_in(&step.irreplaceable, key) || stage == Stage::Hard && rolls(key));
    }
    note(draft, drift.as_ref());
    if let Some(drift) = drift {
        draft.happened("drift", format!("{}: {instance}: {}", step.name, named(&drift).join("; ")));
    }
    if let Some(value) = joins {
        draft.change(Change::Targets { instance, value, join: true });
    }
    advance(&mut job);
    go_on(draft, job);
}

fn listed_in(keys: &[String], key: &str) -> bool {
    keys.iter().any(|k| k == key)
}

/// Why the job stops, and what a person can do. The same words for the same things at the same step, and others for any
/// others: a statement about them is held against it.
fn stopped(step: &Step, stage: Stage, instance: &Instance, lost: &Value) -> String {
    let names = named(lost);
    let all = if names.len() > NAMED_MAX { ALL } else { "" };
    let wanted = match stage {
        Stage::Announce | Stage::Soft => "; or cancel, and all of it comes back",
        Stage::Hard => {
            ". Cancel is over; until purge begins the resource can be saved by hand, and the deletion ended by a rescue"
        }
        Stage::Purge | Stage::Recycle => ". Cancel and rescue are over",
    };
    format!(
        "{}{SINCE}{instance}: {} [{}{UNTOUCHED}{all} Have it removed from there and retry; or state that it belongs to \
         the deletion (waive as \"belongs\", with the mark in brackets), and it is deleted with the rest; or let it be \
         (waive as \"may remain\"), and the name stays taken until it is gone{wanted}",
        step.name,
        names.join("; "),
        mark(&json!([stage.word(), step.name, instance.to_string(), lost]))
    )
}

/// Said if not all of it is named: the mark is of all.
const ALL: &str =
    " The mark is of all of it: `sexton show` lists it, look at that before you state anything.";

const SINCE: &str = ": since the targets were pinned there has appeared at ";
const UNTOUCHED: &str = "]. It is not among what is deleted, and nothing of this stage has been touched.";

/// The mark of what the step has shown, if that is why it is parked. What a subsystem says cannot imitate it: the name of
/// the step comes first, and names of things stand before the last brackets.
pub(super) fn marked<'r>(step: &str, reason: &'r str) -> Option<&'r str> {
    let (shown, _) = reason.strip_prefix(step)?.strip_prefix(SINCE)?.rsplit_once(UNTOUCHED)?;
    shown.rsplit_once(" [").map(|(_, mark)| mark)
}

/// Whether a person has stated that exactly this belongs to the deletion.
fn belongs(draft: &Draft<'_>, (stage, index): (Stage, u16), reason: &str) -> bool {
    draft.deletion.waivers.iter().any(|waiver| {
        waiver.claim == WaiverClaim::Belongs
            && waiver.slot == stage.index()
            && waiver.step == index
            && waiver.shown.as_deref() == Some(reason)
    })
}

/// Keep in the trail what appeared, all of it.
fn note(draft: &mut Draft<'_>, drift: Option<&Value>) {
    if let (Some(audit), Some(drift)) = (&mut draft.audit, drift) {
        audit.drift.extend(listed(drift));
    }
}
