//! What is signed of the audit trail (I12), by rules written down once more: checkpoints form one sequence without gaps, each was
//! made after the one before it, and of each chain every one that names it says more than the one before. That what is signed
//! stands in the chains is asked of the job table.
use std::collections::BTreeMap;

use sexton_model::attest::{Attestation, Head, SignedCheckpoint, hash_of};
use sexton_model::audit::GENESIS;

use super::{Violation, violated};

/// All that was seen of it.
#[derive(Debug, Default)]
pub struct Signed {
    /// All that stand in the job table, from the first on.
    all: Vec<SignedCheckpoint>,
    /// How far each chain is signed.
    heads: BTreeMap<String, Head>,
    /// The job table was put back at some time: a coordinator that has signed more than it holds signs nothing any more, until a
    /// person moves its file away.
    pub put_back: bool,
}

impl Signed {
    /// The number of the last one.
    pub fn number(&self) -> i64 {
        i64::try_from(self.all.len()).unwrap_or(i64::MAX)
    }

    /// All that stand in the job table.
    pub fn all(&self) -> &[SignedCheckpoint] {
        &self.all
    }

    /// The last head of each chain.
    pub fn heads(&self) -> Vec<Head> {
        self.heads.values().cloned().collect()
    }

    /// The job table went back in time: what it holds is read anew.
    pub(super) fn went_back(&mut self) {
        *self = Self { put_back: true, ..Self::default() };
    }

    /// The next one stands there. What it says.
    ///
    /// # Errors
    /// If it does not follow.
    pub fn see(&mut self, signed: SignedCheckpoint) -> Result<Vec<Head>, Violation> {
        let (last, expected) = (self.number(), self.number().saturating_add(1));
        let found: Attestation = serde_json::from_str(&signed.body).unwrap();
        if found.number != expected {
            violated("I12", format!("behind signed checkpoint {last} stands number {}", found.number))?;
        }
        if found.previous != self.all.last().map_or(GENESIS, |last| hash_of(&last.body)) {
            violated("I12", format!("signed checkpoint {expected} was made after another number {last}"))?;
        }
        for head in &found.heads {
            let before = self.heads.insert(head.chain.clone(), head.clone());
            if let Some(before) = before.filter(|before| before.seq >= head.seq) {
                let (chain, seq, before) = (&head.chain, head.seq, before.seq);
                violated("I12", format!("{chain} is signed to {seq} in {expected}, and was to {before}"))?;
            }
        }
        self.all.push(signed);
        Ok(found.heads)
    }
}

#[cfg(test)]
mod tests {
    use sexton_model::Timestamp;
    use sexton_model::attest::Sequence;

    use super::*;

    fn unsigned(attestation: &Attestation) -> SignedCheckpoint {
        let body = serde_json::to_string(attestation).unwrap();
        SignedCheckpoint { body, key_id: "k".into(), signature: "s".into() }
    }

    #[test]
    fn each_follows_from_the_one_before() {
        let head = |seq| vec![Head { chain: "d-1".to_owned(), seq, hash: [7; 32] }];
        let mut sequence = Sequence::default();
        let mut next = |seq| {
            let next = sequence.next("here".to_owned(), 1, Timestamp(1), head(seq));
            sequence.see(&unsigned(&next).body).unwrap();
            next
        };
        let three = [next(2), next(4), next(4)];
        let seen = |some: &[&Attestation]| {
            let mut signed = Signed::default();
            some.iter().try_for_each(|one| signed.see(unsigned(one)).map(drop)).map(|()| signed.number())
        };
        let [one, two, three] = &three;
        assert_eq!(seen(&[one, two]).unwrap(), 2);
        assert!(seen(&[two]).is_err(), "the first is missing");
        assert!(seen(&[one, one]).is_err(), "it is there twice");
        assert!(seen(&[one, two, three]).is_err(), "the chain has not grown");
        let other = Attestation { previous: GENESIS, ..two.clone() };
        assert!(seen(&[one, &other]).is_err(), "it was made after another one");
    }
}
