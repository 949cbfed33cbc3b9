//! An authoritative server that takes RFC 2136 updates, such as BIND or Knot.
//!
//! Identity is the pinned data. A record set that holds nothing but ours is deleted under the prerequisite that it
//! still does; from a shared one only our records are deleted, which an update names one by one. So the server
//! itself refuses what was changed between reading and deleting. The server's address and the primary that each
//! zone names are pinned, too: another server, with the same zone, has nothing to say about this one's records. What a fence cannot stop here: an update that
//! was sent and not answered may be applied later; it deletes data that were pinned, and only while they are there.
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use async_trait::async_trait;
use base64::Engine;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, RData, TSigner};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use sexton_consumer::driver::{Done, Driver, Found, Inspection, Obstacle, Place, StepContext};
use sexton_consumer::permit::Permit;
use sexton_model::step::Presence;
use sexton_service::secret;

use self::wire::{Budget, Session};
use crate::only_remove;
use crate::record::{Attributes, Judgement, Pinned, Targets, canonical, join, judge, text_of, where_pinned};

#[cfg(test)]
#[cfg(feature = "real-servers")]
mod real;
#[cfg(test)]
#[cfg(feature = "real-servers")]
mod real_kit;
#[cfg(test)]
mod tests;
mod wire;

/// Longest single call, in milliseconds: what `deploy/subsystems/dns.toml` says of every action.
pub const CALL_MAX_MS: u64 = 10_000;
/// Seconds by which clocks may differ: what RFC 8945 recommends.
const FUDGE_SECONDS: u16 = 300;

/// The server, the key, and the zones.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The primary's address, such as `192.0.2.53:53`; spoken to over TCP.
    pub server: SocketAddr,
    /// The TSIG key's name, as the server knows it.
    pub key_name: String,
    /// The TSIG key's secret, in base64.
    #[serde(default)]
    pub key_secret: Option<SecretString>,
    /// A file with the secret, instead.
    #[serde(default)]
    pub key_secret_file: Option<PathBuf>,
    /// The TSIG key's algorithm.
    #[serde(default)]
    pub key_algorithm: Algorithm,
    /// The zones this server is primary for. A name in none of them is refused.
    pub zones: Vec<String>,
    /// Domains somebody else keeps records for; names in them are skipped, and the evidence says so.
    #[serde(default)]
    pub elsewhere: Vec<String>,
    /// Longest single call, in milliseconds; at most [`CALL_MAX_MS`].
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

fn default_timeout_ms() -> u64 {
    5_000
}

/// A TSIG algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Algorithm {
    /// The usual one.
    #[default]
    #[serde(rename = "hmac-sha256")]
    Sha256,
    /// With a longer hash.
    #[serde(rename = "hmac-sha384")]
    Sha384,
    /// With the longest hash.
    #[serde(rename = "hmac-sha512")]
    Sha512,
}

/// The driver.
pub struct Rfc2136 {
    server: SocketAddr,
    signer: TSigner,
    zones: Vec<Name>,
    elsewhere: Vec<Name>,
    call: Duration,
}

