//! The section `[budgets]`, as it is written.
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{Budgets, DAYS_MAX, SCOPES_MAX};
use crate::id::Scope;
use crate::job::Stage;

/// The section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// Nothing is limited.
    #[serde(default)]
    none: bool,
    #[serde(default)]
    a_day: Option<u64>,
    #[serde(default)]
    everywhere: Option<u64>,
    #[serde(default)]
    days: Option<u16>,
    #[serde(default)]
    stages: Option<Vec<Stage>>,
    #[serde(default)]
    scopes: Option<Vec<OfScope>>,
    /// Hundredths count, and no more of it.
    #[serde(default)]
    percent: Option<Percent>,
}

/// A number of per cent, in hundredths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "f64")]
struct Percent(u32);

impl TryFrom<f64> for Percent {
    type Error = String;
    fn try_from(percent: f64) -> Result<Self, String> {
        let hundredths = (percent * 100.0).round();
        let found = (1..=10_000).find(|n| f64::from(*n) == hundredths);
        found.map(Self).ok_or_else(|| format!("percent = {percent}: expected 0.01 to 100"))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfScope {
    scope: Scope,
    a_day: u64,
}

/// What the section comes to.
pub(super) struct Numbers {
    pub(super) each: Option<u64>,
    pub(super) everywhere: u64,
    pub(super) days: u16,
    pub(super) stages: BTreeSet<Stage>,
    pub(super) scopes: BTreeMap<String, (Scope, u64)>,
    pub(super) share: Option<u32>,
}

/// Why a section cannot be used. Each names its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// Both "none" and numbers.
    #[error("none = true: expected no other key beside it")]
    NoneAndMore,
    /// A span that is none, or of which the counts would not be kept.
    #[error("days = {0}: expected 1 to {DAYS_MAX}")]
    Days(u16),
    /// Nothing would be limited, and it does not say so.
    #[error(
        "stages: expected one or more of announce, soft, hard, purge and recycle, each once, or none = true alone"
    )]
    Stages,
    /// More scopes than are counted.
    #[error("scopes: {0} of them: expected at most {SCOPES_MAX}")]
    TooMany(usize),
    /// Two numbers for one scope.
    #[error("scopes: {0} is there twice")]
    Twice(Scope),
}

impl Written {
    /// The budgets.
    ///
    /// # Errors
    /// Naming the key and what was expected.
    pub fn budgets(&self) -> Result<Budgets, Mistake> {
        let Self { none, a_day, everywhere, days, stages, scopes, percent } = self;
        let share = percent.map(|percent| percent.0);
        if *none {
            return if *self == (Self { none: true, ..Self::default() }) {
                Ok(Budgets::none())
            } else {
                Err(Mistake::NoneAndMore)
            };
        }
        let default = Budgets::default();
        let days = days.unwrap_or(default.days);
        if !(1..=DAYS_MAX).contains(&days) {
            return Err(Mistake::Days(days));
        }
        let stages = match stages {
            None => default.stages,
            Some(stages) => {
                let set: BTreeSet<Stage> = stages.iter().copied().collect();
                if set.is_empty() || set.len() != stages.len() {
                    return Err(Mistake::Stages);
                }
                set
            }
        };
        let written = scopes.as_deref().unwrap_or_default();
        if written.len() > SCOPES_MAX {
            return Err(Mistake::TooMany(written.len()));
        }
        let mut scopes = BTreeMap::new();
        for OfScope { scope, a_day } in written {
            if scopes.insert(scope.to_string(), (scope.clone(), *a_day)).is_some() {
                return Err(Mistake::Twice(scope.clone()));
            }
        }
        let each = a_day.or(default.each);
        let everywhere = everywhere.unwrap_or(default.everywhere);
        Ok(Budgets::new(Numbers { each, everywhere, days, stages, scopes, share }))
    }
}
