//! Tokens, and who was refused.
use reqwest::Method;
use sexton_model::Actor;
use sexton_model::access::Token;

use super::{Client, ClientError};
use crate::access::{AccessEvents, AccessQuery, Issued, TokenQuery, TokenRequest, WhoAmI};
use crate::types::Page;

impl Client {
    /// Issue a token.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn issue_token(&self, body: &TokenRequest) -> Result<Issued, ClientError> {
        self.post("issuing a token", "/v1/tokens", body).await
    }

    /// One page of tokens, by their names.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn tokens(&self, query: &TokenQuery) -> Result<Page<Token>, ClientError> {
        self.send("listing tokens", self.request(Method::GET, "/v1/tokens").query(query)).await
    }

    /// Take a token back.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn revoke_token(&self, name: &Actor) -> Result<Token, ClientError> {
        self.change("revoking a token", self.request(Method::DELETE, &format!("/v1/tokens/{name}"))).await
    }

    /// Who one is.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn whoami(&self) -> Result<WhoAmI, ClientError> {
        self.send("asking who one is", self.request(Method::GET, "/v1/whoami")).await
    }

    /// Tokens that were issued or revoked, and who was refused.
    ///
    /// # Errors
    /// As [`Self::register`].
    pub async fn access_events(&self, query: &AccessQuery) -> Result<AccessEvents, ClientError> {
        let request = self.request(Method::GET, "/v1/audit/access").query(query);
        self.send("reading who was refused", request).await
    }
}
