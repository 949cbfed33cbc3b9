//! How it is going, and what is tried so that one knows: canaries, drills, censuses.
use reqwest::Method;
use sexton_model::belts::census::{Latest, Taken};
use sexton_model::digest::Digest;

use super::{Client, ClientError};
use crate::alarms::{AlarmInfo, AlarmQuery};
use crate::canaries::CanariesInfo;
use crate::census::{CensusInfo, CensusRequest, CensusesQuery, TakeCensus};
use crate::drills::DrillsInfo;
use crate::findings::{FindingsInfo, FindingsQuery};
use crate::health::HealthInfo;
use crate::types::{Page, Reason};

impl Client {
    /// The last run of canaries.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn canaries(&self) -> Result<CanariesInfo, ClientError> {
        self.send("listing canaries", self.request(Method::GET, "/v1/canaries")).await
    }

    /// Have a run of canaries now; if the last one is still open, that one is told.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn run_canaries(&self) -> Result<CanariesInfo, ClientError> {
        self.change("sending canaries", self.request(Method::POST, "/v1/canaries")).await
    }

    /// The last drill with each resource.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn drills(&self) -> Result<DrillsInfo, ClientError> {
        self.send("listing drills", self.request(Method::GET, "/v1/drills")).await
    }

    /// Have a drill with each resource now; of one that is not over, that one is told.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn run_drills(&self) -> Result<DrillsInfo, ClientError> {
        self.change("beginning drills", self.request(Method::POST, "/v1/drills")).await
    }

    /// Hand in a census.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn census(&self, body: &CensusRequest) -> Result<CensusInfo, ClientError> {
        self.post("handing in a census", "/v1/censuses", body).await
    }

    /// Have a census taken.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn take_census(&self, body: &TakeCensus) -> Result<CensusInfo, ClientError> {
        self.post("having a census taken", "/v1/censuses/taken", body).await
    }

    /// One page of censuses that were believed, the newest first.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn censuses(&self, query: &CensusesQuery) -> Result<Page<Taken>, ClientError> {
        self.send("listing censuses", self.request(Method::GET, "/v1/censuses").query(query)).await
    }

    /// What came last of each kind and scope, believed or refused.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn latest_censuses(&self) -> Result<Vec<Latest>, ClientError> {
        self.send("listing what came last of censuses", self.request(Method::GET, "/v1/censuses/latest"))
            .await
    }

    /// One page of what is there, by the last censuses, and nobody has registered.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn findings(&self, query: &FindingsQuery) -> Result<FindingsInfo, ClientError> {
        self.send("listing findings", self.request(Method::GET, "/v1/findings").query(query)).await
    }

    /// One page of alarms, newest first.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn alarms(&self, query: &AlarmQuery) -> Result<Page<AlarmInfo>, ClientError> {
        self.send("listing alarms", self.request(Method::GET, "/v1/alarms").query(query)).await
    }

    /// Say that one has seen an alarm.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn acknowledge_alarm(&self, id: i64, reason: &str) -> Result<AlarmInfo, ClientError> {
        let body = Reason { reason: reason.to_owned() };
        self.post("acknowledging an alarm", &format!("/v1/alarms/{id}/acknowledge"), &body).await
    }

    /// The digest as it would be now.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn digest(&self) -> Result<Digest, ClientError> {
        self.send("composing the digest", self.request(Method::GET, "/v1/digest")).await
    }

    /// How it is going.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn health(&self) -> Result<HealthInfo, ClientError> {
        self.send("reading the health", self.request(Method::GET, "/v1/health")).await
    }
}
