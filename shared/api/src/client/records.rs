//! Deletion records: foreseen, made, read, and decided about.
use reqwest::Method;
use sexton_model::DeletionId;
use sexton_model::receipt::SignedReceipt;

use super::{Client, ClientError};
use crate::cancellations::{CancelScope, Cancellations};
use crate::records::{
    Acknowledge, ArchivedInfo, Created, Delete, DeletionInfo, DeletionLine, Outcome, PreviewInfo,
    PreviewRequest, Rescue, Waive,
};
use crate::surveys::{SurveyInfo, SurveyRequest};
use crate::types::{ListQuery, Page, Reason};

impl Client {
    /// Make a record.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn delete(&self, body: &Delete) -> Result<Created, ClientError> {
        self.post("making a deletion record", "/v1/deletions", body).await
    }

    /// What a record would do. Nothing is made.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn preview(&self, body: &PreviewRequest) -> Result<PreviewInfo, ClientError> {
        self.ask("looking what a deletion would do", "/v1/preview", body).await
    }

    /// Have the subsystems of a resource looked at; if that is under way for the very same, that one is told.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn begin_survey(&self, body: &SurveyRequest) -> Result<SurveyInfo, ClientError> {
        self.ask("having subsystems looked at", "/v1/surveys", body).await
    }

    /// What is known by a survey by now.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn survey(&self, survey: i64) -> Result<SurveyInfo, ClientError> {
        self.send("reading a survey", self.request(Method::GET, &format!("/v1/surveys/{survey}"))).await
    }

    /// One page of records, newest first.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn deletions(&self, query: &ListQuery) -> Result<Page<DeletionLine>, ClientError> {
        self.send("listing deletions", self.request(Method::GET, "/v1/deletions").query(query)).await
    }

    /// One record. `what` is its id or its resource: then the live one, else the latest.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn deletion(&self, what: &str) -> Result<DeletionInfo, ClientError> {
        self.send("reading a deletion", self.request(Method::GET, &format!("/v1/deletions/{what}"))).await
    }

    /// One page of what stays of archived records, newest first. Of the query only kind, status, after and limit may be
    /// given.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn all_archived(&self, query: &ListQuery) -> Result<Page<ArchivedInfo>, ClientError> {
        self.send("listing the archive", self.request(Method::GET, "/v1/archived").query(query)).await
    }

    /// What stays of one archived record. `what` is its id or its resource: then the latest one.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn archived(&self, what: &str) -> Result<ArchivedInfo, ClientError> {
        let path = format!("/v1/archived/{what}");
        self.send("looking into the archive", self.request(Method::GET, &path)).await
    }

    /// The signed receipt of a record whose purge is over.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn receipt(&self, id: DeletionId) -> Result<SignedReceipt, ClientError> {
        let path = format!("/v1/deletions/{id}/receipt");
        self.send("reading a receipt", self.request(Method::GET, &path)).await
    }

    /// Cancel it: the resource comes back.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn cancel(&self, id: DeletionId, reason: &str) -> Result<Outcome, ClientError> {
        let body = Reason { reason: reason.to_owned() };
        self.post("cancelling a deletion", &format!("/v1/deletions/{id}/cancel"), &body).await
    }

    /// Cancel one page of a scope's live records, or show what that would restore.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn cancel_scope(&self, body: &CancelScope) -> Result<Cancellations, ClientError> {
        let (doing, path) = ("cancelling a scope", "/v1/cancellations");
        if body.dry_run { self.ask(doing, path, body).await } else { self.post(doing, path, body).await }
    }

    /// Place a hold.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn hold(&self, id: DeletionId, reason: &str) -> Result<Outcome, ClientError> {
        let body = Reason { reason: reason.to_owned() };
        self.post("placing a hold", &format!("/v1/deletions/{id}/holds"), &body).await
    }

    /// Release a hold.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn release(&self, id: DeletionId, hold: i64) -> Result<Outcome, ClientError> {
        let path = format!("/v1/deletions/{id}/holds/{hold}");
        self.change("releasing a hold", self.request(Method::DELETE, &path)).await
    }

    /// Park a job that is in line or backs off, so that a person decides about it.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn park(&self, id: DeletionId, reason: &str) -> Result<Outcome, ClientError> {
        let body = Reason { reason: reason.to_owned() };
        self.post("parking a job", &format!("/v1/deletions/{id}/park"), &body).await
    }

    /// Try a parked job again.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn retry(&self, id: DeletionId) -> Result<Outcome, ClientError> {
        let path = format!("/v1/deletions/{id}/retry");
        self.post("retrying a parked job", &path, &serde_json::json!({})).await
    }

    /// Let a parked step pass.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn waive(&self, id: DeletionId, body: &Waive) -> Result<Outcome, ClientError> {
        self.post("waiving a step", &format!("/v1/deletions/{id}/waive"), body).await
    }

    /// Everybody was told otherwise, after the notice could not be delivered for days.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn acknowledge(&self, id: DeletionId, body: &Acknowledge) -> Result<Outcome, ClientError> {
        self.post("acknowledging a notice", &format!("/v1/deletions/{id}/acknowledge"), body).await
    }

    /// A notice that was sent came back: it does not count as delivered.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn bounced(&self, id: DeletionId, reason: &str) -> Result<Outcome, ClientError> {
        let body = Reason { reason: reason.to_owned() };
        self.post("saying that a notice came back", &format!("/v1/deletions/{id}/bounced"), &body).await
    }

    /// End a record whose resource was saved by hand.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn rescue(&self, id: DeletionId, body: &Rescue) -> Result<Outcome, ClientError> {
        self.post("rescuing a resource", &format!("/v1/deletions/{id}/rescue"), body).await
    }
}
