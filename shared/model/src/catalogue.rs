//! What the actions of each subsystem may do: the linter's and the state machine's knowledge of them.
//!
//! One TOML file per subsystem (`deploy/subsystems/*.toml`), embedded by the consumer that performs the
//! actions, read by the coordinator. So adding a subsystem changes nothing here.
use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::belts::census::listing;
use crate::claims::Claimable;
use crate::id::{ActionName, Kind, Subsystem};

/// What performing an action does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Nature {
    /// Changes nothing; looks, and pins what it sees as targets.
    Inspect,
    /// Changes nothing; refuses to go on unless something holds.
    Check,
    /// Only adds (a final backup): may stand in a reversible stage without an undo.
    Adds,
    /// Can be undone exactly: captures a manifest first, and has an undo.
    Reversible,
    /// Cannot be undone. Done means *verified absent*.
    Destructive,
}

impl Nature {
    /// Whether its manifest is captured before it is performed.
    pub fn captures(self) -> bool {
        self == Self::Reversible
    }
}

/// One action of a subsystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// What it does to the world.
    pub nature: Nature,
    /// The first stage it may stand in; destructive actions name `hard` or `purge`.
    pub earliest: crate::job::Stage,
    /// Longest time one order may take, in milliseconds, without an extension. Reversible: at most 60,000.
    pub deadline_ms: u64,
    /// Longest single call to the subsystem, in milliseconds: the lease ends this much after the deadline.
    pub longest_call_ms: u64,
    /// Sends progress and may be extended beyond its deadline.
    #[serde(default)]
    pub long: bool,
    /// One order may take a good part of its deadline even if all goes well: no more are given at once than the
    /// consumers have hands. What is `long` is slow, too.
    #[serde(default)]
    pub slow: bool,
    /// What stops being used once this is done: `address`, `record`, `key`, `disk`, …
    #[serde(default)]
    pub ends_use_of: Vec<String>,
    /// What is given away by this, so that whatever uses it must be gone before.
    #[serde(default)]
    pub releases: Vec<String>,
    /// What is taken away for good by this from whoever still uses it (its `backup`): it comes after all steps of its plan that
    /// end the use of that. Other than with [`Self::releases`] there may be none: nobody else gets it.
    #[serde(default)]
    pub withdraws: Vec<String>,
    /// Of what an inspection pins: the top-level keys under which something new stops the deletion when the targets
    /// are read again before a later stage, since it would be lost for ever (a volume).
    #[serde(default)]
    pub irreplaceable: Vec<String>,
    /// Whether it is the notice: whom it tells can still say no before anything happens. It is delivered, or after days
    /// in vain acknowledged by a person, and never waived.
    #[serde(default)]
    pub notice: bool,
    /// What it does, for people.
    pub about: String,
}

/// The actions of one subsystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubsystemActions {
    /// The subsystem.
    pub subsystem: Subsystem,
    /// Whether it can find nothing of a resource that its platform says nothing of: a resource whose plan inspects it
    /// at announce has to state its part under `attributes`, if need be as `none = true`.
    #[serde(default)]
    pub attributes_required: bool,
    /// Whether every driver of it compares what it finds with the resource's identity when it inspects. Only these are
    /// asked about a wrong one: to others it is none.
    #[serde(default)]
    pub compares_identity: bool,
    /// Of what its inspections pin: the top-level keys, one of which every driver of it has, under which a text says in which
    /// place that was seen. Read again, what was pinned in another place is refused, with that place in the reason. Only these
    /// subsystems are asked about a wrong one. A refusal in which that place stands is taken for one because of it: where a
    /// driver refuses for another reason, it does not repeat what it was told is pinned.
    #[serde(default)]
    pub compares_place: BTreeSet<String>,
    /// The kinds of which every driver of it lists all that there is, with the identity of each: a census of one is taken
    /// from all of its instances.
    #[serde(default)]
    pub lists: BTreeSet<Kind>,
    /// Of what a resource states of its part: the keys of which each value is one resource's alone, since whatever fits it is
    /// taken for that resource's; of several keys in one list each combination of their values. See [`crate::claims`].
    #[serde(default)]
    pub claims: Vec<Vec<String>>,
    /// Its actions by name.
    pub actions: BTreeMap<ActionName, Action>,
}

