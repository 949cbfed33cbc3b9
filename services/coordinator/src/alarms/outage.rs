//! The job table cannot be reached: told by the process itself, once an outage and by each route, since nobody can keep
//! anywhere that it was told.
use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Instant, SystemTime};

use futures_util::future::join_all;
use sexton_ledger::LedgerError;
use sexton_model::Timestamp;
use sexton_model::alarm::{BackOff, Notice, Phase, Standing, hold};

use super::Alarmer;
use super::route::{Route, RouteKind, chain};

/// An outage, if there is one.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// Since when the job table gives no answer, by two clocks.
    since: Option<(Instant, Timestamp)>,
    /// How far each route is.
    routes: BTreeMap<RouteKind, Tried>,
}

/// How far a route is.
#[derive(Debug, Clone, Copy)]
enum Tried {
    Told,
    Failed { times: u16, at: Instant },
}

impl Outage {
    /// Whether a route is to be tried now.
    fn waits(&self, kind: RouteKind, back_off: BackOff) -> bool {
        match self.routes.get(&kind) {
            None => true,
            Some(Tried::Told) => false,
            Some(Tried::Failed { times, at }) => {
                at.elapsed().as_millis() >= u128::from(back_off.after_ms(*times))
            }
        }
    }

    fn note(&mut self, kind: RouteKind, told: bool) {
        let times = match self.routes.get(&kind) {
            Some(Tried::Failed { times, .. }) => times.saturating_add(1),
            Some(Tried::Told) | None => 1,
        };
        let tried = if told { Tried::Told } else { Tried::Failed { times, at: Instant::now() } };
        self.routes.insert(kind, tried);
    }
}

impl Alarmer {
    /// Note whether the job table was reached, and tell an outage that lasts, or the end of one that was told.
    pub(super) async fn note_outage(&self, error: Option<&LedgerError>) {
        let now = Timestamp::from(SystemTime::now());
        let (phase, since, kinds) = {
            let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
            match error {
                Some(_) => {
                    let (begun, since) = *outage.since.get_or_insert((Instant::now(), now));
                    if begun.elapsed() < self.options.outage {
                        return;
                    }
                    let back_off = self.options.back_off;
                    let kinds: Vec<RouteKind> =
                        self.routes().filter(|kind| outage.waits(*kind, back_off)).collect();
                    (Phase::Raised, since, kinds)
                }
                None => {
                    let Some((_, since)) = outage.since.take() else { return };
                    let told = std::mem::take(&mut outage.routes);
                    let told = told.into_iter().filter(|(_, tried)| matches!(tried, Tried::Told));
                    (Phase::Ended, since, told.map(|(kind, _)| kind).collect())
                }
            }
        };
        let why = error.map_or_else(|| "it answers again".to_owned(), |error| chain(error));
        let standing = Standing {
            id: 0,
            alarm: hold::job_table(&self.options.name, &why),
            raised_at: since,
            ended_at: (phase == Phase::Ended).then_some(now),
            acknowledged: None,
        };
        // Which job table it is cannot be asked.
        let notice = Notice::of_alarm("", phase, standing);
        let routes = self.options.routes.iter().filter(|route| kinds.contains(&route.kind()));
        join_all(routes.map(|route| self.hand_over_outage(&**route, phase, &notice))).await;
    }

    async fn hand_over_outage(&self, route: &dyn Route, phase: Phase, notice: &Notice) {
        let kind = route.kind();
        let delivered = route.deliver(notice).await;
        if let Err(why) = &delivered {
            tracing::error!(route = %kind, why, "nobody is told by it that the job table cannot be reached");
        }
        // Of the end of an outage nothing is kept: it is told if that is possible.
        if phase != Phase::Ended {
            let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
            outage.note(kind, delivered.is_ok());
        }
    }
}
