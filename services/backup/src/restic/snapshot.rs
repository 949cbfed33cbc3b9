//! What a repository lists, and what that means for one resource. No I/O.
use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The tag of a final backup that is complete.
pub(super) const FINAL: &str = "sexton-final";
/// The tag of a final backup until it has been seen to be complete.
pub(super) const CANDIDATE: &str = "sexton-candidate";
/// The tag of the mark that stands in the repository while data of deleted snapshots may still be there.
pub(super) const MARK: &str = "sexton-deleting";

/// A snapshot's whole id: 64 hexadecimal digits. A shorter one may mean another snapshot tomorrow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct SnapshotId(String);

impl TryFrom<String> for SnapshotId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if is_id(&text) { Ok(Self(text)) } else { Err(no_id("snapshot", &text)) }
    }
}

/// Whether the program calls anything so: a repository, a snapshot, a lock.
fn is_id(text: &str) -> bool {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.len() == 64 && text.bytes().all(digit)
}

fn no_id(of: &str, text: &str) -> String {
    let start: String = text.chars().take(80).collect();
    format!("{of} id {start:?}: expected 64 hexadecimal digits")
}

impl From<SnapshotId> for String {
    fn from(id: SnapshotId) -> String {
        id.0
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One snapshot, as `snapshots --json` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Snapshot {
    pub(super) id: SnapshotId,
    /// Which one it was before its tags were changed; that gives it a new id.
    #[serde(default)]
    pub(super) original: Option<SnapshotId>,
    #[serde(default)]
    pub(super) tags: Option<Vec<String>>,
    #[serde(default)]
    pub(super) paths: Option<Vec<String>>,
}

impl Snapshot {
    pub(super) fn has(&self, tag: &str) -> bool {
        self.tags.iter().flatten().any(|held| held == tag)
    }

    /// Whose it is: the one `uuid=…` among its tags; `None` if there is none, or more than one.
    pub(super) fn uuid(&self) -> Option<&str> {
        let mut all = self.tags.iter().flatten().filter_map(|tag| tag.strip_prefix("uuid="));
        let first = all.next()?;
        all.all(|other| other == first).then_some(first)
    }

    /// Whether exactly `wanted` was backed up; a missing path is skipped with exit code 0.
    pub(super) fn covers(&self, wanted: &[String]) -> bool {
        let held: BTreeSet<&str> = self.paths.iter().flatten().map(String::as_str).collect();
        held == wanted.iter().map(String::as_str).collect()
    }
}

/// What was pinned at announce, and what the deletion's own steps made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pinned {
    /// The repository's id.
    pub(super) repository: String,
    /// The resource's snapshots.
    pub(super) snapshots: BTreeSet<SnapshotId>,
    /// Whether there was a schedule.
    pub(super) schedule: bool,
    /// Final backups. A key of its own, because what steps create is merged by key.
    #[serde(rename = "final", default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) made: BTreeSet<SnapshotId>,
}

impl Pinned {
    pub(super) fn all(&self) -> BTreeSet<&SnapshotId> {
        self.snapshots.iter().chain(&self.made).collect()
    }
}

/// A complete listing of a repository, with proof of which one it is.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) repository: String,
    pub(super) snapshots: Vec<Snapshot>,
}

impl Listing {
    /// A repository's id and what could be read of its snapshots. It is complete only if nothing is
    /// [`Self::unread`]: the program leaves out what it cannot read, and ends with 0.
    ///
    /// # Errors
    /// If the text is no list of snapshots.
    pub(super) fn of(repository: String, json: &str) -> Result<Self, String> {
        let read: Option<Vec<Snapshot>> =
            serde_json::from_str(json).map_err(|e| format!("reading the list of snapshots: {e}"))?;
        Ok(Self { repository, snapshots: read.unwrap_or_default() })
    }