/// The actions of every subsystem a plan may name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogue {
    subsystems: BTreeMap<Subsystem, BTreeMap<ActionName, Action>>,
    #[serde(default)]
    attributes_required: BTreeSet<Subsystem>,
    #[serde(default)]
    compares_identity: BTreeSet<Subsystem>,
    #[serde(default)]
    compares_place: BTreeMap<Subsystem, BTreeSet<String>>,
    #[serde(default)]
    listed_by: BTreeMap<Kind, Subsystem>,
    #[serde(default)]
    claimable: Claimable,
}

/// Why a catalogue file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// Not TOML, or not of the wanted form.
    #[error("{file}: {reason}")]
    Form {
        /// The file's name.
        file: String,
        /// What the parser said, with line and column.
        reason: String,
    },
    /// An action contradicts itself.
    #[error("{file}: action {action}: {reason}")]
    Action {
        /// The file's name.
        file: String,
        /// The action.
        action: ActionName,
        /// What is wrong.
        reason: &'static str,
    },
    /// The subsystem is there already.
    #[error("{file}: subsystem {subsystem} is described twice")]
    Twice {
        /// The file's name.
        file: String,
        /// The subsystem.
        subsystem: Subsystem,
    },
    /// A list of claims without a key would make one claim of all resources.
    #[error("{file}: claims: expected lists of one key or more")]
    NoKeys {
        /// The file's name.
        file: String,
    },
    /// Another subsystem lists that kind.
    #[error("{file}: lists: kind {kind} is listed by {by} already, and a census is taken of one subsystem")]
    Listed {
        /// The file's name.
        file: String,
        /// The kind.
        kind: Kind,
        /// Who lists it.
        by: Subsystem,
    },
}

/// Longest deadline of a reversible action, in milliseconds: an undo waits for it.
pub const REVERSIBLE_DEADLINE_MAX_MS: u64 = 60_000;
/// Longest deadline of any order, in milliseconds; longer work is extended by progress.
pub const DEADLINE_MAX_MS: u64 = 600_000;

impl SubsystemActions {
    /// Parse one file of `deploy/subsystems`.
    ///
    /// # Errors
    /// If it is not TOML of this form, or an action contradicts itself.
    pub fn parse(file: &str, text: &str) -> Result<Self, CatalogueError> {
        let parsed: Self = toml::from_str(text)
            .map_err(|e| CatalogueError::Form { file: file.to_owned(), reason: e.to_string() })?;
        if parsed.claims.iter().any(Vec::is_empty) {
            return Err(CatalogueError::NoKeys { file: file.to_owned() });
        }
        for (name, action) in &parsed.actions {
            // An order for it asks for a page of a census, and is no step of a plan.
            let reserved = (name.as_str() == listing::ACTION)
                .then_some("the name is kept for the listing of all that is there");
            if let Some(reason) = reserved.or_else(|| action.contradiction()) {
                return Err(CatalogueError::Action { file: file.to_owned(), action: name.clone(), reason });
            }
        }
        Ok(parsed)
    }
}

impl Action {
    fn contradiction(&self) -> Option<&'static str> {
        use crate::job::Stage;
        if self.deadline_ms == 0 || self.deadline_ms > DEADLINE_MAX_MS {
            return Some("deadline_ms: expected 1 to 600000");
        }
        if self.longest_call_ms == 0 || self.longest_call_ms > DEADLINE_MAX_MS {
            return Some("longest_call_ms: expected 1 to 600000");
        }
        if self.nature != Nature::Inspect && !self.irreplaceable.is_empty() {
            return Some("irreplaceable: only an action that inspects pins anything");
        }
        if self.notice && !matches!(self.nature, Nature::Reversible | Nature::Adds) {
            return Some("notice: only a reversible action, or one that adds, tells people");
        }
        match self.nature {
            Nature::Reversible if self.deadline_ms > REVERSIBLE_DEADLINE_MAX_MS => {
                Some("deadline_ms: a reversible action may take at most 60000, its undo waits for it")
            }
            Nature::Destructive if self.earliest < Stage::Hard => {
                Some("earliest: a destructive action cannot stand before hard")
            }
            Nature::Inspect | Nature::Check | Nature::Adds | Nature::Reversible
                if !self.releases.is_empty() =>
            {
                Some("releases: only a destructive action gives something away")
            }
            Nature::Inspect | Nature::Check | Nature::Adds | Nature::Reversible
                if !self.withdraws.is_empty() =>
            {
                Some("withdraws: only a destructive action takes something away for good")
            }
            Nature::Inspect | Nature::Check | Nature::Adds | Nature::Reversible | Nature::Destructive => None,
        }
    }
}

