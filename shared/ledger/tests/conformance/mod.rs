//! What both footings must do. A footing's test file makes a [`Fixture`] and names this module's scenarios
//! through [`conformance_tests!`]; every scenario gets a ledger of its own.
//!
//! Nothing here sleeps for luck: a rehearsal's day is a few milliseconds, and whoever waits for a moment polls
//! the ledger's own clock, for a bounded time.
mod belts;
mod cancel;
mod chains;
mod inventory;
mod life;
mod listing;
mod people;
mod stage;

use std::sync::Arc;

use async_trait::async_trait;
use sexton_ledger::{Ledger, Options};
use sexton_model::DeletionId;

pub use self::life::*;

/// One store, which can be opened again and tampered with.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// Open the ledger, creating it the first time. The handle that was opened before is dropped, without any
    /// farewell, before it is opened again.
    async fn open(&self, options: Options) -> Arc<dyn Ledger>;

    /// Open it, and say why it could not be.
    async fn try_open(&self, options: Options) -> Result<Arc<dyn Ledger>, sexton_ledger::LedgerError>;

    /// Try to UPDATE and to DELETE every event of the audit trail (and of the ledger's own chains) through a
    /// handle of one's own: what the database says to each attempt.
    async fn try_to_change_history(&self) -> Vec<Result<u64, String>>;

    /// Drop the guards and change one event's body, in a place that stays well-formed.
    async fn change_event(&self, deletion: DeletionId, seq: i64);

    /// Drop the guards and remove one event.
    async fn remove_event(&self, deletion: DeletionId, seq: i64);

    /// Whether what the footing remembers besides the store equals it; `Ok` if it remembers nothing.
    async fn compare(&self) -> Result<(), String>;
}

/// One test per scenario, on the fixture that the expression (awaited) makes.
#[macro_export]
macro_rules! conformance_tests {
    ($fixture:expr) => {
        $crate::conformance_tests!($fixture;
            the_whole_life_from_announce_to_recycle,
            a_stale_outcome_changes_nothing,
            a_duplicated_outcome_is_taken_once,
            a_lease_that_ran_out_is_dispatched_again_under_a_greater_fence,
            fences_grow_over_all_dispatches,
            a_reopened_ledger_goes_on,
            the_first_manifest_wins,
            one_bad_item_fails_alone,
            remembered_equals_stored_after_a_random_workload,
        );
    };
    ($fixture:expr; $($name:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let fixture = $fixture.await;
                $crate::conformance::$name(&fixture).await;
                if let Err(difference) = $crate::conformance::Fixture::compare(&fixture).await {
                    panic!("what is remembered differs from the store: {difference}");
                }
            }
        )*
    };
}
