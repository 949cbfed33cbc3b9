//! `sexton receipt`, and `sexton verify --receipt`: what proves that a purge is complete, shown, and checked offline.
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use sexton_model::archive::Document;
use sexton_model::attest::Head;
use sexton_model::audit::hex;
use sexton_model::receipt::{Proof, RECEIPT_MAX_BYTES, Receipt, SignedReceipt, StepProof};
use sexton_model::step::Presence;
use sexton_model::time::rehearsal_notice;
use sexton_protocol::BeaconVerifier;
use sexton_protocol::receipt::{Opened, open};

use crate::archived::{KEYS_MAX_BYTES, read};
use crate::arguments::Format;
use crate::output::{moment, short, table, write};

/// How much of an evidence a table shows, in characters: `-o json` has all of it.
const EVIDENCE_MAX: usize = 80;

/// What was found of a receipt in a file.
#[derive(Serialize)]
struct Found {
    /// `verified`, or why not.
    signature: String,
    key_id: String,
    /// `verified`, or why not.
    contents: String,
    receipt: Receipt,
}

/// Show what a coordinator said; as JSON with its signature, so that it can be kept and verified elsewhere.
///
/// # Errors
/// If it is no receipt.
pub fn show(signed: &SignedReceipt, format: Format) -> anyhow::Result<()> {
    let receipt: Receipt = serde_json::from_str(&signed.body).context("it is no receipt")?;
    write(format, signed, |signed| {
        text(&receipt)
            + &format!(
                "signed      by key {}, not checked here: sexton receipt {} -o json, then sexton verify --receipt\n",
                signed.key_id, receipt.deletion
            )
    })
}

/// Check a receipt against a file of public keys, and show it. Whether it is signed by one of them, and says what a
/// receipt has to say.
///
/// # Errors
/// If one of the files cannot be read, or is none of its sort.
pub fn check((file, key): (&Path, &Path), format: Format) -> anyhow::Result<bool> {
    let keys = String::from_utf8(read(key, KEYS_MAX_BYTES)?)
        .with_context(|| format!("{}: expected a file of public keys", key.display()))?;
    let keys = BeaconVerifier::parse(&key.display().to_string(), &keys)?;
    let no_receipt = || format!("{}: it is no receipt", file.display());
    let signed: SignedReceipt =
        serde_json::from_slice(&read(file, RECEIPT_MAX_BYTES)?).with_context(no_receipt)?;
    let Opened { receipt, signed: signature, sound } = open(&signed, &keys).with_context(no_receipt)?;
    let good = signature.is_ok() && sound.is_ok();
    let found = Found { signature: said(&signature), key_id: signed.key_id, contents: said(&sound), receipt };
    write(format, &found, |found| {
        text(&found.receipt)
            + &format!(
                "signature   {} (key {})\ncontents    {}\n",
                found.signature, found.key_id, found.contents
            )
    })?;
    Ok(good)
}

/// What the receipt in a file of the archive says, if it is authentic, sound and of that record.
///
/// # Errors
/// Why it does not count.
pub fn verdict(signed: &SignedReceipt, of: &Document, keys: &BeaconVerifier) -> Result<String, String> {
    let opened = open(signed, keys).map_err(|error| format!("it cannot be read: {error}"))?;
    opened.signed.map_err(|error| error.to_string())?;
    opened.sound.map_err(|error| error.to_string())?;
    let Head { seq, hash, .. } = opened.receipt.rests_on;
    let same = opened.receipt.deletion == of.deletion && opened.receipt.ledger == of.ledger;
    if !same || !of.events.iter().any(|link| link.seq == seq && link.hash == hash) {
        return Err("it is of another record, or of another history of this one".to_owned());
    }
    Ok(opened.receipt.sentence())
}

fn said<E: std::fmt::Display>(result: &Result<(), E>) -> String {
    match result {
        Ok(()) => "verified".to_owned(),
        Err(error) => format!("NOT VERIFIED: {error}"),
    }
}

fn text(receipt: &Receipt) -> String {
    let Receipt { deletion, resource, requested_by, created_at, purged_at, reason, rests_on, .. } = receipt;
    let identity: Vec<_> =
        resource.identity.attributes().map(|(name, value)| format!("{name} {value}")).collect();
    let mut text = receipt.rehearsal_day_ms.map(|ms| rehearsal_notice(ms) + "\n").unwrap_or_default();
    text += &format!(
        "{deletion} deleted {} ({}; {}) of ledger {}\nasked by    {requested_by} at {}: {reason}\npurged      {} UTC\n\
         verdict     {}\n",
        resource.id,
        resource.scope,
        identity.join(", "),
        receipt.ledger,
        moment(Some(*created_at)),
        moment(Some(*purged_at)),
        receipt.sentence(),
    );
    for left in &receipt.remains {
        text += &format!("REMAINS     {}: {}\n", left.sentence(), left.evidence);
    }
    text += "\n";
    text += &table(["", "step", "by", "", "at (UTC)", "event", "evidence"], receipt.steps.iter().map(row));
    text + &format!("\n\nrests on    event {} of {}: {}\n", rests_on.seq, rests_on.chain, hex(&rests_on.hash))
}

fn row(step: &StepProof) -> [String; 7] {
    let by = step.instance.as_ref().map_or_else(|| "coordinator".to_owned(), ToString::to_string);
    let (is, at, event, evidence) = match &step.proof {
        Proof::Seen { presence, evidence, at, event, .. } => {
            let word = match presence {
                Presence::Absent => "absent",
                Presence::Present => "present",
                Presence::Unknown => "UNKNOWN",
            };
            (word.to_owned(), *at, event.to_string(), evidence.clone())
        }
        Proof::Decided { at, event } => ("done".to_owned(), *at, event.to_string(), String::new()),
        Proof::Waived { claim, by, evidence, at, .. } => {
            (format!("waived as \"{}\"", claim.words()), *at, String::new(), format!("{by}: {evidence}"))
        }
    };
    let stage = step.stage.to_string();
    [stage, step.step.clone(), by, is, moment(Some(at)), event, short(&evidence, EVIDENCE_MAX)]
}