impl Catalogue {
    /// Add one subsystem's file.
    ///
    /// # Errors
    /// If it cannot be parsed or its subsystem is there already.
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), CatalogueError> {
        let parsed = SubsystemActions::parse(file, text)?;
        if self.subsystems.contains_key(&parsed.subsystem) {
            return Err(CatalogueError::Twice { file: file.to_owned(), subsystem: parsed.subsystem });
        }
        for kind in &parsed.lists {
            if let Some(by) = self.listed_by.get(kind) {
                return Err(CatalogueError::Listed {
                    file: file.to_owned(),
                    kind: kind.clone(),
                    by: by.clone(),
                });
            }
        }
        let listed = parsed.lists.into_iter().map(|kind| (kind, parsed.subsystem.clone()));
        self.listed_by.extend(listed);
        if parsed.attributes_required {
            self.attributes_required.insert(parsed.subsystem.clone());
        }
        if parsed.compares_identity {
            self.compares_identity.insert(parsed.subsystem.clone());
        }
        if !parsed.compares_place.is_empty() {
            self.compares_place.insert(parsed.subsystem.clone(), parsed.compares_place);
        }
        if !parsed.claims.is_empty() {
            self.claimable.add(parsed.subsystem.clone(), parsed.claims);
        }
        self.subsystems.insert(parsed.subsystem, parsed.actions);
        Ok(())
    }

    /// The actions of a subsystem.
    pub fn subsystem(&self, subsystem: &Subsystem) -> Option<&BTreeMap<ActionName, Action>> {
        self.subsystems.get(subsystem)
    }

    /// Whether a resource has to state its part for it; see [`SubsystemActions::attributes_required`].
    pub fn requires_attributes(&self, subsystem: &Subsystem) -> bool {
        self.attributes_required.contains(subsystem)
    }

    /// Whether its inspections tell one resource from another one; see [`SubsystemActions::compares_identity`].
    pub fn compares_identity(&self, subsystem: &Subsystem) -> bool {
        self.compares_identity.contains(subsystem)
    }

    /// Under which keys its inspections pin their place, if it compares places; see [`SubsystemActions::compares_place`].
    pub fn compares_place(&self, subsystem: &Subsystem) -> Option<&BTreeSet<String>> {
        self.compares_place.get(subsystem)
    }

    /// The subsystem whose instances list all of a kind, if one does; see [`SubsystemActions::lists`].
    pub fn lister(&self, kind: &Kind) -> Option<&Subsystem> {
        self.listed_by.get(kind)
    }

    /// Which statements are one resource's alone; see [`SubsystemActions::claims`].
    pub fn claimable(&self) -> &Claimable {
        &self.claimable
    }

    /// The subsystems that tell people what is to happen; see [`Action::notice`].
    pub fn telling(&self) -> impl Iterator<Item = &Subsystem> {
        let telling =
            self.subsystems.iter().filter(|(_, actions)| actions.values().any(|action| action.notice));
        telling.map(|(subsystem, _)| subsystem)
    }

    /// All subsystems, ascending.
    pub fn subsystems(&self) -> impl Iterator<Item = &Subsystem> {
        self.subsystems.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(subsystem: &str, lists: &str, action: &str) -> String {
        format!(
            "subsystem = \"{subsystem}\"\nlists = [{lists}]\n[actions.{action}]\nnature = \"inspect\"\n\
             earliest = \"announce\"\ndeadline_ms = 1000\nlongest_call_ms = 1000\nabout = \"looks\"\n"
        )
    }

    #[test]
    fn a_kind_is_listed_by_one_subsystem() {
        let vm: Kind = "vm".parse().unwrap();
        let mut catalogue = Catalogue::default();
        catalogue.add("dns.toml", &file("dns", "", "inspect")).unwrap();
        assert_eq!(catalogue.lister(&vm), None);
        catalogue.add("hypervisor.toml", &file("hypervisor", "\"vm\"", "inspect")).unwrap();
        assert_eq!(catalogue.lister(&vm).map(Subsystem::as_str), Some("hypervisor"));
        let why = catalogue.add("cluster.toml", &file("cluster", "\"vm\"", "inspect")).unwrap_err();
        assert!(why.to_string().contains("kind vm is listed by hypervisor already"), "{why}");
    }

    #[test]
    fn no_action_is_called_as_the_listing_is() {
        let why = SubsystemActions::parse("dns.toml", &file("dns", "", listing::ACTION)).unwrap_err();
        assert!(why.to_string().contains("action census: the name is kept"), "{why}");
    }
}
