//! What a backup contains: the volumes as they were when it was taken. A machine writes to them while it runs and when it is
//! stopped, so an archive of one that ran, or of before it was switched on or off, is not how they were last.
use std::collections::BTreeMap;

use sexton_model::ResourceId;

use super::{State, Truth};

/// What was written to the volumes of each machine, and what of it was archived.
pub(super) type Volumes = BTreeMap<ResourceId, Written>;

/// Of one machine.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Grows with everything that is written.
    version: u64,
    /// All archives that were made of it in the course of deletions, those that are deleted by now, too.
    archives: Vec<Archive>,
}

/// How it was when an archive was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Archive {
    version: u64,
    power: State,
}

impl Truth {
    /// The volumes of a machine that has just appeared are nobody's before.
    pub(super) fn is_new(&mut self, vm: &ResourceId) {
        self.volumes.insert(vm.clone(), Written::default());
    }

    /// A machine was switched on or off, and has written.
    pub fn wrote(&mut self, vm: &ResourceId) {
        self.volumes.entry(vm.clone()).or_default().version += 1;
    }

    /// An archive of it is made.
    pub(super) fn archive(&mut self, vm: &ResourceId) {
        let power = self.thing(vm, "power").state;
        let written = self.volumes.entry(vm.clone()).or_default();
        written.archives.push(Archive { version: written.version, power });
    }

    /// Whether the last archive is of the volumes as they are; for whoever is shown the past, the one before it.
    pub(super) fn archived(&self, vm: &ResourceId, stale: bool) -> bool {
        let Some(written) = self.volumes.get(vm) else { return false };
        let shown = written.archives.iter().rev().nth(usize::from(stale));
        shown.is_some_and(|archive| archive.version == written.version)
    }

    /// What is wrong with the last archive of a machine: nothing if it contains the volumes as they were last.
    pub fn not_in_the_archive(&self, vm: &ResourceId) -> Option<String> {
        let written = self.volumes.get(vm)?;
        match written.archives.last() {
            None => Some("there never was an archive".to_owned()),
            Some(last) if last.version != written.version || last.power == State::On => {
                Some(format!("{last:?} is not version {} of a machine that is off", written.version))
            }
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_whole_if_nothing_was_written_since_and_the_machine_was_off() {
        let vm: ResourceId = "vm/web01".parse().unwrap();
        let mut truth = Truth::default();
        truth.appear(&vm, "a");
        truth.archive(&vm);
        assert!(truth.archived(&vm, false) && truth.not_in_the_archive(&vm).is_some(), "it ran");
        truth.things.get_mut(&(vm.clone(), "power")).unwrap().state = State::Off;
        truth.wrote(&vm);
        assert!(!truth.archived(&vm, false), "it was stopped since");
        truth.archive(&vm);
        assert!(truth.archived(&vm, false) && !truth.archived(&vm, true));
        assert_eq!(truth.not_in_the_archive(&vm), None);
        truth.appear(&vm, "b");
        assert!(truth.not_in_the_archive(&vm).is_some(), "another machine's");
    }
}
