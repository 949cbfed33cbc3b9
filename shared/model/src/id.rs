//! Typed ids. Each is parsed once, at the edge, and bounded there; a value of these types is well-formed.
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Why a text is not an id of the wanted type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?}: expected {expected}")]
pub struct InvalidId {
    /// The type of id that was wanted.
    pub what: &'static str,
    /// The text, cut to 80 characters.
    pub text: String,
    /// What would have been accepted.
    pub expected: &'static str,
}

impl InvalidId {
    fn new(what: &'static str, text: &str, expected: &'static str) -> Self {
        Self { what, text: text.chars().take(80).collect(), expected }
    }
}

/// Reads what is written as text straight from the text, without a copy in between: ids are in every message.
fn from_text<'de, D: Deserializer<'de>, T: FromStr<Err = InvalidId>>(from: D) -> Result<T, D::Error> {
    struct Text<T>(PhantomData<T>);
    impl<T: FromStr<Err = InvalidId>> Visitor<'_> for Text<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }
    from.deserialize_str(Text(PhantomData))
}

/// As text, in messages and in the store.
macro_rules! as_text {
    ($name:ident) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from_text(from)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $accept:expr, $expected:literal) => {
        // Shared rather than copied: ids are cloned many times a step.
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
        #[schemars(with = "String")]
        pub struct $name(Arc<str>);

        as_text!($name);

        impl $name {
            /// Longest accepted text, in bytes.
            pub const MAX_BYTES: usize = $max;

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let accept: fn(&str) -> bool = $accept;
                if text.is_empty() || text.len() > $max || !accept(text) {
                    return Err(InvalidId::new($what, text, $expected));
                }
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
}

fn is_path(text: &str) -> bool {
    text.split('/').all(is_name)
}

text_id!(
    /// A kind of resource: `vm`, `volume`, `membership`, …
    Kind, "kind", 32, is_word,
    "at most 32 lower-case letters, digits, '-' or '_', beginning with a letter, such as vm"
);
text_id!(
    /// The name of a resource within its kind.
    Name, "name", 128, is_name,
    "at most 128 letters, digits, '-', '_', '.' or ':', beginning with a letter or digit, such as web01"
);
text_id!(
    /// The scope a resource belongs to: a tenant, a group, a cluster.
    Scope, "scope", 128, is_path,
    "names joined by '/', at most 128 characters, such as tenants/acme"
);
text_id!(
    /// A subsystem: `hypervisor`, `dns`, …
    Subsystem, "subsystem", 32, is_word,
    "at most 32 lower-case letters, digits, '-' or '_', beginning with a letter, such as dns"
);
text_id!(
    /// An action of a subsystem: `stop`, `undefine`, …
    ActionName, "action", 48, is_word,
    "at most 48 lower-case letters, digits, '-' or '_', beginning with a letter, such as stop"
);
text_id!(
    /// Who does something: a person, a platform, a service.
    Actor, "actor", 128, |t| t.bytes().all(|b| b.is_ascii_graphic()),
    "at most 128 printable characters without spaces, such as ops@example.org"
);

impl Scope {
    /// It, and each scope around it, the narrowest first.
    pub fn around(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self.as_str()), |scope| scope.rsplit_once('/').map(|(outer, _)| outer))
    }
}

impl Actor {
    /// What the coordinator itself is called in the audit trail.
    pub fn coordinator() -> Self {
        Self("coordinator".into())
    }

    /// What sends canaries, and pauses if one is accepted.
    pub fn canary() -> Self {
        Self("canary".into())
    }

    /// What asks for the records of drills, and cancels them.
    pub fn drill() -> Self {
        Self("drill".into())
    }
}

/// A resource: its kind and its name, written `vm/web01`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct ResourceId {
    /// What sort of thing it is; names the plan.
    pub kind: Kind,
    /// Which one of that kind.
    pub name: Name,
}

impl FromStr for ResourceId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let wrong = || InvalidId::new("resource", text, "KIND/NAME, such as vm/web01");
        let (kind, name) = text.split_once('/').ok_or_else(wrong)?;
        Ok(Self { kind: kind.parse().map_err(|_| wrong())?, name: name.parse().map_err(|_| wrong())? })
    }
}

as_text!(ResourceId);

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Piece by piece: as quick as it gets, for it is written many times a step.
        f.write_str(&self.kind.0)?;
        f.write_str("/")?;
        f.write_str(&self.name.0)
    }
}

/// One instance of a subsystem, written `hypervisor.main`. It has a queue, a key, a credit and a broker user
/// of its own; two Ceph clusters are two instances.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct Instance {
    /// The subsystem, which decides what actions there are.
    pub subsystem: Subsystem,
    /// Which one of that subsystem; the same alphabet as a subsystem.
    pub name: Subsystem,
}

