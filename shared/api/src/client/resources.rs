//! Resources: registered, read, held, and their names.
use reqwest::Method;
use sexton_model::deletion::Hold;
use sexton_model::resource::Resource;
use sexton_model::{Actor, ResourceId};

use super::{Client, ClientError};
use crate::cancellations::Prioritize;
use crate::holds::{HoldRequest, ReleaseQuery, Released};
use crate::resources::{NameInfo, Register, Registered, ResourceInfo};
use crate::types::{ListQuery, Page};

impl Client {
    /// Register resources.
    ///
    /// # Errors
    /// As all calls: the coordinator's refusal, or that it did not answer.
    pub async fn register(&self, body: &Register) -> Result<Registered, ClientError> {
        self.post("registering resources", "/v1/resources", body).await
    }

    /// What would be said of each if these were registered, each for itself.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn check_resources(&self, resources: Vec<Resource>) -> Result<Registered, ClientError> {
        let body = Register { resources, whole: false, dry_run: true };
        self.ask("checking resources", "/v1/resources", &body).await
    }

    /// One page of resources.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn resources(&self, query: &ListQuery) -> Result<Page<ResourceInfo>, ClientError> {
        self.send("listing resources", self.request(Method::GET, "/v1/resources").query(query)).await
    }

    /// One resource.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn resource(&self, id: &ResourceId) -> Result<ResourceInfo, ClientError> {
        self.send("reading a resource", self.request(Method::GET, &format!("/v1/resources/{id}"))).await
    }

    /// Hold a resource, whether or not it has a record.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn hold_resource(&self, id: &ResourceId, body: &HoldRequest) -> Result<Hold, ClientError> {
        self.post("holding a resource", &format!("/v1/resources/{id}/holds"), body).await
    }

    /// Release one hold of a resource.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn release_resource(&self, id: &ResourceId, hold: i64) -> Result<Released, ClientError> {
        let path = format!("/v1/resources/{id}/holds/{hold}");
        self.change("releasing a resource", self.request(Method::DELETE, &path)).await
    }

    /// Release all holds of an origin.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn release_origin(&self, id: &ResourceId, origin: &Actor) -> Result<Released, ClientError> {
        let query = ReleaseQuery { origin: origin.clone() };
        let request = self.request(Method::DELETE, &format!("/v1/resources/{id}/holds")).query(&query);
        self.change("releasing a resource", request).await
    }

    /// Whether a name is free.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn name(&self, id: &ResourceId) -> Result<NameInfo, ClientError> {
        self.send("reading a name", self.request(Method::GET, &format!("/v1/names/{id}"))).await
    }

    /// Say when a resource is restored: lower goes first.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn prioritize(
        &self,
        resource: &ResourceId,
        priority: i16,
    ) -> Result<ResourceInfo, ClientError> {
        let request = self.request(Method::PUT, &format!("/v1/resources/{resource}/priority"));
        self.change("changing a priority", request.json(&Prioritize { priority })).await
    }
}
