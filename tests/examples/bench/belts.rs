//! Which belts are in force in a run that says what they cost: as few as the product's settings leave, or all.
//!
//! Contract: the two differ by what the configuration says and by what people may say of a job table, and by nothing else. No
//! switch is there for the benchmark alone, so what no setting takes away is on in both. What is on stands in [`LIST`]; the
//! sections [`FEWEST`] and [`ALL`], and [`Belts::arrange`], make it so: whoever changes one of them changes the others.
//!
//! Both have the same inventory, so that the tables of both are as large.
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, ensure};
use sexton_coordinator::alarms::AlarmsSection;
use sexton_coordinator::settings::AuditSection;
use sexton_coordinator::{Alarmer, Canaries, Engine, Plans, hours, policy};
use sexton_ledger::Ledger;
use sexton_model::belts::Policy;
use sexton_model::belts::ceiling::{Ceiling, NewCeiling};
use sexton_model::belts::census::{Census, Listed};
use sexton_model::belts::resource_hold::NewHold;
use sexton_model::resource::Resource;
use sexton_model::{Actor, ResourceId, Scope, Timestamp};
use sexton_protocol::{BeaconSigner, BeaconVerifier};
use sexton_service::{Config, config};

use crate::machines;

/// What is on: what it is, with the fewest, and with all.
const LIST: [(&str, &str, &str); 13] = [
    ("budgets", "off (none = true)", "by count and by 100 per cent of a complete census; never exceeded"),
    ("census", "none was taken", "one with a sentinel, of three times as many as are retired"),
    ("ceilings", "one: a rehearsal's, purge", "that of the scope, at purge, and of 100 other scopes"),
    ("redundancy groups", "none", "of every tenth machine, each with another member that stays"),
    ("holds", "none stand (they are looked for)", "on 20 resources that stay"),
    ("protection", "none stands (it is looked for)", "of 100 resources, registered and configured"),
    (
        "canaries",
        "off",
        "a run in each round, by default in each day: a forged order, what is protected, what is over a budget",
    ),
    (
        "alarms",
        "looked for every hour, nobody is told",
        "looked for every 3 to 6 s, with a route; by default every 30 s",
    ),
    (
        "signed chain heads",
        "every day",
        "every 5 s: a chain once in each interval in which it grew; by default every 300 s, so mostly once",
    ),
    ("working hours", "always", "every day, with holidays; but a rehearsal, as this is, keeps none"),
    ("overrides", "none", "none: one loosens a belt"),
    (
        "whatever is set",
        "authentication, beacon, permits, fences, audit chains, receipts, pauses, healthy time",
        "the same",
    ),
    (
        "hardly there",
        "identity: the driver that is asked answers a constant; notice: announce and soft have no steps",
        "the same",
    ),
];

/// As few as settings leave. There is none that takes away authentication, beacon, permits, the audit trail, receipts,
/// or healthy time, and nothing takes away that holds, protection and pauses are looked for.
const FEWEST: &str = r#"[windows]
always = true
[budgets]
none = true
[canaries]
off = "what the belts cost is measured"
[alarms]
look_every_ms = 3600000
[audit]
checkpoint_secs = 86400
"#;

/// All of them, so that none stops anything. Heads are signed, and alarms looked for, much oftener than by default, so that
/// it happens once or twice in a round of seconds. What that costs is too much, and never too little: a chain is signed once
/// for each interval in which it grew, by default mostly once; all chains are looked through for what has grown sixty times as
/// often; and a look at all live records is taken some seven times as often.
/// [`Belts::settings`] adds what is protected.
const ALL: &str = r#"[windows]
zone = "UTC"
days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
from = "00:00"
to = "24:00"
holidays = "holidays.ics"
[budgets]
a_day = 1000000000
everywhere = 1000000000
percent = 100.0
scopes = [{ scope = "bench", a_day = 1000000000 }]
[census]
sentinels = [{ scope = "bench", resource = "vm/stays-000000" }]
[canaries]
answer_within_secs = 60
[alarms]
look_every_ms = 3000
command = { program = "true" }
[audit]
checkpoint_secs = 5
"#;

