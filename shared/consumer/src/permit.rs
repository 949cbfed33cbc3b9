//! The right to change a resource once.
use sexton_model::{Fence, Timestamp};

/// Minted by the SDK only, after key, deadline, fence, identity and a fresh beacon have been checked. A driver
/// cannot change anything without one, and one covers one call: it is neither `Clone` nor `Copy`.
#[derive(Debug)]
pub struct Permit {
    fence: Fence,
    deadline: Timestamp,
}

impl Permit {
    /// Private to the SDK: the checks in the performer come first.
    pub(crate) fn mint(fence: Fence, deadline: Timestamp) -> Self {
        Self { fence, deadline }
    }

    /// The fence to store at the resource, where the subsystem can hold one.
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// No call may be begun after this.
    pub fn deadline(&self) -> Timestamp {
        self.deadline
    }
}
