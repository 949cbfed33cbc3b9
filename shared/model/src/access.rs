//! Who may do what: roles, permissions, the scopes that a token is limited to, and tokens themselves.
//!
//! Contract: [`may`] is the one place that says whether something may be done. Roles are ordered: each may do what the
//! ones below it may. A token that is limited to scopes does nothing, and sees nothing, outside of them; what has no
//! scope (a pause of everything, the audit trail, tokens) takes one that is limited to none.
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::belts::within;
use crate::id::{Actor, Scope};

mod over;
mod refusal;
mod token;

pub use self::over::{CannotRegister, Registrar, groups_left};
pub use self::refusal::{CountedRefusals, REFUSAL_MAX, Refusal};
pub use self::token::{
    CannotIssue, DAY_S, DAYS_DEFAULT, DAYS_MAX, NewToken, NotGood, PREFIX, Revoked, SECRET_BYTES, TOKENS_MAX,
    Token, decides_by_itself, token_hash, token_text,
};

#[cfg(test)]
mod tests;

/// What somebody is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks, and changes nothing.
    Viewer,
    /// Registers resources, asks for deletions and takes back what it asked for, places holds.
    Requester,
    /// Cancels, holds, pauses, parks and retries whatever there is.
    Operator,
    /// Says what may go on: ceilings, batches, waivers, rescues; and what moves to another scope, leaves a redundancy group, is less
    /// dangerous to delete, or is deleted without those being told who were to be.
    Approver,
    /// Gives out tokens, and takes protection off a resource.
    Admin,
}

impl Role {
    /// All, lowest first.
    pub const ALL: [Self; 5] = [Self::Viewer, Self::Requester, Self::Operator, Self::Approver, Self::Admin];

    /// Its word, as it is written and shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Requester => "requester",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected viewer, requester, operator, approver or admin")]
pub struct NoRole;

impl FromStr for Role {
    type Err = NoRole;
    fn from_str(word: &str) -> Result<Self, NoRole> {
        Self::ALL.into_iter().find(|role| role.word() == word).ok_or(NoRole)
    }
}

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Look at it, and ask what would be.
    See,
    /// Look at what is of no scope: the audit trail, the archive.
    SeeAll,
    /// Register and update resources.
    Register,
    /// Make a deletion record.
    Request,
    /// Have the subsystems of a resource looked at, as a record would.
    Survey,
    /// Cancel a deletion that one has asked for oneself.
    CancelOwn,
    /// Place a hold.
    Hold,
    /// Release a hold that one has placed oneself.
    ReleaseOwn,
    /// Cancel whatever deletion.
    Cancel,
    /// Release whatever hold.
    Release,
    /// Pause.
    Pause,
    /// Lift a pause.
    Resume,
    /// Park a job, and say that a notice came back: both keep it from going on, and nothing else.
    Halt,
    /// Have a job tried again, say who is restored first, and that somebody was told.
    Steer,
    /// Say of a census what it cannot show: that so many fewer, or more, or another credential, is meant.
    Vouch,
    /// Let a step pass, or say what belongs to a deletion.
    Waive,
    /// End a record whose resource was saved by hand.
    Rescue,
    /// Let a batch that exceeds a budget go.
    Approve,
    /// Let a stage of a deletion that somebody else asked for pass a belt.
    Override,
    /// Let a stage of a deletion that one has asked for oneself pass a belt.
    BreakGlass,
    /// Say how far deletions of a scope may go.
    Ceiling,
    /// Accept a ledger that went back in time: no token may, whatever its role ([`may`]).
    Review,
    /// Register what is registered in another scope, where other ceilings, budgets, pauses and tokens decide about it.
    Move,
    /// Take a resource out of a redundancy group.
    Regroup,
    /// Say of a resource that it is less dangerous to delete, or to forget, than it was.
    Reclassify,
    /// Take away from a resource whom its deletion is told.
    Readdress,
    /// Take the protection off a resource.
    Unprotect,
    /// Issue, list and revoke tokens.
    Tokens,
}

impl Permission {
    /// All of them.
    pub const ALL: [Self; 28] = [
        Self::See,
        Self::SeeAll,
        Self::Register,
        Self::Request,
        Self::Survey,
        Self::CancelOwn,
        Self::Hold,
        Self::ReleaseOwn,
        Self::Cancel,
        Self::Release,
        Self::Pause,
        Self::Resume,
        Self::Halt,
        Self::Steer,
        Self::Vouch,
        Self::Waive,
        Self::Rescue,
        Self::Approve,
        Self::Override,
        Self::BreakGlass,
        Self::Ceiling,
        Self::Review,
        Self::Move,
        Self::Regroup,
        Self::Reclassify,
        Self::Readdress,
        Self::Unprotect,
        Self::Tokens,
    ];

