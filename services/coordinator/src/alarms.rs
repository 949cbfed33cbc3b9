//! Alarms and the daily digest: found in the job table, and told by routes that need neither broker nor consumers.
//!
//! Contract: [`Alarmer::tick`] looks ([`gather`]), notes what begins and ceases to hold, and tells what is to be told
//! ([`tell`]). What an alarm is, when it is told again and how long a route that failed is left alone is decided by
//! `sexton_model::alarm`; that it is told once, however many coordinators there are, by leases in the job table. Where the
//! job table itself cannot be reached, nobody can have a lease: then each process tells that by itself, once (`outage`).
//!
//! Two routes of different kinds are wanted, since one of them may be what is broken. Whoever has fewer is told so by the
//! log and by `sexton health`.
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::NaiveTime;
use chrono_tz::Tz;
use sexton_ledger::{Found, Ledger, LedgerError, Noted};
use sexton_model::Timestamp;
use sexton_model::alarm::{Alarm, BackOff, Rules, hold};
use sexton_model::digest::Daily;

use crate::hindrance::Hindrance;

pub mod command;
pub mod gather;
mod lacking;
pub(crate) mod listing;
pub mod mail;
mod outage;
pub mod route;
pub mod section;
pub mod tell;
pub mod webhook;

use outage::Outage;
pub use route::{Route, RouteKind};
pub use section::AlarmsSection;

/// Longest wait for one answer of the job table: then it counts as one that cannot be reached.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How often a process ticks: whoever is called hears of it within seconds.
const EVERY: Duration = Duration::from_secs(5);
/// How often somebody looks for alarms unless configured, in milliseconds.
const ROUND_MS: u64 = 30_000;
/// What a process says of itself is said again so often while it holds: well before nobody believes it any more.
const OWN_EVERY: Duration = Duration::from_secs(60);

/// What is told, when, and by which routes.
#[derive(Clone)]
pub struct Options {
    /// By which routes; at most one of each kind.
    pub routes: Vec<Arc<dyn Route>>,
    /// When the digest is made.
    pub daily: Daily,
    /// What counts as overdue.
    pub rules: Rules,
    /// What this process is called, different from every other's and the same after a restart.
    pub name: String,
    /// How often it ticks.
    pub every: Duration,
    /// How often somebody looks for alarms, of all processes, in milliseconds.
    pub round_ms: u64,
    /// How long the job table has to be out of reach before that is told.
    pub outage: Duration,
    /// How long the first answer of a tick may take before the job table counts as out of reach.
    pub answer: Duration,
    /// How long a route that has failed is left alone.
    pub back_off: BackOff,
    /// What nobody finds out because nothing is configured for it: the digest says so each day.
    pub lacks: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            daily: Daily { at: NaiveTime::from_hms_opt(8, 0, 0).unwrap_or_default(), zone: Tz::UTC },
            rules: Rules::default(),
            name: "coordinator".to_owned(),
            every: EVERY,
            round_ms: ROUND_MS,
            outage: Duration::from_secs(60),
            answer: ANSWER_MAX,
            back_off: BackOff::default(),
            lacks: Vec::new(),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let routes: Vec<&str> = self.routes.iter().map(|route| route.kind().word()).collect();
        f.debug_struct("Options").field("name", &self.name).field("routes", &routes).finish_non_exhaustive()
    }
}

/// What this process has said of itself last.
#[derive(Debug, Default)]
struct Said {
    at: Option<Instant>,
    holds: BTreeSet<String>,
}

