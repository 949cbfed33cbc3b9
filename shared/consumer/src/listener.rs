//! Listens to what the coordinators broadcast: beacons for everyone, extensions for one step each.
//!
//! What is neither is counted each time and stops nothing. Every copy of every consumer hears it, so of each check each copy
//! shows people the first one of a minute only. It hears on meanwhile: the broker may be slow to confirm that it is shown.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sexton_bus::{Delivery, Queue, Subscription};
use sexton_protocol::{BeaconVerifier, Broadcast, Check, DecodeError, Extension, Message, Pack, Rejected};
use tokio::sync::{Notify, broadcast};

use crate::courier::Post;
use crate::hearing::Hearing;

/// Extensions a slow step may fall behind by; the next progress asks for another one.
const EXTENSIONS_MAX: usize = 256;
/// For so many milliseconds nothing more is shown that fails at the same check: what is said on the beacon's exchange
/// every second would push everything else out of the queue that people read.
const SHOWN_EVERY_MS: u64 = 60_000;

/// Where the beacon's fanout ends.
pub(crate) struct Listener {
    verifier: BeaconVerifier,
    hearing: Arc<Hearing>,
    post: Arc<Post>,
    extensions: broadcast::Sender<Extension>,
    unfit: Mutex<Unfit>,
    /// Something is to be shown.
    added: Notify,
}

/// What was heard and is not accepted, by the word of its check.
#[derive(Default)]
struct Unfit {
    /// When one was last kept to be shown, by the steady clock.
    kept_at_ms: BTreeMap<&'static str, u64>,
    /// To be shown: one for each check at the most, however long the broker takes.
    waiting: BTreeMap<&'static str, (Check, Rejected)>,
}

impl Listener {
    pub(crate) fn new(verifier: BeaconVerifier, hearing: Arc<Hearing>, post: Arc<Post>) -> Self {
        let extensions = broadcast::channel(EXTENSIONS_MAX).0;
        Self { verifier, hearing, post, extensions, unfit: Mutex::default(), added: Notify::new() }
    }

    pub(crate) fn extensions(&self) -> broadcast::Sender<Extension> {
        self.extensions.clone()
    }

    /// Until a beacon was heard; `false` if the bus was closed before.
    pub(crate) async fn listen_for_one(&self, from: &mut Box<dyn Subscription>) -> bool {
        let one = async {
            while let Some(delivery) = from.next().await {
                self.take(&delivery);
                if self.hearing.beacon_age_ms().is_some() {
                    return true;
                }
            }
            false
        };
        tokio::select! {
            biased;
            heard = one => heard,
            () = self.show() => false,
        }
    }

    /// Until the bus is closed.
    pub(crate) async fn listen(&self, mut from: Box<dyn Subscription>) {
        let all = async {
            while let Some(delivery) = from.next().await {
                self.take(&delivery);
            }
        };
        tokio::select! {
            biased;
            () = all => {}
            () = self.show() => {}
        }
    }

    fn take(&self, delivery: &Delivery) {
        if let Err((check, reason)) = self.hear(delivery) {
            tracing::warn!(why = check.word(), reason, "not a beacon");
            self.post.metrics.rejected("beacon");
            self.keep(check, &reason, delivery);
        }
    }

    fn hear(&self, delivery: &Delivery) -> Result<(), (Check, String)> {
        // Size before proof, as everywhere.
        if delivery.body.len() > Broadcast::PACK_MAX_BYTES {
            return Err((
                Check::Oversized,
                format!("{} bytes, more than a beacon may have", delivery.body.len()),
            ));
        }
        let (key_id, signature) = (delivery.key_id.as_deref(), delivery.mac.as_deref());
        self.verifier
            .verify(Broadcast::DIRECTION, &delivery.body, key_id, signature)
            .map_err(|error| (Check::Unauthenticated, error.to_string()))?;
        let pack = Pack::<Broadcast>::decode(&delivery.body).map_err(|error| match error {
            DecodeError::TooLarge { .. } => (Check::Oversized, error.to_string()),
            DecodeError::Form(_) | DecodeError::Event { .. } => (Check::Malformed, error.to_string()),
        })?;
        for event in pack.events {
            match event.data {
                Broadcast::Beacon(beacon) => {
                    self.hearing.hear(beacon);
                }
                Broadcast::Extension(extension) => {
                    // No long step under way: nobody listens.
                    let _ = self.extensions.send(extension);
                }
            }
        }
        Ok(())
    }

    /// To be shown, if it is the first of its check for a while.
    fn keep(&self, check: Check, reason: &str, delivery: &Delivery) {
        let now_ms = self.post.clock.steady_ms();
        let mut unfit = self.unfit();
        let last_ms = unfit.kept_at_ms.get(check.word());
        if last_ms.is_some_and(|last_ms| now_ms.saturating_sub(*last_ms) < SHOWN_EVERY_MS) {
            return;
        }
        unfit.kept_at_ms.insert(check.word(), now_ms);
        let (queue, user) = (Queue::Beacon.to_string(), delivery.user_id.as_deref());
        // Without its id: one that bears an order's would tell the coordinators that this order was rejected.
        let rejected = Rejected::new(reason, &queue, None, user, &delivery.body);
        unfit.waiting.entry(check.word()).or_insert((check, rejected));
        drop(unfit);
        self.added.notify_one();
    }

    /// Show what is to be shown. Never returns. What was under way when it is dropped is shown by the next call.
    async fn show(&self) {
        loop {
            let first = self.unfit().waiting.first_key_value().map(|(word, kept)| (*word, kept.clone()));
            match first {
                Some((word, (check, rejected))) => {
                    self.post.show(check, rejected).await;
                    self.unfit().waiting.remove(word);
                }
                None => self.added.notified().await,
            }
        }
    }

    fn unfit(&self) -> MutexGuard<'_, Unfit> {
        self.unfit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