impl Instance {
    /// The instance of `subsystem` that is called `name`.
    pub fn new(subsystem: Subsystem, name: Subsystem) -> Self {
        Self { subsystem, name }
    }
}

impl FromStr for Instance {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let wrong = || InvalidId::new("instance", text, "SUBSYSTEM.NAME, such as hypervisor.main");
        let (subsystem, name) = text.split_once('.').ok_or_else(wrong)?;
        Ok(Self {
            subsystem: subsystem.parse().map_err(|_| wrong())?,
            name: name.parse().map_err(|_| wrong())?,
        })
    }
}

as_text!(Instance);

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.subsystem.0)?;
        f.write_str(".")?;
        f.write_str(&self.name.0)
    }
}

/// A deletion record; drawn from the ledger's sequence, written `d-17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct DeletionId(pub i64);

impl fmt::Display for DeletionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d-{}", self.0)
    }
}

impl FromStr for DeletionId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        text.strip_prefix("d-")
            .and_then(|n| n.parse::<i64>().ok())
            .filter(|n| *n > 0 && *n < i64::MAX / JobId::SLOTS)
            .map(Self)
            .ok_or_else(|| InvalidId::new("deletion", text, "d-NUMBER, such as d-17"))
    }
}

as_text!(DeletionId);

/// A job of a deletion. The id contains its deletion and its slot, so that jobs need no sequence of their own
/// and locking "deletions, then jobs, ascending" is one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct JobId(pub i64);

impl JobId {
    /// Jobs a deletion can have at the most: five stages and a restore, rounded up to a power of two.
    pub const SLOTS: i64 = 8;

    /// The id of the job in `slot` (0 to 7) of `deletion`.
    pub fn of(deletion: DeletionId, slot: u8) -> Self {
        Self(deletion.0 * Self::SLOTS + i64::from(slot) % Self::SLOTS)
    }

    /// The deletion this job belongs to.
    pub fn deletion(self) -> DeletionId {
        DeletionId(self.0.div_euclid(Self::SLOTS))
    }

    /// Its place among the deletion's jobs: the stages in order, then the restore.
    pub fn slot(self) -> u8 {
        self.0.rem_euclid(Self::SLOTS) as u8
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.deletion(), self.slot())
    }
}

/// What a dispatch is numbered with: a later dispatch is always greater, across stages, restores and
/// re-created names. The epoch changes when a ledger has gone back in time.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, Default,
)]
pub struct Fence {
    /// The ledger's epoch.
    pub epoch: u32,
    /// The number within the epoch, from one ledger-wide sequence.
    pub number: i64,
}

impl Fence {
    /// Whether what was last changed, or ordered, under this fence refuses to be changed under `other`: if that is older.
    /// The same is let through, since a step may change several things, and its order may be delivered twice.
    ///
    /// It stops a consumer that slept only where nothing can come between this question and the change.
    pub fn refuses(self, other: Self) -> bool {
        other < self
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_and_refuse_what_is_not_one() {
        for good in ["vm/web01", "volume/pool1.img-7"] {
            assert_eq!(good.parse::<ResourceId>().unwrap().to_string(), good);
        }
        for bad in ["web01", "/web01", "vm/", "vm/../etc", "VM/web01", "vm/a b", "vm/-x", &"v".repeat(40)] {
            assert!(bad.parse::<ResourceId>().is_err(), "{bad} was taken");
        }
        assert!("tenants//acme".parse::<Scope>().is_err());
        assert!("tenants/..".parse::<Scope>().is_err());
        let web: Scope = "tenants/acme/web".parse().unwrap();
        assert_eq!(web.around().collect::<Vec<_>>(), ["tenants/acme/web", "tenants/acme", "tenants"]);
        assert_eq!("d-17".parse::<DeletionId>().unwrap(), DeletionId(17));
        for bad in ["17", "d-0", "d--1", "d-99999999999999999999"] {
            assert!(bad.parse::<DeletionId>().is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn a_job_knows_its_deletion() {
        let job = JobId::of(DeletionId(17), 5);
        assert_eq!((job.deletion(), job.slot()), (DeletionId(17), 5));
    }

    #[test]
    fn a_fence_refuses_older_ones_and_no_others() {
        let fence = |epoch, number| Fence { epoch, number };
        let held = fence(2, 5);
        for older in [fence(2, 4), fence(1, 9)] {
            assert!(held.refuses(older), "{held} let {older} through");
        }
        for other in [held, fence(2, 6), fence(3, 1)] {
            assert!(!held.refuses(other), "{held} refused {other}");
        }
    }

    #[test]
    fn an_error_names_what_was_expected() {
        let error = "web01".parse::<ResourceId>().unwrap_err();
        assert_eq!(error.to_string(), "resource \"web01\": expected KIND/NAME, such as vm/web01");
    }
}
