//! Commands to a Kea DHCPv4 server through its control agent.
//!
//! Everything it answers is bounded, typed and classified here: 0 is success, 3 is "nothing there", anything else
//! is an obstacle.
use std::net::Ipv4Addr;
use std::time::Duration;

use reqwest::{StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use sexton_consumer::driver::Obstacle;
use tokio::time::{Instant, timeout_at};

use crate::address::{Mac, Pinned};
use crate::quarantine::Quarantine;

/// Largest answer, in bytes: a configuration with a hundred thousand reservations is about 16 MB.
pub(super) const ANSWER_MAX_BYTES: usize = 33_554_432;
/// Longest text of a server that is repeated in an error, in characters.
const TEXT_MAX_CHARS: usize = 300;

/// How long calls may take: each at most `call`, all of them until `until`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    until: Instant,
    call: Duration,
}

impl Budget {
    /// `call` for each call, `left` for all of them.
    pub(super) fn new(left: Duration, call: Duration) -> Self {
        Self { until: Instant::now() + left, call }
    }

    fn next(self) -> Instant {
        self.until.min(Instant::now() + self.call)
    }
}

/// The control agent.
pub(super) struct Agent {
    pub(super) http: reqwest::Client,
    pub(super) url: Url,
    pub(super) login: Option<(String, SecretString)>,
}

#[derive(Deserialize)]
struct Reply {
    result: i64,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    arguments: Value,
}

/// What a command gave.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// It was done; with what it gave.
    Success(Value),
    /// There is no such thing.
    Empty,
}

impl Answer {
    fn success(self, what: &str) -> Result<Value, Obstacle> {
        match self {
            Self::Success(arguments) => Ok(arguments),
            Self::Empty => Err(Obstacle::Unclear(format!("{what}: the server answered \"empty\""))),
        }
    }
}

/// A lease as the server shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    /// Who holds it; `None` for a declined address.
    pub(super) mac: Option<Mac>,
    pub(super) subnet: u32,
    pub(super) client_id: Option<String>,
    pub(super) hostname: Option<String>,
    /// Expired and reclaimed: the row is history, the address is free.
    pub(super) reclaimed: bool,
    /// In quarantine ([`Agent::rest`]), by the machine with this MAC: nobody's, and given to nobody.
    pub(super) rests: Option<Mac>,
}

impl Agent {
    /// The running configuration.
    pub(super) async fn config(&self, budget: Budget) -> Result<Value, Obstacle> {
        let what = format!("reading the configuration of {}", self.url);
        let arguments = self.command(budget, "config-get", Value::Null, &what).await?.success(&what)?;
        if !arguments.get("Dhcp4").is_some_and(Value::is_object) {
            return Err(Obstacle::Unclear(format!("{what}: the answer holds no \"Dhcp4\"")));
        }
        Ok(arguments)
    }

    /// The lease of `address`; `None` only if the server says that there is none.
    pub(super) async fn lease(&self, budget: Budget, address: Ipv4Addr) -> Result<Option<Lease>, Obstacle> {
        let what = format!("reading the lease of {address}");
        let arguments = json!({ "ip-address": address });
        match self.command(budget, "lease4-get", arguments, &what).await? {
            Answer::Empty => Ok(None),
            Answer::Success(arguments) => {
                lease_in(address, &arguments).map(Some).map_err(|e| unclear(&what, &e))
            }
        }
    }

    /// Have the address be nobody's, as a declined one, which the server gives to nobody until the quarantine is over.
    /// Then it forgets that by itself. `command` is `lease4-update`, which puts this in the place of the lease that is
    /// there, or `lease4-add`, which fails if there is one by now.
    pub(super) async fn rest(
        &self,
        budget: Budget,
        command: &str,
        pinned: &Pinned,
        quarantine: Quarantine,
    ) -> Result<(), Obstacle> {
        let what = format!("putting {} to rest ({command})", pinned.address);
        let arguments = json!({
            "ip-address": pinned.address,
            "subnet-id": pinned.subnet,
            // Demanded, and empty where an address was declined.
            "hw-address": "",
            "state": DECLINED,
            "valid-lft": quarantine.seconds(),
            "user-context": { OWN: { "released_by": pinned.mac, "hostname": pinned.hostname } },
        });
        self.command(budget, command, arguments, &what).await?.success(&what).map(|_| ())
    }

    /// `config-test`, `config-set` or `config-write`.
    pub(super) async fn configure(
        &self,
        budget: Budget,
        command: &str,
        arguments: Value,
    ) -> Result<(), Obstacle> {
        let what = format!("{command} at {}", self.url);
        self.command(budget, command, arguments, &what).await?.success(&what).map(|_| ())
    }

