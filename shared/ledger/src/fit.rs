//! Whether what a consumer found still fits into the orders it is to travel with.
//!
//! What a deletion's steps create joins the targets that are pinned, and nobody who answers need know how much that is
//! already. An answer that would make them too large is taken as a refusal: its job parks and says why. Were it taken
//! as it is, no order could ever be given to that instance again.
use std::borrow::Cow;
use std::collections::HashMap;
use std::io;

use serde_json::Value;
use sexton_model::decide::{Event, mode_of};
use sexton_model::deletion::Deletion;
use sexton_model::job::JobState;
use sexton_model::step::{Mode, Outcome, TARGETS_MAX_BYTES};
use sexton_model::{DeletionId, Instance, step, targets};

use crate::Intent;
use crate::batch::Loaded;

/// Targets that are pinned, by deletion and instance.
pub(crate) type Pinned = HashMap<(DeletionId, Instance), Value>;

/// What an event brings that is to be kept, and what becomes of it.
fn finding<'a>(deletion: &Deletion, event: &'a Event) -> Option<(Mode, &'a Instance, &'a Value)> {
    let Event::Outcome { job, from, outcome: Outcome::Done { finding: Some(value), .. }, .. } = event else {
        return None;
    };
    Some((mode_of(deletion, deletion.job(*job)?)?, from, value))
}

/// Where these intents, if they are taken, will join what is pinned.
pub(crate) fn joins(loaded: &Loaded, batch: &[Intent]) -> Vec<(DeletionId, Instance)> {
    let join = |intent: &Intent| {
        let (deletion, _) = loaded.deletions.get(&intent.deletion)?;
        let (mode, at, _) = finding(deletion, &intent.event)?;
        matches!(mode, Mode::Perform | Mode::Reread).then(|| (intent.deletion, at.clone()))
    };
    batch.iter().filter_map(join).collect()
}

/// The event that is to be decided: as it came, or a refusal if what it brings is too large.
pub(crate) fn fitting<'a>(deletion: &Deletion, event: &'a Event, pinned: &Pinned) -> Cow<'a, Event> {
    let Some(reason) = too_large(deletion, event, pinned) else { return Cow::Borrowed(event) };
    match event {
        Event::Outcome { job, from, fence, .. } => {
            let outcome = Outcome::refused(reason);
            Cow::Owned(Event::Outcome { job: *job, from: from.clone(), fence: *fence, outcome })
        }
        other => Cow::Borrowed(other),
    }
}

fn too_large(deletion: &Deletion, event: &Event, pinned: &Pinned) -> Option<String> {
    let (mode, at, value) = finding(deletion, event)?;
    if let Event::Outcome { job, .. } = event
        && deletion.job(*job).is_some_and(|job| matches!(job.state, JobState::Cancelling(_)))
    {
        // The undo has to find what the step created. If that makes its order too large, it parks, and says so.
        return None;
    }
    match mode {
        Mode::Inspect | Mode::Capture => step::too_large(value),
        // Of what has appeared only a part joins, mostly nothing: that all of it would fit is enough, and more is a flood.
        Mode::Perform | Mode::Reread => {
            let bytes = match pinned.get(&(deletion.id, at.clone())) {
                Some(pinned) => size(&targets::join(pinned.clone(), value.clone())),
                None => size(value),
            };
            (bytes > TARGETS_MAX_BYTES).then(|| {
                let new = if mode == Mode::Reread {
                    "with what has appeared"
                } else {
                    "it was done, but with what it created"
                };
                format!(
                    "{new} the targets of {at} take {bytes} bytes, more than the {TARGETS_MAX_BYTES} that travel with an \
                     order: they stay as they were"
                )
            })
        }
        // Nothing of these is kept.
        Mode::Undo | Mode::Verify => None,
    }
}

/// How many bytes of JSON a value is.
fn size(value: &Value) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Neither the value, whose keys are texts, nor the counter can fail.
    serde_json::to_writer(&mut count, value).map_or(usize::MAX, |()| count.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_what_is_written() {
        for value in [serde_json::json!({"a": [1, "ä\n", null]}), Value::Null, Value::String("x".repeat(9))]
        {
            assert_eq!(size(&value), value.to_string().len());
        }
    }
}
