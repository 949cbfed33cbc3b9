//! The route `mail`: a notice as mail, by SMTP, without the notifier. One message to each, so that one bad address keeps
//! nobody else's away; it counts as told if the server took it on for one of them, and the log says for whom it did not.
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use lettre::message::Mailbox;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use sexton_model::alarm::Notice;

use super::route::{Route, RouteKind, chain};

/// Most people that are told.
pub const TO_MAX: usize = 32;

/// See the module.
pub struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    timeout: Duration,
}

/// The server's URL, if mail and password may go there.
///
/// # Errors
/// Why not.
pub fn server(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| format!("expected smtps://HOST or smtp://HOST: {e}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("user and password do not belong there: set user and password_file".to_owned());
    }
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let here =
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let encrypted = url.query_pairs().any(|(key, value)| key == "tls" && value == "required");
    match url.scheme() {
        "smtps" if !host.is_empty() => Ok(url),
        "smtp" if here || (encrypted && !host.is_empty()) => Ok(url),
        "smtp" => {
            Err("mail to another host must be encrypted: smtps://HOST or smtp://HOST?tls=required".to_owned())
        }
        _ => Err("expected smtps://HOST or smtp://HOST".to_owned()),
    }
}

impl Mail {
    /// Mail by this server, from somebody to some people.
    ///
    /// # Errors
    /// If the server's URL is none.
    pub fn new(
        server: &Url,
        login: Option<(String, SecretString)>,
        (from, to): (Mailbox, Vec<Mailbox>),
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let mut transport =
            AsyncSmtpTransport::<Tokio1Executor>::from_url(server.as_str())?.timeout(Some(timeout));
        if let Some((user, password)) = login {
            transport = transport.credentials(Credentials::new(user, password.expose_secret().to_owned()));
        }
        Ok(Self { transport: transport.build(), from, to, timeout })
    }

    async fn send(&self, to: &Mailbox, notice: &Notice) -> Result<(), String> {
        // So that no vacation responder answers.
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        let message = Message::builder()
            .from(self.from.clone())
            .to(to.clone())
            .subject(notice.title())
            .date_now()
            .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
            .body(notice.text().to_owned())
            .map_err(|e| e.to_string())?;
        self.transport.send(message).await.map(drop).map_err(|error| chain(&error))
    }

    async fn all(&self, notice: &Notice) -> Result<(), String> {
        let (mut told, mut failed) = (false, String::new());
        for to in &self.to {
            match self.send(to, notice).await {
                Ok(()) => told = true,
                Err(why) => {
                    tracing::warn!(to = %to.email, why, "mail is not taken on");
                    failed = why;
                }
            }
        }
        if told { Ok(()) } else { Err(failed) }
    }
}

#[async_trait]
impl Route for Mail {
    fn kind(&self) -> RouteKind {
        RouteKind::Mail
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let late = |_| format!("no answer within {} ms", self.timeout.as_millis());
        tokio::time::timeout(self.timeout, self.all(notice)).await.map_err(late)?
    }
}

#[cfg(test)]
mod tests {
    use super::server;

    #[test]
    fn mail_leaves_this_machine_only_encrypted() {
        for good in [
            "smtp://127.0.0.1:10025",
            "smtp://localhost",
            "smtp://[::1]:25",
            "smtps://mail.example.org",
            "smtp://mail.example.org?tls=required",
        ] {
            server(good).unwrap();
        }
        for (bad, why) in [
            ("smtp://mail.example.org", "encrypted"),
            ("smtp://mail.example.org?tls=opportunistic", "encrypted"),
            ("smtps://me:hunter2@mail.example.org", "password_file"),
            ("http://localhost", "smtp://"),
            ("mail.example.org", "smtp"),
        ] {
            let error = server(bad).unwrap_err();
            assert!(error.contains(why) && !error.contains("hunter2"), "{bad}: {error}");
        }
    }
}