    /// Which of the repository's files, a line each, were not read.
    ///
    /// # Errors
    /// If a line is no file's name.
    pub(super) fn unread(&self, files: &str) -> Result<BTreeSet<SnapshotId>, String> {
        let known: BTreeSet<&SnapshotId> = self.snapshots.iter().map(|s| &s.id).collect();
        let files = files.lines().map(str::trim).filter(|line| !line.is_empty());
        let files =
            files.map(|file| SnapshotId::try_from(file.to_owned())).collect::<Result<BTreeSet<_>, _>>()?;
        Ok(files.into_iter().filter(|file| !known.contains(file)).collect())
    }

    /// The snapshots of the resource `uuid`, without marks.
    pub(super) fn of_resource(&self, uuid: &str) -> impl Iterator<Item = &Snapshot> {
        self.snapshots.iter().filter(move |s| s.uuid() == Some(uuid) && !s.has(MARK))
    }

    /// The marks of the resource `uuid`.
    pub(super) fn marks(&self, uuid: &str) -> Vec<SnapshotId> {
        self.snapshots
            .iter()
            .filter(|s| s.uuid() == Some(uuid) && s.has(MARK))
            .map(|s| s.id.clone())
            .collect()
    }

    /// The final backups of this deletion: not those that an earlier, cancelled one left and this one pinned.
    pub(super) fn finals(&self, uuid: &str, pinned: &Pinned) -> Vec<&Snapshot> {
        self.of_resource(uuid)
            .filter(|s| s.has(FINAL) && (pinned.made.contains(&s.id) || !pinned.snapshots.contains(&s.id)))
            .collect()
    }

    /// The resource's snapshots that are no targets: made by others since those were pinned.
    pub(super) fn not_pinned(&self, uuid: &str, pinned: &Pinned) -> Vec<SnapshotId> {
        let targets = pinned.all();
        // What this deletion made and did not live to tell is its own.
        let own = |s: &Snapshot| s.has(FINAL) || s.has(CANDIDATE);
        self.of_resource(uuid).filter(|s| !targets.contains(&s.id) && !own(s)).map(|s| s.id.clone()).collect()
    }

    /// Which pinned snapshots are left.
    ///
    /// # Errors
    /// Why they must not be deleted: another resource's, or changed since.
    pub(super) fn left(&self, uuid: &str, pinned: &Pinned) -> Result<Vec<SnapshotId>, String> {
        let wanted = pinned.all();
        let mut left = Vec::new();
        for snapshot in &self.snapshots {
            if wanted.contains(&snapshot.id) {
                if snapshot.uuid() != Some(uuid) {
                    let whose = snapshot.uuid().unwrap_or("nobody's, or of more than one");
                    return Err(format!("snapshot {} is pinned, but its uuid tag is {whose}", snapshot.id));
                }
                left.push(snapshot.id.clone());
            } else if let Some(original) = snapshot.original.as_ref().filter(|o| wanted.contains(o)) {
                return Err(format!(
                    "the pinned snapshot {original} was retagged and is now {}",
                    snapshot.id
                ));
            }
        }
        Ok(left)
    }
}

/// The id of a repository, as `cat config` tells it. It is the proof of place: what is no whole id proves none.
pub(super) fn repository_id(config: &str) -> Option<String> {
    text_at(config, "id").filter(|id| is_id(id))
}

/// The ids of the locks, as `list locks` tells them. The program is called with each: another word could be an option.
///
/// # Errors
/// If a word is no whole id.
pub(super) fn lock_ids(listed: &str) -> Result<Vec<String>, String> {
    let known = |word: &str| if is_id(word) { Ok(word.to_owned()) } else { Err(no_id("lock", word)) };
    listed.split_whitespace().map(known).collect()
}

/// Which host a lock was taken on, as `cat lock` tells it; `None` also if it is empty: whoever could not learn its own
/// name may be any machine.
pub(super) fn lock_host(lock: &str) -> Option<String> {
    text_at(lock, "hostname").filter(|host| !host.is_empty())
}

fn text_at(json: &str, name: &str) -> Option<String> {
    let whole: serde_json::Value = serde_json::from_str(json).ok()?;
    whole[name].as_str().map(str::to_owned)
}

