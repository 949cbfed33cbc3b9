//! Ceilings: how far deletions of a scope may go. A scope that nobody has raised is only observed: what would be done is
//! shown, and nothing is done.
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{Actor, Scope};
use crate::job::Stage;
use crate::time::Timestamp;

/// How far deletions may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ceiling {
    /// Nowhere: each stage is held once it is due, and says that it would have begun.
    #[default]
    Observe,
    /// They may be announced.
    Announce,
    /// Resources may be switched off; a cancel brings them back.
    Soft,
    /// They may be removed, with addresses and names; their data stays.
    Hard,
    /// Data may be destroyed, and names given away.
    Purge,
}

impl Ceiling {
    /// All, lowest first.
    pub const ALL: [Self; 5] = [Self::Observe, Self::Announce, Self::Soft, Self::Hard, Self::Purge];

    /// The lowest under which `stage` may run. Recycle destroys nothing more, so it goes with purge.
    pub fn needed_for(stage: Stage) -> Self {
        match stage {
            Stage::Announce => Self::Announce,
            Stage::Soft => Self::Soft,
            Stage::Hard => Self::Hard,
            Stage::Purge | Stage::Recycle => Self::Purge,
        }
    }

    /// Its word, as it is written and shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Announce => "announce",
            Self::Soft => "soft",
            Self::Hard => "hard",
            Self::Purge => "purge",
        }
    }

    /// The next higher one; none above purge.
    pub fn above(self) -> Option<Self> {
        Self::ALL.into_iter().find(|ceiling| *ceiling > self)
    }
}

impl fmt::Display for Ceiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that is no ceiling.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected observe, announce, soft, hard or purge")]
pub struct NoCeiling;

impl FromStr for Ceiling {
    type Err = NoCeiling;
    fn from_str(word: &str) -> Result<Self, NoCeiling> {
        Self::ALL.into_iter().find(|ceiling| ceiling.word() == word).ok_or(NoCeiling)
    }
}

/// Somebody has said how far deletions of one scope may go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScopeCeiling {
    /// This scope and those below it that have none of their own; `None`: every scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// How far.
    pub ceiling: Ceiling,
    /// Who.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCeiling {
    /// Of which scope; `None`: of every scope that has none of its own.
    pub scope: Option<Scope>,
    /// How far deletions of it may go; `None` takes back what was said of it, so that the scope around it counts.
    pub to: Option<Ceiling>,
    /// Who asks.
    pub by: Actor,
    /// Why.
    pub reason: String,
}

impl NewCeiling {
    /// The key of its scope among all; nothing for every scope.
    pub fn key(&self) -> &str {
        self.scope.as_ref().map_or("", Scope::as_str)
    }

    /// The ceiling as it is from `now` on; none if it is taken back.
    pub fn from(&self, now: Timestamp) -> Option<ScopeCeiling> {
        let Self { scope, to, by, reason } = self.clone();
        to.map(|ceiling| ScopeCeiling { scope, ceiling, by, reason, since: now })
    }
}

/// Most scopes that have a ceiling of their own: all of them are read whenever one has changed.
pub const CEILINGS_MAX: usize = 4096;

/// Why a ceiling cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotSet {
    /// More than one stage at once: nobody has seen yet how the one in between goes.
    #[error(
        "ceiling: deletions of {of} may go as far as {now}; a ceiling is raised stage by stage, so the next is {next}, \
         and not {asked}"
    )]
    TooFar {
        /// The scope, in words.
        of: String,
        /// How far they may go.
        now: Ceiling,
        /// What may be asked for.
        next: Ceiling,
        /// What was asked for.
        asked: Ceiling,
    },
    /// There would be too many.
    #[error(
        "scope: expected at most {CEILINGS_MAX} scopes with a ceiling of their own; raise the scope above them"
    )]
    TooMany,
    /// It has none of its own that could be taken back.
    #[error("scope: {0} has no ceiling of its own")]
    None(String),
}

/// All ceilings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ceilings {
    everywhere: Option<ScopeCeiling>,
    scopes: BTreeMap<String, ScopeCeiling>,
}

impl FromIterator<ScopeCeiling> for Ceilings {
    fn from_iter<I: IntoIterator<Item = ScopeCeiling>>(all: I) -> Self {
        let mut ceilings = Self::default();
        for said in all {
            match &said.scope {
                Some(scope) => drop(ceilings.scopes.insert(scope.to_string(), said)),
                None => ceilings.everywhere = Some(said),
            }
        }
        ceilings
    }
}

impl Ceilings {
    /// What was said of `scope`: of itself, else of the narrowest scope around it, else of every scope.
    pub fn of(&self, scope: &Scope) -> Option<&ScopeCeiling> {
        self.along(Some(scope.as_str()))
    }

