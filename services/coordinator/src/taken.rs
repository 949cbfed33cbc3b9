//! Censuses that Sexton takes itself: every instance that lists the kind is asked, page after page, all at once, and what
//! came is assembled. Whether it is believed is judged as of one that was handed in.
//!
//! What is asked and what has come stands in the job table ([`sexton_ledger::Listings`]): any coordinator hears a page. Whoever
//! is asked for a census looks again and again ([`Taking::look`]), asks for the next page, and waits in between ([`take`]); if it
//! dies, there is no census. One that is taken without anybody asking is looked at by the ticks of all coordinators (`engine/censuses`).
use std::collections::BTreeMap;
use std::time::Duration;

use sexton_ledger::{LedgerError, NotDone, ResourceFilter};
use sexton_model::belts::census::Census;
use sexton_model::belts::census::assembled::{Meant, Registered, assembled};
use sexton_model::belts::census::daily::Seen;
use sexton_model::belts::census::listing::{
    Asked, INSTANCES_MAX, Listing, NewListing, NotTaken, Stands, paused,
};
use sexton_model::resource::Presence;
use sexton_model::{Actor, Instance, Kind, ResourceId, Scope, Subsystem, Timestamp};
use tokio::time::sleep;

use crate::engine::{ASK_AGAIN, Engine};
use crate::plans::Plans;

/// How often it is looked what has come.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Resources that are read at once.
const READ_AT_ONCE: u32 = 1000;

/// What is to be taken.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Who asks for it.
    pub by: Actor,
    /// Of which kind.
    pub kind: Kind,
    /// Of which scope, with those below it.
    pub scope: Scope,
    /// How long instances may take to list everything, in milliseconds.
    pub within_ms: u64,
    /// What is meant.
    pub meant: Meant,
    /// If nobody asks for it, and it was time: what was known then.
    pub seen: Option<Seen>,
}

/// One that is being taken.
#[derive(Debug)]
pub struct Taking {
    listing: Listing,
    subsystem: Subsystem,
    meant: Meant,
    /// The page that each was asked for last, and when.
    asked: BTreeMap<Instance, (u32, Timestamp)>,
}

/// Take it: not believed yet, and nothing is written down of it.
///
/// # Errors
/// If the job table did not answer. That there is no census is the inner result.
pub async fn take(
    engine: &Engine,
    plans: &Plans,
    wanted: Wanted,
) -> Result<Result<Census, NotDone>, LedgerError> {
    let mut taking = match Taking::begin(engine, plans, wanted).await? {
        Ok(taking) => taking,
        Err(why) => return Ok(Err(why)),
    };
    let came = taking.wait(engine).await;
    taking.end(engine).await;
    came
}

impl Taking {
    /// Write down what is to be listed; nobody is asked yet.
    ///
    /// # Errors
    /// If the job table did not answer. That it cannot be taken is the inner result.
    pub async fn begin(
        engine: &Engine,
        plans: &Plans,
        wanted: Wanted,
    ) -> Result<Result<Self, NotDone>, LedgerError> {
        let Wanted { by, kind, scope, within_ms, meant, seen } = wanted;
        let Some(subsystem) = plans.catalogue().lister(&kind) else {
            return Ok(Err(NotTaken::NobodyLists(kind).into()));
        };
        let instances = match instances(engine, subsystem) {
            Ok(instances) => instances,
            Err(why) => return Ok(Err(why.into())),
        };
        if let Some(why) = paused(&engine.ledger.pauses().await?, &kind, &scope, subsystem) {
            return Ok(Err(why.into()));
        }
        let new = NewListing { by, kind, scope, within_ms, instances, seen };
        let begun = engine.ledger.begin_listing(new).await?;
        let (subsystem, asked) = (subsystem.clone(), BTreeMap::new());
        Ok(begun.map(|listing| Self { listing, subsystem, meant, asked }))
    }

