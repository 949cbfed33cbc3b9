//! `sexton archived`: one file of the archive, checked offline, and its story.
use std::io::Read as _;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use sexton_api::{DeletionInfo, JobInfo, TrailLine};
use sexton_model::archive::{Document, FILE_MAX_BYTES};
use sexton_model::audit::hex;
use sexton_model::deletion::{Deletion, RecordStatus};
use sexton_model::job::{Job, JobKind};
use sexton_protocol::BeaconVerifier;
use sexton_protocol::archive::{Opened, open, sha256};

use crate::arguments::Format;
use crate::output::write;
use crate::{receipt, show};

/// Largest file of keys, in bytes: hundreds of keys.
pub(crate) const KEYS_MAX_BYTES: u64 = 1 << 16;

/// What is found.
#[derive(Serialize)]
struct Found {
    sha256: String,
    /// `verified`, or why not.
    signature: String,
    key_id: String,
    /// `verified`, or why not.
    document: String,
    /// `verified` and what it says, or why not; none if the record was not purged.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<String>,
    record: DeletionInfo,
}

/// Check a file of the archive against a file of public keys, and tell the record's story. Whether it is whole, and
/// signed by one of the keys.
///
/// # Errors
/// If one of the files cannot be read, or is none of its sort.
pub fn check((file, key): (&Path, &Path), format: Format, trail: bool) -> anyhow::Result<bool> {
    let keys = String::from_utf8(read(key, KEYS_MAX_BYTES)?)
        .with_context(|| format!("{}: expected a file of public keys", key.display()))?;
    let keys = BeaconVerifier::parse(&key.display().to_string(), &keys)?;
    let bytes = read(file, FILE_MAX_BYTES)?;
    let no_file = || format!("{}: it is no file of an archive", file.display());
    let opened = open(&bytes, &keys).with_context(no_file)?;
    let receipt =
        opened.document.receipt.as_ref().map(|signed| receipt::verdict(signed, &opened.document, &keys));
    let good = opened.signed.is_ok() && opened.sound.is_ok() && !matches!(receipt, Some(Err(_)));
    let receipt = receipt.map(|said| match said {
        Ok(said) => format!("verified: {said}"),
        Err(why) => format!("NOT VERIFIED: {why}"),
    });
    let found = Found { receipt, ..found(&opened, hex(&sha256(&bytes))).with_context(no_file)? };
    write(format, &found, |found| {
        show::deletion(&found.record, trail)
            + &format!(
                "\nsha256      {}\nsignature   {} (key {})\ndocument    {}\n",
                found.sha256, found.signature, found.key_id, found.document
            )
            + &found.receipt.as_ref().map(|said| format!("receipt     {said}\n")).unwrap_or_default()
    })?;
    Ok(good)
}

/// A file, as far as it is not longer than any of its sort.
pub(crate) fn read(path: &Path, most: u64) -> anyhow::Result<Vec<u8>> {
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
    Ok(Found {
        sha256,
        signature: said(&opened.signed),
        key_id: opened.key_id.clone(),
        document,
        receipt: None,
        record,
    })
}

/// A record that is over, as `show` shows it.
fn story(document: &Document, chain: String) -> Result<DeletionInfo, serde_json::Error> {
    let d = document.read()?;
    let trail = document.trail()?.into_iter();
    let undo = match d.status {
        RecordStatus::Cancelled => "it was cancelled and restored",
        RecordStatus::Rescued => "it was saved by hand",
        RecordStatus::Recycled => "nothing any more: the deletion is complete",
        RecordStatus::Live | RecordStatus::Restoring => "it was not over when this was written",
    };
    Ok(DeletionInfo {
        jobs: d.jobs.iter().map(|job| job_info(&d, job)).collect(),
        undo: undo.to_owned(),
        targets: document.targets.clone(),
        trail: trail.map(|(seq, event, hash)| TrailLine { seq, event, hash: hex(&hash) }).collect(),
        chain,
        ..DeletionInfo::of(&d)
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

#[cfg(test)]
mod tests {
    use sexton_protocol::BeaconSigner;
    use sexton_protocol::archive::seal;
    use sexton_testkit::archived::document;
    use sexton_testkit::fuzz::{Form, Fuzz};

    use super::*;

    #[test]
    fn a_file_tells_its_story_and_whether_it_is_what_was_signed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, key) = (folder.path().join("deletion-17.json"), folder.path().join("keys.toml"));
        let signer = BeaconSigner::generate("k", &mut rand::rng());
        std::fs::write(&key, signer.verifier().to_file()).unwrap();
        let check = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            check((&file, &key), Format::Json, true).map_err(|e| format!("{e:#}"))
        };
        let good = seal(&document(), &signer).unwrap();
        assert_eq!(check(&good), Ok(true));
        let text = String::from_utf8(good.clone()).unwrap();
        assert_eq!(check(text.replace("no longer needed", "no longer wanted").as_bytes()), Ok(false));
        let mut cut = document();
        cut.head = [9; 32];
        assert_eq!(check(&seal(&cut, &signer).unwrap()), Ok(false), "signed, and its chain does not hold");
        let stranger = BeaconSigner::generate("k", &mut rand::rng());
        assert_eq!(check(&seal(&document(), &stranger).unwrap()), Ok(false));
        let refused = check(b"{}").unwrap_err();
        assert!(refused.contains("it is no file of an archive"), "{refused}");

        let info = story(&document(), "verified".into()).unwrap();
        let shown = show::deletion(&info, true);
        for part in
            ["d-17 deletes vm/web01", "status      recycled", "announce", "no longer needed", "created"]
        {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }

    /// The story of a file that nobody signed is told, too: with what is wrong with it.
    #[test]
    fn fuzz_stories() {
        let keys = BeaconVerifier::default();
        let signer = BeaconSigner::generate("k", &mut rand::rng());
        Fuzz::new("stories", Form::Json).seed(seal(&document(), &signer).unwrap()).slow(20).run(|bytes| {
            let opened = open(bytes, &keys).map_err(|error| error.to_string())?;
            let found = found(&opened, hex(&sha256(bytes))).map_err(|error| error.to_string())?;
            assert!(found.signature.starts_with("NOT VERIFIED"), "{}", found.signature);
            assert!(!show::deletion(&found.record, true).is_empty());
            Ok(())
        });
    }
}
