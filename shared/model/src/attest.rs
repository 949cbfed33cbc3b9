//! Signed checkpoints: how far the audit chains had come, said so that it cannot be unsaid.
//!
//! A hash chain shows that one event was changed; whoever may write the whole database can compute the chain anew, and
//! then it holds again. So coordinators sign, every few minutes, the heads of all chains that have grown, and keep
//! what they signed outside the database, too. Each signed checkpoint holds the hash of the one before it, so that none
//! can be left out: what stood in a chain at a signed head is found there again, or the chain was rewritten.
//!
//! Contract: form and linking, and nothing else. An [`Attestation`] is what is signed; its bytes are made once and never
//! anew, since another version might write the same in another way. A [`Sequence`] says whether one follows from those
//! before it; [`Newest`] remembers the last head of each chain. Signatures are `sexton-protocol`'s.
//!
//! Not to be confused with [`crate::checkpoint`], which notices that a ledger has gone back in time.
//!
//! Why no consistent cut over all chains: chains do not depend on each other, and each head that is read was committed.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ring::digest::{SHA256, digest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::audit::{GENESIS, Hash, hex_form};
use crate::id::DeletionId;
use crate::time::Timestamp;

/// Most heads in one: about 200 KB a line, which a person can still look at, and one transaction. More become several.
pub const HEADS_MAX: usize = 1000;
/// Longest name of a chain, in bytes: a resource's id has at most 161.
pub const CHAIN_MAX_BYTES: usize = 192;
/// Longest [`SignedCheckpoint`] as a line, in bytes: a thousand heads with the longest names take less.
pub const LINE_MAX_BYTES: usize = 1 << 19;

/// How far one chain had come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Which one: `pauses`, a resource, or a record.
    pub chain: String,
    /// Number of its last event, from 1.
    pub seq: i64,
    /// That event's hash: it covers all events before it.
    #[serde(with = "hex_form")]
    pub hash: Hash,
}

impl Head {
    /// What its chain has lost, if `stored` is the hash that is there under its number.
    pub fn lost(&self, stored: Option<&Hash>) -> Option<Lost> {
        let another = stored.is_some();
        (stored != Some(&self.hash)).then(|| Lost { chain: self.chain.clone(), seq: self.seq, another })
    }
}

/// A chain that has lost what was signed of it: it ends before that, or goes on in another way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lost {
    /// Which one: `pauses`, `access`, a resource, or a record.
    pub chain: String,
    /// Number of the event that was signed last.
    pub seq: i64,
    /// Whether there is another event of that number; else there is none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub another: bool,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instead = if self.another { "another one is there" } else { "it is missing" };
        write!(f, "{}: event {} was signed, and {instead}", self.chain, self.seq)
    }
}

/// What is signed: the heads that have grown since the ones before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attestation {
    /// Which one, from 1.
    pub number: i64,
    /// The ledger's name, drawn when it was made.
    pub ledger: String,
    /// The ledger's epoch.
    pub epoch: u32,
    /// When, by the store's clock.
    pub at: Timestamp,
    /// SHA-256 of the bytes of the one before; zeros for the first.
    #[serde(with = "hex_form")]
    pub previous: Hash,
    /// 1 to [`HEADS_MAX`], each chain once.
    pub heads: Vec<Head>,
}

/// An [`Attestation`] with its signature: a row in the database, and a line in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedCheckpoint {
    /// The bytes that were signed: an [`Attestation`] as JSON.
    pub body: String,
    /// With which key.
    pub key_id: String,
    /// Ed25519, in base64.
    pub signature: String,
}

/// Why one does not follow from those before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unlinked {
    /// It is not of this form.
    #[error("is no signed checkpoint: {0}")]
    Form(String),
    /// One is missing, or they are out of order.
    #[error("is number {found}, expected {expected}: one is missing, or they are out of order")]
    Number {
        /// Expected next.
        expected: i64,
        /// Found instead.
        found: i64,
    },
    /// The one before is another than the one it was made after.
    #[error("number {number} was made after another number {} than the one before it", number - 1)]
    Previous {
        /// Its number.
        number: i64,
    },
    /// It is about another ledger.
    #[error("is about the ledger {found}, and the one before it about {expected}")]
    Ledger {
        /// The ledger of those before.
        expected: String,
        /// Its own.
        found: String,
    },
    /// Its epoch is an earlier one.
    #[error("is of epoch {found}, and the one before it of {expected}")]
    Epoch {
        /// The epoch of the one before.
        expected: u32,
        /// Its own.
        found: u32,
    },
}

