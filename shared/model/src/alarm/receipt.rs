//! A purge without a receipt: nobody can show that anything is gone.
use crate::alarm::{Alarm, AlarmKind, Subject};
use crate::id::{DeletionId, ResourceId, Scope};

/// That a purge is over, and no receipt can be drawn up of it. `whose`: what it purged, if that can be read.
pub fn lacking(deletion: DeletionId, whose: Option<(ResourceId, Scope)>, why: &str) -> Alarm {
    let text = format!("{deletion} is purged and has no receipt: {why}");
    let todo = format!(
        "look at what sexton show {deletion} says was done, and whether it is gone; sexton verify says whether somebody has rewritten \
         the audit trail; the receipt is tried again with each round"
    );
    let (scope, subject) = match whose {
        Some((resource, scope)) => (Some(scope), Subject::Deletion { deletion, resource }),
        None => (None, Subject::Ledger),
    };
    Alarm::new(AlarmKind::NoReceipt, scope, subject, text, todo)
}