impl Said {
    /// Whether there is nothing to say: what holds is what was said, and that was lately, or nothing. What was said before a restart is
    /// not known, so the first tick says it in any case.
    fn suffices(&self, holds: &BTreeSet<String>) -> bool {
        let lately = self.at.is_some_and(|at| at.elapsed() < OWN_EVERY);
        self.at.is_some() && self.holds == *holds && (lately || holds.is_empty())
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Alarmer {
    options: Options,
    said: Mutex<Said>,
    /// Of purges without a receipt.
    said_lacking: Mutex<Said>,
    outage: Mutex<Outage>,
}

impl Alarmer {
    /// One that goes by these options.
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// How often it ticks.
    pub fn every(&self) -> Duration {
        self.options.every
    }

    /// When the digest is made.
    pub fn daily(&self) -> Daily {
        self.options.daily
    }

    /// What nobody finds out because nothing is configured for it.
    pub fn unguarded(&self) -> &[String] {
        &self.options.lacks
    }

    /// What counts as overdue.
    pub fn rules(&self) -> Rules {
        self.options.rules
    }

    /// The routes' words.
    pub fn routes(&self) -> impl Iterator<Item = RouteKind> {
        self.options.routes.iter().map(|route| route.kind())
    }

    /// Why nobody might hear of an alarm: there are not two routes of different kinds.
    pub fn lacks(&self) -> Option<String> {
        let kinds: BTreeSet<RouteKind> = self.routes().collect();
        let known = RouteKind::ALL.map(RouteKind::word).join(", ");
        match kinds.len() {
            0 => Some(format!("alarms are told nobody: expected two of {known} in [alarms]")),
            1 => {
                let only = kinds.first().map_or("", |kind| kind.word());
                Some(format!(
                    "alarms have no second route beside {only}: expected two of {known} in [alarms]"
                ))
            }
            _ => None,
        }
    }

    /// Look, note, tell. Each part is done although another one fails; the next tick tries again.
    ///
    /// # Errors
    /// The first error of the job table.
    pub async fn tick(&self, ledger: &dyn Ledger, hindrances: &[Hindrance]) -> Result<(), LedgerError> {
        // Writes, so that a job table which only answers readers does not count as one that is there.
        let begin = ledger.begin_alarm_round(self.options.round_ms);
        let begun = answered_within(self.options.answer, begin).await;
        self.note_outage(begun.as_ref().err()).await;
        let looked = match begun? {
            Some(since) => self.look(ledger, since).await,
            None => Ok(()),
        };
        let own = self.say(ledger, hindrances).await;
        let told = self.tell(ledger).await;
        let digest = self.tell_digest(ledger).await;
        looked.and(own).and(told).and(digest)
    }

    /// What holds in the job table.
    async fn look(&self, ledger: &dyn Ledger, since: Timestamp) -> Result<(), LedgerError> {
        let (hold, open) = gather::alarms(ledger, self.options.rules).await?;
        let over = lacking::over(ledger, &open).await;
        let found = Found { owner: String::new(), since, hold, over };
        log(&answered(ledger.note_alarms(found)).await?);
        Ok(())
    }

    /// What holds of this process alone.
    async fn say(&self, ledger: &dyn Ledger, hindrances: &[Hindrance]) -> Result<(), LedgerError> {
        let hold: Vec<Alarm> = hindrances.iter().filter_map(|why| self.own(why)).collect();
        let holds: BTreeSet<String> = hold.iter().map(Alarm::key).collect();
        if self.said.lock().unwrap_or_else(PoisonError::into_inner).suffices(&holds) {
            return Ok(());
        }
        let since = answered(ledger.facts()).await?.now;
        let found = Found { owner: self.options.name.clone(), since, hold, over: BTreeSet::new() };
        log(&answered(ledger.note_alarms(found)).await?);
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Said { at: Some(Instant::now()), holds };
        Ok(())
    }

    fn own(&self, why: &Hindrance) -> Option<Alarm> {
        match why {
            Hindrance::Witness { stale } => Some(hold::orders_stopped(&self.options.name, stale.as_secs())),
            // Of all: seen in the job table.
            Hindrance::Review => None,
            Hindrance::Checkpoints { why } => Some(hold::audit_trail(&self.options.name, why)),
            Hindrance::Calendar { why } => Some(hold::calendar(&self.options.name, why)),
        }
    }
}

/// An answer of the job table, or that it gives none: a connection that hangs is as good as none.
pub(crate) async fn answered<T>(
    asked: impl Future<Output = Result<T, LedgerError>>,
) -> Result<T, LedgerError> {
    answered_within(ANSWER_MAX, asked).await
}

async fn answered_within<T>(
    most: Duration,
    asked: impl Future<Output = Result<T, LedgerError>>,
) -> Result<T, LedgerError> {
    match tokio::time::timeout(most, asked).await {
        Ok(answer) => answer,
        Err(late) => Err(LedgerError::Store { doing: "waiting for an answer", source: Box::new(late) }),
    }
}

fn log(noted: &Noted) {
    for raised in &noted.raised {
        let alarm = &raised.alarm;
        tracing::error!(alarm = raised.id, kind = %alarm.kind, about = %alarm.subject, "an alarm: {}", alarm.text);
    }
    for ended in &noted.ended {
        let alarm = &ended.alarm;
        tracing::info!(alarm = ended.id, kind = %alarm.kind, about = %alarm.subject, "an alarm is over");
    }
}