    /// The lowest role that has it.
    pub fn needs(self) -> Role {
        match self {
            Self::See | Self::SeeAll => Role::Viewer,
            Self::Register
            | Self::Request
            | Self::Survey
            | Self::CancelOwn
            | Self::Hold
            | Self::ReleaseOwn => Role::Requester,
            Self::Cancel
            | Self::Release
            | Self::Pause
            | Self::Resume
            | Self::Halt
            | Self::Steer
            | Self::Vouch => Role::Operator,
            Self::Waive
            | Self::Rescue
            | Self::Approve
            | Self::Override
            | Self::Ceiling
            | Self::Move
            | Self::Regroup
            | Self::Reclassify
            | Self::Readdress => Role::Approver,
            Self::Unprotect | Self::Tokens | Self::BreakGlass | Self::Review => Role::Admin,
        }
    }

    /// Whether it only looks, or stops, and so is right whoever does it.
    fn looks_or_stops(self) -> bool {
        match self {
            Self::See
            | Self::SeeAll
            | Self::CancelOwn
            | Self::Hold
            | Self::Cancel
            | Self::Pause
            | Self::Halt => true,
            Self::Register
            | Self::Request
            | Self::Survey
            | Self::ReleaseOwn
            | Self::Release
            | Self::Resume
            | Self::Steer
            | Self::Vouch
            | Self::Waive
            | Self::Rescue
            | Self::Approve
            | Self::Override
            | Self::BreakGlass
            | Self::Ceiling
            | Self::Review
            | Self::Move
            | Self::Regroup
            | Self::Reclassify
            | Self::Readdress
            | Self::Unprotect
            | Self::Tokens => false,
        }
    }

    /// What it is, as in "… needs the role operator".
    pub fn what(self) -> &'static str {
        match self {
            Self::See => "looking",
            Self::SeeAll => "looking at what is of no scope",
            Self::Register => "registering resources",
            Self::Request => "asking for a deletion",
            Self::Survey => "having subsystems looked at",
            Self::CancelOwn => "cancelling a deletion of one's own",
            Self::Hold => "placing a hold",
            Self::ReleaseOwn => "releasing a hold of one's own",
            Self::Cancel => "cancelling a deletion that somebody else asked for",
            Self::Release => "releasing a hold that somebody else placed",
            Self::Pause => "pausing",
            Self::Resume => "lifting a pause",
            Self::Halt => "parking, or saying that a notice came back,",
            Self::Steer => "retrying, acknowledging and setting priorities",
            Self::Vouch => "saying that fewer or more resources, or a new credential, are meant",
            Self::Waive => "waiving a step",
            Self::Rescue => "rescuing a resource",
            Self::Approve => "approving a batch",
            Self::Override => "letting a deletion pass a belt",
            Self::BreakGlass => "breaking the glass",
            Self::Ceiling => "setting a ceiling",
            Self::Review => "accepting the ledger as it is",
            Self::Move => "moving a resource to another scope",
            Self::Regroup => "taking a resource out of a redundancy group",
            Self::Reclassify => "saying that a resource is less dangerous to delete or to forget",
            Self::Readdress => "taking away whom a deletion is told",
            Self::Unprotect => "taking the protection off a resource",
            Self::Tokens => "issuing, listing and revoking tokens",
        }
    }
}

/// Most scopes that a refusal names: it is said, and kept, of each line of a list.
const SCOPES_SHOWN_MAX: usize = 8;
/// Most scopes that one token is limited to: whoever needs more is meant to see everything.
pub const SCOPES_MAX: usize = 64;

/// Which scopes somebody is limited to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// To none.
    Everywhere,
    /// To these, and those below them.
    Scopes(BTreeSet<Scope>),
}

impl Extent {
    /// Whether it is limited to no scope.
    pub fn is_everywhere(&self) -> bool {
        *self == Self::Everywhere
    }

    /// What it is limited to; none: to nothing.
    pub fn limits(&self) -> Option<Vec<Scope>> {
        match self {
            Self::Everywhere => None,
            Self::Scopes(scopes) => Some(scopes.iter().cloned().collect()),
        }
    }

