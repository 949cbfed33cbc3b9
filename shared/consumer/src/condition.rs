//! Whether a consumer could carry out an order now, for the health page.
use std::sync::Arc;

use async_trait::async_trait;
use sexton_bus::Bus;
use sexton_model::Instance;
use sexton_model::beacon::FRESH_MS;
use sexton_service::Watched;

use crate::metrics::Metrics;
use crate::sandbox::Sandbox;

/// One consumer, watched from outside.
pub struct Condition {
    /// Whose.
    pub instance: Instance,
    /// What it has heard and done.
    pub metrics: Arc<Metrics>,
    /// What it hears and answers through.
    pub bus: Arc<dyn Bus>,
    /// The sandbox it works on, if it works on one: without its mark nothing can be done there.
    pub sandbox: Option<Sandbox>,
}

#[async_trait]
impl Watched for Condition {
    async fn hindered(&self) -> Vec<String> {
        let name = &self.instance;
        let mut reasons = Vec::new();
        if let Err(error) = self.bus.healthy().await {
            reasons.push(format!("{name}: {error}"));
        }
        match self.metrics.beacon_age_ms() {
            None => reasons.push(format!("{name}: no beacon was heard yet, so no orders are taken")),
            Some(age_ms) if age_ms > FRESH_MS => {
                let age_s = age_ms / 1_000;
                reasons.push(format!("{name}: no beacon for {age_s} s, so nothing is done"));
            }
            Some(_) => {}
        }
        if let Some(Err(why)) = self.sandbox.as_ref().map(Sandbox::place) {
            reasons.push(format!("{name}: {why}, so nothing is done there"));
        }
        reasons
    }
}
