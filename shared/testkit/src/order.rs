//! A good order, as a coordinator would give it.
use sexton_model::catalogue::Action;
use sexton_model::job::{JobKind, Stage};
use sexton_model::step::Mode;
use sexton_model::{ActionName, DeletionId, Fence, Instance, JobId, Timestamp};
use sexton_protocol::Order;

use crate::consumer::Template;

/// The epoch of all orders and beacons.
pub const EPOCH: u32 = 1;
/// The pause revision of all orders and beacons.
pub const REVISION: i64 = 7;
/// The deletion that all orders are about.
const DELETION: DeletionId = DeletionId(17);

/// Which step is asked, of whom.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Of this instance.
    pub instance: &'a Instance,
    /// This action,
    pub name: &'a ActionName,
    /// which its catalogue describes so,
    pub action: &'a Action,
    /// and this part of it.
    pub mode: Mode,
}

/// The order for it under this fence, without a manifest, in the first stage where the action may stand, due from
/// `now` on.
pub fn order(asked: &Asked<'_>, about: Template, number: i64, now: Timestamp) -> Order {
    let Asked { instance, name, action, mode } = asked;
    let kind = match mode {
        Mode::Undo | Mode::Verify => JobKind::Restore,
        Mode::Inspect | Mode::Capture | Mode::Perform => JobKind::Stage(action.earliest),
        Mode::Reread => JobKind::Stage(Stage::Soft),
    };
    Order {
        job: JobId::of(DELETION, kind.slot()),
        deletion: DELETION,
        resource: about.resource,
        kind,
        step: 0,
        instance: (*instance).clone(),
        action: (*name).clone(),
        mode: *mode,
        nature: action.nature,
        identity: about.identity,
        attributes: about.attributes,
        targets: about.targets.unwrap_or_default(),
        manifest: None,
        params: about.params,
        fence: Fence { epoch: EPOCH, number },
        revision: REVISION,
        issued_at: now,
        deadline: now.plus_ms(action.deadline_ms),
        longest_call_ms: action.longest_call_ms,
        long: action.long,
        attempt: 0,
    }
}
