//! Credit that is free, and who gets it.
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use sexton_ledger::LedgerError;
use sexton_model::decide::Lane;
use sexton_model::{Instance, JobId};

use super::Engine;

/// Most jobs claimed for one instance at once: one batch of the ledger.
const CLAIM_MAX: u32 = 256;
/// Jobs of a line that are tried even if the last ones were refused for want of credit.
const TASTE: u32 = 16;

impl Engine {
    /// Give free credit to what waits for it. Returns how many jobs went on.
    ///
    /// # Errors
    /// If the ledger could not be asked; the next tick tries again.
    pub async fn refill(&self) -> Result<usize, LedgerError> {
        if self.reviewing.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let mut found: Vec<JobId> = self.ledger.next_for(None, Lane::Stages, CLAIM_MAX).await?;
        let mut lines = Vec::new();
        let mut free: Vec<_> = self.ledger.free_credit().await?.into_iter().collect();
        // Restores go first: hands that they take are not there for stages.
        free.sort_by_key(|((_, lane), _)| *lane != Lane::Restores);
        for (line, free) in free {
            let most = free.min(self.appetite(&line));
            if most > 0 {
                let begin = found.len();
                found.extend(self.ledger.next_for(Some(&line.0), line.1, most).await?);
                lines.push((line, begin..found.len()));
            }
        }
        let results = self.claim(found).await?;
        for (line, range) in lines {
            let went_on = results.get(range.clone()).unwrap_or_default().iter().filter(|r| r.is_ok()).count();
            self.sated(line, went_on, range.len());
        }
        Ok(results.iter().filter(|r| r.is_ok()).count())
    }

    /// How many jobs to try of a line: free credit is the most that is configured, and what the consumers can do may be
    /// less. Each that is refused was read for nothing.
    fn appetite(&self, line: &(Instance, Lane)) -> u32 {
        let appetite = self.appetite.lock().unwrap_or_else(PoisonError::into_inner);
        appetite.get(line).copied().unwrap_or(CLAIM_MAX)
    }

    fn sated(&self, line: (Instance, Lane), went_on: usize, tried: usize) {
        let went_on = u32::try_from(went_on).unwrap_or(CLAIM_MAX);
        let refused = usize::try_from(went_on).is_ok_and(|went_on| went_on < tried);
        let mut appetite = self.appetite.lock().unwrap_or_else(PoisonError::into_inner);
        let last = appetite.get(&line).copied().unwrap_or(CLAIM_MAX);
        let next = if refused { went_on.max(TASTE) } else { last.saturating_mul(2).min(CLAIM_MAX) };
        appetite.insert(line, next);
    }
}
