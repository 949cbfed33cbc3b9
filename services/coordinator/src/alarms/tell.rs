//! Telling: each route by itself, so that one that fails keeps no other waiting for longer than its time.
use std::cmp::Reverse;

use futures_util::future::join_all;
use sexton_ledger::{
    ALARMS_PAGE, AlarmView, Facts, Ledger, LedgerError, telling_of_alarm, telling_of_digest,
};
use sexton_model::access::Extent;
use sexton_model::alarm::{BackOff, Notice, Phase, Telling, due, due_once};
use sexton_model::digest::Digest;

use super::route::Route;
use super::{Alarmer, answered, gather};

/// Whoever tells something has so long to say what became of it, in milliseconds: longer than any route may take, and the
/// job table besides.
pub const LEASE_MS: u64 = 3 * super::route::TIMEOUT_MAX_MS;
/// Alarms that one route is told in one tick: then others have their turn.
const AT_ONCE: usize = 20;
/// Pages of alarms that are looked through in one tick.
const PAGES_MAX: usize = 8;

impl Alarmer {
    /// Tell what is to be told of alarms.
    pub(super) async fn tell(&self, ledger: &dyn Ledger) -> Result<(), LedgerError> {
        if self.options.routes.is_empty() {
            return Ok(());
        }
        let mut views: Vec<AlarmView> = Vec::new();
        for _ in 0..PAGES_MAX {
            let after = views.last().map_or(0, |view| view.standing.id);
            let page = answered(ledger.alarms_to_tell(after)).await?;
            let full = page.len() >= ALARMS_PAGE as usize;
            views.extend(page);
            if !full {
                break;
            }
        }
        views.sort_by_key(|view| (Reverse(view.standing.alarm.severity), view.standing.id));
        let facts = answered(ledger.facts()).await?;
        let routes = self.options.routes.iter();
        let told =
            join_all(routes.map(|route| tell_by(&**route, ledger, (&facts, self.options.back_off), &views)))
                .await;
        told.into_iter().collect()
    }

    /// Compose the day's digest, if it is time and nobody has, and tell it.
    pub(super) async fn tell_digest(&self, ledger: &dyn Ledger) -> Result<(), LedgerError> {
        let facts = answered(ledger.facts()).await?;
        let Some(day) = self.options.daily.due(facts.now) else { return Ok(()) };
        let body = match answered(ledger.digest(day)).await? {
            Some(body) => body,
            None => {
                let of = (day, self.options.daily);
                let (rules, lacks) = (self.options.rules, self.options.lacks.as_slice());
                let digest = gather::digest(ledger, of, rules, lacks, &Extent::Everywhere).await?;
                let body = serde_json::to_string(&digest).map_err(unwritable)?;
                // Whose was kept first is told.
                if answered(ledger.keep_digest(day, &body)).await? {
                    tracing::info!(%day, "the day's digest: {}", digest.headline());
                }
                answered(ledger.digest(day)).await?.unwrap_or(body)
            }
        };
        if self.options.routes.is_empty() {
            return Ok(());
        }
        let what = telling_of_digest(day);
        let told = answered(ledger.tellings(&what)).await?;
        let waits = |route: &&dyn Route| due_once(&of_route(&told, *route), facts.now, self.options.back_off);
        let routes: Vec<&dyn Route> =
            self.options.routes.iter().map(|route| &**route).filter(waits).collect();
        if routes.is_empty() {
            return Ok(());
        }
        let digest: Digest = serde_json::from_str(&body).map_err(unwritable)?;
        let notice = Notice::of_digest(&facts.ledger, digest);
        let tell = async |route: &dyn Route| {
            let seen = of_route(&told, route).tries;
            hand_over(route, ledger, (&what, seen), (Phase::Raised, &notice)).await.map(drop)
        };
        join_all(routes.into_iter().map(tell)).await.into_iter().collect()
    }
}

fn unwritable(error: serde_json::Error) -> LedgerError {
    LedgerError::Store { doing: "writing down a digest", source: Box::new(error) }
}

fn of_route(told: &[(String, Telling)], route: &dyn Route) -> Telling {
    let word = route.kind().word();
    told.iter().find(|(name, _)| name == word).map(|(_, telling)| telling.clone()).unwrap_or_default()
}

/// Tell one route all that it is to be told now, until it fails.
async fn tell_by(
    route: &dyn Route,
    ledger: &dyn Ledger,
    (facts, back_off): (&Facts, BackOff),
    views: &[AlarmView],
) -> Result<(), LedgerError> {
    let mut tried = 0;
    for view in views {
        let telling = of_route(&view.told, route);
        let Some(phase) = due(&view.standing, &telling, facts.now, back_off) else { continue };
        if tried >= AT_ONCE {
            break;
        }
        let what = telling_of_alarm(view.standing.id);
        let notice = Notice::of_alarm(&facts.ledger, phase, view.standing.clone());
        match hand_over(route, ledger, (&what, telling.tries), (phase, &notice)).await? {
            Handed::Over => tried += 1,
            Handed::BySomebodyElse => {}
            // What else is to be told by it would fail, too.
            Handed::InVain => break,
        }
    }
    Ok(())
}

/// What became of it.
enum Handed {
    Over,
    BySomebodyElse,
    InVain,
}

/// Claim it, hand it over, and say what became of it.
async fn hand_over(
    route: &dyn Route,
    ledger: &dyn Ledger,
    (what, seen): (&str, i64),
    (phase, notice): (Phase, &Notice),
) -> Result<Handed, LedgerError> {
    let kind = route.kind();
    if !answered(ledger.claim_telling(what, kind.word(), seen, LEASE_MS)).await? {
        return Ok(Handed::BySomebodyElse);
    }
    let delivered = route.deliver(notice).await;
    match &delivered {
        Ok(()) => tracing::info!(what, route = %kind, "told: {}", notice.title()),
        Err(why) => tracing::error!(what, route = %kind, why, "not told, and tried again later"),
    }
    let handed = if delivered.is_ok() { Handed::Over } else { Handed::InVain };
    let told = delivered.map(|()| phase);
    // If this is lost, the lease runs out, and it is told twice: better than not at all.
    if !answered(ledger.note_telling(what, kind.word(), seen + 1, told)).await? {
        tracing::warn!(what, route = %kind, "it took so long that somebody else may have told it, too");
    }
    Ok(handed)
}
