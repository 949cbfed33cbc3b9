//! Checking chains by the page, the same on both footings: which come next, and which do not hold.
use std::collections::BTreeMap;

use sexton_model::DeletionId;
use sexton_model::audit::{self, Broken, Hash};

use crate::Verified;

/// The chain of pauses and reviews; no resource's id is written without a slash.
pub(crate) const PAUSES: &str = "pauses";

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum From {
    /// With the chain of pauses, then resources behind this id.
    Ledger { pauses: bool, after: String },
    /// With deletions behind this one.
    Deletions(i64),
}

impl From {
    /// What `after` means; what is nobody's `next` is taken for a resource's id.
    pub(crate) fn parse(after: Option<&str>) -> Self {
        match after {
            None => Self::Ledger { pauses: true, after: String::new() },
            Some("deletions") => Self::Deletions(0),
            Some(text) => match text.parse::<DeletionId>() {
                Ok(id) => Self::Deletions(id.0),
                Err(_) => Self::Ledger { pauses: false, after: text.to_owned() },
            },
        }
    }
}

/// The end of one chain, as its owner's row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) chain: String,
    pub(crate) seq: i64,
    pub(crate) hash: Hash,
}

/// One event: its chain, number, body and hash.
pub(crate) type Link = (String, i64, String, Hash);

/// Check chains. `links` are all of theirs, ascending within each; `full` says that there may be more behind them.
pub(crate) fn verify(from: &From, ends: Vec<End>, links: Vec<Link>, full: bool) -> Verified {
    let mut of: BTreeMap<String, Vec<(i64, String, Hash)>> = BTreeMap::new();
    for (chain, seq, body, hash) in links {
        of.entry(chain).or_default().push((seq, body, hash));
    }
    let next = match (from, full) {
        (_, true) => ends.last().map(|end| end.chain.clone()),
        (From::Ledger { .. }, false) => Some("deletions".to_owned()),
        (From::Deletions(_), false) => None,
    };
    let checked = ends.len() as u64;
    let broken: Vec<(String, Broken)> = ends
        .into_iter()
        .filter_map(|end| {
            let links = of.remove(&end.chain).unwrap_or_default();
            let links = links.iter().map(|(seq, body, hash)| (*seq, body.as_bytes(), *hash));
            let broken = audit::verify(links, (end.seq, end.hash)).err()?;
            Some((end.chain, broken))
        })
        .collect();
    Verified { checked, broken, next }
}
