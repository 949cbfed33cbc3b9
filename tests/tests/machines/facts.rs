//! What subsystems show of machines, and how two looks at them differ.
use std::collections::BTreeMap;

/// Of each machine: thing → how it is, both in the subsystem's own words. What belongs to no machine goes
/// under [`NOBODY`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts(BTreeMap<String, BTreeMap<String, String>>);

/// Whose a thing is that no machine of the test owns.
pub const NOBODY: &str = "(nobody)";

impl Facts {
    pub fn add(&mut self, machine: &str, thing: impl Into<String>, how: impl Into<String>) {
        let (thing, how) = (thing.into(), how.into());
        let before = self.0.entry(machine.to_owned()).or_default().insert(thing.clone(), how);
        assert_eq!(before, None, "{machine}: two facts are called {thing}");
    }

    pub fn join(&mut self, other: Self) {
        for (machine, facts) in other.0 {
            for (thing, how) in facts {
                self.add(&machine, thing, how);
            }
        }
    }

    /// Those of these things, by how their names begin, of which nothing is there of a machine.
    pub fn missing(&self, machine: &str, things: &[String]) -> Vec<String> {
        let seen = |wanted: &&String| self.of(machine).any(|(thing, _)| thing.starts_with(wanted.as_str()));
        things.iter().filter(|wanted| !seen(wanted)).cloned().collect()
    }

    /// Keep only the things of a machine that `wanted` says.
    pub fn retain(&mut self, machine: &str, wanted: impl Fn(&str) -> bool) {
        if let Some(facts) = self.0.get_mut(machine) {
            facts.retain(|thing, _| wanted(thing));
        }
    }

    /// How a thing is expected to be instead.
    pub fn change(&mut self, machine: &str, thing: &str, change: impl Fn(&str) -> String) {
        let how = self.0.get_mut(machine).and_then(|facts| facts.get_mut(thing));
        let how = how.unwrap_or_else(|| panic!("{machine} has no {thing}"));
        *how = change(how);
    }

    pub fn of(&self, machine: &str) -> impl Iterator<Item = (&str, &str)> {
        self.0.get(machine).into_iter().flatten().map(|(thing, how)| (thing.as_str(), how.as_str()))
    }

    /// A line for each difference: of which machine, of which thing, what was expected and what was found.
    pub fn differences(expected: &Self, found: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let machines: std::collections::BTreeSet<_> = expected.0.keys().chain(found.0.keys()).collect();
        for machine in machines {
            let wanted: BTreeMap<_, _> = expected.of(machine).collect();
            let seen: BTreeMap<_, _> = found.of(machine).collect();
            let things: std::collections::BTreeSet<_> = wanted.keys().chain(seen.keys()).collect();
            for thing in things {
                let say = |how: Option<&&str>| how.map_or("nothing".to_owned(), |h| format!("{h:?}"));
                let (wanted, seen) = (wanted.get(thing), seen.get(thing));
                if wanted != seen {
                    lines.push(format!("{machine}: {thing}: expected {}, found {}", say(wanted), say(seen)));
                }
            }
        }
        lines
    }
}

#[test]
fn differences_name_machine_thing_and_both_sides() {
    let (mut before, mut after) = (Facts::default(), Facts::default());
    before.add("vm001", "dns: A", "192.0.2.1");
    before.add("vm002", "dns: A", "192.0.2.2");
    after.add("vm002", "dns: A", "192.0.2.7");
    after.add(NOBODY, "dns: PTR", "vm001");
    assert_eq!(
        Facts::differences(&before, &after),
        [
            "(nobody): dns: PTR: expected nothing, found \"vm001\"",
            "vm001: dns: A: expected \"192.0.2.1\", found nothing",
            "vm002: dns: A: expected \"192.0.2.2\", found \"192.0.2.7\"",
        ]
    );
    assert!(Facts::differences(&before, &before.clone()).is_empty());
}

#[test]
fn what_is_not_seen_of_a_machine_is_named() {
    let mut facts = Facts::default();
    facts.add("vm001", "backup: snapshot 4f1a", "a tree");
    facts.add("vm002", "dns: vm002 A 192.0.2.2", "for 300 s");
    let wanted = ["backup: snapshot ", "dns: vm002 A "].map(str::to_owned);
    assert_eq!(facts.missing("vm001", &wanted), [wanted[1].clone()]);
    assert_eq!(facts.missing("vm002", &wanted), [wanted[0].clone()]);
    assert_eq!(facts.missing("vm003", &wanted), wanted);
}
