//! What has grown since it was signed, by the page: the same on both footings. It is looked for on demand only: heads
//! change at every step, and noting there that one has grown would cost each step something.
use sexton_model::attest::{HEADS_MAX, Head, Shrunk};
use sexton_model::audit::Hash;

use crate::Grown;
use crate::chains::{DELETIONS, From};

/// Chains looked at for one page: some milliseconds, however few of them have grown.
pub(crate) const LOOK: i64 = 4096;
/// Chains of one section on one page. Those of pauses, and of tokens and refusals, come on top.
pub(crate) const FIND: usize = HEADS_MAX - 2;

/// A page that is filled.
#[derive(Debug)]
pub(crate) struct Growing {
    /// Chains of the section that were found.
    found: usize,
    last: Option<String>,
    page: Grown,
}

impl Growing {
    pub(crate) fn new() -> Self {
        Self { found: 0, last: None, page: Grown::default() }
    }

    /// A chain that is of no section.
    pub(crate) fn see_pauses(&mut self, (chain, seq, hash): (String, i64, Hash), signed: i64) {
        if seq > signed {
            self.page.heads.push(Head { chain, seq, hash });
        } else if seq < signed {
            self.page.shrunk.push(Shrunk { chain, before: signed, found: seq });
        }
    }

    /// A chain of the section whose head is not where it was signed last; 0 if it never was.
    pub(crate) fn see(&mut self, head: (String, i64, Hash), signed: i64) {
        self.found += 1;
        self.last = Some(head.0.clone());
        self.see_pauses(head, signed);
    }

    /// The page. `looked` is the last chain that was looked at, if there may be more behind it.
    pub(crate) fn end(self, from: &From, looked: Option<String>) -> Grown {
        let full = self.found >= FIND;
        let next = if full { self.last } else { looked };
        let next = next.or_else(|| match from {
            From::Ledger { .. } => Some(DELETIONS.to_owned()),
            From::Deletions(_) => None,
        });
        Grown { next, ..self.page }
    }
}

#[cfg(test)]
mod tests {
    use sexton_model::audit::GENESIS;

    use super::*;

    #[test]
    fn a_page_ends_where_the_next_one_goes_on() {
        let page = |from: &From, found: usize, looked: Option<&str>| {
            let mut growing = Growing::new();
            for n in 0..found {
                growing.see((format!("vm/{n}"), 1, GENESIS), 0);
            }
            growing.end(from, looked.map(str::to_owned)).next
        };
        let resources = From::Ledger { pauses: true, access: true, after: String::new() };
        assert_eq!(page(&resources, 1, None).as_deref(), Some(DELETIONS));
        assert_eq!(page(&From::Deletions(0), 1, None), None);
        assert_eq!(page(&From::Deletions(0), 1, Some("d-4096")).as_deref(), Some("d-4096"));
        // What was found ends the page before what was looked at.
        assert_eq!(page(&resources, FIND, Some("vm/x")), Some(format!("vm/{}", FIND - 1)));
        assert_eq!(page(&resources, FIND, None), Some(format!("vm/{}", FIND - 1)));
    }

    #[test]
    fn what_is_shorter_than_what_was_signed_is_told_apart() {
        let mut growing = Growing::new();
        growing.see_pauses(("pauses".into(), 0, GENESIS), 0);
        growing.see(("vm/a".into(), 3, GENESIS), 2);
        growing.see(("vm/b".into(), 3, GENESIS), 4);
        let grown = growing.end(&From::Deletions(0), None);
        assert_eq!(grown.heads, [Head { chain: "vm/a".into(), seq: 3, hash: GENESIS }]);
        assert_eq!(grown.shrunk, [Shrunk { chain: "vm/b".into(), before: 4, found: 3 }]);
    }
}