/// The hash of a body, for the one after it.
pub fn hash_of(body: &str) -> Hash {
    let mut hash = GENESIS;
    hash.copy_from_slice(digest(&SHA256, body.as_bytes()).as_ref());
    hash
}

/// Checks one after the other, ascending.
#[derive(Debug, Clone, Default)]
pub struct Sequence {
    last: Option<Last>,
}

#[derive(Debug, Clone)]
struct Last {
    number: i64,
    ledger: String,
    epoch: u32,
    hash: Hash,
}

impl Sequence {
    /// Go on behind this one, whatever was before it.
    ///
    /// # Errors
    /// [`Unlinked::Form`].
    pub fn behind(body: &str) -> Result<Self, Unlinked> {
        let attestation = parse(body)?;
        Ok(Self { last: Some(Last::of(&attestation, body)) })
    }

    /// The number of the last one that was seen; 0 if none was.
    pub fn number(&self) -> i64 {
        self.last.as_ref().map_or(0, |last| last.number)
    }

    /// The next one.
    ///
    /// # Errors
    /// Why it does not follow; then it does not count as seen.
    pub fn see(&mut self, body: &str) -> Result<Attestation, Unlinked> {
        let found = parse(body)?;
        let (expected, previous) = (self.number() + 1, self.hash());
        if found.number != expected {
            return Err(Unlinked::Number { expected, found: found.number });
        }
        if found.previous != previous {
            return Err(Unlinked::Previous { number: found.number });
        }
        if let Some(last) = &self.last {
            if found.ledger != last.ledger {
                return Err(Unlinked::Ledger { expected: last.ledger.clone(), found: found.ledger });
            }
            if found.epoch < last.epoch {
                return Err(Unlinked::Epoch { expected: last.epoch, found: found.epoch });
            }
        }
        self.last = Some(Last::of(&found, body));
        Ok(found)
    }

    /// What is to be signed next.
    pub fn next(&self, ledger: String, epoch: u32, at: Timestamp, heads: Vec<Head>) -> Attestation {
        Attestation { number: self.number() + 1, ledger, epoch, at, previous: self.hash(), heads }
    }

    fn hash(&self) -> Hash {
        self.last.as_ref().map_or(GENESIS, |last| last.hash)
    }
}

impl Last {
    fn of(attestation: &Attestation, body: &str) -> Self {
        let Attestation { number, ledger, epoch, .. } = attestation;
        Self { number: *number, ledger: ledger.clone(), epoch: *epoch, hash: hash_of(body) }
    }
}

fn parse(body: &str) -> Result<Attestation, Unlinked> {
    let found: Attestation = serde_json::from_str(body).map_err(|e| Unlinked::Form(e.to_string()))?;
    let form = |why: String| Err(Unlinked::Form(why));
    // One less than there are, so that there is a next one.
    if !(1..i64::MAX).contains(&found.number) {
        return form(format!("number: expected 1 or more, found {}", found.number));
    }
    if !(1..=HEADS_MAX).contains(&found.heads.len()) {
        return form(format!("heads: expected 1 to {HEADS_MAX}, found {}", found.heads.len()));
    }
    let mut chains = BTreeSet::new();
    for Head { chain, seq, .. } in &found.heads {
        if chain.is_empty() || chain.len() > CHAIN_MAX_BYTES {
            return form(format!("chain: expected 1 to {CHAIN_MAX_BYTES} bytes, found {}", chain.len()));
        }
        if *seq < 1 {
            return form(format!("seq: expected 1 or more, found {seq} for {chain}"));
        }
        if !chains.insert(chain) {
            return form(format!("heads: {chain} is there twice"));
        }
    }
    Ok(found)
}

/// A chain was said to be shorter than before: one of the two was said about a chain that was cut or rewritten.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{chain} ended at event {before} before and ends at event {found} here: it was cut or rewritten in between"
)]
pub struct Shrunk {
    /// Which chain.
    pub chain: String,
    /// Its head in one before.
    pub before: i64,
    /// Its head now.
    pub found: i64,
}

