//! Pages of a listing: how they are asked for, and what they may be.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::belts::census::CREDENTIAL_MAX;
use crate::id::{Kind, ResourceId};
use crate::resource::Identity;

/// Most resources of one page.
pub const ENTRIES_MAX: usize = 200;
/// Longest of them, in bytes of JSON: so a page fits into an answer, with all else that it says.
pub const ENTRY_MAX_BYTES: usize = 300;
/// Longest name of a place, in bytes.
pub const PLACE_MAX_BYTES: usize = 512;

/// What is asked of a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageAsked {
    /// Of which kind.
    pub kind: Kind,
    /// Behind which; none: from the beginning.
    pub after: Option<ResourceId>,
    /// How many at the most.
    pub most: usize,
}

impl PageAsked {
    /// As an order carries it.
    pub fn params(&self) -> BTreeMap<String, Value> {
        let Self { kind, after, most } = self;
        BTreeMap::from([
            ("kind".to_owned(), json!(kind)),
            ("after".to_owned(), json!(after)),
            ("most".to_owned(), json!(most)),
        ])
    }

    /// As an order carried it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(params: &BTreeMap<String, Value>) -> Result<Self, String> {
        let object = params.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let asked: Self = serde_json::from_value(Value::Object(object)).map_err(|e| e.to_string())?;
        if !(1..=ENTRIES_MAX).contains(&asked.most) {
            return Err(format!("most: {}: expected 1 to {ENTRIES_MAX}", asked.most));
        }
        Ok(asked)
    }
}

/// One that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Kind and name, as the subsystem knows it.
    pub id: ResourceId,
    /// What it shows of its identity, if it shows any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
}

/// Part of what one instance lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Behind which it begins; none: at the beginning.
    pub after: Option<ResourceId>,
    /// What is there, ascending by id.
    pub entries: Vec<Entry>,
    /// Whether there is more behind the last one.
    pub more: bool,
    /// How many there are in all, as the subsystem counts them itself.
    pub total: u64,
    /// What it was listed with, by name.
    pub credential: String,
    /// Where: what the instance showed of its own identity.
    pub place: String,
}

impl Page {
    /// Why it cannot be a page of such a listing, if it cannot.
    pub fn fault(&self, kind: &Kind) -> Option<String> {
        if self.credential.trim().is_empty() || self.credential.chars().count() > CREDENTIAL_MAX {
            return Some(format!("credential: expected 1 to {CREDENTIAL_MAX} characters"));
        }
        if self.place.trim().is_empty() || self.place.len() > PLACE_MAX_BYTES {
            return Some(format!("place: expected 1 to {PLACE_MAX_BYTES} bytes"));
        }
        if self.entries.len() > ENTRIES_MAX {
            return Some(format!("{} on one page: expected at most {ENTRIES_MAX}", self.entries.len()));
        }
        if self.more && self.entries.is_empty() {
            return Some("an empty page with more behind it".to_owned());
        }
        let mut last = self.after.as_ref();
        for entry in &self.entries {
            if entry.id.kind != *kind {
                return Some(format!("{} is not of kind {kind}", entry.id));
            }
            if last.is_some_and(|last| *last >= entry.id) {
                return Some(format!("{} does not come after the one before it", entry.id));
            }
            let bytes = serde_json::to_vec(entry).map_or(usize::MAX, |text| text.len());
            if bytes > ENTRY_MAX_BYTES {
                return Some(format!("{} takes {bytes} bytes: expected at most {ENTRY_MAX_BYTES}", entry.id));
            }
            last = Some(&entry.id);
        }
        None
    }
}
