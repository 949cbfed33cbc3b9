//! An office that sends mail, one message to each person: then one bad address keeps nobody else's away, and
//! nobody sees who else was told.
//!
//! "Told" is what the server took on (250 after the data). What it says later, by a bounce, is not seen here.
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context;
use async_trait::async_trait;
use lettre::message::header::{ContentDisposition, ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sexton_consumer::driver::Obstacle;
use sexton_model::Instance;
use tokio::time::Duration;
use url::{Host, Url};

use crate::letter::Letter;
use crate::office::{Delivery, Office};
use crate::spool::Spool;

/// Longest a server may take over one message, unless configured; `longest_call_ms` of `announce` is more.
const TIMEOUT_MS: u64 = 10_000;

/// Where the mail goes, and where it is remembered.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which instance this is, such as `notifier.main`.
    pub instance: Instance,
    /// The server: `smtps://HOST`, `smtp://HOST?tls=required`, or `smtp://HOST` on this host only. No password
    /// in it.
    pub url: String,
    /// Who one is at the server, if it wants to know.
    #[serde(default)]
    pub user: Option<String>,
    /// The password of `user`.
    #[serde(default)]
    pub password: Option<SecretString>,
    /// A file with the password, instead.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Who writes, such as `Sexton <sexton@example.org>`. Answers go there too.
    pub from: String,
    /// Who is told of every deletion, beside those whom the platform names.
    #[serde(default)]
    pub also_tell: Vec<String>,
    /// The folder of the spool. Made if it is not there; to be kept.
    pub state: PathBuf,
    /// Longest the server may take over one message, in milliseconds.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

fn default_timeout_ms() -> u64 {
    TIMEOUT_MS
}

/// The office.
pub struct SmtpOffice {
    spool: Spool,
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    address: String,
    also_tell: Vec<String>,
    timeout: Duration,
}

impl std::fmt::Debug for SmtpOffice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SmtpOffice").field("from", &self.from).finish_non_exhaustive()
    }
}

/// The server's URL, if mail and password may go there.
fn server(text: &str) -> anyhow::Result<Url> {
    let url =
        Url::parse(text).map_err(|e| anyhow::anyhow!("url: expected smtps://HOST or smtp://HOST: {e}"))?;
    anyhow::ensure!(matches!(url.scheme(), "smtp" | "smtps"), "url: expected smtp:// or smtps://");
    anyhow::ensure!(
        url.username().is_empty() && url.password().is_none(),
        "url: user and password do not belong there; set user and password_file"
    );
    let here = match url.host() {
        // In URLs of this kind an address of four numbers counts as a name.
        Some(Host::Domain(name)) => {
            name.eq_ignore_ascii_case("localhost")
                || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => anyhow::bail!("url: names no host"),
    };
    let encrypted = url.scheme() == "smtps" || url.query_pairs().any(|(k, v)| k == "tls" && v == "required");
    anyhow::ensure!(
        here || encrypted,
        "url: mail to another host must be encrypted: smtps://HOST or smtp://HOST?tls=required"
    );
    Ok(url)
}

impl SmtpOffice {
    /// The office that `config` describes. Nothing is connected yet.
    ///
    /// # Errors
    /// Naming the key that is wrong; or if the spool cannot be made.
    pub fn new(config: Config) -> anyhow::Result<Self> {
        let url = server(&config.url)?;
        let from: Mailbox = config.from.parse().with_context(|| format!("from: {:?}", config.from))?;
        crate::ask::check_contacts(&config.also_tell).map_err(|why| anyhow::anyhow!("also_tell: {why}"))?;
        anyhow::ensure!((1..=60_000).contains(&config.timeout_ms), "timeout_ms: expected 1 to 60000");
        let timeout = Duration::from_millis(config.timeout_ms);
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.as_str())
            .context("url")?
            .timeout(Some(timeout));
        let password =
            sexton_service::secret::either("password", config.password, config.password_file.as_deref())?;
        match (config.user, password) {
            (Some(user), Some(password)) => {
                transport =
                    transport.credentials(Credentials::new(user, password.expose_secret().to_owned()));
            }
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => anyhow::bail!("user and password: set both or neither"),
        }
        let spool = Spool::create(&config.state, &config.instance)
            .with_context(|| format!("state: making the spool in {}", config.state.display()))?;
        Ok(Self {
            spool,
            transport: transport.build(),
            address: from.email.to_string(),
            from,
            also_tell: config.also_tell,
            timeout,
        })
    }

    fn message(&self, to: &str, letter: &Letter) -> Result<Message, String> {
        let to: Mailbox = to.parse().map_err(|e| format!("{to:?}: {e}"))?;
        let id = |id: &str| format!("<{id}@{}>", self.from.email.domain());
        let mut message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(&letter.subject)
            .message_id(Some(id(&letter.id)))
            .date_now()
            // So that no vacation responder answers.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        if let Some(answers) = &letter.answers {
            message = message.in_reply_to(id(answers)).references(id(answers));
        }
        let text = SinglePart::plain(letter.text.clone());
        let message = match &letter.calendar {
            None => message.singlepart(text),
            Some((method, entry)) => {
                let kind = ContentType::parse(&format!("text/calendar; charset=utf-8; method={method}"))
                    .map_err(|e| e.to_string())?;
                let entry = SinglePart::builder()
                    .header(kind)
                    .header(ContentDisposition::attachment("deletion.ics"))
                    .body(entry.clone());
                message.multipart(MultiPart::mixed().singlepart(text).singlepart(entry))
            }
        };
        message.map_err(|e| e.to_string())
    }
}

/// What an error says about this message and this person.
fn classify(error: &lettre::transport::smtp::Error) -> Result<Delivery, Obstacle> {
    // The whole chain: the outermost says little.
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        why = format!("{why}: {cause}");
        source = cause.source();
    }
    if error.is_permanent() {
        return Ok(Delivery::Rejected(why));
    }
    if error.is_timeout() || error.is_response() || error.is_client() {
        // It may have been taken; or the server speaks something else.
        return Err(Obstacle::Unclear(why));
    }
    // "Later", or not reached at all.
    Err(Obstacle::Busy(why))
}

#[async_trait]
impl Office for SmtpOffice {
    fn spool(&self) -> &Spool {
        &self.spool
    }

    fn also_tell(&self) -> &[String] {
        &self.also_tell
    }

    fn from(&self) -> Option<&str> {
        Some(&self.address)
    }

    async fn tell(&self, to: &str, letter: &Letter, within: Duration) -> Result<Delivery, Obstacle> {
        let message = match self.message(to, letter) {
            Ok(message) => message,
            Err(why) => return Ok(Delivery::Rejected(why)),
        };
        let within = within.min(self.timeout);
        match tokio::time::timeout(within, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(Delivery::Accepted),
            Ok(Err(error)) => classify(&error),
            Err(_) => Err(Obstacle::Unclear(format!("no answer within {} ms", within.as_millis()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_leaves_this_host_only_encrypted() {
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
            ("smtp://127.0.0.1.example.org", "encrypted"),
            ("smtps://me:secret@mail.example.org", "password_file"),
            ("http://localhost", "smtp://"),
            ("mail.example.org", "smtp"),
        ] {
            let error = format!("{:#}", server(bad).unwrap_err());
            assert!(error.contains(why), "{bad}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