    fn along(&self, mut path: Option<&str>) -> Option<&ScopeCeiling> {
        while let Some(at) = path {
            if let Some(said) = self.scopes.get(at) {
                return Some(said);
            }
            path = at.rsplit_once('/').map(|(outer, _)| outer);
        }
        self.everywhere.as_ref()
    }

    /// How far deletions of a scope may go of which, and of what is around it, nothing was said.
    pub fn everywhere(&self) -> Ceiling {
        self.everywhere.as_ref().map(|said| said.ceiling).unwrap_or_default()
    }

    /// How far deletions of `scope` may go.
    pub fn height(&self, scope: &Scope) -> Ceiling {
        self.of(scope).map(|said| said.ceiling).unwrap_or_default()
    }

    /// What does not happen to a deletion of `scope` as things stand, in a sentence; none if all of it may.
    pub fn limits(&self, scope: &Scope) -> Option<String> {
        let said = self.of(scope);
        let of = of(said.and_then(|said| said.scope.as_ref()));
        match self.height(scope) {
            Ceiling::Purge => None,
            Ceiling::Observe => Some(format!(
                "deletions of {of} are only observed: nothing is done before somebody raises that ceiling"
            )),
            ceiling => Some(format!(
                "deletions of {of} may go as far as {ceiling}: it is held there until somebody raises that ceiling"
            )),
        }
    }

    /// All of them: that of every scope first, then ascending by scope.
    pub fn iter(&self) -> impl Iterator<Item = &ScopeCeiling> {
        self.everywhere.iter().chain(self.scopes.values())
    }

    /// May this be set? Lowering may be done at once, raising by one stage; what is taken back may be either.
    ///
    /// # Errors
    /// Naming what may be asked for instead.
    pub fn check(&self, new: &NewCeiling) -> Result<(), CannotSet> {
        let scope = new.scope.as_ref();
        let own = match scope {
            Some(scope) => self.scopes.contains_key(scope.as_str()),
            None => self.everywhere.is_some(),
        };
        let asked = match new.to {
            Some(_) if !own && self.scopes.len() >= CEILINGS_MAX => return Err(CannotSet::TooMany),
            Some(ceiling) => ceiling,
            None if !own => return Err(CannotSet::None(of(scope))),
            None => self.around(scope),
        };
        let now = self.now(scope);
        match now.above() {
            Some(next) if asked > next => Err(CannotSet::TooFar { of: of(scope), now, next, asked }),
            Some(_) | None => Ok(()),
        }
    }

    /// All of them as they are once `new` is set.
    pub fn with(&self, new: &NewCeiling, now: Timestamp) -> Self {
        let mut then = self.clone();
        match (&new.scope, new.from(now)) {
            (Some(scope), Some(said)) => drop(then.scopes.insert(scope.to_string(), said)),
            (Some(scope), None) => drop(then.scopes.remove(scope.as_str())),
            (None, said) => then.everywhere = said,
        }
        then
    }

    /// Whether `stage` of a deletion of `scope` may not begin now, and may once they are as `then`.
    pub fn frees(&self, then: &Self, scope: &Scope, stage: Stage) -> bool {
        let needed = Ceiling::needed_for(stage);
        self.height(scope) < needed && needed <= then.height(scope)
    }

    /// Whether deletions of `scope` (or of every scope that has none of its own) may go further once they are as `then`,
    /// which says something else of it: otherwise nothing goes on.
    pub fn raised(&self, then: &Self, scope: Option<&Scope>) -> bool {
        self.now(scope) < then.now(scope)
    }

    /// What would count of a scope that has none of its own.
    fn around(&self, scope: Option<&Scope>) -> Ceiling {
        let outer = scope.and_then(|scope| scope.as_str().rsplit_once('/')).map(|(outer, _)| outer);
        match (scope, outer) {
            (None, _) => Ceiling::default(),
            (Some(_), outer) => self.along(outer).map(|said| said.ceiling).unwrap_or_default(),
        }
    }

    fn now(&self, scope: Option<&Scope>) -> Ceiling {
        match scope {
            Some(scope) => self.height(scope),
            None => self.everywhere(),
        }
    }
}