/// The newest head of each chain.
#[derive(Debug, Clone, Default)]
pub struct Newest(BTreeMap<String, (i64, Hash)>);

impl Newest {
    /// Take over what this one says; what it contradicts.
    pub fn see(&mut self, attestation: Attestation) -> Vec<Shrunk> {
        let mut shrunk = Vec::new();
        for Head { chain, seq, hash } in attestation.heads {
            match self.0.get_mut(&chain) {
                Some(newest) if newest.0 < seq => *newest = (seq, hash),
                Some((before, _)) => shrunk.push(Shrunk { chain, before: *before, found: seq }),
                None => {
                    self.0.insert(chain, (seq, hash));
                }
            }
        }
        shrunk
    }

    /// The newest head of one chain; none if none was signed.
    pub fn of(&self, chain: &str) -> Option<Head> {
        self.0.get(chain).map(|(seq, hash)| Head { chain: chain.to_owned(), seq: *seq, hash: *hash })
    }

    /// The highest number of a record of which a chain was seen; 0 if none was.
    pub fn highest_record(&self) -> i64 {
        let records = self.0.keys().filter_map(|chain| chain.parse::<DeletionId>().ok());
        records.map(|id| id.0).max().unwrap_or(0)
    }

    /// How many chains were seen.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none was seen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each chain's newest head, ascending by name.
    pub fn into_heads(self) -> impl Iterator<Item = Head> {
        self.0.into_iter().map(|(chain, (seq, hash))| Head { chain, seq, hash })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(chain: &str, seq: i64) -> Head {
        Head { chain: chain.to_owned(), seq, hash: [7; 32] }
    }

    fn body(attestation: &Attestation) -> String {
        serde_json::to_string(attestation).unwrap()
    }

    /// Three that follow from each other.
    fn three() -> [String; 3] {
        let mut sequence = Sequence::default();
        [1, 2, 3].map(|n| {
            let next = body(&sequence.next("here".into(), 1, Timestamp(n), vec![head("vm/a", n)]));
            sequence.see(&next).unwrap();
            next
        })
    }

    fn seen(bodies: &[&String]) -> Result<i64, Unlinked> {
        let mut sequence = Sequence::default();
        for body in bodies {
            sequence.see(body)?;
        }
        Ok(sequence.number())
    }

    #[test]
    fn each_follows_from_the_one_before_it() {
        let [one, two, three] = three();
        assert_eq!(seen(&[&one, &two, &three]), Ok(3));
        assert_eq!(seen(&[&one, &three]), Err(Unlinked::Number { expected: 2, found: 3 }), "one is removed");
        assert_eq!(seen(&[&two, &one]), Err(Unlinked::Number { expected: 1, found: 2 }), "two are swapped");
        assert_eq!(seen(&[&one, &one]), Err(Unlinked::Number { expected: 2, found: 1 }), "one is repeated");
        let other = one.replace("vm/a", "vm/b");
        assert_eq!(seen(&[&other, &two]), Err(Unlinked::Previous { number: 2 }), "one is replaced");
        // The very bytes count, not what they mean.
        assert_eq!(seen(&[&format!("{one} "), &two]), Err(Unlinked::Previous { number: 2 }));
        let mut sequence = Sequence::behind(&two).unwrap();
        assert_eq!(sequence.see(&three).map(|found| found.number), Ok(3));
        assert!(sequence.see(&three).is_err());
        assert_eq!(sequence.number(), 3);
    }

    #[test]
    fn one_ledger_and_no_way_back_between_epochs() {
        let one = body(&Sequence::default().next("here".into(), 2, Timestamp(1), vec![head("vm/a", 1)]));
        let after = Sequence::behind(&one).unwrap();
        let next = |ledger: &str, epoch| {
            after.clone().see(&body(&after.next(ledger.into(), epoch, Timestamp(0), vec![head("vm/a", 2)])))
        };
        assert!(next("here", 2).is_ok() && next("here", 3).is_ok());
        let elsewhere = Unlinked::Ledger { expected: "here".into(), found: "there".into() };
        assert_eq!(next("there", 2), Err(elsewhere));
        assert_eq!(next("here", 1), Err(Unlinked::Epoch { expected: 2, found: 1 }));
    }

    #[test]
    fn what_is_of_another_form_is_refused() {
        let of = |heads| body(&Sequence::default().next("here".into(), 1, Timestamp(1), heads));
        let many = |n: i64| (0..n).map(|i| head(&format!("vm/{i}"), 1)).collect::<Vec<_>>();
        assert_eq!(seen(&[&of(many(1000))]), Ok(1));
        for (body, part) in [
            (of(many(1001)), "heads: expected 1 to 1000, found 1001"),
            (of(vec![]), "heads: expected 1 to 1000, found 0"),
            (of(vec![head("vm/a", 0)]), "seq: expected 1 or more, found 0 for vm/a"),
            (of(vec![head("vm/a", 1), head("vm/a", 2)]), "vm/a is there twice"),
            (of(vec![head("", 1)]), "chain: expected 1 to 192 bytes, found 0"),
            (of(many(1)).replace("\"number\":1", "\"number\":0"), "number: expected 1 or more, found 0"),
            (of(many(1)).replace("\"number\":1", "\"number\":9223372036854775807"), "number: expected 1"),
            (of(vec![head("vm/a", 1)]).replace("0707", "07"), "64 hexadecimal digits"),
            (of(vec![head("vm/a", 1)]).replace("\"epoch\":1", "\"epoch\":1,\"more\":1"), "unknown field"),
            ("{}".to_owned(), "missing field"),
        ] {
            let Err(Unlinked::Form(why)) = seen(&[&body]) else { panic!("{body} passes") };
            assert!(why.contains(part), "{why}");
        }
    }

    /// Whoever goes on behind a line that does not hold goes on counting.
    #[test]
    fn the_last_number_there_is_stops_nobody() {
        let one = body(&Sequence::default().next("here".into(), 1, Timestamp(1), vec![head("vm/a", 1)]));
        let last = one.replace("\"number\":1", "\"number\":9223372036854775806");
        let mut behind = Sequence::behind(&last).unwrap();
        let expected = Unlinked::Number { expected: i64::MAX, found: 1 };
        assert_eq!(behind.see(&one), Err(expected));
        assert!(Sequence::behind(&last.replace("806", "807")).is_err());
    }

    #[test]
    fn the_longest_one_fits_into_a_line() {
        let chain = |n| format!("{}/{:0>128}", "k".repeat(32), n);
        let heads = (0..1000).map(|n| Head { chain: chain(n), seq: i64::MAX, hash: [255; 32] }).collect();
        let body = body(&Sequence::default().next("x".repeat(64), u32::MAX, Timestamp::MAX, heads));
        let line = SignedCheckpoint { body, key_id: "k".repeat(64), signature: "s".repeat(88) };
        assert!(serde_json::to_string(&line).unwrap().len() < LINE_MAX_BYTES);
    }

    #[test]
    fn what_was_signed_and_is_not_there_is_lost() {
        let head = head("d-1", 5);
        assert_eq!(head.lost(Some(&head.hash)), None);
        let lost = |stored: Option<&Hash>| head.lost(stored).unwrap().to_string();
        assert_eq!(lost(None), "d-1: event 5 was signed, and it is missing");
        assert_eq!(lost(Some(&[8; 32])), "d-1: event 5 was signed, and another one is there");
    }

    #[test]
    fn a_chain_never_becomes_shorter() {
        let mut newest = Newest::default();
        let of = |heads| Sequence::default().next("here".into(), 1, Timestamp(1), heads);
        assert_eq!(newest.see(of(vec![head("vm/a", 2), head("d-1", 5)])), []);
        assert_eq!(newest.see(of(vec![head("vm/a", 3)])), []);
        let shrunk = |before, found| Shrunk { chain: "d-1".into(), before, found };
        assert_eq!(newest.see(of(vec![head("d-1", 4)])), [shrunk(5, 4)]);
        assert_eq!(newest.see(of(vec![head("d-1", 5)])), [shrunk(5, 5)], "growing means growing");
        assert_eq!(newest.into_heads().collect::<Vec<_>>(), [head("d-1", 5), head("vm/a", 3)]);
    }
}
