//! The section `[census]`, as it is written.
use std::collections::BTreeSet;

use serde::Deserialize;

use super::daily::{EVERY_HOURS, TAKES_MAX, Take};
use super::listing::{ANSWER_SECS, ANSWER_SECS_MAX};
use super::{Rules, SCOPES_MAX, Sentinel, within};
use crate::id::{Kind, Scope};

/// Longest age that is believed, in minutes: a day.
const AGE_MAX_MINUTES: u32 = 24 * 60;

/// The section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    #[serde(default)]
    age_max_minutes: Option<u32>,
    #[serde(default)]
    shrinks_percent: Option<u8>,
    #[serde(default)]
    sentinels: Vec<Sentinel>,
    #[serde(default)]
    take: Vec<WrittenTake>,
}

/// One that is to be taken without anybody asking, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTake {
    kind: Kind,
    scope: Scope,
    #[serde(default)]
    every_hours: Option<u8>,
    #[serde(default)]
    within_secs: Option<u64>,
}

/// Why a section cannot be used. Each names its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// No age, or one of days.
    #[error("age_max_minutes = {0}: expected 1 to {AGE_MAX_MINUTES}")]
    Age(u32),
    /// Nothing would ever be too few.
    #[error("shrinks_percent = {0}: expected 0 to 99")]
    Shrinks(u8),
    /// More sentinels than scopes are counted.
    #[error("sentinels: {0} of them: expected at most {SCOPES_MAX}")]
    TooMany(usize),
    /// More than can be taken in a day.
    #[error("take: {0} of them: expected at most {TAKES_MAX}")]
    TooManyTaken(usize),
    /// Always, or too seldom to count by.
    #[error("take[{at}].every_hours = {found}: expected 1 to {EVERY_HOURS}")]
    Every {
        /// Which, from 0.
        at: usize,
        /// What it says.
        found: u8,
    },
    /// No time, or more than a listing has.
    #[error("take[{at}].within_secs = {found}: expected 1 to {ANSWER_SECS_MAX}")]
    Within {
        /// Which, from 0.
        at: usize,
        /// What it says.
        found: u64,
    },
    /// It is named before.
    #[error("take[{at}]: {kind} in {scope} is named twice")]
    Twice {
        /// Which, from 0.
        at: usize,
        /// Its kind.
        kind: Kind,
        /// Its scope.
        scope: Scope,
    },
    /// None of it would ever be believed.
    #[error(
        "take[{at}].scope: no sentinel of kind {kind} is named within {scope}: without one no census is believed"
    )]
    NoSentinel {
        /// Which, from 0.
        at: usize,
        /// Its kind.
        kind: Kind,
        /// Its scope.
        scope: Scope,
    },
}

/// What is to be taken.
fn taken(written: Vec<WrittenTake>, sentinels: &[Sentinel]) -> Result<Vec<Take>, Mistake> {
    if written.len() > TAKES_MAX {
        return Err(Mistake::TooManyTaken(written.len()));
    }
    let mut named = BTreeSet::new();
    let mut all = Vec::with_capacity(written.len());
    for (at, one) in written.into_iter().enumerate() {
        let WrittenTake { kind, scope, every_hours, within_secs } = one;
        let every_hours = every_hours.unwrap_or(EVERY_HOURS);
        if !(1..=EVERY_HOURS).contains(&every_hours) {
            return Err(Mistake::Every { at, found: every_hours });
        }
        let within_secs = within_secs.unwrap_or(ANSWER_SECS);
        if !(1..=ANSWER_SECS_MAX).contains(&within_secs) {
            return Err(Mistake::Within { at, found: within_secs });
        }
        if !named.insert((kind.clone(), scope.to_string())) {
            return Err(Mistake::Twice { at, kind, scope });
        }
        if !sentinels.iter().any(|own| own.resource.kind == kind && within(&own.scope, &scope)) {
            return Err(Mistake::NoSentinel { at, kind, scope });
        }
        all.push(Take { kind, scope, every_hours, within_secs });
    }
    Ok(all)
}