/// A scope in words.
pub fn of(scope: Option<&Scope>) -> String {
    scope.map_or_else(|| "every scope".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(scope: Option<&str>, ceiling: Ceiling) -> ScopeCeiling {
        ScopeCeiling {
            scope: scope.map(|scope| scope.parse().unwrap()),
            ceiling,
            by: "ops".parse().unwrap(),
            reason: "tried".to_owned(),
            since: Timestamp(1),
        }
    }

    fn ceilings() -> Ceilings {
        [
            set(None, Ceiling::Announce),
            set(Some("tenants/acme"), Ceiling::Hard),
            set(Some("tenants/acme/db"), Ceiling::Observe),
        ]
        .into_iter()
        .collect()
    }

    #[test]
    fn the_narrowest_scope_counts_by_whole_segments() {
        let ceilings = ceilings();
        for (scope, height) in [
            ("tenants/acme", Ceiling::Hard),
            ("tenants/acme/web/old", Ceiling::Hard),
            ("tenants/acme/db", Ceiling::Observe),
            ("tenants/acme/db/old", Ceiling::Observe),
            ("tenants/ac", Ceiling::Announce),
            ("tenants/acmeX", Ceiling::Announce),
            ("tenants", Ceiling::Announce),
        ] {
            assert_eq!(ceilings.height(&scope.parse().unwrap()), height, "{scope}");
        }
        assert_eq!(Ceilings::default().height(&"tenants".parse().unwrap()), Ceiling::Observe);
    }

    fn new(scope: Option<&str>, to: Option<Ceiling>) -> NewCeiling {
        let scope = scope.map(|scope| scope.parse().unwrap());
        NewCeiling { scope, to, by: "ops".parse().unwrap(), reason: "tried".to_owned() }
    }

    #[test]
    fn it_is_lowered_at_once_and_raised_stage_by_stage() {
        let ceilings = ceilings();
        let to = |scope, ceiling| ceilings.check(&new(scope, Some(ceiling)));
        for allowed in [Ceiling::Observe, Ceiling::Soft, Ceiling::Hard, Ceiling::Purge] {
            assert_eq!(to(Some("tenants/acme"), allowed), Ok(()), "{allowed}");
        }
        assert_eq!(
            to(None, Ceiling::Hard).unwrap_err().to_string(),
            "ceiling: deletions of every scope may go as far as announce; a ceiling is raised stage by stage, so the \
             next is soft, and not hard"
        );
        assert!(to(Some("tenants/umbrella"), Ceiling::Hard).is_err(), "what is inherited counts");
        assert_eq!(to(Some("tenants/umbrella"), Ceiling::Soft), Ok(()));
    }

    #[test]
    fn what_is_taken_back_raises_by_one_stage_at_most() {
        let mut ceilings = ceilings();
        let back = |ceilings: &Ceilings, scope| ceilings.check(&new(scope, None));
        assert_eq!(back(&ceilings, Some("tenants/acme")), Ok(()), "it is lowered to announce");
        assert!(back(&ceilings, Some("tenants/acme/db")).is_err(), "from observe to hard");
        let none = |of: &str| Err(CannotSet::None(of.to_owned()));
        assert_eq!(back(&ceilings, Some("tenants")), none("tenants"));
        assert_eq!(back(&ceilings, None), Ok(()));
        ceilings.everywhere = None;
        assert_eq!(back(&ceilings, None), none("every scope"));
    }

    #[test]
    fn what_a_higher_one_lets_go_on_is_what_was_below_it() {
        let ceilings = ceilings();
        let freed = |scope: Option<&str>, to: Option<Ceiling>, of: &str| -> Vec<Stage> {
            let then = ceilings.with(&new(scope, to), Timestamp(2));
            let of: Scope = of.parse().unwrap();
            Stage::ALL.into_iter().filter(|stage| ceilings.frees(&then, &of, *stage)).collect()
        };
        let acme = Some("tenants/acme");
        assert_eq!(freed(None, Some(Ceiling::Soft), "tenants/b"), [Stage::Soft]);
        assert_eq!(freed(None, Some(Ceiling::Soft), "tenants/acme/web"), [], "that has its own");
        assert_eq!(freed(acme, Some(Ceiling::Purge), "tenants/acme/web"), [Stage::Purge, Stage::Recycle]);
        assert_eq!(freed(acme, Some(Ceiling::Purge), "tenants/b"), []);
        assert_eq!(freed(acme, Some(Ceiling::Soft), "tenants/acme"), [], "it is lowered");
        let db = freed(Some("tenants/acme/db"), None, "tenants/acme/db");
        assert_eq!(db, [Stage::Announce, Stage::Soft, Stage::Hard], "what is taken back raises, too");
        assert_eq!(freed(None, None, "tenants/b"), []);
    }

    #[test]
    fn there_are_not_too_many() {
        let all = (0..CEILINGS_MAX).map(|n| set(Some(&format!("tenants/t{n}")), Ceiling::Observe));
        let ceilings: Ceilings = all.collect();
        let to = |scope| ceilings.check(&new(Some(scope), Some(Ceiling::Announce)));
        assert_eq!(to("tenants/new"), Err(CannotSet::TooMany));
        assert_eq!(to("tenants/t1"), Ok(()));
    }

    #[test]
    fn each_stage_needs_its_own() {
        let needed: Vec<_> = Stage::ALL.into_iter().map(Ceiling::needed_for).collect();
        assert_eq!(needed, [Ceiling::Announce, Ceiling::Soft, Ceiling::Hard, Ceiling::Purge, Ceiling::Purge]);
        for ceiling in Ceiling::ALL {
            assert_eq!(ceiling.word().parse(), Ok(ceiling));
        }
        assert_eq!("all".parse::<Ceiling>(), Err(NoCeiling));
    }
}
