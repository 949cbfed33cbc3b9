//! What a person has looked at who lets something pass.
//!
//! Contract: whoever waives or acknowledges names the [`mark`] of what was shown, and nothing is decided if another one
//! holds by then ([`Refusal::OtherThings`]). Between looking and stating the record goes on: somebody else lets the step
//! pass, or has it tried again, and within seconds the next one is parked. "It is gone, I have looked" about the one would
//! count as evidence of the other. The mark is compared under the lock under which it is decided, so that no race is left.
//!
//! A retry names none: it states nothing, whatever it sets going is looked at anew and may be stopped again. A rescue
//! names none: it is about the whole resource, and is refused as soon as a step might take anything of it.
use serde_json::{Value, json};

use super::{Refusal, drift, notice};
use crate::deletion::{Deletion, RecordStatus};
use crate::job::{Job, JobState};
use crate::targets;

/// What tells that which a person has to look at from anything else that it may come to: the job that is parked, its step
/// and the reason; or else what was said of a notice having come back. None if there is nothing to look at.
///
/// If it is parked for what has appeared, it is the mark that the reason itself names in brackets.
pub fn mark(deletion: &Deletion) -> Option<String> {
    if let Some((job, reason)) = parked(deletion) {
        let step = deletion.step_at(job).map(|(_, _, step)| step.name.as_str());
        let appeared = step.and_then(|step| drift::marked(step, reason));
        let stands = || of(deletion, &json!([job.kind.to_string(), step, reason]));
        return Some(appeared.map_or_else(stands, str::to_owned));
    }
    let back = notice::came_back(deletion).filter(|_| deletion.status == RecordStatus::Live);
    back.map(|said| of(deletion, &json!(["came back", said])))
}

/// The job that is parked, and why.
fn parked(deletion: &Deletion) -> Option<(&Job, &str)> {
    deletion.jobs.iter().find_map(|job| match &job.state {
        JobState::Parked { reason } => Some((job, reason.as_str())),
        JobState::Scheduled { .. }
        | JobState::Held { .. }
        | JobState::Ready { .. }
        | JobState::Running(_)
        | JobState::Waiting { .. }
        | JobState::Cancelling(_)
        | JobState::Done
        | JobState::Cancelled
        | JobState::Rescued => None,
    })
}

/// No mark of one record is one of another.
fn of(deletion: &Deletion, what: &Value) -> String {
    targets::mark(&json!([deletion.id.to_string(), what]))
}

/// That what stands there is what was looked at.
pub(super) fn same(deletion: &Deletion, seen: &str) -> Result<(), Refusal> {
    let mark = mark(deletion).ok_or(Refusal::NothingParked)?;
    if mark == seen { Ok(()) } else { Err(Refusal::OtherThings { mark }) }
}
