//! What the configuration says of all deletions at all times: whose calendar dates are of, working hours, budgets, what makes a
//! census complete, and what is protected.
use std::collections::BTreeSet;

use serde::Deserialize;
use sexton_model::belts::Policy;
use sexton_model::belts::budget::{Budgets, Written};
use sexton_model::belts::census;
use sexton_model::claims::Claimable;
use sexton_model::deletion::Zone;
use sexton_model::time::Day;
use sexton_model::{ResourceId, Timestamp};
use sexton_service::Config;

use crate::{Plans, hours};

/// Most resources that the configuration protects: each is looked for whenever something is decided.
const PROTECTED_MAX: usize = 1000;

/// The section `[protect]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Protect {
    resources: Vec<ResourceId>,
}

/// The section `[policy]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dates {
    zone: Zone,
}

/// What the sections `[policy]`, `[windows]`, `[budgets]`, `[census]` and `[protect]` come to. What resources have to
/// themselves no configuration says: see [`claiming`].
///
/// # Errors
/// Naming the section and the key that is wrong.
pub fn read(config: &Config, now: Timestamp) -> anyhow::Result<Policy> {
    Ok(Policy {
        windows: hours::windows(config, now)?,
        budgets: budgets(config)?,
        census: census(config)?,
        protected: protected(config)?,
        claimable: Claimable::default(),
        zone: zone(config)?,
    })
}

/// The same, and what resources have to themselves, as their subsystems say it.
pub fn claiming(policy: Policy, plans: &Plans) -> Policy {
    Policy { claimable: plans.catalogue().claimable().clone(), ..policy }
}

fn zone(config: &Config) -> anyhow::Result<Zone> {
    if !config.has("policy") {
        return Ok(Policy::default().zone);
    }
    let Dates { zone } = config.section("policy")?;
    Ok(zone)
}

fn protected(config: &Config) -> anyhow::Result<BTreeSet<ResourceId>> {
    if !config.has("protect") {
        return Ok(BTreeSet::new());
    }
    let Protect { resources } = config.section("protect")?;
    if resources.len() > PROTECTED_MAX {
        let reason = format!("resources: {} are named: expected at most {PROTECTED_MAX}", resources.len());
        return Err(config.mistake("protect", reason).into());
    }
    Ok(resources.into_iter().collect())
}

fn census(config: &Config) -> anyhow::Result<census::Rules> {
    if !config.has("census") {
        return Ok(census::Rules::default());
    }
    let written: census::Written = config.section("census")?;
    Ok(written.rules().map_err(|why| config.mistake("census", why.to_string()))?)
}

/// That somebody lists each kind of which a census is to be taken: no other will ever come.
///
/// # Errors
/// Naming the section and the key that is wrong.
pub fn censuses_can_be_taken(config: &Config, policy: &Policy, plans: &Plans) -> anyhow::Result<()> {
    for (at, take) in policy.census.take.iter().enumerate() {
        let kind = &take.kind;
        if plans.catalogue().lister(kind).is_none() {
            let reason =
                format!("take[{at}].kind: no subsystem lists all of kind {kind}: hand its censuses in");
            return Err(config.mistake("census", reason).into());
        }
    }
    Ok(())
}

fn budgets(config: &Config) -> anyhow::Result<Option<Budgets>> {
    if !config.has("budgets") {
        return Ok(None);
    }
    let written: Written = config.section("budgets")?;
    let budgets = written.budgets().map_err(|why| config.mistake("budgets", why.to_string()))?;
    Ok(Some(budgets.looking_ahead()))
}