impl Written {
    /// What is asked of censuses.
    ///
    /// # Errors
    /// Naming the key and what was expected.
    pub fn rules(self) -> Result<Rules, Mistake> {
        let default = Rules::default();
        let age_max_ms = match self.age_max_minutes {
            None => default.age_max_ms,
            Some(minutes @ 1..=AGE_MAX_MINUTES) => u64::from(minutes) * 60_000,
            Some(minutes) => return Err(Mistake::Age(minutes)),
        };
        let shrinks_percent = match self.shrinks_percent {
            None => default.shrinks_percent,
            Some(percent @ 0..=99) => percent,
            Some(percent) => return Err(Mistake::Shrinks(percent)),
        };
        if self.sentinels.len() > SCOPES_MAX {
            return Err(Mistake::TooMany(self.sentinels.len()));
        }
        let take = taken(self.take, &self.sentinels)?;
        Ok(Rules { age_max_ms, shrinks_percent, sentinels: self.sentinels, take })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENTINEL: &str = "sentinels = [{ scope = \"tenants/acme\", resource = \"vm/always\" }]\n";

    fn read(take: &str) -> Result<Vec<Take>, String> {
        let written =
            toml::from_str::<Written>(&format!("{SENTINEL}{take}")).map_err(|why| why.to_string())?;
        written.rules().map(|rules| rules.take).map_err(|why| why.to_string())
    }

    #[test]
    fn nothing_is_taken_unless_it_is_configured_and_then_each_day() {
        assert_eq!(read(""), Ok(Vec::new()));
        let kind: Kind = "vm".parse().unwrap();
        let daily = Take {
            kind: kind.clone(),
            scope: "tenants".parse().unwrap(),
            every_hours: 24,
            within_secs: ANSWER_SECS,
        };
        let often = Take { kind, scope: "tenants/acme".parse().unwrap(), every_hours: 6, within_secs: 5 };
        let written = "take = [{ kind = \"vm\", scope = \"tenants\" }, \
             { kind = \"vm\", scope = \"tenants/acme\", every_hours = 6, within_secs = 5 }]";
        assert_eq!(read(written), Ok(vec![daily, often]));
    }

    #[test]
    fn a_mistake_names_the_field() {
        let of = |further: &str| {
            format!(
                "take = [{{ kind = \"vm\", scope = \"tenants\" }}, {{ kind = \"vm\", scope = \"tenants/acme\"{further} }}]"
            )
        };
        let twice = "take = [{ kind = \"vm\", scope = \"tenants\" }, { kind = \"vm\", scope = \"tenants\" }]";
        let many = format!("take = [{}]", "{ kind = \"vm\", scope = \"tenants\" }, ".repeat(TAKES_MAX + 1));
        for (text, part) in [
            (of(", every_hours = 0").as_str(), "take[1].every_hours = 0: expected 1 to 24"),
            (of(", every_hours = 25").as_str(), "take[1].every_hours = 25: expected 1 to 24"),
            (of(", within_secs = 0").as_str(), "take[1].within_secs = 0: expected 1 to 25"),
            (of(", within_secs = 26").as_str(), "take[1].within_secs = 26: expected 1 to 25"),
            (of(", every_days = 1").as_str(), "every_days"),
            ("take = [{ kind = \"vm\" }]", "scope"),
            (
                "take = [{ kind = \"vm\", scope = \"lab\" }]",
                "take[0].scope: no sentinel of kind vm is named within lab",
            ),
            (
                "take = [{ kind = \"image\", scope = \"tenants\" }]",
                "no sentinel of kind image is named within tenants",
            ),
            (twice, "take[1]: vm in tenants is named twice"),
            (many.as_str(), "take: 65 of them: expected at most 64"),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.contains(part), "{part:?}: {why}");
        }
    }
}