/// The calendar that [`ALL`] names.
const HOLIDAYS: &str = "BEGIN:VCALENDAR\r\n\
     BEGIN:VEVENT\r\nSUMMARY:New Year\r\nDTSTART;VALUE=DATE:20200101\r\nRRULE:FREQ=YEARLY\r\nEND:VEVENT\r\n\
     BEGIN:VEVENT\r\nSUMMARY:Christmas\r\nDTSTART;VALUE=DATE:20201225\r\nRRULE:FREQ=YEARLY\r\nEND:VEVENT\r\n\
     END:VCALENDAR\r\n";

/// For each machine that is retired so many others stay. A share of all is no limit then, also for what is admitted twice
/// because it did not begin in time.
const STAY: usize = 2;
/// Of those that stay, so many are protected; of these each is in some redundancy groups.
const PROTECTED: usize = 100;
/// And so many are held.
const HELD: usize = 20;
/// Every so many machines one is in a redundancy group.
const GROUP_EVERY: usize = 10;
/// Groups there are; a machine beyond these is in none, since two that go in one would wait for each other.
const GROUPS: usize = 2500;
/// Scopes that have a ceiling of their own, and nothing that is retired.
const CEILINGS: usize = 100;
/// Resources registered in one call.
const AT_ONCE: usize = 1000;
/// How long the canaries may take to be answered after the round, and heads to be signed before and after it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Which belts are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Belts {
    /// As few as settings leave.
    #[value(name = "none")]
    Fewest,
    /// All.
    #[value(name = "all")]
    All,
}

/// Print what is on in each.
pub fn print_list() {
    for (what, fewest, all) in LIST {
        println!("  {what}\n    none: {fewest}\n    all:  {all}");
    }
}

/// Who says what people say.
pub fn by() -> anyhow::Result<Actor> {
    Ok("bench".parse()?)
}

/// One that stays.
fn stays(n: usize) -> anyhow::Result<ResourceId> {
    Ok(format!("vm/stays-{n:06}").parse()?)
}

fn group(n: usize) -> String {
    format!("group-{n:04}")
}

/// The policy of a configuration, by the clock of this machine.
pub fn policy_of(config: &Config) -> anyhow::Result<Policy> {
    policy::read(config, Timestamp::from(SystemTime::now()))
}

impl Belts {
    /// The sections of the configuration, without what they have to have anyway.
    pub fn settings(self) -> String {
        match self {
            Self::Fewest => FEWEST.to_owned(),
            Self::All => {
                let names: Vec<String> = (0..PROTECTED).map(|n| format!("\"vm/stays-{n:06}\"")).collect();
                format!("{ALL}[protect]\nresources = [{}]\n", names.join(", "))
            }
        }
    }

    /// Write the sections, and the calendar that they name, into `folder`.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(self, folder: &Path) -> anyhow::Result<()> {
        let settings = self.settings();
        for (file, text) in [("belts.toml", settings.as_str()), ("holidays.ics", HOLIDAYS)] {
            let file = folder.join(file);
            std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        }
        Ok(())
    }

    /// The configuration of one process, with its files in `folder`.
    ///
    /// # Errors
    /// If the calendar cannot be written; if the settings are wrong, which would be a defect.
    pub fn configure(self, folder: &Path) -> anyhow::Result<Config> {
        self.write(folder)?;
        Ok(Config::parse(&folder.join("sexton.toml"), &self.settings(), config::SECTIONS)?)
    }

    /// Register what there is, and say what people say: before anything is due, and once the coordinator runs, which signs
    /// it.
    ///
    /// # Errors
    /// If the job table does not do it, or the census is not what it should be.
    pub async fn arrange(self, ledger: &dyn Ledger, machines: usize, rounds: usize) -> anyhow::Result<()> {
        let by = by()?;
        let now = ledger.facts().await?.now;
        let inventory = self.inventory(now, machines, rounds)?;
        for some in inventory.chunks(AT_ONCE) {
            for result in ledger.register(some.to_vec(), &by, true).await? {
                result?;
            }
        }
        match self {
            Self::Fewest => Ok(()),
            Self::All => {
                hold(ledger, &by).await?;
                set_ceilings(ledger, &by).await?;
                take_census(ledger, &by, &inventory, now).await?;
                signed(ledger).await
            }
        }
    }

    fn inventory(self, now: Timestamp, machines: usize, rounds: usize) -> anyhow::Result<Vec<Resource>> {
        let all = self == Self::All;
        let mut inventory = Vec::new();
        for round in 1..=rounds {
            for n in 0..machines {
                let mut one = machines::resource(&machines::name(round, n)?, now)?;
                if all && n % GROUP_EVERY == 0 && n / GROUP_EVERY < GROUPS {
                    one.groups = vec![group(n / GROUP_EVERY)];
                }
                inventory.push(one);
            }
        }
        for n in 0..PROTECTED.max(STAY * machines * rounds) {
            let mut one = machines::resource(&stays(n)?, now)?;
            if all && n < PROTECTED {
                one.protected = true;
                one.groups = (n..GROUPS).step_by(PROTECTED).map(group).collect();
            }
            inventory.push(one);
        }
        Ok(inventory)
    }
}

