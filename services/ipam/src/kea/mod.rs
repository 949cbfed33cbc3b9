//! A Kea DHCPv4 server behind its control agent.
//!
//! Leases are changed by the lease_cmds hook. Reservations stand in the configuration, which is changed as a whole:
//! read, test, read again, set, write; one writer at a time. Neither command is conditional: between the last
//! reading and the call, milliseconds, another writer can come in, and no fence stops a call that was sent and
//! not answered. So all copies of this consumer, and whoever else writes this server's configuration, must share one
//! lock file: run them on one host, or on a shared folder whose locks hold.
//!
//! A released address rests: its lease is made a declined one, which belongs to nobody, says whose the address was, and runs
//! out by itself after `quarantine_days`. Until then the server gives it to nobody, whoever has it reserved. An address
//! of which the machine has neither lease nor reservation left by then does not rest: it has been free since, or another's.
//!
//! A server may keep reservations in a hosts database as well. They are in no configuration, and this driver has no way to
//! read them. So of a server that is configured with one nothing is said: whatever is asked is refused.
//!
//! What runs is not what the server would start with: a process that has not itself had the configuration written
//! since it saw a reservation gone has it written before it calls that gone.
use std::fs::{File, TryLockError};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use async_trait::async_trait;
use reqwest::Url;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use sexton_consumer::driver::{Done, Driver, Found, Inspection, Obstacle, Place, StepContext};
use sexton_consumer::permit::Permit;
use sexton_model::step::Presence;
use sexton_service::secret;
use tokio::sync::Mutex;

use self::agent::{Agent, Budget, Lease};
use self::reservation::Reserved;
use self::written::Written;
use crate::address::{Attributes, Mac, Pinned, Targets, where_pinned};
use crate::only_release;
use crate::quarantine::Quarantine;

mod agent;
#[cfg(test)]
#[cfg(feature = "real-servers")]
mod real;
#[cfg(test)]
#[cfg(feature = "real-servers")]
mod real_kit;
mod reservation;
#[cfg(test)]
mod tests;
mod written;

/// Asked right before each change.
type May<'a> = dyn Fn() -> Result<(), Obstacle> + Sync + 'a;

/// Longest single call, in milliseconds: what `deploy/subsystems/ipam.toml` says of every action.
pub const CALL_MAX_MS: u64 = 10_000;

/// The control agent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The agent's address, such as `http://127.0.0.1:8000/`.
    pub url: String,
    /// The user, if the agent asks for one.
    #[serde(default)]
    pub user: Option<String>,
    /// The user's password.
    #[serde(default)]
    pub password: Option<SecretString>,
    /// A file with the password, instead.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// A file whose lock is held while the configuration is changed: the same one for all copies of this consumer,
    /// and for whoever else writes this server's configuration.
    pub lock_file: PathBuf,
    /// Longest single call, in milliseconds; at most [`CALL_MAX_MS`].
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// How long a released address is given to nobody, in days of 24 hours: 1 to 365.
    #[serde(default)]
    pub quarantine_days: Quarantine,
}

fn default_timeout_ms() -> u64 {
    5_000
}

/// The driver.
pub struct Kea {
    agent: Agent,
    call: Duration,
    lock_file: PathBuf,
    quarantine: Quarantine,
    /// One writer of the configuration at a time.
    writer: Mutex<()>,
    /// Which reservations this process knows to be gone from the server's disk.
    written: Written,
}

/// What an address shows of its holder.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    lease: Option<Lease>,
    reservation: Option<Option<String>>,
}

