//! The route `webhook`: a notice as JSON in a POST request. Any answer of 2xx says that it was taken.
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use reqwest::Url;
use secrecy::ExposeSecret;
use sexton_model::alarm::Notice;
use sexton_service::secret;

use super::route::{Route, RouteKind, chain};

/// What is read of an answer that says no, in bytes.
const SAID_BYTES: usize = 300;

/// See the module.
pub struct Webhook {
    client: reqwest::Client,
    url: Url,
    /// Read anew each time, so that it can be exchanged.
    token_file: Option<PathBuf>,
    timeout: Duration,
}

/// The address, if a notice and a token may go there.
///
/// # Errors
/// Why not.
pub fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| format!("expected https://…: {e}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("no user and no password belong in it: set token_file".to_owned());
    }
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let here =
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match url.scheme() {
        "https" if !host.is_empty() => Ok(url),
        "http" if here => Ok(url),
        _ => Err("expected https://…, or http:// to a loopback address".to_owned()),
    }
}

impl Webhook {
    /// A webhook at this address.
    ///
    /// # Errors
    /// If no HTTP client can be made.
    pub fn new(url: Url, token_file: Option<PathBuf>, timeout: Duration) -> anyhow::Result<Self> {
        // Another part of the process may have chosen already; then that choice stands.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A request that is redirected, or handed to a proxy of the environment, would take its token to who knows where.
        let client =
            reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { client, url, token_file, timeout })
    }

    async fn post(&self, notice: &Notice) -> Result<(), String> {
        let mut request = self.client.post(self.url.clone()).json(notice);
        if let Some(file) = self.token_file.clone() {
            let read = tokio::task::spawn_blocking(move || secret::read(&file)).await;
            let token = read.map_err(|e| e.to_string())?.map_err(|e| format!("token_file: {e:#}"))?;
            request = request.bearer_auth(token.expose_secret());
        }
        let response = request.send().await.map_err(|error| chain(&error.without_url()))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let mut said = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(Ok(chunk)) = chunks.next().await {
            said.extend_from_slice(&chunk[..chunk.len().min(SAID_BYTES - said.len())]);
            if said.len() >= SAID_BYTES {
                break;
            }
        }
        Err(format!("it answers {status}: {}", String::from_utf8_lossy(&said).trim()))
    }
}

#[async_trait]
impl Route for Webhook {
    fn kind(&self) -> RouteKind {
        RouteKind::Webhook
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let late = |_| format!("no answer within {} ms", self.timeout.as_millis());
        tokio::time::timeout(self.timeout, self.post(notice)).await.map_err(late)?
    }
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn a_notice_leaves_this_machine_only_encrypted() {
        for good in
            ["https://page.example.org/x", "http://127.0.0.1:9/x", "http://localhost/", "http://[::1]:9/"]
        {
            address(good).unwrap();
        }
        for (bad, why) in [
            ("http://page.example.org/", "https"),
            ("http://127.0.0.1.example.org/", "https"),
            ("ftp://127.0.0.1/", "https"),
            ("page.example.org", "https"),
            ("https://me:hunter2@page.example.org/", "token_file"),
        ] {
            let error = address(bad).unwrap_err();
            assert!(error.contains(why) && !error.contains("hunter2"), "{bad}: {error}");
        }
    }
}
