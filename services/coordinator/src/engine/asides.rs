//! Orders beside the job table: of canaries, surveys and censuses, which belong to no record, and change nothing.
//!
//! Contract: they name the deletion that no record has, so no decision is made about what comes back. They are numbered
//! in the one sequence of all orders, sealed like all of them, and counted by nobody.
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use sexton_bus::{Outgoing, Queue, Target};
use sexton_ledger::LedgerError;
use sexton_model::canary;
use sexton_model::catalogue::Nature;
use sexton_model::job::{JobKind, Stage};
use sexton_model::resource::Identity;
use sexton_model::step::Mode;
use sexton_model::{ActionName, Fence, Instance, JobId, ResourceId, Timestamp};
use sexton_protocol::{Direction, Event as Envelope, Holder, Order, Pack, Packed, Seal};

use super::{Engine, Heard};

/// What such an order asks.
pub(super) struct Asked {
    pub(super) resource: ResourceId,
    pub(super) identity: Identity,
    pub(super) attributes: Value,
    pub(super) action: ActionName,
    pub(super) params: BTreeMap<String, Value>,
    pub(super) longest_call_ms: u64,
    /// What is said to be pinned: it is to be read again then, as it is before soft. None: it is to be looked at as it is at
    /// announce.
    pub(super) pinned: Option<Value>,
}

/// Whom it asks, under which number, and until when.
pub(super) struct Numbered<'a> {
    pub(super) instance: &'a Instance,
    pub(super) step: u16,
    pub(super) fence: Fence,
    pub(super) revision: i64,
    pub(super) issued_at: Timestamp,
    pub(super) deadline: Timestamp,
}

/// An order that changes nothing, whatever becomes of it.
pub(super) fn order(asked: Asked, numbered: &Numbered<'_>) -> Order {
    let (stage, mode, targets) = match asked.pinned {
        None => (Stage::Announce, Mode::Inspect, Value::Null),
        Some(pinned) => (Stage::Soft, Mode::Reread, pinned),
    };
    Order {
        job: JobId::of(canary::DELETION, stage.index()),
        deletion: canary::DELETION,
        resource: asked.resource,
        kind: JobKind::Stage(stage),
        step: numbered.step,
        instance: numbered.instance.clone(),
        action: asked.action,
        mode,
        nature: Nature::Inspect,
        identity: asked.identity,
        attributes: asked.attributes,
        targets,
        manifest: None,
        params: asked.params,
        fence: numbered.fence,
        revision: numbered.revision,
        issued_at: numbered.issued_at,
        deadline: numbered.deadline,
        longest_call_ms: asked.longest_call_ms,
        long: false,
        attempt: 0,
    }
}

impl Engine {
    /// The message that carries it, waiting for so long in its queue; its proof may be exchanged.
    pub(super) fn aside(
        &self,
        order: Order,
        ttl: Duration,
        prove: impl FnOnce(&Holder, Seal, &Packed) -> Option<Seal>,
    ) -> Option<Outgoing> {
        let (instance, fence, issued_at) = (order.instance.clone(), order.fence, order.issued_at);
        let packed = match Pack::one(Envelope::new("/coordinator", issued_at, order)).encode() {
            Ok(packed) => packed,
            Err(error) => {
                tracing::error!(%instance, %fence, %error, "an order of no record cannot be written down");
                return None;
            }
        };
        let holder = Holder::Instance(instance.clone());
        let own = match self.keyring.sign(&holder, Direction::Order, &packed.body) {
            Ok(seal) => seal,
            Err(error) => {
                tracing::error!(%instance, %fence, %error, "an order of no record cannot be sealed");
                return None;
            }
        };
        let seal = prove(&holder, own, &packed)?;
        Some(Outgoing {
            target: Target::Queue(Queue::Orders(instance)),
            body: packed.body,
            key_id: seal.key_id,
            mac: seal.mac,
            message_id: packed.message_id,
            ttl: Some(ttl),
        })
    }

    /// Answers to such orders have come: each finds whose it is by its number.
    ///
    /// Canaries and a survey may look at one resource at once, and no answer is taken for another's: numbers are given once
    /// in an epoch, and both compare number, epoch, and who answers. A run that begins while a survey is open has the higher
    /// numbers, so what consumers have still to do of the survey they drop, and it says what it did not get to see. The other
    /// way round the canaries would prove nothing: so no survey is begun while they are open (`Ledger::begin_survey`).
    pub(super) async fn hear_asides(&self, heard: Vec<Heard>) -> Result<(), LedgerError> {
        let surveyed = self.hear_surveys(&heard).await;
        let listed = self.hear_listings(&heard).await;
        // Whatever became of the others: a canary may have been accepted.
        self.hear_canaries(heard).await.and(surveyed).and(listed)
    }
}