impl Rfc2136 {
    /// The driver that `config` describes.
    ///
    /// # Errors
    /// If the key, a zone or the time-out is malformed.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let secret =
            secret::either("key_secret", config.key_secret.clone(), config.key_secret_file.as_deref())?
                .context("key_secret_file: expected the file with the TSIG key's secret")?;
        let key = base64::engine::general_purpose::STANDARD
            .decode(secret.expose_secret())
            .ok()
            .filter(|key| !key.is_empty())
            .context("key_secret: expected base64")?;
        let name = canonical(&config.key_name)
            .with_context(|| format!("key_name: {:?} is no domain name", config.key_name))?;
        let algorithm = match config.key_algorithm {
            Algorithm::Sha256 => TsigAlgorithm::HmacSha256,
            Algorithm::Sha384 => TsigAlgorithm::HmacSha384,
            Algorithm::Sha512 => TsigAlgorithm::HmacSha512,
        };
        let signer = TSigner::new(key, algorithm, name, FUDGE_SECONDS).context("key_algorithm")?;
        ensure!(!config.zones.is_empty(), "zones: expected at least one");
        ensure!(
            (1..=CALL_MAX_MS).contains(&config.timeout_ms),
            "timeout_ms: expected 1 to {CALL_MAX_MS}, found {}",
            config.timeout_ms
        );
        let names = |what: &str, texts: &[String]| -> anyhow::Result<Vec<Name>> {
            let name = |t: &String| canonical(t).with_context(|| format!("{what}: {t:?} is no domain name"));
            texts.iter().map(name).collect()
        };
        Ok(Self {
            server: config.server,
            signer,
            zones: names("zones", &config.zones)?,
            elsewhere: names("elsewhere", &config.elsewhere)?,
            call: Duration::from_millis(config.timeout_ms),
        })
    }

    /// The zone of `owner`; `None` if its records are kept elsewhere.
    fn zone_of(&self, owner: &Name) -> Result<Option<&Name>, Obstacle> {
        let best = |zones: &'_ [Name]| -> Option<usize> {
            let candidates = zones.iter().enumerate().filter(|(_, zone)| zone.zone_of(owner));
            candidates.max_by_key(|(_, zone)| zone.num_labels()).map(|(i, _)| i)
        };
        if let Some(index) = best(&self.zones) {
            return Ok(self.zones.get(index));
        }
        if best(&self.elsewhere).is_some() {
            return Ok(None);
        }
        let zones: Vec<String> = self.zones.iter().map(text_of).collect();
        Err(Obstacle::Refuse(format!(
            "{} is outside the zones of DNS server {} ({}); add its zone, or list it under `elsewhere`",
            text_of(owner),
            self.server,
            zones.join(", ")
        )))
    }

    async fn session(&self, left: Duration) -> Result<Session<'_>, Obstacle> {
        Session::open(self.server, &self.signer, Budget::new(left, self.call)).await
    }

    /// What is pinned of this place.
    fn called(&self) -> String {
        format!("dns {}", self.server)
    }

    /// Where `zones` are, in this very session: each with its serial, and with its primary.
    async fn place(
        &self,
        session: &mut Session<'_>,
        zones: BTreeSet<&Name>,
    ) -> Result<(Place, BTreeMap<String, String>), Obstacle> {
        let (mut shown, mut primaries) = (Vec::new(), BTreeMap::new());
        for zone in zones {
            let authority = session.authority(zone).await?;
            shown.push(format!("{} serial {}", text_of(zone), authority.serial));
            primaries.insert(text_of(zone), authority.primary);
        }
        Ok((Place(format!("{}: {}", self.called(), shown.join(", "))), primaries))
    }

    /// The place of what was pinned; inside, why this is another.
    async fn pinned_place(
        &self,
        session: &mut Session<'_>,
        targets: &Targets,
        resolved: &[Target<'_>],
    ) -> Result<Result<Place, String>, Obstacle> {
        let mut zones: BTreeSet<&Name> = resolved.iter().map(|t| t.zone).collect();
        if zones.is_empty() {
            zones.extend(&self.zones);
        }
        let (place, primaries) = self.place(session, zones).await?;
        Ok(targets.elsewhere(&self.called(), &primaries).map_or(Ok(place), Err))
    }

    /// What the zones hold for a resource.
    async fn look(&self, attributes: &Attributes, left: Duration) -> Result<Inspection, Obstacle> {
        let mut targets = Targets::default();
        if attributes.names.is_empty() && attributes.addresses.is_empty() {
            let evidence = "attributes.dns states none = true: no records".to_owned();
            return Ok(Inspection { found: Found::Same, targets: json!(targets), protected: None, evidence });
        }
        let (mut wanted, mut skipped) = (Vec::new(), Vec::new());
        for want in attributes.wanted() {
            match self.zone_of(&want.owner)? {
                Some(zone) => wanted.push((zone, want)),
                None => skipped.push(text_of(&want.owner)),
            }
        }
        let mut session = self.session(left).await?;
        let zones: BTreeSet<&Name> = wanted.iter().map(|(zone, _)| *zone).collect();
        let (place, primaries) = self.place(&mut session, zones).await?;
        (targets.place, targets.primaries) = (self.called(), primaries);
        let mut foreign = Vec::new();
        let expected = !wanted.is_empty();
        for (zone, want) in wanted {
            let current = session.read(zone, &want.owner, want.kind).await?;
            let (owner, kind) = (text_of(&want.owner), want.kind);
            let rdata: BTreeSet<_> = current.rdata.intersection(&want.own).cloned().collect();
            let others: BTreeSet<_> = current.rdata.difference(&want.own).cloned().collect();
            if !rdata.is_empty() {
                targets.rrsets.push(Pinned { owner, kind, ttl: current.ttl, rdata, others });
            } else if let Some(alias) = current.alias {
                foreign.push(format!("{owner} is an alias of {alias}"));
            } else if !others.is_empty() {
                foreign.push(format!("{owner} {} {}", kind.record_type(), join(&others)));
            }
        }
        let mut evidence = format!("{}: {}", place.0, targets.summary());
        for (what, list) in [("not this resource's", &foreign), ("kept elsewhere", &skipped)] {
            if !list.is_empty() {
                evidence.push_str(&format!("; {what}: {}", list.join("; ")));
            }
        }
        let found = if !targets.rrsets.is_empty() || !expected {
            Found::Same
        } else if foreign.is_empty() {
            Found::Absent(place)
        } else {
            Found::Different(format!(
                "{}: none of the records is this resource's: {}",
                place.0,
                foreign.join("; ")
            ))
        };
        Ok(Inspection { found, targets: json!(targets), protected: None, evidence })
    }

    fn resolve<'a>(&'a self, targets: &'a Targets) -> Result<Vec<Target<'a>>, Obstacle> {
        let resolve = |pinned: &'a Pinned| {
            let owner = canonical(&pinned.owner)
                .ok_or_else(|| Obstacle::Refuse(format!("{:?} is no owner name", pinned.owner)))?;
            let zone = self.zone_of(&owner)?.ok_or_else(|| {
                Obstacle::Refuse(format!("{} was pinned, but is listed under `elsewhere` now", pinned.owner))
            })?;
            Ok(Target { zone, owner, pinned })
        };
        targets.rrsets.iter().map(resolve).collect()
    }

    /// What the zones say now of what was pinned.
    async fn compare(&self, targets: &Targets, left: Duration) -> Result<Found, Obstacle> {
        let resolved = self.resolve(targets)?;
        let mut session = self.session(left).await?;
        let mut found = match self.pinned_place(&mut session, targets, &resolved).await? {
            Ok(place) => Found::Absent(place),
            Err(why) => return Ok(Found::Different(why)),
        };
        for target in &resolved {
            match target.judge(&mut session).await? {
                Judgement::Ours { .. } => found = Found::Same,
                Judgement::Gone => {}
                Judgement::Given(why) => return Ok(Found::Different(why)),
            }
        }
        Ok(found)
    }

    /// Delete what was pinned, after everything was read and nothing was found to be another's. `may` is asked
    /// before each change.
    async fn remove(
        &self,
        targets: &Targets,
        left: Duration,
        may: &(dyn Fn() -> Result<(), Obstacle> + Sync),
    ) -> Result<Done, Obstacle> {
        let resolved = self.resolve(targets)?;
        let mut session = self.session(left).await?;
        let place = self.pinned_place(&mut session, targets, &resolved).await?.map_err(Obstacle::Refuse)?;
        let mut doing = Vec::new();
        for target in &resolved {
            match target.judge(&mut session).await? {
                Judgement::Ours { rdata, exclusive } => doing.push((target, rdata, exclusive)),
                Judgement::Gone => {}
                Judgement::Given(why) => return Err(Obstacle::Refuse(why)),
            }
        }
        let mut done = Vec::new();
        for (target, rdata, exclusive) in doing {
            may()?;
            target.delete(&mut session, &rdata, exclusive).await?;
            done.push(format!("{} {}", target.pinned.owner, join(&rdata)));
        }
        let what = if done.is_empty() { "nothing was left to delete".to_owned() } else { done.join("; ") };
        Ok(Done::saw(format!("{}: deleted {what}", place.0)))
    }

    /// Whether any of the pinned data are there.
    async fn seen(&self, targets: &Targets, left: Duration) -> Result<(Presence, String), Obstacle> {
        let resolved = self.resolve(targets)?;
        let mut session = self.session(left).await?;
        let place = self.pinned_place(&mut session, targets, &resolved).await?.map_err(Obstacle::Refuse)?.0;
        for target in &resolved {
            if let Judgement::Ours { rdata, .. } = target.judge(&mut session).await? {
                let what = format!("{place}: {} {} is there", target.pinned.owner, join(&rdata));
                return Ok((Presence::Present, what));
            }
        }
        Ok((Presence::Absent, format!("{place}: gone is {}", targets.summary())))
    }
}