/// Say in the log whose calendar dates are of, when stages past the end of cancel begin, and how many.
pub fn tell(policy: &Policy, day: Day, config: &Config, now: Timestamp) {
    tracing::info!(
        zone = policy.zone.0.name(),
        default = !config.has("policy"),
        "a date that is stated without a zone is of this calendar"
    );
    hours::tell(policy, day, config.has("windows"), now);
    if let Some(lack) = policy.lacks(day) {
        tracing::warn!("{lack}");
    }
    if policy.claimable.is_empty() {
        tracing::info!(
            "no file of a subsystem says `claims`: what resources state is not compared with what others state"
        );
    }
    if !policy.protected.is_empty() {
        let named: Vec<String> = policy.protected.iter().map(ToString::to_string).collect();
        tracing::info!(resources = named.join(", "), "protected, whatever is registered");
    }
    for take in &policy.census.take {
        let (kind, scope, every_hours) = (&take.kind, &take.scope, take.every_hours);
        tracing::info!(%kind, %scope, every_hours, "a census is taken without anybody asking");
    }
    let budgets = policy.budgets(day);
    let stages: Vec<&str> = budgets.stages().map(|stage| stage.word()).collect();
    if stages.is_empty() {
        let why = if day.is_rehearsal() { "this is a rehearsal" } else { "[budgets] says none = true" };
        tracing::info!(why, "any number of deletions may begin in a day");
        return;
    }
    let stages = stages.join(", ");
    tracing::info!(
        numbers = %budgets,
        stages,
        default = !config.has("budgets"),
        "no more deletions of one kind begin these stages"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Policy, String> {
        let config = Config::parse(
            "sexton.toml".as_ref(),
            text,
            &["policy", "windows", "budgets", "census", "protect"],
        )
        .unwrap();
        read(&config, Timestamp(0)).map_err(|why| format!("{why:#}"))
    }

    #[test]
    fn there_are_budgets_unless_they_are_switched_off() {
        let bind = |policy: &Policy, day| policy.budgets(day).stages().count();
        let rehearsal = Day::Rehearsal { length_ms: 5 };
        let default = of("").unwrap();
        assert_eq!((bind(&default, Day::Calendar), bind(&default, rehearsal)), (3, 0));
        let none = of("[budgets]\nnone = true").unwrap();
        assert_eq!((bind(&none, Day::Calendar), bind(&none, rehearsal)), (0, 0));
        let own = of("[budgets]\na_day = 7").unwrap();
        assert_eq!((bind(&own, Day::Calendar), bind(&own, rehearsal)), (3, 3), "who says so rehearses them");
        let later = of("[budgets]\nstages = [\"hard\"]").unwrap();
        assert_eq!(bind(&later, Day::Calendar), 2, "and announce: nobody is told before it is asked");
    }

    #[test]
    fn a_date_without_a_zone_is_of_the_configured_calendar() {
        assert_eq!(of("").unwrap().zone.0.name(), "UTC");
        assert_eq!(
            of("[policy]\nzone = \"America/Los_Angeles\"").unwrap().zone.0.name(),
            "America/Los_Angeles"
        );
        for (wrong, part) in [("zone = \"Mars\"", "zone"), ("zones = \"UTC\"", "zones"), ("", "zone")] {
            let error = of(&format!("[policy]\n{wrong}")).unwrap_err();
            assert!(error.contains("policy") && error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_configuration_protects_what_it_names() {
        let policy = of("[protect]\nresources = [\"vm/sexton-db\"]").unwrap();
        assert!(policy.lets_go(&"vm/web01".parse().unwrap()).is_ok());
        assert_eq!(policy.lacks(Day::Calendar), None);
        for nothing in ["", "[protect]\nresources = []"] {
            let policy = of(nothing).unwrap();
            assert!(policy.lacks(Day::Calendar).unwrap().contains("[protect]"), "{nothing}");
            assert_eq!(policy.lacks(Day::Rehearsal { length_ms: 5 }), None, "{nothing}");
        }
        let why = policy.lets_go(&"vm/sexton-db".parse().unwrap()).unwrap_err().to_string();
        assert_eq!(why, "vm/sexton-db is protected by [protect] in the coordinator's configuration");
        for (wrong, part) in
            [("resources = [\"sexton-db\"]", "resources"), ("names = []", "names"), ("", "resources")]
        {
            let error = of(&format!("[protect]\n{wrong}")).unwrap_err();
            assert!(error.contains("protect") && error.contains(part), "{error}");
        }
        let many: Vec<String> = (0..=PROTECTED_MAX).map(|n| format!("\"vm/m{n}\"")).collect();
        let error = of(&format!("[protect]\nresources = [{}]", many.join(", "))).unwrap_err();
        assert!(error.contains("resources: 1001 are named: expected at most 1000"), "{error}");
    }

    #[test]
    fn a_census_is_taken_only_of_what_somebody_lists() {
        let text = "[census]\nsentinels = [{ scope = \"lab\", resource = \"vm/always\" }]\n\
                    take = [{ kind = \"vm\", scope = \"lab\" }]\n";
        let config = Config::parse("sexton.toml".as_ref(), text, &["census"]).unwrap();
        let policy = read(&config, Timestamp(0)).unwrap();
        let error = censuses_can_be_taken(&config, &policy, &Plans::default()).unwrap_err();
        let why =
            "sexton.toml: [census]: take[0].kind: no subsystem lists all of kind vm: hand its censuses in";
        assert!(error.to_string().contains(why), "{error}");
    }

    #[test]
    fn a_mistake_names_the_file_and_the_key() {
        let error = of("[budgets]\ndays = 0").unwrap_err();
        assert!(error.contains("sexton.toml: [budgets]: days = 0: expected 1 to 31"), "{error}");
        let error = of("[census]\nage_max_minutes = 0").unwrap_err();
        assert!(error.contains("sexton.toml: [census]: age_max_minutes = 0: expected 1 to 1440"), "{error}");
        let error = of("[census]\ntake = [{ kind = \"vm\", scope = \"lab\" }]").unwrap_err();
        assert!(error.contains("sexton.toml: [census]: take[0].scope: no sentinel of kind vm"), "{error}");
        let error = of("[budgets]\na_week = 9").unwrap_err();
        assert!(error.contains("a_week"), "{error}");
    }
}
