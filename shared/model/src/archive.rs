//! The archive: what is kept of a record that is over when its rows leave the job table.
//!
//! Contract: a [`Document`] is one record whole: statement, plan, jobs, holds, waivers, targets, manifests, and every
//! event of its chain with its hash. It says nothing of when it was made, so that making it again makes the same bytes. It may be
//! archived only if [`Document::check`] finds nothing: the record is over, none of its jobs goes on, and the chain holds
//! up to its head. What stays in the job table is a [`Stub`], which is signed and names the file.
//!
//! Bodies are kept as they were stored, not as this version reads them: nothing that another version wrote is lost.
use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::Datelike as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::audit::{self, AuditEvent, Broken, Hash};
use crate::deletion::{Deletion, Record, RecordStatus};
use crate::id::{DeletionId, Instance, JobId, ResourceId};
use crate::job::Job;
use crate::receipt::SignedReceipt;
use crate::time::Timestamp;

/// How a document is written. Whoever changes that counts on.
pub const FORMAT: u32 = 1;

/// Longest chain that is archived, in events: a document is made and checked in memory. A record has a few dozen; only
/// one whose long step was extended for weeks comes near.
pub const EVENTS_MAX: i64 = 100_000;

/// Largest file of the archive, in bytes.
pub const FILE_MAX_BYTES: u64 = 256 << 20;

/// One record that is over, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// See [`FORMAT`].
    pub format: u32,
    /// The ledger's name, drawn when it was made: numbers of deletions are its own.
    pub ledger: String,
    /// Which record.
    pub deletion: DeletionId,
    /// What it was about.
    pub resource: ResourceId,
    /// How it ended.
    pub status: RecordStatus,
    /// When, by the store's clock.
    pub ended_at: Timestamp,
    /// The statement.
    pub record: Value,
    /// The record's own copy of the plan.
    pub plan: Value,
    /// Its jobs, ascending.
    pub jobs: Vec<Job>,
    /// Holds that stood at the end, ascending.
    pub holds: Vec<Value>,
    /// Steps that were let pass, in that order.
    pub waivers: Vec<Value>,
    /// Pinned targets.
    pub targets: BTreeMap<Instance, Value>,
    /// What its reversible steps had to know to be undone, ascending.
    pub manifests: Vec<Manifest>,
    /// The whole audit trail, ascending.
    pub events: Vec<Link>,
    /// Hash of the last event, as the job table had it beside the trail.
    #[serde(with = "audit::hex_form")]
    pub head: Hash,
    /// What proves that its purge is over; a record that was not purged has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<SignedReceipt>,
}

/// One step's manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The job whose step it is.
    pub job: JobId,
    /// The step's place in that job.
    pub step: u16,
    /// What was captured.
    pub value: Value,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Its number, from 1.
    pub seq: i64,
    /// The very bytes that were hashed: an [`AuditEvent`] as JSON.
    pub body: String,
    /// The hash.
    #[serde(with = "audit::hex_form")]
    pub hash: Hash,
}

/// Why a record is not archived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotArchivable {
    /// Written by another version.
    #[error("format {0}: expected {FORMAT}")]
    Format(u32),
    /// It is not over.
    #[error("the record is {}, not over", .0.word())]
    Live(RecordStatus),
    /// One of its jobs goes on.
    #[error("job {0} is not over")]
    GoesOn(JobId),
    /// It has more events than may be archived.
    #[error("its chain has {0} events: at most {EVENTS_MAX} are archived")]
    TooLong(usize),
    /// Its chain does not hold.
    #[error("its audit chain is broken: {0}")]
    Broken(#[from] Broken),
    /// Its parts are not about the same.
    #[error("{0}")]
    MixedUp(String),
}

impl Document {
    /// That it may be archived: the record is over, none of its jobs goes on, it is about one resource, and its chain
    /// holds up to its head. The same is checked of a file that comes out of the archive.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), NotArchivable> {
        if self.format != FORMAT {
            return Err(NotArchivable::Format(self.format));
        }
        if self.status.live() {
            return Err(NotArchivable::Live(self.status));
        }
        let mixed_up = |what: &str| NotArchivable::MixedUp(format!("{what} of another record"));
        if self.jobs.is_empty() {
            return Err(NotArchivable::MixedUp("it has no jobs".to_owned()));
        }
        for job in &self.jobs {
            if job.id.deletion() != self.deletion {
                return Err(mixed_up("a job"));
            }
            if !job.state.name().over() {
                return Err(NotArchivable::GoesOn(job.id));
            }
        }
        if self.manifests.iter().any(|manifest| manifest.job.deletion() != self.deletion) {
            return Err(mixed_up("a manifest"));
        }
        if self.record.pointer("/resource/id").and_then(Value::as_str) != Some(&self.resource.to_string()) {
            return Err(mixed_up("a statement"));
        }
        if i64::try_from(self.events.len()).is_ok_and(|count| count > EVENTS_MAX) {
            return Err(NotArchivable::TooLong(self.events.len()));
        }
        let last = self.events.last().map_or(0, |link| link.seq);
        let chain = self.events.iter().map(|link| (link.seq, link.body.as_bytes(), link.hash));
        // A record has one event at least: that it was made.
        audit::verify(chain, (last.max(1), self.head)).map_err(NotArchivable::from)
    }

    /// Where it is kept, relative to the archive's folder: `YEAR-MONTH/deletion-NUMBER.json`, of the month in which it
    /// ended (UTC). Follows from the record alone, so that whoever archives it again finds it there.
    pub fn file_name(&self) -> String {
        let ended = self.ended_at.utc();
        format!("{:04}-{:02}/deletion-{}.json", ended.year(), ended.month(), self.deletion.0)
    }

    /// What its stub says, if it is archived `at` that moment in a file with this SHA-256.
    pub fn entry(&self, at: Timestamp, sha256: Hash) -> Entry {
        Entry {
            ledger: self.ledger.clone(),
            deletion: self.deletion,
            resource: self.resource.clone(),
            status: self.status,
            ended_at: self.ended_at,
            events: self.events.last().map_or(0, |link| link.seq),
            head: self.head,
            archived_at: at,
            file: self.file_name(),
            sha256,
        }
    }

    /// The record as this version understands it.
    ///
    /// # Errors
    /// What it does not understand.
    pub fn read(&self) -> Result<Deletion, serde_json::Error> {
        let record: Record = Record::deserialize(&self.record)?;
        let parts = |of: &[Value]| of.iter().map(Deserialize::deserialize).collect::<Result<Vec<_>, _>>();
        Ok(Deletion {
            id: self.deletion,
            record: Arc::new(record),
            plan: Arc::new(Deserialize::deserialize(&self.plan)?),
            status: self.status,
            protected: false,
            resource_holds: Vec::new(),
            audit_seq: self.events.last().map_or(0, |link| link.seq),
            jobs: self.jobs.clone(),
            holds: parts(&self.holds)?,
            waivers: self.waivers.iter().map(Deserialize::deserialize).collect::<Result<_, _>>()?,
        })
    }

    /// The trail as this version understands it, ascending.
    ///
    /// # Errors
    /// What it does not understand.
    pub fn trail(&self) -> Result<Vec<(i64, AuditEvent, Hash)>, serde_json::Error> {
        self.events.iter().map(|link| Ok((link.seq, serde_json::from_str(&link.body)?, link.hash))).collect()
    }
}

