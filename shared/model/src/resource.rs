//! What can be deleted.
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::exclusive;
use crate::id::{Instance, ResourceId, Scope, Subsystem};
use crate::rebuilt::Rebuilt;

/// How dangerous it is to delete a resource, or to forget it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Criticality {
    /// Safe to delete: it can be rebuilt, and states a proof of that ([`crate::rebuilt`]).
    Reproducible,
    /// Dangerous to forget: what is overdue is an alarm, and it is verified absent.
    Credential,
    /// Dangerous to delete: longest grace.
    Irreplaceable,
}

impl Criticality {
    /// Least number of days between soft and hard, and between hard and purge, that a plan must grant.
    pub fn least_grace_days(self) -> u32 {
        match self {
            Self::Reproducible | Self::Credential => 1,
            Self::Irreplaceable => 3,
        }
    }
}

/// What makes a resource this one and not another of the same name: attribute → value, such as
/// `uuid → 2f1c…`. Compared whole, at announce and before every destructive call. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "BTreeMap<String, String>")]
#[schemars(with = "BTreeMap<String, String>")]
pub struct Identity(Arc<BTreeMap<String, String>>);

/// Why a map is not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "identity: expected 1 to 16 attributes, such as uuid, each with a value of 1 to 256 characters; {found}"
)]
pub struct InvalidIdentity {
    /// What was found instead.
    pub found: String,
}

impl TryFrom<BTreeMap<String, String>> for Identity {
    type Error = InvalidIdentity;
    fn try_from(attributes: BTreeMap<String, String>) -> Result<Self, InvalidIdentity> {
        if attributes.is_empty() || attributes.len() > 16 {
            return Err(InvalidIdentity { found: format!("found {}", attributes.len()) });
        }
        for (name, value) in &attributes {
            if name.is_empty() || name.len() > 64 || value.is_empty() || value.len() > 256 {
                let name: String = name.chars().take(64).collect();
                return Err(InvalidIdentity { found: format!("attribute {name:?} is too long or empty") });
            }
        }
        Ok(Self(Arc::new(attributes)))
    }
}

impl From<Identity> for BTreeMap<String, String> {
    fn from(identity: Identity) -> Self {
        Arc::unwrap_or_clone(identity.0)
    }
}

impl Identity {
    /// The value of one attribute.
    pub fn get(&self, attribute: &str) -> Option<&str> {
        self.0.get(attribute).map(String::as_str)
    }

    /// All attributes, ascending by name.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Whether the name may be used, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It is in the inventory.
    Registered,
    /// Removed from the inventory by a deletion; the name stays taken until recycle.
    Tombstone,
    /// Nothing is left; the name may be registered anew.
    Recycled,
}

/// A resource as its platform registered it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// Kind and name.
    pub id: ResourceId,
    /// Tenant, group or cluster.
    pub scope: Scope,
    /// What makes it this one.
    pub identity: Identity,
    /// How dangerous it is to delete or to forget.
    pub criticality: Criticality,
    /// When it was last shown that it can be rebuilt: without it, what is reproducible counts as irreplaceable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuilt: Option<Rebuilt>,
    /// Who is restored first: lower goes first. As it is registered now, also of what has a record.
    #[serde(default = "default_priority")]
    pub priority: i16,
    /// Redundancy groups it belongs to, such as `db-main`: see [`crate::belts::redundancy`].
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "few_groups")]
    pub groups: Vec<String>,
    /// What no other resource may be registered for at the same time, such as `machine/storage07`: see
    /// [`crate::exclusive`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "plain_exclusive")]
    pub exclusive: Option<String>,
    /// Which instance of each subsystem holds its parts; `main` where it is not named.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "few_instances")]
    pub instances: BTreeMap<Subsystem, Subsystem>,
    /// Must never be deleted while set.
    #[serde(default)]
    pub protected: bool,
    /// What subsystems need to know of it (addresses, host names, contacts), by subsystem.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "small_attributes")]
    pub attributes: BTreeMap<String, serde_json::Value>,
}

/// Most bytes of a resource's attributes as JSON: they travel with every order, of which sixteen share a message.
pub const ATTRIBUTES_MAX_BYTES: usize = 16_384;
/// Most redundancy groups, and most instances, of one resource.
const NAMED_MAX: usize = 64;
/// Longest name of a redundancy group, in characters.
const GROUP_MAX: usize = 256;

/// The names of redundancy groups, if they may be those of one resource.
///
/// # Errors
/// What was expected.
pub fn groups(names: Vec<String>) -> Result<Vec<String>, String> {
    let wrong = |name: &String| name.is_empty() || name.chars().count() > GROUP_MAX;
    if names.len() > NAMED_MAX || names.iter().any(wrong) {
        return Err(format!("expected at most {NAMED_MAX} names of 1 to {GROUP_MAX} characters"));
    }
    Ok(names)
}

fn few_groups<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    groups(Vec::deserialize(from)?).map_err(D::Error::custom)
}

fn plain_exclusive<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let stated = Option::<String>::deserialize(from)?;
    stated.map(exclusive::place).transpose().map_err(D::Error::custom)
}

fn few_instances<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<Subsystem, Subsystem>, D::Error> {
    let instances = BTreeMap::<Subsystem, Subsystem>::deserialize(from)?;
    if instances.len() > NAMED_MAX {
        return Err(D::Error::custom(format!(
            "expected at most {NAMED_MAX} instances, found {}",
            instances.len()
        )));
    }
    Ok(instances)
}

fn small_attributes<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<String, serde_json::Value>, D::Error> {
    let attributes = BTreeMap::<String, serde_json::Value>::deserialize(from)?;
    let bytes = serde_json::to_vec(&attributes).map_err(D::Error::custom)?.len();
    if bytes > ATTRIBUTES_MAX_BYTES {
        let expected = format!("expected at most {ATTRIBUTES_MAX_BYTES} bytes of JSON, found {bytes}");
        return Err(D::Error::custom(expected));
    }
    Ok(attributes)
}

/// The priority of what states none.
pub const PRIORITY_DEFAULT: i16 = 100;

fn default_priority() -> i16 {
    PRIORITY_DEFAULT
}

impl Resource {
    /// The instance of `subsystem` that holds this resource's part.
    pub fn instance_of(&self, subsystem: &Subsystem) -> Instance {
        instance_of(&self.instances, subsystem)
    }
}

/// The instance of `subsystem` in `instances`, or `main`.
pub fn instance_of(instances: &BTreeMap<Subsystem, Subsystem>, subsystem: &Subsystem) -> Instance {
    let name = instances.get(subsystem).unwrap_or(&MAIN).clone();
    Instance::new(subsystem.clone(), name)
}

#[expect(clippy::expect_used, reason = "a constant that a test parses")]
static MAIN: LazyLock<Subsystem> = LazyLock::new(|| "main".parse().expect("main is a subsystem's alphabet"));
