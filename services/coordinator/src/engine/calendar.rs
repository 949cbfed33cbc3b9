//! The calendar of holidays, as it changes.
use sexton_ledger::LedgerError;

use crate::engine::Engine;
use crate::hours;

impl Engine {
    /// Read the calendar of holidays again if it has changed, go by it if it can be used, and say in the log that no holiday
    /// is known of any more, if so.
    ///
    /// # Errors
    /// If the ledger's clock cannot be read; the next tick tries again.
    pub async fn tend_calendar(&self) -> Result<(), LedgerError> {
        let facts = self.ledger.facts().await?;
        if let Some(calendar) = self.calendar.clone() {
            let now = facts.now;
            // A file on a slow disk keeps nobody else waiting.
            let looked = tokio::task::spawn_blocking(move || calendar.look(now)).await;
            let windows = looked.unwrap_or_else(|error| {
                tracing::error!(%error, "the calendar of holidays could not be looked at");
                None
            });
            if let Some(windows) = windows.filter(|new| self.ledger.policy().windows.as_ref() != Some(new)) {
                let until = windows.last_holiday().map_or("none are known".to_owned(), |day| day.to_string());
                tracing::info!(holidays_until = until, "the calendar of holidays has changed");
                self.ledger.keep_hours(windows);
            }
        }
        let policy = self.ledger.policy();
        let Some(windows) = &policy.windows else { return Ok(()) };
        if let Some(why) = hours::outlived(windows, facts.now).filter(|_| !facts.day.is_rehearsal()) {
            tracing::warn!("{why}");
        }
        Ok(())
    }
}
