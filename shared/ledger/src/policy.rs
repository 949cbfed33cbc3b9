//! The policy that a ledger decides by, of which the working hours may be exchanged while it does.
use std::sync::{Arc, PoisonError, RwLock};

use sexton_model::belts::Policy;
use sexton_model::belts::window::Windows;

/// Every handle of one ledger has the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct CurrentPolicy(Arc<RwLock<Arc<Policy>>>);

impl CurrentPolicy {
    pub(crate) fn new(policy: Policy) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(policy))))
    }

    /// As it is now. A batch takes it once, so that all of it is decided by the same.
    pub(crate) fn get(&self) -> Arc<Policy> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn keep_hours(&self, windows: Windows) {
        let mut policy = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *policy = Arc::new(Policy { windows: Some(windows), ..Policy::clone(&policy) });
    }
}
