//! What coordinators sign of the audit trail: in the job table, and in a file of each of them.
use std::path::PathBuf;
use std::time::Duration;

use sexton_coordinator::Engine;
use sexton_coordinator::attester::{self, Attester, Round as Signing};
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{HASHES_MAX, Ledger as _, LedgerError};
use sexton_model::attest::{Head, SignedCheckpoint};
use sexton_protocol::BeaconVerifier;

use super::{COORDINATORS, Round, World};
use crate::simulation::check::Violation;
use crate::simulation::tally::SIGNED;

/// Signed checkpoints that are read at once.
const READ: u32 = 64;

/// A coordinator signs until nothing has grown. What keeps it from that is told by [`Attester::trouble`].
pub(super) async fn sign(engine: &Engine) -> Result<(), LedgerError> {
    let Some(attester) = engine.attester() else { return Ok(()) };
    let mut left = Some(Signing::default());
    while let Some(round) = left {
        left = attester.go_on(&*engine.ledger, round).await;
    }
    Ok(())
}

/// These heads stand in their chains, which therefore go on from there.
async fn stand(ledger: &SqliteLedger, heads: &[Head]) -> Result<(), Violation> {
    for some in heads.chunks(HASHES_MAX) {
        let events = some.iter().map(|head| (head.chain.clone(), head.seq)).collect();
        let stored = ledger.event_hashes(events).await.unwrap();
        let lost = some.iter().zip(stored).find(|(head, stored)| *stored != Some(head.hash));
        if let Some((head, stored)) = lost {
            let there = if stored.is_some() { "another one is there" } else { "it is missing" };
            return violated(format!("event {} of {} was signed, and {there}", head.seq, head.chain));
        }
    }
    Ok(())
}

fn violated(what: String) -> Result<(), Violation> {
    Err(Violation { invariant: "I12", what })
}

impl World {
    pub(super) fn attester(&self, number: usize) -> Attester {
        Attester::new(attester::Options {
            file: self.signed_by(number),
            every: Duration::from_millis(Round::Sign.every_ms()),
            signer: self.signer.clone(),
            known: BeaconVerifier::default(),
        })
    }

    /// Where this coordinator keeps what was signed.
    fn signed_by(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("signed{number}"))
    }

    /// What was signed since the last look follows from what was before it, and stands in the chains.
    ///
    /// # Errors
    /// If not.
    pub(super) async fn look_at_signed(&mut self, ledger: &SqliteLedger) -> Result<(), Violation> {
        loop {
            let more = ledger.attested_after(self.checker.signed.number(), READ).await.unwrap();
            if more.is_empty() {
                return Ok(());
            }
            for one in more {
                if let Err(why) = self.signer.verifier().verify_checkpoint(&one) {
                    violated(format!("a signed checkpoint is not authentic: {why}"))?;
                }
                let heads = self.checker.signed.see(one)?;
                stand(ledger, &heads).await?;
                self.dice.count(SIGNED);
            }
        }
    }

    /// In the end every coordinator signs what has grown; all that was ever signed stands in the chains, and in its file.
    ///
    /// # Errors
    /// If not.
    pub(in crate::simulation) async fn sign_all(&mut self, ledger: &SqliteLedger) -> Result<(), Violation> {
        if !self.script.tends {
            return Ok(());
        }
        let mut files = Vec::new();
        for number in 0..COORDINATORS {
            let one = self.coordinators[number].as_ref().ok();
            // One that is stopped midway has its file locked.
            let Some(one) = one.filter(|one| !one.is_at(Round::Sign)) else { continue };
            sign(&one.engine).await.ok();
            let trouble = one.engine.attester().and_then(Attester::trouble);
            match trouble {
                // Its file may hold what the job table has lost: it is right to sign nothing then.
                Some(_) if self.checker.signed.put_back => {}
                Some(why) => violated(format!("coordinator {number} signs nothing: {why}"))?,
                None => files.push((number, self.signed_by(number))),
            }
        }
        self.look_at_signed(ledger).await?;
        stand(ledger, &self.checker.signed.heads()).await?;
        for (number, file) in &files {
            let text = std::fs::read_to_string(file).unwrap();
            let kept: Vec<SignedCheckpoint> =
                text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            if kept != self.checker.signed.all() {
                violated(format!("coordinator {number} has kept something else than the job table"))?;
            }
        }
        let mut page = if files.is_empty() { None } else { Some(ledger.grown(None).await.unwrap()) };
        while let Some(grown) = page {
            if let Some(head) = grown.heads.first() {
                violated(format!("event {} of {} is not signed", head.seq, head.chain))?;
            }
            page = match grown.next.as_deref() {
                Some(after) => Some(ledger.grown(Some(after)).await.unwrap()),
                None => None,
            };
        }
        Ok(())
    }
}
