//! What the simulated hypervisor lists for a census, and how it lies about it.
use std::collections::BTreeMap;

use sexton_consumer::{CensusContext, Listed, Obstacle, Place};
use sexton_model::ResourceId;
use sexton_model::belts::census::listing::Entry;

use super::{PLACE, SimulatedDriver};
use crate::simulation::weather::Trouble;

/// Machines of one page, so that a few take several.
const PAGE: usize = 3;

impl SimulatedDriver {
    pub(super) async fn list(&self, asked: &CensusContext) -> Result<Listed, Obstacle> {
        self.call("census", None).await?;
        if self.subsystem.as_str() != "hypervisor" {
            return Err(asked.no_census());
        }
        let mut all: Vec<Entry> = self.truth().machines().into_iter().map(entry).collect();
        all.retain(|one| one.id.kind == asked.kind);
        let mut total = all.len();
        let behind = all.partition_point(|one| asked.after.as_ref().is_some_and(|after| one.id <= *after));
        let mut entries: Vec<Entry> = all.iter().skip(behind).take(PAGE.min(asked.most)).cloned().collect();
        let mut more = behind + entries.len() < total;
        if self.dice.happens_to(Trouble::Truncate, || self.doing("census", None)) {
            match self.dice.below(4) {
                // The end is left out, and counted.
                0 => {
                    entries.pop();
                    more = false;
                }
                // Another number than its own.
                1 if self.dice.below(2) == 0 => total += 1,
                1 => total = total.saturating_sub(1),
                // The end is left out, and not counted either.
                2 if asked.after.is_none() => {
                    entries = all.into_iter().take(total / 2).collect();
                    (more, total) = (false, total / 2);
                }
                // There is nothing.
                _ => {
                    entries.clear();
                    (more, total) = (false, 0);
                }
            }
        }
        let (credential, place) = ("simulated".to_owned(), Place(PLACE.to_owned()));
        Ok(Listed { entries, more, total: total as u64, credential, place })
    }
}

fn entry((id, uuid): (ResourceId, String)) -> Entry {
    let identity = BTreeMap::from([("uuid".to_owned(), uuid)]);
    Entry { id, identity: identity.try_into().ok() }
}
