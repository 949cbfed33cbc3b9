//! What is in force for many deletions at once, or let one pass it: pauses, ceilings, batches, overrides.
use reqwest::Method;
use sexton_model::belts::Pause;
use sexton_model::belts::ceiling::ScopeCeiling;
use sexton_model::belts::one_shot::OneShot;

use super::{Client, ClientError};
use crate::batches::{
    ApproveRequest, Approved, BatchDetails, BatchInfo, OverrideRequest, ResumeQuery, StoppedDetails,
};
use crate::in_force::{CeilingInfo, CeilingQuery, CeilingRequest, PauseRequest, PauseResponse};

impl Client {
    /// Pauses in force.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn pauses(&self) -> Result<Vec<Pause>, ClientError> {
        self.send("listing pauses", self.request(Method::GET, "/v1/pauses")).await
    }

    /// Pause.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn pause(&self, body: &PauseRequest) -> Result<PauseResponse, ClientError> {
        self.post("pausing", "/v1/pauses", body).await
    }

    /// What would go on if a pause were lifted.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn stopped_by(&self, pause: i64) -> Result<StoppedDetails, ClientError> {
        let path = format!("/v1/pauses/{pause}/stopped");
        self.send("looking what a pause stops", self.request(Method::GET, &path)).await
    }

    /// Lift a pause.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn resume(&self, pause: i64, query: ResumeQuery) -> Result<serde_json::Value, ClientError> {
        let request = self.request(Method::DELETE, &format!("/v1/pauses/{pause}")).query(&query);
        self.change("lifting a pause", request).await
    }

    /// How far deletions may go.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn ceilings(&self) -> Result<Vec<ScopeCeiling>, ClientError> {
        self.send("listing ceilings", self.request(Method::GET, "/v1/ceilings")).await
    }

    /// What would go on under another ceiling.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn stopped_by_ceiling(&self, query: &CeilingQuery) -> Result<StoppedDetails, ClientError> {
        let request = self.request(Method::GET, "/v1/ceilings/stopped").query(query);
        self.send("looking what a ceiling stops", request).await
    }

    /// Set a ceiling; all of them as they are then.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn set_ceiling(&self, body: &CeilingRequest) -> Result<Vec<CeilingInfo>, ClientError> {
        self.post("setting a ceiling", "/v1/ceilings", body).await
    }

    /// Batches that exceed a budget.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn batches(&self) -> Result<Vec<BatchInfo>, ClientError> {
        self.send("listing batches", self.request(Method::GET, "/v1/batches")).await
    }

    /// One of them, with its members.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn batch(&self, batch: i64) -> Result<BatchDetails, ClientError> {
        self.send("reading a batch", self.request(Method::GET, &format!("/v1/batches/{batch}"))).await
    }

    /// Let a batch go.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn approve(&self, batch: i64, body: &ApproveRequest) -> Result<Approved, ClientError> {
        self.post("approving a batch", &format!("/v1/batches/{batch}/approve"), body).await
    }

    /// Overrides of the last week.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn overrides(&self) -> Result<Vec<OneShot>, ClientError> {
        self.send("listing overrides", self.request(Method::GET, "/v1/overrides")).await
    }

    /// Let one stage of one deletion pass one belt.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn override_belt(&self, body: &OverrideRequest) -> Result<OneShot, ClientError> {
        self.post("overriding a belt", "/v1/overrides", body).await
    }

    /// Take an override back.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn take_back_override(&self, id: i64) -> Result<serde_json::Value, ClientError> {
        self.change("taking back an override", self.request(Method::DELETE, &format!("/v1/overrides/{id}")))
            .await
    }
}
