//! What a run that was made shorter has kept of its seed's, in so few words that it can be played again from them.
use std::fmt;
use std::str::FromStr;

use super::Script;
use crate::simulation::weather::Trouble;

/// What was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What happens, by its places in the seed's script.
    items: Vec<usize>,
    machines: usize,
    kinds: usize,
    scopes: usize,
    canaries: bool,
    tends: bool,
    budgets: bool,
    /// Of budgets that they are by percent, too.
    percent: bool,
    /// What goes wrong by chance, by its places among all troubles.
    weather: Vec<usize>,
}

impl Kept {
    /// What a script has kept; nothing if it has something that its seed's has not.
    pub fn of(script: &Script) -> Option<Self> {
        let whole = Script::of(script.seed);
        let mut left = whole.items.iter().enumerate();
        let places = script.items.iter().map(|item| Some(left.find(|(_, one)| *one == item)?.0));
        let items: Option<Vec<usize>> = places.collect();
        let bad = Trouble::ALL.into_iter().enumerate().filter(|(_, of)| script.weather.chance(*of) > 0);
        let kept = Self {
            items: items?,
            machines: script.machines,
            kinds: script.kinds,
            scopes: script.scopes,
            canaries: script.canaries,
            tends: script.tends,
            budgets: script.allowed.is_some(),
            percent: script.counts(),
            weather: bad.map(|(place, _)| place).collect(),
        };
        (kept.script(script.seed) == *script).then_some(kept)
    }

    /// The script that has kept this of a seed's.
    pub fn script(&self, seed: u64) -> Script {
        let whole = Script::of(seed);
        let items = self.items.iter().filter_map(|place| whole.items.get(*place).copied()).collect();
        let mut allowed = whole.allowed.filter(|_| self.budgets);
        if let Some(allowed) = &mut allowed
            && !self.percent
        {
            allowed.percent = None;
        }
        let mut weather = whole.weather;
        for (place, trouble) in Trouble::ALL.into_iter().enumerate() {
            if !self.weather.contains(&place) {
                weather = weather.with(trouble, 0);
            }
        }
        Script {
            seed,
            machines: self.machines.clamp(1, whole.machines),
            kinds: self.kinds.clamp(1, whole.kinds),
            scopes: self.scopes.clamp(1, whole.scopes),
            allowed,
            patience: whole.patience,
            canaries: whole.canaries && self.canaries,
            tends: whole.tends && self.tends,
            weather,
            items,
        }
    }
}

impl Script {
    /// How `scripts/simulate` plays this again; nothing if it is no part of what its seed stands for.
    pub fn again(&self) -> Option<String> {
        let seed = self.seed;
        if *self == Self::of(seed) {
            return Some(format!("--only --seed {seed}"));
        }
        Kept::of(self).map(|kept| format!("--only --seed {seed} --keep {kept}"))
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { items, machines, kinds, scopes, canaries, tends, budgets, percent, weather } = self;
        let numbers = |all: &[usize]| all.iter().map(usize::to_string).collect::<Vec<_>>().join(".");
        let with = [("canaries", canaries), ("tends", tends), ("budgets", budgets), ("percent", percent)];
        let with: Vec<&str> = with.into_iter().filter(|(_, is)| **is).map(|(word, _)| word).collect();
        write!(f, "items={},machines={machines},kinds={kinds},scopes={scopes}", numbers(items))?;
        write!(f, ",with={},weather={}", with.join("."), numbers(weather))
    }
}

impl FromStr for Kept {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (canaries, tends, budgets, percent) = (false, false, false, false);
        let (items, weather) = (Vec::new(), Vec::new());
        let (machines, kinds, scopes) = (1, 1, 1);
        let mut kept = Self { items, machines, kinds, scopes, canaries, tends, budgets, percent, weather };
        for part in text.split(',') {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("{part:?}: expected KEY=VALUE"))?;
            match key {
                "items" => kept.items = numbers(value)?,
                "machines" => kept.machines = number(value)?,
                "kinds" => kept.kinds = number(value)?,
                "scopes" => kept.scopes = number(value)?,
                "weather" => kept.weather = numbers(value)?,
                "with" => {
                    for word in listed(value) {
                        match word {
                            "canaries" => kept.canaries = true,
                            "tends" => kept.tends = true,
                            "budgets" => kept.budgets = true,
                            "percent" => kept.percent = true,
                            _ => {
                                let words = "canaries, tends, budgets or percent";
                                return Err(format!("{word:?}: expected {words}"));
                            }
                        }
                    }
                }
                _ => {
                    let keys = "items, machines, kinds, scopes, with or weather";
                    return Err(format!("{key:?}: expected {keys}"));
                }
            }
        }
        Ok(kept)
    }
}

fn listed(value: &str) -> impl Iterator<Item = &str> {
    value.split('.').filter(|word| !word.is_empty())
}

fn numbers(value: &str) -> Result<Vec<usize>, String> {
    listed(value).map(number).collect()
}

fn number(value: &str) -> Result<usize, String> {
    value.parse().map_err(|_| format!("{value:?}: expected a number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::script::{Happening, Item, SIMPLER, When};

    fn again(script: &Script) -> Script {
        let kept = Kept::of(script).unwrap().to_string();
        kept.parse::<Kept>().unwrap().script(script.seed)
    }

    #[test]
    fn whatever_is_left_out_can_be_played_again() {
        for seed in 1..60 {
            let mut script = Script::of(seed);
            assert_eq!(script.again(), Some(format!("--only --seed {seed}")));
            assert_eq!(again(&script), script, "seed {seed}, whole");
            let mut place = 0_usize;
            script.items.retain(|_| {
                place += 1;
                place.is_multiple_of(3)
            });
            assert_eq!(again(&script), script, "seed {seed}, fewer items");
            script.weather = script.weather.with(Trouble::Lose, 0).with(Trouble::Stop, 0);
            script.machines = 1;
            assert_eq!(again(&script), script, "seed {seed}, fewer machines and less weather");
            for simpler in SIMPLER {
                let mut alone = Script::of(seed);
                simpler(&mut alone);
                assert_eq!(again(&alone), alone, "seed {seed}, in one way simpler");
                simpler(&mut script);
                assert_eq!(again(&script), script, "seed {seed}, simpler");
            }
        }
    }

    #[test]
    fn what_is_no_part_of_a_seed_says_so() {
        let item = Item { when: When::Step(5_999), what: Happening::Waive(77, true) };
        let script = Script { items: vec![item], ..Script::of(1) };
        assert_eq!(script.again(), None);
    }

    #[test]
    fn a_mistake_says_what_was_expected() {
        for (text, part) in [
            ("items", "KEY=VALUE"),
            ("items=1.x", "a number"),
            ("with=rain", "canaries, tends, budgets or percent"),
            ("colour=1", "items, machines"),
        ] {
            let error = text.parse::<Kept>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