/// A pinned record set and its zone.
struct Target<'a> {
    zone: &'a Name,
    owner: Name,
    pinned: &'a Pinned,
}

impl Target<'_> {
    async fn judge(&self, session: &mut Session<'_>) -> Result<Judgement, Obstacle> {
        let current = session.read(self.zone, &self.owner, self.pinned.kind).await?;
        Ok(judge(self.pinned, &current))
    }

    async fn delete(
        &self,
        session: &mut Session<'_>,
        rdata: &BTreeSet<String>,
        exclusive: bool,
    ) -> Result<(), Obstacle> {
        let data: Vec<RData> = rdata.iter().filter_map(|text| self.pinned.kind.rdata(text)).collect();
        let what = format!("deleting {} {}", self.pinned.owner, join(rdata));
        let code = session.delete(self.zone, &self.owner, &data, exclusive).await?;
        match code {
            ResponseCode::NoError => Ok(()),
            ResponseCode::NXRRSet | ResponseCode::NXDomain => match self.judge(session).await? {
                Judgement::Gone => Ok(()),
                Judgement::Given(why) => Err(Obstacle::Refuse(why)),
                Judgement::Ours { .. } => {
                    Err(Obstacle::Unclear(format!("{what}: the set was changed meanwhile; to be read again")))
                }
            },
            ResponseCode::Refused | ResponseCode::NotAuth | ResponseCode::NotZone => {
                Err(wire::refusal(code, &what))
            }
            code => Err(Obstacle::Unclear(format!("{what}: the server answered {}", wire::word(code)))),
        }
    }
}

#[async_trait]
impl Driver for Rfc2136 {
    async fn inspect(&self, step: &StepContext) -> Result<Inspection, Obstacle> {
        let attributes = Attributes::parse(&step.resource, &step.attributes)?;
        where_pinned(step, self.look(&attributes, step.time_left()).await?)
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
        only_remove(step)?;
        let may = || permit.again().map(drop);
        self.remove(&Targets::parse(&step.resource, &step.targets)?, step.time_left(), &may).await
    }

    async fn presence(&self, step: &StepContext) -> Result<(Presence, String), Obstacle> {
        self.seen(&Targets::parse(&step.resource, &step.targets)?, step.time_left()).await
    }
}