impl Kea {
    /// The driver that `config` describes.
    ///
    /// # Errors
    /// If the URL, the login or the time-out is malformed.
    pub fn new(config: Config) -> anyhow::Result<Self> {
        let url = Url::parse(&config.url).context("url")?;
        ensure!(matches!(url.scheme(), "http" | "https"), "url: expected http:// or https://, found {url}");
        ensure!(
            url.username().is_empty() && url.password().is_none(),
            "url: put user and password into keys"
        );
        ensure!(
            (1..=CALL_MAX_MS).contains(&config.timeout_ms),
            "timeout_ms: expected 1 to {CALL_MAX_MS}, found {}",
            config.timeout_ms
        );
        let password = secret::either("password", config.password, config.password_file.as_deref())?;
        let login = match (config.user, password) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                anyhow::bail!("user, password: expected both or neither (the password as password_file)")
            }
        };
        // Whoever comes first installs it; a second time changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // Sooner than a call is given up: who could not be connected to was asked for nothing.
            .connect_timeout(Duration::from_millis(config.timeout_ms.div_ceil(2)))
            .build()
            .context("making the HTTP client")?;
        Ok(Self {
            agent: Agent { http, url, login },
            call: Duration::from_millis(config.timeout_ms),
            lock_file: config.lock_file,
            quarantine: config.quarantine_days,
            writer: Mutex::new(()),
            written: Written::default(),
        })
    }

    fn budget(&self, left: Duration) -> Budget {
        Budget::new(left, self.call)
    }

    /// The running configuration, with all the reservations that the server has.
    async fn config(&self, budget: Budget) -> Result<Value, Obstacle> {
        let config = self.agent.config(budget).await?;
        match reservation::kept_elsewhere(&config) {
            Some(key) => Err(Obstacle::Refuse(format!(
                "{} keeps reservations in a database, too ({key} in its Dhcp4), which this driver cannot read: for whom an \
                 address is reserved is unknown",
                self.agent.url
            ))),
            None => Ok(config),
        }
    }

    /// The proof of place: the subnet of every address, as this server has it. `Err` says what is another.
    fn place(&self, config: &Value, addresses: &[(Ipv4Addr, u32)]) -> Result<Place, String> {
        let mut shown = Vec::new();
        for (address, id) in addresses {
            let prefix = reservation::subnet(config, *id)
                .ok_or_else(|| format!("{} has no subnet {id}: another place", self.agent.url))?;
            if !reservation::contains(&prefix, *address) {
                return Err(format!("{address} is not in subnet {id} ({prefix}) of {}", self.agent.url));
            }
            let text = format!("subnet {id} {prefix}");
            if !shown.contains(&text) {
                shown.push(text);
            }
        }
        Ok(Place(format!("kea {}: {}", self.agent.url, shown.join(", "))))
    }

    /// The place of what was pinned. `Err` says why this is another.
    fn pinned_place(&self, config: &Value, targets: &Targets) -> Result<Place, String> {
        let places: Vec<_> = targets.addresses.iter().map(|p| (p.address, p.subnet)).collect();
        let place = self.place(config, &places)?;
        targets.elsewhere(&place.0).map_or(Ok(place), Err)
    }

    /// How `mac` holds `address`; `Err(why)` inside if somebody else does.
    async fn held(
        &self,
        budget: Budget,
        config: &Value,
        (address, subnet, mac): (Ipv4Addr, u32, Mac),
    ) -> Result<Result<Held, String>, Obstacle> {
        let lease = match self.agent.lease(budget, address).await? {
            Some(lease) if lease.mac == Some(mac) && lease.subnet == subnet => Some(lease),
            Some(lease) if lease.reclaimed || lease.rests.is_some() => None,
            Some(lease) => {
                let who = lease.mac.map_or_else(|| "nobody (declined)".to_owned(), |m| m.to_string());
                return Ok(Err(format!(
                    "{address} is leased to {who} in subnet {}, not to {mac}",
                    lease.subnet
                )));
            }
            None => None,
        };
        Ok(match reservation::reserved(config, subnet, address, mac) {
            Reserved::Nobody => Ok(Held { lease, reservation: None }),
            Reserved::Ours(name) => Ok(Held { lease, reservation: Some(name) }),
            Reserved::Other(who) => Err(format!("{address} is reserved for {who}, not for {mac}")),
        })
    }

    /// What the server holds for a resource.
    async fn look(&self, attributes: Option<&Attributes>, left: Duration) -> Result<Inspection, Obstacle> {
        let mut targets = Targets::default();
        let Some(attributes) = attributes else {
            let evidence = "attributes.ipam states none = true: no addresses".to_owned();
            return Ok(Inspection { found: Found::Same, targets: json!(targets), protected: None, evidence });
        };
        let budget = self.budget(left);
        let config = self.config(budget).await?;
        let places: Vec<_> = attributes.addresses.iter().map(|a| (*a, attributes.subnet)).collect();
        let place = match self.place(&config, &places) {
            Ok(place) => place,
            Err(why) => {
                let (found, evidence) = (Found::Different(why.clone()), why);
                return Ok(Inspection { found, targets: json!(targets), protected: None, evidence });
            }
        };
        targets.place = place.0.clone();
        let mut foreign = Vec::new();
        for address in &attributes.addresses {
            let (mac, subnet) = (attributes.mac, attributes.subnet);
            match self.held(budget, &config, (*address, subnet, mac)).await? {
                Ok(Held { lease: None, reservation: None }) => {}
                Ok(Held { lease, reservation }) => targets.addresses.push(Pinned {
                    address: *address,
                    mac,
                    subnet,
                    client_id: lease.as_ref().and_then(|l| l.client_id.clone()),
                    lease: lease.is_some(),
                    reservation: reservation.is_some(),
                    hostname: lease.and_then(|l| l.hostname).or(reservation.flatten()),
                }),
                Err(why) => foreign.push(why),
            }
        }
        let evidence = format!("{}: {}", place.0, targets.summary());
        let found = match foreign.is_empty() {
            false => Found::Different(format!("{}: {}", place.0, foreign.join("; "))),
            true if targets.addresses.is_empty() => Found::Absent(place),
            true => Found::Same,
        };
        Ok(Inspection { found, targets: json!(targets), protected: None, evidence })
    }

    /// What the server says now of what was pinned.
    async fn compare(&self, targets: &Targets, left: Duration) -> Result<Found, Obstacle> {
        let budget = self.budget(left);
        let config = self.config(budget).await?;
        let place = match self.pinned_place(&config, targets) {
            Ok(place) => place,
            Err(why) => return Ok(Found::Different(why)),
        };
        let mut found = Found::Absent(place);
        for pinned in &targets.addresses {
            match self.held(budget, &config, (pinned.address, pinned.subnet, pinned.mac)).await? {
                Ok(Held { lease: None, reservation: None }) => {}
                Ok(Held { .. }) => found = Found::Same,
                Err(why) => return Ok(Found::Different(why)),
            }
        }
        if !self.written.covers(&targets.addresses) {
            return Ok(Found::Same);
        }
        Ok(found)
    }

    /// Release what was pinned, after everything was read and nothing was found to be another's.
    async fn release(&self, targets: &Targets, left: Duration, may: &May<'_>) -> Result<Done, Obstacle> {
        if let Found::Different(why) = self.compare(targets, left).await? {
            return Err(Obstacle::Refuse(why));
        }
        let budget = self.budget(left);
        let config = self.config(budget).await?;
        let kept = |pinned: &Pinned| {
            let reserved = reservation::reserved(&config, pinned.subnet, pinned.address, pinned.mac);
            matches!(reserved, Reserved::Ours(_))
        };
        let mut put_to_rest = 0;
        for pinned in &targets.addresses {
            put_to_rest += usize::from(self.release_lease(budget, (pinned, kept(pinned)), may).await?);
        }
        let reservations = self.release_reservations(budget, &targets.addresses, may).await?;
        Ok(Done::saw(format!(
            "kea {}: {put_to_rest} addresses put to rest for {} days and {reservations} reservations released of {}",
            self.agent.url,
            self.quarantine.days(),
            targets.summary()
        )))
    }

    /// Take the lease away and put the address to rest, in one call: in between it could be given to somebody. Whether
    /// that was to be done. It comes before the reservation goes (`kept`, if there is one), which until then keeps others from
    /// the address.
    async fn release_lease(
        &self,
        budget: Budget,
        (pinned, kept): (&Pinned, bool),
        may: &May<'_>,
    ) -> Result<bool, Obstacle> {
        let own = |lease: &Lease| lease.mac == Some(pinned.mac) && lease.subnet == pinned.subnet;
        let command = match self.agent.lease(budget, pinned.address).await? {
            Some(lease) if own(&lease) => "lease4-update",
            // It rests already, and its time does not begin anew.
            Some(lease) if lease.rests == Some(pinned.mac) => return Ok(false),
            // Another machine's history: it rests since that one was released, or that one gets it again when it comes back.
            // Only what is kept for this machine is its to put to rest.
            Some(lease) if lease.rests.is_some() || lease.reclaimed => {
                if !kept {
                    return Ok(false);
                }
                "lease4-update"
            }
            Some(lease) => {
                return Err(Obstacle::Refuse(format!(
                    "releasing the lease of {}: it is {}'s now, pinned was {}",
                    pinned.address,
                    lease.mac.map_or_else(|| "nobody".to_owned(), |m| m.to_string()),
                    pinned.mac
                )));
            }
            None => "lease4-add",
        };
        may()?;
        self.agent.rest(budget, command, pinned, self.quarantine).await.map(|()| true)
    }

    fn lock(&self) -> Result<File, Obstacle> {
        let path = &self.lock_file;
        let open = File::options().create(true).truncate(false).write(true).open(path);
        let file = open.map_err(|e| Obstacle::Unclear(format!("opening {}: {e}", path.display())))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(Obstacle::Busy(format!(
                "{} is locked: somebody else is changing the configuration",
                path.display()
            ))),
            Err(TryLockError::Error(e)) => Err(Obstacle::Unclear(format!("locking {}: {e}", path.display()))),
        }
    }

    async fn release_reservations(
        &self,
        budget: Budget,
        pinned: &[Pinned],
        may: &May<'_>,
    ) -> Result<usize, Obstacle> {
        let _writer = self.writer.lock().await;
        let _file = self.lock()?;
        let before = self.config(budget).await?;
        let mut wanted = before.clone();
        let removed = reservation::remove(&mut wanted, pinned);
        if removed == 0 && self.written.covers(pinned) {
            return Ok(0);
        }
        if removed > 0 {
            let body = json!({ "Dhcp4": wanted.get("Dhcp4") });
            self.agent.configure(budget, "config-test", body.clone()).await?;
            if self.config(budget).await? != before {
                return Err(Obstacle::Busy(format!(
                    "removing reservations at {}: somebody else changed the configuration meanwhile",
                    self.agent.url
                )));
            }
            may()?;
            self.written.forget(pinned);
            self.agent.configure(budget, "config-set", body).await?;
            let after = self.config(budget).await?;
            if reservation::all(&after) != reservation::all(&wanted) {
                return Err(Obstacle::Unclear(format!(
                    "removing reservations at {}: afterwards the reservations are not what was set",
                    self.agent.url
                )));
            }
        }
        may()?;
        self.agent.configure(budget, "config-write", Value::Null).await?;
        self.written.remember(pinned);
        Ok(removed)
    }

    /// Whether any of the pinned addresses is still held as it was pinned.
    async fn seen(&self, targets: &Targets, left: Duration) -> Result<(Presence, String), Obstacle> {
        let budget = self.budget(left);
        let config = self.config(budget).await?;
        let place = self.pinned_place(&config, targets).map_err(Obstacle::Refuse)?.0;
        for pinned in &targets.addresses {
            let ours = |lease: &Lease| lease.mac == Some(pinned.mac);
            let lease = self.agent.lease(budget, pinned.address).await?.is_some_and(|l| ours(&l));
            let (address, mac) = (pinned.address, pinned.mac);
            let reserved = reservation::reserved(&config, pinned.subnet, address, mac);
            if lease || matches!(reserved, Reserved::Ours(_)) {
                return Ok((Presence::Present, format!("{place}: {address} still goes with {mac}")));
            }
        }
        if !self.written.covers(&targets.addresses) {
            let what =
                format!("{place}: released, but this process has not seen it written to the server's disk");
            return Ok((Presence::Present, what));
        }
        Ok((Presence::Absent, format!("{place}: free is {}", targets.summary())))
    }
}

#[async_trait]
impl Driver for Kea {
    async fn inspect(&self, step: &StepContext) -> Result<Inspection, Obstacle> {
        let attributes = Attributes::parse(&step.resource, &step.attributes)?;
        where_pinned(step, self.look(attributes.as_ref(), step.time_left()).await?)
    }

    async fn find(&self, step: &StepContext) -> Result<Found, Obstacle> {
        if step.targets.is_null() {
            return Ok(self.inspect(step).await?.found);
        }
        self.compare(&Targets::parse(&step.resource, &step.targets)?, step.time_left()).await
    }

    async fn perform(
        &self,
        step: &StepContext,
        _manifest: Option<&Value>,
        permit: Permit,
    ) -> Result<Done, Obstacle> {
        only_release(step)?;
        let may = || permit.again().map(drop);
        self.release(&Targets::parse(&step.resource, &step.targets)?, step.time_left(), &may).await
    }

    async fn presence(&self, step: &StepContext) -> Result<(Presence, String), Obstacle> {
        self.seen(&Targets::parse(&step.resource, &step.targets)?, step.time_left()).await
    }
}
