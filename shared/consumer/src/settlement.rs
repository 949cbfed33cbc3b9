//! When a delivery may be acked: once every order in it is settled.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sexton_bus::{Acker, Tag};

/// A delivery that is not acked yet.
pub(crate) struct Settlement {
    acker: Acker,
    tag: Tag,
}

struct Open {
    settlement: Settlement,
    left: AtomicUsize,
}

/// One order's part in its delivery. If it is dropped unsettled, the delivery is never acked, and comes again.
pub(crate) struct Share(Arc<Open>);

impl Settlement {
    pub(crate) fn new(acker: Acker, tag: Tag) -> Self {
        Self { acker, tag }
    }

    /// A share for each of `orders`.
    pub(crate) fn split(self, orders: usize) -> impl Iterator<Item = Share> {
        let open = Arc::new(Open { settlement: self, left: AtomicUsize::new(orders) });
        (0..orders).map(move |_| Share(open.clone()))
    }
}

impl Share {
    /// This order is settled. The last one acks the delivery.
    pub(crate) fn settle(self) {
        let Self(open) = self;
        if open.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let Settlement { acker, tag } = &open.settlement;
            acker.ack_now(&[*tag]);
        }
    }
}