    pub(super) async fn command(
        &self,
        budget: Budget,
        command: &str,
        arguments: Value,
        what: &str,
    ) -> Result<Answer, Obstacle> {
        let mut body = json!({ "command": command, "service": ["dhcp4"] });
        if !arguments.is_null() {
            body["arguments"] = arguments;
        }
        let mut request = self.http.post(self.url.clone()).json(&body);
        if let Some((user, password)) = &self.login {
            request = request.basic_auth(user, Some(password.expose_secret()));
        }
        let looks = only_looks(command);
        match timeout_at(budget.next(), fetch(request, looks, what)).await {
            Ok(bytes) => classify(&bytes?, command, what),
            Err(_) if looks => Err(unanswered(looks, what, &"no answer in time")),
            Err(_) => Err(unanswered(looks, what, &"no answer in time; it may still be carried out")),
        }
    }
}

/// Whether a command changes nothing, whether it is answered or not.
fn only_looks(command: &str) -> bool {
    matches!(command, "config-get" | "config-test" | "lease4-get")
}

/// What it means that no whole answer came: nothing was changed by what only looks, and the server is away; anything else
/// may have been carried out.
fn unanswered(looks: bool, what: &str, e: &dyn std::fmt::Display) -> Obstacle {
    if looks { Obstacle::Busy(format!("{what}: {e}")) } else { unclear(what, e) }
}

fn unclear(what: &str, e: &dyn std::fmt::Display) -> Obstacle {
    Obstacle::Unclear(format!("{what}: {e}"))
}

async fn fetch(request: reqwest::RequestBuilder, looks: bool, what: &str) -> Result<Vec<u8>, Obstacle> {
    // Where no connection was made, nothing was done, whatever was asked for.
    let mut response =
        request.send().await.map_err(|e| unanswered(looks || e.is_connect(), what, &chain(&e)))?;
    match response.status() {
        StatusCode::OK => {}
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            return Err(Obstacle::Refuse(format!("{what}: HTTP {status}; check user and password")));
        }
        // Not taken on.
        status @ (StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) => {
            return Err(Obstacle::Busy(format!("{what}: HTTP {status}")));
        }
        // The answer was lost behind a gateway.
        status @ (StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT) => {
            return Err(unanswered(looks, what, &format!("HTTP {status}")));
        }
        status => return Err(unclear(what, &format!("HTTP {status}"))),
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| unanswered(looks, what, &chain(&e)))? {
        if bytes.len() + chunk.len() > ANSWER_MAX_BYTES {
            return Err(unclear(what, &format!("the answer is longer than {ANSWER_MAX_BYTES} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}

/// What an answer to `command` means.
pub(super) fn classify(bytes: &[u8], command: &str, what: &str) -> Result<Answer, Obstacle> {
    let [reply]: [Reply; 1] = serde_json::from_slice(bytes).map_err(|e| unclear(what, &e))?;
    let text: String = reply.text.unwrap_or_default().chars().take(TEXT_MAX_CHARS).collect();
    match reply.result {
        0 => Ok(Answer::Success(reply.arguments)),
        2 => Err(Obstacle::Refuse(format!(
            "{what}: the server does not know {command} ({text}); load its lease_cmds hook"
        ))),
        3 => Ok(Answer::Empty),
        _ if text.contains("unable to forward command") => Err(Obstacle::Busy(format!("{what}: {text}"))),
        code => Err(unclear(what, &format!("result {code}: {text}"))),
    }
}

#[derive(Deserialize)]
struct RawLease {
    #[serde(rename = "ip-address")]
    address: Ipv4Addr,
    #[serde(rename = "hw-address", default)]
    mac: String,
    #[serde(rename = "subnet-id")]
    subnet: u32,
    #[serde(rename = "client-id", default)]
    client_id: Option<String>,
    #[serde(default)]
    hostname: Option<String>,
    #[serde(default)]
    state: u32,
    #[serde(rename = "user-context", default)]
    context: Value,
}

/// Kea's number for a lease of an address that nobody may have for a while.
const DECLINED: u32 = 1;
/// Under which key a declined lease says that it is a quarantine of ours, and whose address it was: clients decline
/// addresses, too, which they find to be in use.
const OWN: &str = "sexton";

/// Kea's number for a lease that expired and was reclaimed.
const RECLAIMED: u32 = 2;
/// Longest host name or client id that is kept, in characters.
const NAME_MAX_CHARS: usize = 255;

/// The lease of `address` in the answer's arguments.
pub(super) fn lease_in(address: Ipv4Addr, arguments: &Value) -> Result<Lease, String> {
    let raw = RawLease::deserialize(arguments).map_err(|e| e.to_string())?;
    if raw.address != address {
        return Err(format!("the answer is about {}", raw.address));
    }
    let mac = if raw.mac.is_empty() { None } else { Some(raw.mac.parse()?) };
    let short = |text: Option<String>| {
        text.filter(|t| !t.is_empty()).map(|t| t.chars().take(NAME_MAX_CHARS).collect::<String>())
    };
    let rests = match raw.context.get(OWN).filter(|_| raw.state == DECLINED) {
        Some(own) => {
            let by = own.get("released_by").and_then(Value::as_str);
            Some(by.ok_or("what it rests by says not whose it was")?.parse()?)
        }
        None => None,
    };
    Ok(Lease {
        mac,
        subnet: raw.subnet,
        client_id: short(raw.client_id),
        hostname: short(raw.hostname),
        reclaimed: raw.state == RECLAIMED,
        rests,
    })
}