    /// One that is kept, and was begun because it was due: whoever looks goes on with it. Nothing if nobody lists its kind any
    /// more.
    pub(crate) fn kept(plans: &Plans, listing: Listing) -> Option<Self> {
        let subsystem = plans.catalogue().lister(&listing.kind)?.clone();
        Some(Self { listing, subsystem, meant: Meant::default(), asked: BTreeMap::new() })
    }

    /// Look what has come, and ask for what has not; the census once everything has, or that there is none once it is known.
    ///
    /// # Errors
    /// If the job table did not answer.
    pub async fn look(&mut self, engine: &Engine) -> Result<Option<Result<Census, NotDone>>, LedgerError> {
        match engine.ledger.listing(self.listing.id).await? {
            Some(by_now) => self.listing = by_now,
            None => return Ok(Some(Err(NotTaken::Gone.into()))),
        }
        let now = engine.ledger.facts().await?.now;
        match self.listing.stands(now) {
            Stands::Open => {}
            Stands::Not(why) => return Ok(Some(Err(why.into()))),
            Stands::Whole => {
                let pages = engine.ledger.listed(self.listing.id).await?;
                let registered = registered(engine, &self.listing.kind, &self.subsystem).await?;
                let census = assembled(&self.listing, &pages, &registered, self.meant);
                // Whoever reads the log sees all scopes.
                if let Err(NotTaken::Twice { id, one, other, .. }) = &census {
                    tracing::warn!(%id, %one, %other, "one is at two instances: there is no census");
                }
                return Ok(Some(census.map_err(NotDone::from)));
            }
        }
        let due = |of: &Asked| {
            let before = self.asked.get(&of.instance);
            before.is_none_or(|(pages, at)| {
                *pages != of.pages || Duration::from_millis(now.ms_since(*at)) >= ASK_AGAIN
            })
        };
        let pages: Vec<_> = self.listing.open().filter(|(of, _)| due(of)).collect();
        let asking: Vec<_> = pages.iter().map(|(of, _)| (of.instance.clone(), (of.pages, now))).collect();
        engine.ask_for_pages(&self.listing, pages, now).await;
        self.asked.extend(asking);
        Ok(None)
    }

    /// Look until everything has come, or it is known that there is no census.
    async fn wait(&mut self, engine: &Engine) -> Result<Result<Census, NotDone>, LedgerError> {
        loop {
            match self.look(engine).await? {
                Some(came) => return Ok(came),
                None => sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Put away what has come.
    pub async fn end(self, engine: &Engine) {
        let id = self.listing.id;
        if let Err(error) = engine.ledger.end_listing(id).await {
            tracing::warn!(listing = id, %error, "what was listed for a census is put away later");
        }
    }
}

/// Whoever has a key and lists it: no other can ever answer.
fn instances(engine: &Engine, subsystem: &Subsystem) -> Result<Vec<Instance>, NotTaken> {
    let mut known: Vec<Instance> =
        engine.known().filter(|instance| instance.subsystem == *subsystem).cloned().collect();
    known.sort();
    match known.len() {
        0 => Err(NotTaken::NoInstance(subsystem.clone())),
        found if found > INSTANCES_MAX => Err(NotTaken::TooManyInstances { found }),
        _ => Ok(known),
    }
}

/// All of a kind that are registered, in whichever scope.
async fn registered(
    engine: &Engine,
    kind: &Kind,
    subsystem: &Subsystem,
) -> Result<BTreeMap<ResourceId, Registered>, LedgerError> {
    let mut all = BTreeMap::new();
    let mut filter =
        ResourceFilter { kind: Some(kind.clone()), limit: READ_AT_ONCE, ..ResourceFilter::default() };
    loop {
        let page = engine.ledger.resources(&filter).await?;
        for view in page.items.into_iter().filter(|view| view.presence == Presence::Registered) {
            let (resource, instance) = (&view.resource, view.resource.instance_of(subsystem));
            let (scope, identity) = (resource.scope.clone(), resource.identity.clone());
            all.insert(resource.id.clone(), Registered { scope, identity, instance });
        }
        filter.after = match page.next {
            None => return Ok(all),
            next => next,
        };
    }
}