/// Some of those that are protected: whoever is protected may be held, too.
async fn hold(ledger: &dyn Ledger, by: &Actor) -> anyhow::Result<()> {
    for n in 0..HELD {
        let new = NewHold {
            resource: stays(n)?,
            origin: "legal".parse()?,
            reason: "bench".to_owned(),
            by: by.clone(),
        };
        ledger.hold_resource(new).await??;
    }
    Ok(())
}

async fn set_ceilings(ledger: &dyn Ledger, by: &Actor) -> anyhow::Result<()> {
    let mut wanted: Vec<(Scope, Ceiling)> = vec![("bench".parse()?, Ceiling::Purge)];
    for n in 0..CEILINGS {
        wanted.push((format!("elsewhere/tenant-{n:03}").parse()?, Ceiling::Observe));
    }
    for (scope, to) in wanted {
        let new = NewCeiling { scope: Some(scope), to: Some(to), by: by.clone(), reason: "bench".to_owned() };
        ledger.set_ceiling(new, None).await??;
    }
    Ok(())
}

/// Complete: of all that is registered.
async fn take_census(
    ledger: &dyn Ledger,
    by: &Actor,
    inventory: &[Resource],
    taken_at: Timestamp,
) -> anyhow::Result<()> {
    let one = |resource: &Resource| Listed {
        id: resource.id.clone(),
        scope: resource.scope.clone(),
        identity: None,
    };
    let mut listed: Vec<Listed> = inventory.iter().map(one).collect();
    listed.sort_by(|one, other| one.id.cmp(&other.id));
    let census = Census {
        kind: "vm".parse()?,
        scope: "bench".parse()?,
        credential: "bench".to_owned(),
        new_credential: false,
        fewer: false,
        more: false,
        taken_at,
        total: listed.len() as u64,
        listed,
        unregistered: Vec::new(),
        itself: false,
    };
    let taken = ledger.take_census(census, by).await??.taken;
    ensure!(
        taken.missing == 0 && taken.unknown == 0,
        "the census misses {} and does not know {}",
        taken.missing,
        taken.unknown
    );
    Ok(())
}

/// Wait until the heads of all chains are signed.
///
/// # Errors
/// If they are not in time, or the job table does not answer.
pub async fn signed(ledger: &dyn Ledger) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut after: Option<String> = None;
    loop {
        let grown = ledger.grown(after.as_deref()).await?;
        if !grown.heads.is_empty() {
            ensure!(began.elapsed() < PATIENCE, "not all heads were signed within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(250)).await;
            continue;
        }
        match grown.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

/// The engine as `sexton serve` has it with these settings; its witness is this file.
///
/// # Errors
/// If a setting is wrong.
pub fn furnish(
    engine: Engine,
    config: &Config,
    (plans, signer): (Arc<Plans>, Arc<BeaconSigner>),
    witness: &Path,
) -> anyhow::Result<Engine> {
    let canaries = Canaries::read(config, plans)?;
    let alarms: AlarmsSection = config.section("alarms")?;
    let audit: AuditSection = config.section("audit")?;
    let telling = alarms.options(config, witness)?;
    let alarmer = Alarmer::new(sexton_coordinator::alarms::Options { lacks: canaries.lacks(), ..telling });
    let attester = audit.attester(config, witness, (signer, BeaconVerifier::default()))?;
    let engine = engine.signing(Some(attester)).alarming(alarmer);
    Ok(engine.with_canaries(Some(canaries)).with_calendar(hours::Calendar::of(config)?))
}
