//! Whether the job table can be believed: its chains, their hashes, and the review of one that went back in time.
use reqwest::Method;
use sexton_model::DeletionId;
use sexton_model::chain_copy::ChainCopy;

use super::{Client, ClientError};
use crate::audit::{AcceptReview, AuditInfo, AuditQuery, Hashes, HashesQuery, ReviewInfo};

impl Client {
    /// A record's audit chain, in the very bytes that were hashed.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn chain(&self, id: DeletionId) -> Result<ChainCopy, ClientError> {
        let request = self.request(Method::GET, &format!("/v1/audit/chains/{id}"));
        self.send("reading an audit chain", request).await
    }

    /// Whether the ledger has to be reviewed.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn review(&self) -> Result<ReviewInfo, ClientError> {
        self.send("reading the review", self.request(Method::GET, "/v1/review")).await
    }

    /// Accept the ledger as it is.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn accept_review(&self, body: &AcceptReview) -> Result<ReviewInfo, ClientError> {
        self.post("accepting the ledger", "/v1/review/accept", body).await
    }

    /// Check some chains of the audit trail.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn audit(&self, query: &AuditQuery) -> Result<AuditInfo, ClientError> {
        self.send("checking the audit trail", self.request(Method::GET, "/v1/audit").query(query)).await
    }

    /// What the job table holds for some events of the audit trail.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn hashes(&self, body: &HashesQuery) -> Result<Hashes, ClientError> {
        self.ask("reading hashes of the audit trail", "/v1/audit/hashes", body).await
    }
}
