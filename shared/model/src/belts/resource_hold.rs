//! Holds on a resource: reasons not to go on with any deletion of it. They are placed whether or not there is a record,
//! stop every stage of whatever record there is or will be, and never a restore; and they stay when a record is over.
//! Whoever asks for a deletion cannot reach them through its record, nor release any that is another's ([`is_others`]).
//!
//! A record may be made of what is held: it is shown with its holds, and does not begin.
use crate::access::is_own;
use crate::deletion::{Hold, REASON_MAX};
use crate::id::{Actor, ResourceId};
use crate::job::Blocker;
use crate::time::Timestamp;

/// Most holds on one resource, and most on one record: each is read with every decision on it.
pub const HOLDS_MAX: usize = 100;

/// Somebody holds a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewHold {
    /// Which.
    pub resource: ResourceId,
    /// Who or what holds: `legal`, `billing`, a person. It is released by this name.
    pub origin: Actor,
    /// Why.
    pub reason: String,
    /// Who says so.
    pub by: Actor,
}

/// Why a hold on a resource was not placed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotHold {
    /// No reason was given.
    #[error("reason: expected 1 to {REASON_MAX} characters")]
    Reason,
    /// There are as many as may be.
    #[error("{0} has {HOLDS_MAX} holds, and there may be no more")]
    TooMany(ResourceId),
}

/// Which holds of a resource are released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one of this number.
    Number(i64),
    /// All of this origin.
    Origin(Actor),
}

impl Which {
    /// Whether `hold` is one of them.
    pub fn covers(&self, hold: &Hold) -> bool {
        match self {
            Self::Number(id) => hold.id == *id,
            Self::Origin(origin) => hold.origin == *origin,
        }
    }
}

impl NewHold {
    /// The hold, numbered behind `last`, if `standing` others stand.
    ///
    /// # Errors
    /// If no reason is given, or there are too many.
    pub fn place(&self, last: i64, standing: usize, now: Timestamp) -> Result<Hold, CannotHold> {
        if self.reason.trim().is_empty() || self.reason.chars().count() > REASON_MAX {
            return Err(CannotHold::Reason);
        }
        if standing >= HOLDS_MAX {
            return Err(CannotHold::TooMany(self.resource.clone()));
        }
        let (origin, reason) = (self.origin.clone(), self.reason.clone());
        Ok(Hold { id: last + 1, origin, reason, since: now })
    }
}

/// What somebody else has to do in place of whoever requested a deletion that is held.
pub const RELEASE: &str = "release a hold of another's";

/// Whether `hold`, on a deletion that `requested_by` asked for or on its resource, is another's than of `by`, who asked for it:
/// that is not theirs to release, whatever their role. Whose it is its origin says, and not who placed it: what was placed in the name of
/// the lawyers is theirs.
pub fn is_others(hold: &Hold, requested_by: &Actor, by: &Actor) -> bool {
    is_own(requested_by, by) && hold.origin != *by
}

/// What a hold on its resource is to a job.
pub fn blocker(hold: &Hold) -> Blocker {
    Blocker::Hold { what: words(hold) }
}

/// A hold on a resource, in words.
pub fn words(hold: &Hold) -> String {
    format!("{}: {} (on the resource)", hold.origin, hold.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(reason: &str) -> NewHold {
        let (origin, by) = ("legal".parse().unwrap(), "alice".parse().unwrap());
        NewHold { resource: "vm/web01".parse().unwrap(), origin, reason: reason.into(), by }
    }

    #[test]
    fn a_hold_has_a_reason_and_they_are_bounded() {
        let now = Timestamp(7);
        let hold = new("a lawsuit").place(3, 2, now).unwrap();
        assert_eq!((hold.id, hold.origin.as_str(), hold.since), (4, "legal", now));
        assert_eq!(new(" ").place(0, 0, now), Err(CannotHold::Reason));
        assert_eq!(new(&"x".repeat(REASON_MAX + 1)).place(0, 0, now), Err(CannotHold::Reason));
        let full = new("one more").place(100, HOLDS_MAX, now);
        assert_eq!(full, Err(CannotHold::TooMany("vm/web01".parse().unwrap())));
        assert!(Which::Origin("legal".parse().unwrap()).covers(&hold) && Which::Number(4).covers(&hold));
        assert!(!Which::Origin("alice".parse().unwrap()).covers(&hold) && !Which::Number(3).covers(&hold));
    }

    #[test]
    fn whoever_requested_it_releases_what_they_hold_themselves_and_nothing_else() {
        let actor = |name: &str| -> Actor { name.parse().unwrap() };
        let legal = new("a lawsuit").place(0, 0, Timestamp(7)).unwrap();
        let own = Hold { origin: actor("alice"), ..legal.clone() };
        for (hold, requested_by, by, others) in [
            // Alice has placed it, in the lawyers' name.
            (&legal, "alice", "alice", true),
            (&legal, "alice", "bob", false),
            (&legal, "bob", "alice", false),
            (&own, "alice", "alice", false),
            (&own, "alice", "bob", false),
            (&own, "bob", "bob", true),
        ] {
            let found = is_others(hold, &actor(requested_by), &actor(by));
            assert_eq!(found, others, "{}: {requested_by}, {by}", hold.origin);
        }
    }
}
