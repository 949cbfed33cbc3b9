//! What only one resource at a time may be registered for: a machine's place in a cluster.
//!
//! Contract: a resource may state `exclusive`, such as `machine/storage07`. As long as one that states it is registered, or
//! is gone from the inventory and not yet seen to be gone everywhere, no other one that states the same is registered. So a
//! machine that leaves one cluster joins another only when its key is gone in both places, and that is proved: by a
//! receipt of the whole deletion, in which nothing is unknown. Whoever registers asks [`check`] under the lock on what is
//! stated. It is compared letter by letter, so it is registered in lower case only: one machine is not two places. Nor does a resource that is registered leave its place, or its scope, by being registered again.
//!
//! Why no unique index on what is registered: between the inventory and the receipt lies the time in which a key may
//! still be found where nobody looks any more.
use std::fmt;

use crate::deletion::Deletion;
use crate::id::{DeletionId, ResourceId, Scope};
use crate::job::{JobKind, Stage, StateName};
use crate::resource::{Presence, Resource};

#[cfg(test)]
mod tests;

/// Longest text of it, in characters.
pub const EXCLUSIVE_MAX: usize = 256;

/// Not a text that a resource may state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to {EXCLUSIVE_MAX} characters, such as machine/storage07")]
pub struct NoPlace;

/// The text, if a resource may state it.
///
/// # Errors
/// If it is empty or too long, or holds what is no plain text.
pub fn place(text: String) -> Result<String, NoPlace> {
    let plain = text.trim() == text && !text.chars().any(char::is_control);
    let fits = plain && (1..=EXCLUSIVE_MAX).contains(&text.chars().count());
    if fits { Ok(text) } else { Err(NoPlace) }
}

/// The resource that was registered for it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Which.
    pub resource: ResourceId,
    /// Whether it is in the inventory.
    pub presence: Presence,
    /// How far its deletion is: its live record, or the one by which it was recycled, until that is archived.
    pub leaving: Option<Leaving>,
}

/// How far a deletion is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// Its record.
    pub deletion: DeletionId,
    /// All that its stages remove was seen to be gone, or a person has said so.
    pub purged: bool,
    /// A step of it was let pass as "may remain".
    pub may_remain: bool,
    /// There is a signed receipt of it.
    pub receipt: bool,
}

impl Leaving {
    /// Of a record of which there is a receipt or not.
    pub fn of(deletion: &Deletion, receipt: bool) -> Self {
        let over = |stage: Stage| {
            let job = deletion.jobs.iter().find(|job| job.kind == JobKind::Stage(stage));
            job.is_some_and(|job| job.state.name() == StateName::Done)
        };
        Self {
            deletion: deletion.id,
            purged: over(Stage::Hard) && over(Stage::Purge),
            may_remain: !deletion.may_remain().is_empty(),
            receipt,
        }
    }
}

/// What is still missing before another one may be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lacks {
    /// It is registered, and has no record.
    Record,
    /// It is registered, and its record has not come so far.
    Hard,
    /// It left the inventory, and not all of it was seen to be gone.
    Purge,
    /// Something of it may remain.
    Remains,
    /// It is gone, and nobody has signed that yet.
    Receipt,
    /// It left the inventory, and no record says how.
    Proof,
}

impl fmt::Display for Lacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Record => "is registered for it: delete that first",
            Self::Hard => "is registered for it, and its deletion has not taken it apart yet",
            Self::Purge => "was registered for it, and not all of it was seen to be gone yet",
            Self::Remains => "was registered for it, and something of it may remain",
            Self::Receipt => "was registered for it, and its receipt is not signed yet",
            Self::Proof => "was registered for it, and nothing says that it is gone",
        })
    }
}

