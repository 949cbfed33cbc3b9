//! What censuses have listed and nobody has registered, as both footings keep it.
//!
//! A trait of its own, since nothing of it decides about a deletion. It is written with the census that is believed
//! ([`Ledger::take_census`](crate::Ledger::take_census)), and read here.
use async_trait::async_trait;
use sexton_model::belts::census::findings::{Kept, Known};
use sexton_model::id::Name;
use sexton_model::{Kind, Scope};

use crate::LedgerError;

/// Which strangers.
#[derive(Debug, Clone, Default)]
pub struct StrangerFilter {
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Only of censuses that speak of this scope: of it, of one around it, or of one below it.
    pub scope: Option<Scope>,
    /// The same of any of these; none: of all.
    pub scopes: Option<Vec<Scope>>,
    /// Behind this.
    pub after: Option<Mark>,
    /// At most so many, 1 to 1000.
    pub limit: u32,
}

/// A place among strangers, which ascend by the scope of their census, their kind and their name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The scope of a census.
    pub scope: Scope,
    /// Its kind.
    pub kind: Kind,
    /// Behind this one of it; none: before its first one.
    pub name: Option<Name>,
}

impl Mark {
    /// Behind this one.
    pub fn behind(kept: &Kept) -> Self {
        let id = &kept.stranger.id;
        Self { scope: kept.listed_in.clone(), kind: id.kind.clone(), name: Some(id.name.clone()) }
    }
}

/// One that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrangerView {
    /// Which.
    pub kept: Kept,
    /// Whether one of its name is registered by now, or has a live record: that sees to it, though hard has taken it from the
    /// inventory.
    pub registered: bool,
}

/// What is read of strangers, all of one moment.
#[derive(Debug, Clone)]
pub struct Strangers {
    /// What is known of the censuses that have listed them.
    pub known: Known,
    /// They, ascending by their census's scope and by themselves.
    pub views: Vec<StrangerView>,
    /// Whether there are more behind the last one.
    pub more: bool,
}

/// Reading what nobody has registered.
#[async_trait]
pub trait Findings: Send + Sync {
    /// One page.
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn strangers(&self, filter: &StrangerFilter) -> Result<Strangers, LedgerError>;
}

/// Where a page begins, as the statements take it: behind these two.
pub(crate) fn behind(filter: &StrangerFilter) -> (String, String) {
    let resource = |Mark { kind, name, .. }: &Mark| {
        let name = name.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{kind}/{name}")
    };
    let after = filter.after.as_ref();
    after.map(|mark| (mark.scope.to_string(), resource(mark))).unwrap_or_default()
}

/// What was read, of which one more than `limit` was, if there is one.
pub(crate) fn page(known: Known, mut views: Vec<StrangerView>, limit: u32) -> Strangers {
    let more = views.len() > limit as usize;
    views.truncate(limit as usize);
    Strangers { known, views, more }
}
