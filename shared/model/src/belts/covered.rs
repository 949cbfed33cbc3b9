//! How much there is of what a pause or a ceiling names. A scope is taken as it is written, since nobody knows all
//! that there may be, and whoever has to stop something is not refused for that: so one that is mistyped stops
//! nothing, and has to be told.
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{Kind, Scope};

/// Of a kind, and in a scope and those below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Covered {
    /// Live records.
    pub records: u64,
    /// Resources that are registered.
    pub resources: u64,
}

impl fmt::Display for Covered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = |n: u64, one: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") };
        let (records, resources) =
            (counted(self.records, "live record"), counted(self.resources, "registered resource"));
        write!(f, "{records}, {resources}")
    }
}

impl Covered {
    /// What whoever named this kind, or this scope, is to be warned of: that there is nothing of it.
    pub fn warning(&self, kind: Option<&Kind>, scope: Option<&Scope>) -> Option<String> {
        if self.records > 0 || self.resources > 0 {
            return None;
        }
        let of = match (kind, scope) {
            (None, None) => return None,
            (Some(kind), None) => format!("of kind {kind}"),
            (None, Some(scope)) => format!("in {scope}"),
            (Some(kind), Some(scope)) => format!("of kind {kind} in {scope}"),
        };
        Some(format!(
            "nothing {of} is registered, or has a live record: it is in force, and stops nothing that there is. Look whether it \
             is spelt right"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_named_something_of_which_there_is_nothing_is_warned() {
        let (kind, scope): (Kind, Scope) = ("vm".parse().unwrap(), "tenants/amce".parse().unwrap());
        let nothing = Covered::default();
        let said = |kind, scope| nothing.warning(kind, scope).unwrap();
        assert!(said(None, Some(&scope)).starts_with("nothing in tenants/amce is registered"));
        assert!(said(Some(&kind), None).starts_with("nothing of kind vm is registered"));
        assert!(
            said(Some(&kind), Some(&scope)).starts_with("nothing of kind vm in tenants/amce is registered")
        );
        assert_eq!(nothing.warning(None, None), None, "everything is everything");
        for there in [Covered { records: 1, resources: 0 }, Covered { records: 0, resources: 1 }] {
            assert_eq!(there.warning(None, Some(&scope)), None, "{there}");
        }
        let some = Covered { records: 1, resources: 12 };
        assert_eq!(some.to_string(), "1 live record, 12 registered resources");
    }
}