/// Why a resource may not be registered beside what there is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotShare {
    /// Another one is, or may be, there.
    #[error("exclusive: {place} is taken: {by}{} {lacks}", .deletion.map(|id| format!(" ({id})")).unwrap_or_default())]
    Taken {
        /// What is stated.
        place: String,
        /// By which resource.
        by: ResourceId,
        /// Its record, if it has one.
        deletion: Option<DeletionId>,
        /// What is missing.
        lacks: Lacks,
    },
    /// It would leave without being deleted.
    #[error(
        "exclusive: {resource} is registered for {from}, and stays so until it is deleted: it may have left something there"
    )]
    Moved {
        /// Which.
        resource: ResourceId,
        /// What it is registered for.
        from: String,
    },
    /// The same in other letters would be another place.
    #[error("exclusive: {place}: expected lower case ({lower}), so that one place is not stated in two ways")]
    NotLowerCase {
        /// What is stated.
        place: String,
        /// The same in lower case.
        lower: String,
    },
    /// It would be another scope's without being deleted.
    #[error(
        "scope: {resource} is registered for {place} in {from}, and stays in that scope until it is deleted: it has to leave first"
    )]
    OtherScope {
        /// Which.
        resource: ResourceId,
        /// What it is registered for.
        place: String,
        /// The scope that it is registered in.
        from: Scope,
    },
}

/// Whether `new` may be registered over `old`, which is there under its name, and beside the `holder` of what it states.
///
/// # Errors
/// If it may not.
pub fn check(
    old: Option<(&Resource, Presence)>,
    new: &Resource,
    holder: Option<&Holder>,
) -> Result<(), CannotShare> {
    let registered = old.filter(|(_, presence)| *presence == Presence::Registered).map(|(old, _)| old);
    if let Some(from) = registered.and_then(|old| old.exclusive.as_ref())
        && new.exclusive.as_ref() != Some(from)
    {
        return Err(CannotShare::Moved { resource: new.id.clone(), from: from.clone() });
    }
    // What was registered so before this was asked stays until it is deleted: it can still be protected.
    if registered.is_none_or(|old| old.exclusive != new.exclusive)
        && let Some(place) = &new.exclusive
    {
        in_lower_case(place)?;
    }
    // Its key would be intact, and other ceilings, pauses and tokens would decide about it.
    if let Some(old) = registered
        && let Some(place) = &old.exclusive
        && new.scope != old.scope
    {
        let (place, from) = (place.clone(), old.scope.clone());
        return Err(CannotShare::OtherScope { resource: new.id.clone(), place, from });
    }
    let (Some(place), Some(holder)) = (&new.exclusive, holder.filter(|holder| holder.resource != new.id))
    else {
        return Ok(());
    };
    let Some(lacks) = lacks(holder) else { return Ok(()) };
    let deletion = holder.leaving.as_ref().map(|leaving| leaving.deletion);
    Err(CannotShare::Taken { place: place.clone(), by: holder.resource.clone(), deletion, lacks })
}

/// Whether a place is stated in the only letters in which it is registered.
fn in_lower_case(place: &str) -> Result<(), CannotShare> {
    let lower = place.to_lowercase();
    if lower == place { Ok(()) } else { Err(CannotShare::NotLowerCase { place: place.to_owned(), lower }) }
}

/// What is missing before another one may be registered for what `holder` has; nothing if it is gone for good.
fn lacks(holder: &Holder) -> Option<Lacks> {
    match (holder.presence, &holder.leaving) {
        (Presence::Registered, None) => Some(Lacks::Record),
        (Presence::Registered, Some(_)) => Some(Lacks::Hard),
        (Presence::Tombstone, None) => Some(Lacks::Proof),
        // Its record was archived, and what was purged is archived with its receipt only.
        (Presence::Recycled, None) => None,
        (Presence::Tombstone | Presence::Recycled, Some(leaving)) => {
            let Leaving { deletion: _, purged, may_remain, receipt } = *leaving;
            match (purged, may_remain, receipt) {
                (false, _, _) => Some(Lacks::Purge),
                (true, true, _) => Some(Lacks::Remains),
                (true, false, false) => Some(Lacks::Receipt),
                (true, false, true) => None,
            }
        }
    }
}
