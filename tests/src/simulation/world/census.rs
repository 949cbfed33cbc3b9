//! Censuses: one that a coordinator takes as a person has asked for it, by looks at what has come, and what came in the end; and
//! those that coordinators take without being asked, of which is seen what was listed, and what was believed.
use std::collections::BTreeSet;

use sexton_coordinator::taken::{Taking, Wanted};
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Censuses as _, Ledger as _, Listings as _, NotDone};
use sexton_model::belts::census::assembled::Meant;
use sexton_model::belts::census::daily::{EVERY_HOURS, Take};
use sexton_model::belts::census::{Census, NotBelieved, Taken};
use sexton_model::resource::Presence;
use sexton_model::{ResourceId, Timestamp};

use super::{World, held};
use crate::simulation::allowed::SCOPES;
use crate::simulation::check::{Violation, censuses};
use crate::simulation::platform::Machines;
use crate::simulation::script::{KINDS, Person};

/// Between two looks, in milliseconds.
const LOOK_EVERY_MS: u64 = 200;
/// Within so many milliseconds everything has to be listed.
const WITHIN_MS: u64 = 20_000;
/// The scope that all are in.
const ALL: &str = "tenants";
/// One that was believed.
pub const BELIEVED: &str = "census believed";
/// One that was not, or that there is none.
pub const REFUSED: &str = "census refused";

/// One that nobody has asked for was believed.
pub const BELIEVED_WHEN_DUE: &str = "due census believed";

/// What coordinators take without being asked: of everything, once a day.
pub(super) fn daily() -> Take {
    Take {
        kind: KINDS[0].parse().unwrap(),
        scope: ALL.parse().unwrap(),
        every_hours: EVERY_HOURS,
        within_secs: WITHIN_MS / 1000,
    }
}

/// One that is being taken.
pub(super) struct BeingTaken {
    taking: Taking,
    /// By which coordinator.
    pub(super) by: usize,
    pub(super) look_at: Timestamp,
    /// What was there when it was begun.
    before: Machines,
}

impl World {
    /// Have one taken of all scopes, or of the one with this number from one on. Whether it is begun.
    pub(in crate::simulation) async fn begin_census(&mut self, number: usize) -> bool {
        let mut running = self.coordinators.iter().enumerate();
        let running = running.find_map(|(by, one)| Some((by, one.as_ref().ok()?.engine.clone())));
        let Some((by, engine)) = running.filter(|_| self.census.is_none()) else { return false };
        let scope = number.checked_sub(1).map_or(ALL, |number| SCOPES[number]);
        let before = held(&self.truth).machines();
        let ours = |vm: &&ResourceId| censuses::within(self.script.scope_of(vm), scope);
        let there = before.keys().filter(ours).count();
        // People say that fewer are meant if there are fewer than were counted last.
        let fewer = self.checker.budgets.as_ref().is_some_and(|budgets| budgets.counted_last(scope) > there);
        let wanted = Wanted {
            by: Person::Ops.actor(),
            kind: KINDS[0].parse().unwrap(),
            scope: scope.parse().unwrap(),
            within_ms: WITHIN_MS,
            meant: Meant { fewer, ..Meant::default() },
            seen: None,
        };
        let Ok(Ok(taking)) = Taking::begin(&engine, &self.plans[0], wanted).await else { return false };
        self.census = Some(BeingTaken { taking, by, look_at: self.time.now(), before });
        true
    }

    /// Look what has come of it.
    ///
    /// # Errors
    /// If it is believed, and is not the truth.
    pub(super) async fn look_at_census(&mut self) -> Result<(), Violation> {
        let Some(mut census) = self.census.take() else { return Ok(()) };
        let Ok(one) = &self.coordinators[census.by] else { return Ok(()) };
        let engine = one.engine.clone();
        let came = match census.taking.look(&engine).await {
            Ok(None) => {
                census.look_at = self.time.now().plus_ms(LOOK_EVERY_MS);
                self.census = Some(census);
                return Ok(());
            }
            Ok(Some(came)) => came.map_err(|why| why.to_string()),
            Err(error) => Err(error.to_string()),
        };
        census.taking.end(&engine).await;
        match came {
            Ok(came) => self.hand_in(came, &census.before).await,
            Err(why) => {
                self.refused(&why);
                Ok(())
            }
        }
    }

    async fn hand_in(&mut self, census: Census, before: &Machines) -> Result<(), Violation> {
        let Some(ledger) = self.ledger.clone() else { return Ok(()) };
        let counted = match ledger.take_census(census.clone(), &Person::Ops.actor()).await.unwrap() {
            Ok(counted) => counted,
            Err(why) => {
                self.refused(&why.to_string());
                if matches!(why, NotDone::Census(NotBelieved::Fewer { .. })) {
                    // If many are gone that nobody asked to delete, it has paused their scope.
                    let pauses = ledger.pauses().await.unwrap();
                    self.checker.pauses.stand(&pauses, self.time.now());
                    let after = held(&self.truth).machines();
                    censuses::too_few(&self.script, &census, (before, &after))?;
                }
                return Ok(());
            }
        };
        self.dice.count(BELIEVED);
        self.say(format!("a census of {} is believed: {:?}", census.scope, counted.taken.counts));
        let after = held(&self.truth).machines();
        censuses::believed(&self.script, (&census, &counted.taken), (before, &after))?;
        if let Some(budgets) = &mut self.checker.budgets {
            budgets.census(counted.taken);
        }
        // The same as above.
        let pauses = ledger.pauses().await.unwrap();
        self.checker.pauses.stand(&pauses, self.time.now());
        Ok(())
    }

    /// What was listed since the last look, and what was believed of that which nobody has asked for.
    ///
    /// # Errors
    /// If it is not the truth, or was not due.
    pub(super) async fn look_at_those_due(&mut self, ledger: &SqliteLedger) -> Result<(), Violation> {
        for listing in ledger.listings().await.unwrap() {
            let key = (listing.begun_at, listing.scope.to_string());
            self.listed.entry(key).or_insert_with(|| held(&self.truth).machines());
        }
        let Some(budgets) = &self.checker.budgets else { return Ok(()) };
        let all = ledger.censuses().await.unwrap();
        let new: Vec<Taken> = all.into_iter().filter(|taken| !budgets.knows_census(taken.census)).collect();
        for taken in new {
            self.dice.count(BELIEVED_WHEN_DUE);
            self.say(format!("a census of {} that was due is believed: {:?}", taken.scope, taken.counts));
            let key = (taken.taken_at, taken.scope.to_string());
            let after = held(&self.truth).machines();
            let before = self.listed.get(&key).cloned().unwrap_or_else(|| after.clone());
            let mut registered = BTreeSet::new();
            for (vm, uuid) in &after {
                let view = ledger.resource(vm).await.unwrap();
                let view = view.filter(|view| view.presence == Presence::Registered);
                let own = view.is_some_and(|view| view.resource.identity.get("uuid") == Some(uuid.as_str()));
                if own {
                    registered.insert(vm.clone());
                }
            }
            censuses::believed_when_due(&self.script, &taken, (&before, &after), &registered)?;
            if let Some(budgets) = &mut self.checker.budgets {
                censuses::due(&taken, budgets.last_census(taken.scope.as_str()))?;
                budgets.census(taken);
            }
        }
        Ok(())
    }

    fn refused(&mut self, why: &str) {
        self.dice.count(REFUSED);
        self.say(format!("there is no census: {why}"));
    }
}