/// What a stub says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The ledger's name.
    pub ledger: String,
    /// Which record.
    pub deletion: DeletionId,
    /// What it was about.
    pub resource: ResourceId,
    /// How it ended.
    pub status: RecordStatus,
    /// When.
    pub ended_at: Timestamp,
    /// How many events its chain has.
    pub events: i64,
    /// Hash of the last one.
    #[serde(with = "audit::hex_form")]
    pub head: Hash,
    /// When it was archived, by the store's clock.
    pub archived_at: Timestamp,
    /// The file, relative to the archive's folder.
    pub file: String,
    /// SHA-256 of that file.
    #[serde(with = "audit::hex_form")]
    pub sha256: Hash,
}

/// What stays of an archived record in the job table. Never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stub {
    /// What it says.
    pub entry: Entry,
    /// The key that it was signed with.
    pub key_id: String,
    /// Ed25519 over the entry as JSON, in base64.
    pub signature: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::audit::{GENESIS, link};
    use crate::job::{JobKind, JobState, Stage};

    fn document() -> Document {
        let id = DeletionId(17);
        let kind = JobKind::Stage(Stage::Announce);
        let mut job = Job::new(JobId::of(id, kind.slot()), kind, None);
        job.state = JobState::Done;
        let one = link(&GENESIS, 1, b"a");
        let two = link(&one, 2, b"b");
        Document {
            format: FORMAT,
            ledger: "l".into(),
            deletion: id,
            resource: "vm/web01".parse().unwrap(),
            status: RecordStatus::Recycled,
            ended_at: Timestamp(1_798_761_599_000_000),
            record: json!({"resource": {"id": "vm/web01"}}),
            plan: json!({}),
            jobs: vec![job],
            holds: vec![],
            waivers: vec![],
            targets: BTreeMap::new(),
            manifests: vec![],
            events: vec![
                Link { seq: 1, body: "a".into(), hash: one },
                Link { seq: 2, body: "b".into(), hash: two },
            ],
            head: two,
            receipt: None,
        }
    }

    #[test]
    fn only_what_is_over_and_whole_is_archived() {
        assert_eq!(document().check(), Ok(()));
        type Spoil = fn(&mut Document);
        let cases: [(&str, Spoil); 11] = [
            ("format 2", |d| d.format = 2),
            ("live, not over", |d| d.status = RecordStatus::Live),
            ("restoring, not over", |d| d.status = RecordStatus::Restoring),
            ("is not over", |d| d.jobs[0].state = JobState::Scheduled { due_at: None }),
            ("no jobs", |d| d.jobs.clear()),
            ("a job of another record", |d| d.jobs[0].id = JobId::of(DeletionId(18), 0)),
            ("a statement of another record", |d| d.resource = "vm/web02".parse().unwrap()),
            ("a manifest of another record", |d| {
                d.manifests.push(Manifest { job: JobId::of(DeletionId(18), 0), step: 0, value: json!(1) });
            }),
            ("event 1 does not match", |d| d.events[0].body = "x".into()),
            ("the chain ends at event 1", |d| drop(d.events.pop())),
            ("the chain ends at event 0", |d| {
                d.events.clear();
                d.head = GENESIS;
            }),
        ];
        for (expected, spoil) in cases {
            let mut spoilt = document();
            spoil(&mut spoilt);
            let refused = spoilt.check().unwrap_err().to_string();
            assert!(refused.contains(expected), "{expected}: {refused}");
        }
    }

    #[test]
    fn a_file_lies_in_the_month_of_the_end() {
        // A second before the new year in UTC, whatever the zone of whoever asks.
        assert_eq!(document().file_name(), "2026-12/deletion-17.json");
    }

    #[test]
    fn a_document_reads_as_it_was_written() {
        let text = serde_json::to_string(&document()).unwrap();
        assert_eq!(serde_json::from_str::<Document>(&text).unwrap(), document());
    }
}
