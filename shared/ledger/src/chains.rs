//! Checking chains by the page, the same on both footings: which come next, and which do not hold. Events are checked
//! while they are read, so that however long a chain is, one event of it is in memory.
use sexton_model::DeletionId;
use sexton_model::audit::{Broken, Checker, Hash};

use crate::Verified;

/// The chain of pauses, ceilings and reviews; no resource's id is written without a slash.
pub(crate) const PAUSES: &str = "pauses";
/// The chain of tokens and refusals. A page may begin with it.
pub(crate) const ACCESS: &str = "access";
/// A page's begin: the first resource.
const RESOURCES: &str = "resources";
/// A page's begin: the first deletion.
pub(crate) const DELETIONS: &str = "deletions";
/// Events on one page, unless its first chain alone has more: a second's work or so.
const EVENTS_MAX: i64 = 50_000;

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum From {
    /// With the chain of pauses, then that of tokens and refusals, then resources behind this id.
    Ledger { pauses: bool, access: bool, after: String },
    /// With deletions behind this one.
    Deletions(i64),
}

impl From {
    /// What `after` means; what is nobody's `next` is taken for a resource's id.
    pub(crate) fn parse(after: Option<&str>) -> Self {
        match after {
            None => Self::Ledger { pauses: true, access: true, after: String::new() },
            Some(ACCESS) => Self::Ledger { pauses: false, access: true, after: String::new() },
            Some(DELETIONS) => Self::Deletions(0),
            Some(RESOURCES) => Self::Ledger { pauses: false, access: false, after: String::new() },
            Some(text) => match text.parse::<DeletionId>() {
                Ok(id) => Self::Deletions(id.0),
                Err(_) => Self::Ledger { pauses: false, access: false, after: text.to_owned() },
            },
        }
    }
}

/// The end of one chain, as its owner's row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) chain: String,
    pub(crate) seq: i64,
    pub(crate) hash: Hash,
}

/// A page of chains that are checked while their events are read.
#[derive(Debug)]
pub(crate) struct Checked {
    ends: Vec<End>,
    next: Option<String>,
    /// The chain whose events are read now.
    checker: Result<Checker, Broken>,
    verified: Verified,
}

impl Checked {
    /// Check these; `full` says that there may be more behind them. Those that would make the page longer than
    /// [`EVENTS_MAX`] are left for the next one.
    pub(crate) fn new(from: &From, mut ends: Vec<End>, full: bool) -> Self {
        let fitting = fitting(&ends);
        let cut = fitting < ends.len();
        ends.truncate(fitting);
        let next = match (from, full || cut) {
            (_, true) => ends.last().map(|end| match end.chain.as_str() {
                PAUSES => ACCESS.to_owned(),
                ACCESS => RESOURCES.to_owned(),
                chain => chain.to_owned(),
            }),
            (From::Ledger { .. }, false) => Some(DELETIONS.to_owned()),
            (From::Deletions(_), false) => None,
        };
        Self { ends, next, checker: Ok(Checker::default()), verified: Verified::default() }
    }

    /// The chains whose events are to be seen, one after the other.
    pub(crate) fn ends(&self) -> Vec<End> {
        self.ends.clone()
    }

    /// The next event of the chain that is read.
    pub(crate) fn see(&mut self, seq: i64, body: &str, hash: Hash) {
        if let Ok(checker) = &mut self.checker
            && let Err(broken) = checker.see(seq, body.as_bytes(), hash)
        {
            self.checker = Err(broken);
        }
    }

    /// That was the last event of this chain.
    pub(crate) fn end(&mut self, end: End) {
        let checker = std::mem::replace(&mut self.checker, Ok(Checker::default()));
        self.verified.checked += 1;
        if let Err(broken) = checker.and_then(|checker| checker.end((end.seq, end.hash))) {
            self.verified.broken.push((end.chain, broken));
        }
    }

    /// What was found.
    pub(crate) fn verified(self) -> Verified {
        Verified { next: self.next, ..self.verified }
    }
}

/// How many of these chains one page checks: one at least, or it would never end.
fn fitting(ends: &[End]) -> usize {
    let mut events = 0_i64;
    let fits = |end: &&End| {
        events = events.saturating_add(end.seq.max(0));
        events <= EVENTS_MAX
    };
    ends.iter().take_while(fits).count().max(1).min(ends.len())
}

#[cfg(test)]
mod tests {
    use sexton_model::audit::{GENESIS, link};

    use super::*;

    fn ends(lengths: &[i64]) -> Vec<End> {
        let end = |(n, seq): (usize, &i64)| End { chain: format!("vm/{n}"), seq: *seq, hash: GENESIS };
        lengths.iter().enumerate().map(end).collect()
    }

    #[test]
    fn a_page_ends_before_it_has_too_many_events_but_makes_headway() {
        for (lengths, fit) in [
            (&[][..], 0),
            (&[1, 2, 3], 3),
            (&[EVENTS_MAX], 1),
            (&[EVENTS_MAX, 1], 1),
            (&[EVENTS_MAX - 1, 1, 1], 2),
            (&[i64::MAX, i64::MAX], 1),
            (&[1, i64::MAX, 1], 1),
            (&[-5, 1], 2),
        ] {
            assert_eq!(fitting(&ends(lengths)), fit, "{lengths:?}");
        }
    }

    #[test]
    fn what_was_left_out_is_next() {
        let from = |pauses| From::Ledger { pauses, access: pauses, after: String::new() };
        let next = |from: &From, ends, full| Checked::new(from, ends, full).verified().next;
        let long = ends(&[EVENTS_MAX, 1]);
        assert_eq!(next(&from(false), long.clone(), false).as_deref(), Some("vm/0"));
        assert_eq!(next(&From::Deletions(0), long, false).as_deref(), Some("vm/0"));
        assert_eq!(next(&From::Deletions(0), ends(&[1, 1]), false), None);
        assert_eq!(next(&from(false), ends(&[1, 1]), false).as_deref(), Some("deletions"));
        let mut pauses = ends(&[EVENTS_MAX, 1]);
        pauses[0].chain = PAUSES.to_owned();
        let behind = next(&from(true), pauses, false).unwrap();
        let access = From::Ledger { pauses: false, access: true, after: String::new() };
        assert_eq!(From::parse(Some(&behind)), access, "tokens and refusals");
        let mut access = ends(&[EVENTS_MAX, 1]);
        access[0].chain = ACCESS.to_owned();
        let behind = next(&from(true), access, false).unwrap();
        assert_eq!(
            From::parse(Some(&behind)),
            from(false),
            "every resource, also those before the word access"
        );
    }

    #[test]
    fn chains_are_told_apart() {
        let hash = link(&GENESIS, 1, b"a");
        let all = vec![
            End { chain: "vm/a".into(), seq: 1, hash },
            End { chain: "vm/b".into(), seq: 1, hash },
            End { chain: "vm/c".into(), seq: 1, hash },
        ];
        let mut checked = Checked::new(&From::Deletions(0), all, false);
        for (end, body) in checked.ends().into_iter().zip(["a", "x", "a"]) {
            checked.see(1, body, hash);
            checked.end(end);
        }
        let verified = checked.verified();
        assert_eq!(verified.checked, 3);
        assert_eq!(verified.broken, [("vm/b".to_owned(), Broken::Changed { seq: 1 })]);
    }
}
