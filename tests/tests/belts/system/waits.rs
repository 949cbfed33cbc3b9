//! What a test waits for, and what it publishes itself. Nothing is waited for by time alone.
use std::time::Duration;

use sexton_bus::{Bus, Outgoing, Queue, Target};
use sexton_model::DeletionId;
use sexton_model::audit::AuditEvent;
use sexton_model::decide::Event;
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{Job, JobKind, JobState, Stage};
use sexton_model::receipt::Receipt;
use sexton_protocol::receipt::{Opened, open};
use sexton_protocol::{BeaconVerifier, Pack, Packed, Rejected, Seal};

use super::{System, ops};

/// Longest wait for anything: a busy machine is slow, a test that hangs must end.
const PATIENCE: Duration = Duration::from_secs(60);

/// `what` comes true before patience ends.
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Look until it is so, for a bounded time. What is waited for is seen in very different places (job table, queues,
/// the subsystems' own files, the clock), of which none tells anybody; and a system that told its tests would not be
/// the one that runs. Every wait that no gate and no message ends is here.
pub async fn until(what: &str, so: impl AsyncFn() -> bool) {
    in_time(what, async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Publish, as the user whose bus it is.
pub async fn publish(bus: &dyn Bus, to: Queue, packed: Packed, seal: Seal) {
    let message = Outgoing {
        target: Target::Queue(to),
        body: packed.body,
        key_id: seal.key_id,
        mac: seal.mac,
        message_id: packed.message_id,
        ttl: None,
    };
    bus.publish(vec![message]).await.remove(0).unwrap();
}

impl System {
    /// Until the job of `stage` is in a state that `wanted` likes.
    pub async fn until_job(
        &self,
        deletion: DeletionId,
        stage: Stage,
        wanted: impl Fn(&JobState) -> bool,
    ) -> Job {
        let kind = JobKind::Stage(stage);
        until(&format!("{stage} gets there"), async || wanted(&self.job(deletion, kind).await.state)).await;
        self.job(deletion, kind).await
    }

    /// Until the record is over, as `status`.
    pub async fn until_over(&self, deletion: DeletionId, status: RecordStatus) {
        until("the record is over", async || self.view(deletion).await.deletion.status == status).await;
    }

    /// Until so many orders were answered with a reason that contains `text`; what was said then.
    pub async fn until_answered(&self, deletion: DeletionId, text: &str) -> AuditEvent {
        let said = async || {
            let trail = self.view(deletion).await.audit;
            trail.into_iter().map(|row| row.event).find(|event| event.detail.contains(text))
        };
        until(&format!("an answer with {text:?}"), async || said().await.is_some()).await;
        said().await.unwrap()
    }

    /// Until somebody has parked what backs off: while an order is out nobody can.
    pub async fn until_parked(&self, deletion: DeletionId) {
        let park = async || {
            let (by, reason) = (ops(), "somebody has to look".to_owned());
            self.tell(deletion, Event::Park { by, reason }).await.is_ok()
        };
        until("it is parked", park).await;
    }

    /// The mark of what a person has to look at now, if there is anything.
    pub async fn mark(&self, deletion: DeletionId) -> String {
        sexton_model::decide::mark(&self.view(deletion).await.deletion).unwrap_or_default()
    }

    /// Until its receipt is signed; what it says to whoever verifies it with these keys, and has nothing else.
    pub async fn until_receipt(&self, deletion: DeletionId, keys: &BeaconVerifier) -> Receipt {
        let kept = async || self.ledger.receipt(deletion).await.unwrap();
        until("its receipt is signed", async || kept().await.is_some()).await;
        let Opened { receipt, signed, sound } = open(&kept().await.unwrap(), keys).unwrap();
        assert_eq!((signed, sound), (Ok(()), Ok(())));
        receipt
    }

    /// Until consumers have had two beacons: what was to be stopped by the first was stopped.
    pub async fn two_beacons(&self) {
        let mut beacons = self.bus.consume(&Queue::Beacon, 10).await.unwrap();
        for _ in 0..2 {
            in_time("a beacon", beacons.next()).await.unwrap();
        }
    }

    /// Publish as `user`.
    pub async fn send(&self, user: &str, to: Queue, packed: Packed, seal: Seal) {
        publish(&*self.as_user(user), to, packed, seal).await;
    }

    /// Until a message is rejected for a reason that contains `text`.
    pub async fn until_rejected(&self, text: &str) {
        let mut rejected = self.rejected.lock().await;
        let mut others = Vec::new();
        // Pulses may be rejected for ever: what does not come among so many does not come.
        while others.len() < 60 {
            let delivery = in_time(&format!("a rejection with {text:?}"), rejected.next()).await.unwrap();
            rejected.ack(vec![delivery.tag]).await;
            let shown = Pack::<Rejected>::decode(&delivery.body).unwrap();
            let reason = &shown.events[0].data.reason;
            if reason.contains(text) {
                return;
            }
            others.push(reason.clone());
        }
        panic!("no rejection with {text:?}, but {:?}", others.last());
    }
}
