//! `sexton archived`: one file of the archive, checked offline, and its story.
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;
use sexton_api::{DeletionInfo, JobInfo, TrailLine, WaiverInfo};
use sexton_model::archive::{Document, FILE_MAX_BYTES};
use sexton_model::audit::hex;
use sexton_model::deletion::{Deletion, RecordStatus, Waiver};
use sexton_model::job::{Job, JobKind};
use sexton_protocol::BeaconVerifier;
use sexton_protocol::archive::{Opened, open, sha256};

use crate::arguments::Format;
use crate::output::write;
use crate::show;

/// Largest file of keys, in bytes: hundreds of keys.
const KEYS_MAX_BYTES: u64 = 1 << 16;

/// What is found.
#[derive(Serialize)]
struct Found {
    sha256: String,
    /// `verified`, or why not.
    signature: String,
    key_id: String,
    /// `verified`, or why not.
    document: String,
    record: DeletionInfo,
}

/// Check a file of the archive against a file of public keys, and tell the record's story. Fails if it is not whole, or
/// not signed by one of the keys.
///
/// # Errors
/// If one of the files cannot be read, or is none of its sort.
pub fn check((file, key): (&Path, &Path), format: Format, trail: bool) -> anyhow::Result<ExitCode> {
    let keys = String::from_utf8(read(key, KEYS_MAX_BYTES)?)
        .with_context(|| format!("{}: expected a file of public keys", key.display()))?;
    let keys = BeaconVerifier::parse(&key.display().to_string(), &keys)?;
    let bytes = read(file, FILE_MAX_BYTES)?;
    let no_file = || format!("{}: it is no file of an archive", file.display());
    let opened = open(&bytes, &keys).with_context(no_file)?;
    let good = opened.signed.is_ok() && opened.sound.is_ok();
    let found = found(&opened, hex(&sha256(&bytes))).with_context(no_file)?;
    write(format, &found, |found| {
        show::deletion(&found.record, trail)
            + &format!(
                "\nsha256      {}\nsignature   {} (key {})\ndocument    {}\n",
                found.sha256, found.signature, found.key_id, found.document
            )
    })?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A file, as far as it is not longer than any of its sort.
fn read(path: &Path, most: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).with_context(|| format!("reading {}", path.display()))?;
    file.take(most + 1).read_to_end(&mut bytes).with_context(|| format!("reading {}", path.display()))?;
    anyhow::ensure!(bytes.len() as u64 <= most, "{}: expected at most {most} bytes", path.display());
    Ok(bytes)
}

fn found(opened: &Opened, sha256: String) -> Result<Found, serde_json::Error> {
    fn said<E: std::fmt::Display>(result: &Result<(), E>) -> String {
        match result {
            Ok(()) => "verified".to_owned(),
            Err(error) => format!("NOT VERIFIED: {error}"),
        }
    }
    let document = said(&opened.sound);
    let record = story(&opened.document, document.clone())?;
    Ok(Found { sha256, signature: said(&opened.signed), key_id: opened.key_id.clone(), document, record })
}

/// A record that is over, as `show` shows it.
fn story(document: &Document, chain: String) -> Result<DeletionInfo, serde_json::Error> {
    let d = document.read()?;
    let record = d.record.clone();
    let trail = document.trail()?.into_iter();
    let undo = match d.status {
        RecordStatus::Cancelled => "it was cancelled and restored",
        RecordStatus::Rescued => "it was saved by hand",
        RecordStatus::Recycled => "nothing: nothing is left",
        RecordStatus::Live | RecordStatus::Restoring => "it was not over when this was written",
    };
    Ok(DeletionInfo {
        id: d.id,
        resource: record.resource.clone(),
        status: d.status,
        due: record.due.date,
        zone: record.due.zone,
        gone_by: record.gone_by,
        requested_by: record.requested_by.to_string(),
        reason: record.reason.clone(),
        created_at: record.created_at,
        jobs: d.jobs.iter().map(|job| job_info(&d, job)).collect(),
        holds: d.holds.clone(),
        waivers: d.waivers.iter().filter_map(|waiver| waived(&d, waiver)).collect(),
        undo: undo.to_owned(),
        cancel_until: None,
        targets: document.targets.clone(),
        trail: trail.map(|(seq, event, hash)| TrailLine { seq, event, hash: hex(&hash) }).collect(),
        chain,
    })
}

fn job_info(d: &Deletion, job: &Job) -> JobInfo {
    let total = match job.kind {
        JobKind::Stage(stage) => d.plan.stage(stage).steps.len(),
        JobKind::Restore => d.undo_list().len(),
    };
    JobInfo {
        job: job.kind,
        state: job.state.name(),
        due_at: None,
        estimated: false,
        ended_at: job.ended_at,
        steps: (job.cursor, u16::try_from(total).unwrap_or(u16::MAX)),
        step: None,
        why: String::new(),
    }
}

fn waived(d: &Deletion, waiver: &Waiver) -> Option<WaiverInfo> {
    let job = JobKind::from_slot(waiver.slot)?;
    let undone = || d.undo_list().get(usize::from(waiver.step)).copied();
    let step = match job {
        JobKind::Stage(_) => d.waived_step(waiver),
        JobKind::Restore => undone().and_then(|u| d.plan.stage(u.stage).steps.get(usize::from(u.index))),
    };
    Some(WaiverInfo {
        job,
        step: step.map(|step| step.name.clone()),
        claim: waiver.claim,
        by: waiver.by.to_string(),
        evidence: waiver.evidence.clone(),
        at: waiver.at,
    })
}
