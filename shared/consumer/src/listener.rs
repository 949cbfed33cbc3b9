//! Listens to what the coordinators broadcast: beacons for everyone, extensions for one step each.
use std::sync::Arc;

use sexton_bus::{Delivery, Subscription};
use sexton_protocol::{BeaconVerifier, Broadcast, Extension, Message, Pack};
use tokio::sync::broadcast;

use crate::hearing::Hearing;
use crate::metrics::Metrics;

/// Extensions a slow step may fall behind by; the next progress asks for another one.
const EXTENSIONS_MAX: usize = 256;

/// Where the beacon's fanout ends.
pub(crate) struct Listener {
    verifier: BeaconVerifier,
    hearing: Arc<Hearing>,
    metrics: Arc<Metrics>,
    extensions: broadcast::Sender<Extension>,
}

impl Listener {
    pub(crate) fn new(verifier: BeaconVerifier, hearing: Arc<Hearing>, metrics: Arc<Metrics>) -> Self {
        Self { verifier, hearing, metrics, extensions: broadcast::channel(EXTENSIONS_MAX).0 }
    }

    pub(crate) fn extensions(&self) -> broadcast::Sender<Extension> {
        self.extensions.clone()
    }

    /// Until a beacon was heard; `false` if the bus was closed before.
    pub(crate) async fn listen_for_one(&self, from: &mut Box<dyn Subscription>) -> bool {
        while let Some(delivery) = from.next().await {
            self.take(&delivery);
            if self.hearing.beacon_age_ms().is_some() {
                return true;
            }
        }
        false
    }

    /// Until the bus is closed.
    pub(crate) async fn listen(&self, mut from: Box<dyn Subscription>) {
        while let Some(delivery) = from.next().await {
            self.take(&delivery);
        }
    }

    fn take(&self, delivery: &Delivery) {
        if let Err(reason) = self.hear(delivery) {
            // Every consumer hears it, so it is not published as rejected by each of them.
            tracing::warn!(reason, "not a beacon");
            self.metrics.rejected("beacon");
        }
    }

    fn hear(&self, delivery: &Delivery) -> Result<(), String> {
        let (key_id, signature) = (delivery.key_id.as_deref(), delivery.mac.as_deref());
        self.verifier
            .verify(Broadcast::DIRECTION, &delivery.body, key_id, signature)
            .map_err(|e| e.to_string())?;
        for event in Pack::<Broadcast>::decode(&delivery.body).map_err(|e| e.to_string())?.events {
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
}