    /// Whether `scope` is inside.
    pub fn contains(&self, scope: &Scope) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Scopes(scopes) => scopes.iter().any(|outer| within(scope, outer)),
        }
    }

    /// Whether something that is said of `scope` and those below it matters to anything inside.
    pub fn meets(&self, scope: &Scope) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Scopes(scopes) => scopes.iter().any(|own| within(scope, own) || within(own, scope)),
        }
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere => f.write_str("every scope"),
            Self::Scopes(scopes) => {
                let named: Vec<_> = scopes.iter().map(Scope::as_str).take(SCOPES_SHOWN_MAX).collect();
                f.write_str(&named.join(", "))?;
                match scopes.len() - named.len() {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
        }
    }
}

/// Somebody who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// Who, for the audit trail.
    pub name: Actor,
    /// What it is there for.
    pub role: Role,
    /// Where.
    pub extent: Extent,
}

/// What something is done to, as far as scopes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach<'a> {
    /// Something of this scope.
    Scope(&'a Scope),
    /// Something that is of no scope, or of all.
    Everything,
    /// What is shown is left out where it is outside.
    Filtered,
}

/// Why somebody may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The role is too low.
    #[error("{} needs the role {needed}, and {name} is {has}", .what.what())]
    Role {
        /// Who.
        name: Actor,
        /// What was wanted.
        what: Permission,
        /// The lowest role that may.
        needed: Role,
        /// What they are.
        has: Role,
    },
    /// It is of another scope.
    #[error("{scope} is outside of what {name} is limited to: {extent}")]
    Outside {
        /// Who.
        name: Actor,
        /// Whose scope.
        scope: Scope,
        /// Where they may.
        extent: Extent,
    },
    /// It is of every scope.
    #[error("{} of every scope takes a token that is limited to none, and {name} is limited to {extent}", .what.what())]
    Limited {
        /// Who.
        name: Actor,
        /// What was wanted.
        what: Permission,
        /// Where they may.
        extent: Extent,
    },
    /// No token may.
    #[error(
        "{} takes the configured token (token_file; where there is none, a loopback address without a token): a job \
         table that was put back knows tokens again that were revoked since, and {name} shows a token that was issued",
        .what.what()
    )]
    Issued {
        /// Who.
        name: Actor,
        /// What was wanted.
        what: Permission,
    },
    /// The ledger went back in time, so what it says of the token may be over.
    #[error(
        "{} waits for the review: the job table went back in time, and knows tokens again that were revoked since. Until \
         it is accepted, who shows a token that was issued, as {name} does, may look, cancel, hold, \
         pause, park, and say that a notice came back",
        .what.what()
    )]
    Unreviewed {
        /// Who.
        name: Actor,
        /// What was wanted.
        what: Permission,
    },
}

/// Whether `bearer` may.
///
/// # Errors
/// Why not: first whether any token may, then the role, then the scope.
pub fn may(bearer: &Bearer, what: Permission, reach: Reach<'_>) -> Result<(), Denied> {
    if what == Permission::Review {
        return Err(Denied::Issued { name: bearer.name.clone(), what });
    }
    let (name, needed, has) = (bearer.name.clone(), what.needs(), bearer.role);
    if has < needed {
        return Err(Denied::Role { name, what, needed, has });
    }
    let extent = bearer.extent.clone();
    match reach {
        Reach::Scope(scope) if !extent.contains(scope) => {
            Err(Denied::Outside { name, scope: scope.clone(), extent })
        }
        Reach::Everything if !extent.is_everywhere() => Err(Denied::Limited { name, what, extent }),
        Reach::Scope(_) | Reach::Everything | Reach::Filtered => Ok(()),
    }
}

/// Whether `bearer` may even if the ledger is under review: its token may have been revoked in what that has lost. To stop and
/// to look must be possible at any moment, and does no harm.
///
/// # Errors
/// That it waits for the review.
pub fn may_unreviewed(bearer: &Bearer, what: Permission) -> Result<(), Denied> {
    match what.looks_or_stops() {
        true => Ok(()),
        false => Err(Denied::Unreviewed { name: bearer.name.clone(), what }),
    }
}

/// Whether `by` is who requested something, and so may not be the one who lets it go: not in a batch
/// ([`may_approve`](crate::belts::budget::may_approve)), not in a crowd
/// ([`may_resume`](crate::belts::budget::may_resume)), not past what stopped it by a waiver or in place of its notice
/// ([`decide`](crate::decide::decide)), nor past a hold of another's
/// ([`is_others`](crate::belts::resource_hold::is_others)), and past a belt only by breaking the glass
/// ([`NewOneShot::check`](crate::belts::one_shot::NewOneShot::check)).
pub fn is_own(requested_by: &Actor, by: &Actor) -> bool {
    requested_by == by
}
