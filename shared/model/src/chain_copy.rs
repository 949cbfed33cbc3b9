//! A copy of one audit chain, kept elsewhere and checked without asking anybody.
//!
//! Contract: the copy holds in itself ([`ChainCopy::fits`] follows it link by link), and it is the history that was signed if
//! the head of a signed checkpoint is found in it. Who signed that, and whether the checkpoints follow from each other, is
//! checked before.
use serde::{Deserialize, Serialize};

use crate::archive::Link;
use crate::attest::Head;
use crate::audit::{Broken, Checker};

/// All events of one chain, as they were when it was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainCopy {
    /// The ledger's name.
    pub ledger: String,
    /// Which chain: a record.
    pub chain: String,
    /// Its events, ascending, in the very bytes that were hashed.
    pub events: Vec<Link>,
}

/// Why a copy is not the history that was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It does not hold in itself.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// It is about another ledger.
    #[error("it is of the ledger {found}, and the checkpoints are about {expected}")]
    Ledger {
        /// The checkpoints'.
        expected: String,
        /// Its own.
        found: String,
    },
    /// Nothing was signed of it.
    #[error(
        "no signed checkpoint holds a head of it: it was copied before one was signed, or there is no such chain"
    )]
    Unsigned,
    /// More was signed than it has.
    #[error(
        "it ends at event {found}, and event {signed} was signed: a part is missing, or it was copied before that"
    )]
    Short {
        /// Its last event.
        found: i64,
        /// The last one that was signed.
        signed: i64,
    },
    /// Another event was signed.
    #[error("event {seq} is another one than was signed: it is another history")]
    Other {
        /// Its number.
        seq: i64,
    },
}

/// A copy that is the history which was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Fits {
    /// Its last event that a signature covers.
    pub signed: i64,
    /// Events behind that, which none covers yet.
    pub unsigned: i64,
}

impl ChainCopy {
    /// Compare it with the newest head that was signed of it, by checkpoints of `ledger`.
    ///
    /// # Errors
    /// Why it is not what was signed.
    pub fn fits(&self, ledger: Option<&str>, signed: Option<&Head>) -> Result<Fits, Unfit> {
        let mut checker = Checker::default();
        for Link { seq, body, hash } in &self.events {
            checker.see(*seq, body.as_bytes(), *hash)?;
        }
        if let Some(expected) = ledger.filter(|ledger| *ledger != self.ledger) {
            return Err(Unfit::Ledger { expected: expected.to_owned(), found: self.ledger.clone() });
        }
        let head = signed.filter(|head| head.chain == self.chain).ok_or(Unfit::Unsigned)?;
        let found = self.events.last().map_or(0, |link| link.seq);
        match self.events.iter().find(|link| link.seq == head.seq) {
            Some(link) if link.hash == head.hash => Ok(Fits { signed: head.seq, unsigned: found - head.seq }),
            Some(_) => Err(Unfit::Other { seq: head.seq }),
            None => Err(Unfit::Short { found, signed: head.seq }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{GENESIS, link};

    fn copy(bodies: &[&str]) -> ChainCopy {
        let mut previous = GENESIS;
        let event = |(body, seq): (&&str, i64)| {
            previous = link(&previous, seq, body.as_bytes());
            Link { seq, body: (*body).to_owned(), hash: previous }
        };
        let events = bodies.iter().zip(1..).map(event).collect();
        ChainCopy { ledger: "here".into(), chain: "d-1".into(), events }
    }

    #[test]
    fn a_copy_is_what_was_signed_or_says_why_not() {
        let whole = copy(&["a", "b", "c"]);
        let head = |copy: &ChainCopy, at: usize| {
            let Link { seq, hash, .. } = copy.events[at].clone();
            Head { chain: "d-1".into(), seq, hash }
        };
        let signed = head(&whole, 1);
        let fits = |copy: &ChainCopy| copy.fits(Some("here"), Some(&signed));
        assert_eq!(fits(&whole), Ok(Fits { signed: 2, unsigned: 1 }));
        let mut changed = whole.clone();
        changed.events[0].body = "x".into();
        assert_eq!(fits(&changed), Err(Unfit::Broken(Broken::Changed { seq: 1 })));
        let mut cut = whole.clone();
        cut.events.remove(0);
        assert_eq!(fits(&cut), Err(Unfit::Broken(Broken::Gap { expected: 1, found: 2 })));
        assert_eq!(fits(&copy(&["a"])), Err(Unfit::Short { found: 1, signed: 2 }));
        // All of it holds, and it is not what was signed.
        assert_eq!(fits(&copy(&["a", "x", "c"])), Err(Unfit::Other { seq: 2 }));
        assert_eq!(whole.fits(Some("here"), None), Err(Unfit::Unsigned));
        let other = Head { chain: "d-2".into(), ..signed.clone() };
        assert_eq!(whole.fits(Some("here"), Some(&other)), Err(Unfit::Unsigned));
        assert!(matches!(whole.fits(Some("there"), Some(&signed)), Err(Unfit::Ledger { .. })));
        assert_eq!(copy(&[]).fits(None, Some(&signed)), Err(Unfit::Short { found: 0, signed: 2 }));
    }
}
