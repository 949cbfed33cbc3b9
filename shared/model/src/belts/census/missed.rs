//! What a census has missed, kept so that the next one tells what is newly missing.
//!
//! Contract: the first that are missing are kept by name, more of them by a mark, and all are counted. By names and marks what is
//! newly missing is told one by one. Of what is beyond both only the number is known, and what is newly missing there is by how
//! many that has grown: never more than have gone, so what stays as it is pauses nothing, day after day. What is kept of a census of before
//! there were marks has names alone.
use ring::digest::{SHA256, digest};

use super::Taken;
use crate::id::ResourceId;

/// Most that are known by their marks beyond those that are named: with these five thousand, and some forty thousand characters in what
/// is kept of a census. An inventory of which more is wrong says nothing about single resources.
pub(super) const MARKED_MAX: usize = 4000;

/// Whether a census has missed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missed {
    /// By its name or its mark.
    Yes,
    /// It was there, or going, or not registered.
    No,
    /// It may be one of those of which only the number is kept.
    Perhaps,
}

/// The first four bytes of the SHA-256 of its id. Of a million that are newly missing about one is taken for one of four thousand
/// that were missing before; whoever chooses names may find more that are.
fn mark(id: &ResourceId) -> u32 {
    let hash = digest(&SHA256, id.to_string().as_bytes());
    hash.as_ref().iter().take(4).fold(0, |mark, byte| (mark << 8) | u32::from(*byte))
}

/// The marks of these, ascending.
pub(super) fn marks<'a>(ids: impl Iterator<Item = &'a ResourceId>) -> Vec<u32> {
    let mut marks: Vec<u32> = ids.map(mark).collect();
    marks.sort_unstable();
    marks
}

impl Taken {
    /// Whether it has missed this one. What comes before the last name would be a name itself.
    pub(super) fn missed(&self, id: &ResourceId) -> Missed {
        if self.missing_named.contains(id) || self.missing_marked.binary_search(&mark(id)).is_ok() {
            return Missed::Yes;
        }
        let named = self.missing_named.last().is_some_and(|last| id < last);
        if named || self.only_counted() == 0 { Missed::No } else { Missed::Perhaps }
    }

    /// How many are missing of which nothing but this number is kept.
    fn only_counted(&self) -> u64 {
        let known = self.missing_named.len() + self.missing_marked.len();
        self.missing.saturating_sub(u64::try_from(known).unwrap_or(u64::MAX))
    }

    /// How many of these, which are missing now, it had not missed; at the least, if it knows some of its own by their number alone.
    pub(super) fn had_not_missed<'a>(&self, missing: impl Iterator<Item = &'a ResourceId>) -> u64 {
        let (mut new, mut perhaps) = (0u64, 0u64);
        for id in missing {
            match self.missed(id) {
                Missed::Yes => {}
                Missed::No => new += 1,
                Missed::Perhaps => perhaps += 1,
            }
        }
        new + perhaps.saturating_sub(self.only_counted())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ops::Range;

    use super::super::tests::{NOW, census, scope};
    use super::super::{AsRegistered, NAMED_MAX, foreign};
    use super::*;
    use crate::time::Timestamp;

    fn vm(number: usize) -> ResourceId {
        format!("vm/m{number:05}").parse().unwrap()
    }

    /// One in which nothing of what is registered is listed.
    fn missing(last: Option<&Taken>, registered: impl Iterator<Item = usize>) -> Taken {
        let one = |number| (vm(number), AsRegistered { scope: scope("tenants/acme"), going: false });
        let registered: BTreeMap<ResourceId, AsRegistered> = registered.map(one).collect();
        census(&[]).taken(1, &registered, last, NOW)
    }

    /// As it is kept, and read again.
    fn kept(taken: &Taken) -> Taken {
        serde_json::from_value(serde_json::to_value(taken).unwrap()).unwrap()
    }

    #[test]
    fn what_was_missing_before_is_never_newly_missing_however_many_they_are() {
        let all = NAMED_MAX + MARKED_MAX;
        for stale in [200, NAMED_MAX, NAMED_MAX + 1, NAMED_MAX + 200, all, all + 1, all + 5000] {
            let first = kept(&missing(None, 0..stale));
            assert_eq!((first.missing, first.newly_missing), (stale as u64, 0));
            assert_eq!(missing(Some(&first), 0..stale).newly_missing, 0, "{stale}");
            let old = first.unmarked();
            assert_eq!(
                missing(Some(&old), 0..stale).newly_missing,
                0,
                "{stale}, as an older version kept it"
            );
        }
    }

    #[test]
    fn what_goes_beyond_the_names_is_counted_each() {
        let stale = NAMED_MAX + 200;
        let first = kept(&missing(None, 0..stale));
        assert_eq!((first.missing_named.len(), first.missing_marked.len()), (NAMED_MAX, 200));
        assert_eq!(missing(Some(&first), 0..stale + 60).newly_missing, 60);
        // As many entries were mended meanwhile as others have gone: the number is the same.
        assert_eq!(missing(Some(&first), 60..stale + 60).newly_missing, 60, "of the names");
        let mended = (0..stale - 60).chain(stale..stale + 60);
        assert_eq!(missing(Some(&first), mended).newly_missing, 60, "of the marks");
    }

    #[test]
    fn what_is_beyond_the_marks_is_counted_by_how_many_more_there_are() {
        let stale = NAMED_MAX + MARKED_MAX + 100;
        let first = kept(&missing(None, 0..stale));
        assert_eq!(first.missing_marked.len(), MARKED_MAX);
        assert_eq!(missing(Some(&first), 0..stale + 60).newly_missing, 60);
        let old = first.unmarked();
        assert_eq!(missing(Some(&old), 0..stale + 60).newly_missing, 60);
        // What comes before the last name was there.
        let odd = |numbers: Range<usize>| numbers.filter(|number| number % 2 == 1);
        let old = missing(None, odd(0..4000)).unmarked();
        assert_eq!(missing(Some(&old), odd(0..4000).chain([2, 4, 1000])).newly_missing, 3);
    }

    #[test]
    fn nothing_is_named_in_a_digest_that_was_missing_before() {
        let at = |accepted_at, taken: Taken| Taken { accepted_at: Timestamp(accepted_at), ..taken };
        let named = |first: Taken, second: Taken| {
            let found = foreign::of_last_day(&[at(1, first), at(2, second)], Timestamp(3));
            let [one] = found.try_into().unwrap();
            (one.count, one.named)
        };
        let stale = NAMED_MAX + 200;
        let first = missing(None, 0..stale);
        // Of the names many are registered no more, so what only had marks is named.
        let second = missing(Some(&first), 201..=stale);
        assert_eq!(named(first.clone(), second), (1, vec![vm(stale)]));
        let first = first.unmarked();
        let second = missing(Some(&first), 10..stale + 11);
        assert_eq!(named(first, second), (11, Vec::new()), "which ones is not known");
    }
}
