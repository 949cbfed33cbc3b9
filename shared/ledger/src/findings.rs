//! What censuses have listed and nobody has registered, as both footings keep it.
//!
//! A trait of its own, since nothing of it decides about a deletion. It is written with the census that is believed
//! ([`Ledger::take_census`](crate::Ledger::take_census)), and read here.
use async_trait::async_trait;
use sexton_model::belts::census::findings::{Kept, Known};
use sexton_model::{Kind, ResourceId, Scope};

use crate::LedgerError;

/// Largest page.
pub(crate) const PAGE_MAX: u32 = 1000;

/// Which strangers.
#[derive(Debug, Clone, Default)]
pub struct StrangerFilter {
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Only of censuses that speak of this scope: of it, of one around it, or of one below it.
    pub scope: Option<Scope>,
    /// Behind this one: its census's scope, and itself.
    pub after: Option<(Scope, ResourceId)>,
    /// At most so many, 1 to 1000.
    pub limit: u32,
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
    let after = filter.after.as_ref();
    after.map(|(scope, id)| (scope.to_string(), id.to_string())).unwrap_or_default()
}

/// What was read, of which one more than `limit` was, if there is one.
pub(crate) fn page(known: Known, mut views: Vec<StrangerView>, limit: u32) -> Strangers {
    let more = views.len() > limit as usize;
    views.truncate(limit as usize);
    Strangers { known, views, more }
}
