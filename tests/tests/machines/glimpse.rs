//! What subsystems show of machines at one moment, while everything goes on: only whether a part is there.
use std::collections::{BTreeMap, BTreeSet};

use sexton_model::job::Stage;

/// A part of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Archives,
    Volumes,
    /// The lease of its address, and the reservation.
    Address,
    /// All of its records in the DNS.
    Names,
    Schedule,
    Target,
    Process,
    Definition,
}

/// Names of the machines of which a part was seen, by parts. A part that could not be asked for is missing.
///
/// Whoever looks asks for the parts in their order: what may go only after another part is asked for before that.
pub type Glimpse = BTreeMap<Part, BTreeSet<String>>;

/// What may have become of a machine by its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// The last stage that has begun in any record that was not taken back.
    pub begun: Option<Stage>,
    /// The last one that had begun in a record that was cancelled, and is over.
    pub taken_back: Option<Stage>,
    pub records: usize,
}

impl Part {
    /// In the order in which they are asked for.
    pub const ALL: [Self; 8] = [
        Self::Archives,
        Self::Volumes,
        Self::Address,
        Self::Names,
        Self::Schedule,
        Self::Target,
        Self::Process,
        Self::Definition,
    ];

    /// The first stage that may take it away.
    pub fn until(self) -> Stage {
        match self {
            Self::Process => Stage::Soft,
            Self::Address | Self::Names | Self::Schedule | Self::Target | Self::Definition => Stage::Hard,
            Self::Archives | Self::Volumes => Stage::Purge,
        }
    }

    /// What has to be gone before it may go.
    fn after(self) -> Option<Self> {
        match self {
            Self::Volumes | Self::Address | Self::Names => Some(Self::Definition),
            Self::Archives => Some(Self::Schedule),
            Self::Schedule | Self::Target | Self::Process | Self::Definition => None,
        }
    }
}

/// What is gone though it must be there. `earlier` and `later` are what the records said before and after the glimpse.
///
/// What is gone was taken away by something that had begun then, so it stands in the records afterwards. What was taken
/// back before the glimpse is there again.
pub fn wrong(
    first: &Glimpse,
    seen: &Glimpse,
    earlier: &BTreeMap<String, Standing>,
    later: &BTreeMap<String, Standing>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let no_record = Standing::default();
    for (part, machines) in seen {
        let had = first.get(part).into_iter().flatten();
        for machine in had.filter(|machine| !machines.contains(*machine)) {
            let before = earlier.get(machine).unwrap_or(&no_record);
            let after = later.get(machine).unwrap_or(&no_record);
            // As long as it is the same record: what a second one has begun shows in `begun`.
            let back = before.records == after.records && before.taken_back == after.taken_back;
            let begun = if back { after.begun } else { after.begun.max(after.taken_back) };
            if begun < Some(part.until()) {
                wrong.push(format!("on the way: {machine}: its {part:?} is gone, and begun is {begun:?}"));
            }
            if let Some(other) = part.after()
                && seen.get(&other).is_some_and(|machines| machines.contains(machine))
            {
                wrong.push(format!("I6: on the way: {machine}: its {part:?} went before its {other:?}"));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One machine with all parts but these.
    fn without(gone: &[Part]) -> Glimpse {
        let machines = |part: &Part| BTreeSet::from_iter((!gone.contains(part)).then(|| "vm1".to_owned()));
        Part::ALL.iter().map(|part| (*part, machines(part))).collect()
    }

    fn at(begun: Option<Stage>, taken_back: Option<Stage>) -> BTreeMap<String, Standing> {
        BTreeMap::from([("vm1".to_owned(), Standing { begun, taken_back, records: 1 })])
    }

    fn found(
        gone: &[Part],
        earlier: &BTreeMap<String, Standing>,
        later: &BTreeMap<String, Standing>,
    ) -> usize {
        wrong(&without(&[]), &without(gone), earlier, later).len()
    }

    #[test]
    fn nothing_goes_before_the_stage_that_takes_it() {
        let nobody = BTreeMap::new();
        for part in Part::ALL {
            // Alone, but for what it may go after.
            let gone: Vec<Part> = [Some(part), part.after()].into_iter().flatten().collect();
            assert_eq!(found(&gone, &nobody, &nobody), gone.len(), "{part:?} of a machine without a record");
            for stage in Stage::ALL {
                let early = gone.iter().filter(|part| stage < part.until()).count();
                assert_eq!(found(&gone, &nobody, &at(Some(stage), None)), early, "{part:?} in {stage}");
            }
        }
        assert_eq!(found(&[], &nobody, &nobody), 0);
    }

    #[test]
    fn no_part_goes_before_what_needs_it() {
        let late = at(Some(Stage::Recycle), None);
        for part in Part::ALL {
            assert_eq!(found(&[part], &late, &late), usize::from(part.after().is_some()), "{part:?}");
        }
    }

    #[test]
    fn what_was_taken_back_is_there_again() {
        let (off, back) = (at(Some(Stage::Soft), None), at(None, Some(Stage::Soft)));
        assert_eq!(found(&[Part::Process], &back, &back), 1, "it was over before anybody looked");
        assert_eq!(found(&[Part::Process], &off, &back), 0, "it was on its way back");
        assert_eq!(found(&[Part::Process], &BTreeMap::new(), &back), 0);
        assert_eq!(found(&[Part::Definition], &off, &back), 1);
    }

    #[test]
    fn who_was_not_asked_or_never_had_it_says_nothing() {
        let nobody = BTreeMap::new();
        let mut seen = without(&Part::ALL);
        seen.retain(|part, _| *part == Part::Names);
        assert_eq!(wrong(&without(&[]), &seen, &nobody, &nobody).len(), 1);
        assert!(wrong(&without(&[Part::Names]), &seen, &nobody, &nobody).is_empty());
    }
}
