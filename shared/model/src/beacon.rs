//! Whether a consumer may act on what it last heard from the coordinators.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What a beacon says: the state of a ledger *read*, from which its age is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Beacon {
    /// The ledger's epoch.
    pub epoch: u32,
    /// The pause revision: grows with every pause.
    pub revision: i64,
    /// The store's clock when it was read.
    pub read_at: Timestamp,
}

/// Oldest beacon a consumer acts on, in milliseconds since the read it tells of.
pub const FRESH_MS: u64 = 5_000;
/// Largest difference between the consumer's clock and the beacon's, in milliseconds.
pub const SKEW_MS: u64 = 3_000;

/// Why a consumer may not act now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// None was heard yet.
    #[error("no beacon was heard yet")]
    Silent,
    /// The last one is too old.
    #[error("the last beacon is {age_ms} ms old, more than {FRESH_MS}")]
    Stale {
        /// Its age in milliseconds.
        age_ms: u64,
    },
    /// The clocks differ.
    #[error("this clock and the ledger's differ by {by_ms} ms, more than {SKEW_MS}")]
    Skewed {
        /// By how many milliseconds.
        by_ms: u64,
    },
    /// The order was given before a pause, or in another epoch.
    #[error("the order was given under an older epoch or before a pause")]
    Superseded,
}

/// The newer of two beacons: a consumer never goes back in (epoch, revision).
pub fn newer(held: Option<Beacon>, heard: Beacon) -> Beacon {
    match held {
        Some(held)
            if (held.epoch, held.revision, held.read_at) > (heard.epoch, heard.revision, heard.read_at) =>
        {
            held
        }
        Some(_) | None => heard,
    }
}

/// Whether an order given in `epoch` under `revision` may be carried out. `age_ms` is how long ago the read was
/// that `beacon` tells of, as far as the consumer can tell; `local` is the consumer's clock at the moment it was heard.
/// Undoing is never stopped by a pause.
///
/// # Errors
/// The reason why not; it spends no attempt.
pub fn judge(
    beacon: Option<Beacon>,
    age_ms: u64,
    local: Timestamp,
    epoch: u32,
    revision: i64,
    undoing: bool,
) -> Result<(), NotNow> {
    let beacon = beacon.ok_or(NotNow::Silent)?;
    if age_ms > FRESH_MS {
        return Err(NotNow::Stale { age_ms });
    }
    let by_ms = local.ms_since(beacon.read_at).max(beacon.read_at.ms_since(local));
    if by_ms > SKEW_MS {
        return Err(NotNow::Skewed { by_ms });
    }
    if epoch != beacon.epoch || (!undoing && revision < beacon.revision) {
        return Err(NotNow::Superseded);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: Beacon = Beacon { epoch: 2, revision: 7, read_at: Timestamp(1_000_000_000) };

    #[test]
    fn each_reason_stops_and_none_lets_through() {
        assert_eq!(judge(None, 0, B.read_at, 2, 7, false), Err(NotNow::Silent));
        assert_eq!(judge(Some(B), 5_001, B.read_at, 2, 7, false), Err(NotNow::Stale { age_ms: 5_001 }));
        let off = B.read_at.plus_ms(3_001);
        assert_eq!(judge(Some(B), 0, off, 2, 7, false), Err(NotNow::Skewed { by_ms: 3_001 }));
        assert_eq!(judge(Some(B), 0, B.read_at, 1, 7, false), Err(NotNow::Superseded));
        assert_eq!(judge(Some(B), 0, B.read_at, 2, 6, false), Err(NotNow::Superseded));
        assert_eq!(judge(Some(B), 0, B.read_at, 2, 6, true), Ok(()), "a pause never stops a restore");
        assert_eq!(judge(Some(B), 5_000, B.read_at, 2, 7, false), Ok(()));
    }

    #[test]
    fn a_consumer_never_goes_back() {
        let older = Beacon { revision: 6, read_at: Timestamp(2_000_000_000), ..B };
        assert_eq!(newer(Some(B), older), B);
        assert_eq!(newer(None, older), older);
    }
}