/// The id that a finished `backup --json` tells: whole, or its beginning.
pub(super) fn made_id(stdout: &str) -> Option<String> {
    stdout
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["message_type"] == "summary")
        .find_map(|message| message["snapshot_id"].as_str().map(str::to_owned))
        .filter(|id| id.len() >= 8 && id.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sexton_testkit::fuzz::{Form, Fuzz};

    fn id(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    fn pinned(ids: &[char]) -> Pinned {
        Pinned {
            repository: "r".into(),
            snapshots: ids.iter().map(|d| SnapshotId::try_from(id(*d)).unwrap()).collect(),
            schedule: false,
            made: BTreeSet::new(),
        }
    }

    fn listing(json: serde_json::Value) -> Listing {
        Listing::of("r".into(), &json.to_string()).unwrap()
    }

    #[test]
    fn a_file_that_cannot_be_read_makes_the_listing_incomplete() {
        let none = listing(serde_json::json!([]));
        let unread = none.unread(&format!("{}\n", id('a'))).unwrap();
        assert_eq!(unread, BTreeSet::from([SnapshotId::try_from(id('a')).unwrap()]));
        let one = listing(serde_json::json!([{ "id": id('a') }]));
        assert!(one.unread(&id('a')).unwrap().is_empty());
        assert!(Listing::of("r".into(), "null").unwrap().snapshots.is_empty());
        assert!(none.unread("warning: x").is_err());
    }

    #[test]
    fn another_resources_snapshot_is_never_deleted() {
        let all = listing(serde_json::json!([{ "id": id('a'), "tags": ["uuid=u2"] }]));
        assert!(all.left("u1", &pinned(&['a'])).unwrap_err().contains("u2"));
        let all = listing(serde_json::json!([{ "id": id('a'), "tags": ["uuid=u1", "uuid=u2"] }]));
        assert!(all.left("u1", &pinned(&['a'])).is_err());
        let all = listing(serde_json::json!([{ "id": id('a') }]));
        assert!(all.left("u1", &pinned(&['a'])).is_err());
    }

    #[test]
    fn a_retagged_snapshot_is_not_gone() {
        let all = listing(serde_json::json!([{ "id": id('b'), "original": id('a'), "tags": ["uuid=u1"] }]));
        assert!(all.left("u1", &pinned(&['a'])).unwrap_err().contains("retagged"));
    }

    #[test]
    fn an_earlier_deletions_final_backup_is_not_this_ones() {
        let all = listing(serde_json::json!([{ "id": id('a'), "tags": ["uuid=u1", FINAL] }]));
        assert!(all.finals("u1", &pinned(&['a'])).is_empty());
        assert_eq!(all.finals("u1", &pinned(&[])).len(), 1);
    }

    /// Whatever is listed: what is left to be deleted is pinned and the resource's own.
    #[test]
    fn fuzz_listings() {
        let list = serde_json::json!([
            { "id": id('a'), "tags": ["uuid=u1"], "paths": ["/srv"], "time": "2026-12-01T00:00:00Z" },
            { "id": id('b'), "tags": ["uuid=u1", FINAL], "original": id('c') },
            { "id": id('d'), "tags": ["uuid=u1", MARK] }, { "id": id('e') },
        ]);
        Fuzz::new("restic", Form::Json).seed(list.to_string()).run(|bytes| {
            let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
            let listing = Listing::of("r".into(), text)?;
            let pinned = pinned(&['a', 'b']);
            let _ =
                (listing.finals("u1", &pinned).len(), listing.not_pinned("u1", &pinned), listing.marks("u1"));
            assert!(listing.unread("").unwrap().is_empty());
            for left in listing.left("u1", &pinned)? {
                assert!(pinned.all().contains(&left), "{left} is not pinned");
                let mut listed = listing.snapshots.iter().filter(|snapshot| snapshot.id == left);
                assert!(listed.all(|snapshot| snapshot.uuid() == Some("u1")), "{left} is another's");
            }
            Ok(())
        });
        let lines = format!(
            "{{\"message_type\":\"status\",\"bytes_done\":1}}\n{{\"message_type\":\"summary\",\"snapshot_id\":\"{}\"}}\n",
            id('a')
        );
        Fuzz::new("restic-lines", Form::JsonLines).seed(lines).run(|bytes| {
            let made = made_id(&String::from_utf8_lossy(bytes)).ok_or("it tells no id")?;
            assert!(made.len() >= 8 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{made}");
            Ok(())
        });
    }

    /// Of each file that is there it is known whether it was read.
    #[test]
    fn fuzz_files() {
        let listing = listing(serde_json::json!([{ "id": id('a') }]));
        let files = format!("{}\n{}\n", id('a'), id('b'));
        Fuzz::new("restic-files", Form::Text).seed(files).run(|bytes| {
            let files = String::from_utf8_lossy(bytes);
            let unread = listing.unread(&files)?;
            for line in files.lines().map(str::trim).filter(|line| !line.is_empty()) {
                let file = SnapshotId::try_from(line.to_owned()).unwrap();
                assert_ne!(unread.contains(&file), line == id('a'), "{line}");
            }
            Ok(())
        });
    }

    /// The proof of place is the whole id that stands there, or there is none.
    #[test]
    fn fuzz_configs() {
        for other in ["", "r", &id('a')[1..], &format!("{}a", id('a')), &id('A'), &id('g')] {
            let config = serde_json::json!({ "version": 2, "id": other }).to_string();
            assert_eq!(repository_id(&config), None, "{other:?}");
        }
        let config =
            serde_json::json!({ "version": 2, "id": id('a'), "chunker_polynomial": "25b468838dcb75" });
        Fuzz::new("restic-configs", Form::Json).seed(config.to_string()).run(|bytes| {
            let said = repository_id(&String::from_utf8_lossy(bytes)).ok_or("it tells no id")?;
            assert!(said.len() == 64 && said.bytes().all(|byte| byte.is_ascii_hexdigit()), "{said}");
            let again = serde_json::json!({ "id": said }).to_string();
            assert_eq!(repository_id(&again), Some(said));
            Ok(())
        });
    }

    /// The program is asked for each of them: what it could take for an option is none.
    #[test]
    fn only_whole_ids_are_locks() {
        assert_eq!(lock_ids("\n"), Ok(Vec::new()));
        assert_eq!(lock_ids(&format!("{}\n{}\n", id('a'), id('b'))), Ok(vec![id('a'), id('b')]));
        for word in ["--repo=/other", "-", "r", &id('a')[1..], &format!("{}a", id('a')), &id('g')] {
            let why = lock_ids(&format!("{}\n{word}\n", id('b'))).unwrap_err();
            assert!(why.contains("lock id"), "{word}: {why}");
        }
        assert!(lock_ids(&"x".repeat(1 << 20)).unwrap_err().len() < 200);
    }

    proptest! {
        #[test]
        fn hostile_output_never_panics(files in ".{0,200}", json in ".{0,200}") {
            if let Ok(listing) = Listing::of("r".into(), &json) {
                let _ = listing.unread(&files);
            }
            let _ = made_id(&json);
        }

        #[test]
        fn only_whole_ids_are_ids(text in "[0-9a-f]{0,70}") {
            prop_assert_eq!(SnapshotId::try_from(text.clone()).is_ok(), text.len() == 64);
        }

        #[test]
        fn what_is_left_is_pinned_and_of_the_resource(tags in proptest::collection::vec("uuid=u[12]", 0..4)) {
            let all = listing(serde_json::json!([{ "id": id('a'), "tags": tags }, { "id": id('b'), "tags": ["uuid=u1"] }]));
            if let Ok(left) = all.left("u1", &pinned(&['a'])) {
                prop_assert!(left.len() == 1 && all.snapshots[0].uuid() == Some("u1"));
            }
        }
    }
}
