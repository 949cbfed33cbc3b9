//! What was sent to whom: one JSON file for each announcement, called by its UID.
//!
//! Kind `announcements`: `{"uid", "resource", "identity", "due", "zone", "window", "to", "state", "sequence", "tried",
//! "accepted", "rejected"}`. It holds the fence of its last change, and refuses an older one.
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sexton_consumer::driver::{Obstacle, Place};
use sexton_consumer::sandbox::Sandbox;
use sexton_model::deletion::Zone;
use sexton_model::resource::Identity;
use sexton_model::{Fence, Instance};
use uuid::Uuid;

use crate::letter::{Due, Window};

const ANNOUNCEMENTS: &str = "announcements";

/// How far an announcement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// People are being told; some may not have been.
    Announcing,
    /// Everybody was told.
    Announced,
    /// People are being told that it was taken back; some may not have been.
    Retracting,
    /// Everybody who may have been told was told that it was taken back.
    Retracted,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Announcing => "being announced",
            Self::Announced => "announced",
            Self::Retracting => "being retracted",
            Self::Retracted => "retracted",
        })
    }
}

/// One announcement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// What it is known by, here, in mailboxes and in calendars.
    pub uid: Uuid,
    /// The resource, as people know it.
    pub resource: String,
    /// What makes it this one.
    pub identity: Identity,
    /// When it goes, if the plan says so.
    #[serde(default)]
    pub due: Option<Due>,
    /// Whose calendar a date is of, if the plan says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
    /// The maintenance window, which is the calendar entry.
    #[serde(default)]
    pub window: Option<Window>,
    /// Who is to be told.
    pub to: Vec<String>,
    /// How far it is.
    pub state: State,
    /// The number of the message that is being sent or was sent last; 1 is the first.
    pub sequence: u32,
    /// Who may have got this message.
    #[serde(default)]
    pub tried: BTreeSet<String>,
    /// For whom the server took this message.
    #[serde(default)]
    pub accepted: BTreeSet<String>,
    /// For whom the server will not take it, and why.
    #[serde(default)]
    pub rejected: BTreeMap<String, String>,
}

/// The files.
#[derive(Debug, Clone)]
pub struct Spool {
    sandbox: Sandbox,
}

/// The right to work on one announcement, until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Spool {
    /// The spool of `instance` under `root`, which need not exist yet.
    pub fn at(root: &Path, instance: &Instance) -> Self {
        Self { sandbox: Sandbox::at(root, instance) }
    }

    /// The same, made if it is not there. Each spool that is made is a place of its own: an empty one elsewhere,
    /// of another copy or where a disk is not mounted, is no proof that nobody was told.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn create(root: &Path, instance: &Instance) -> std::io::Result<Self> {
        let name = format!("spool {} of {instance}", Uuid::now_v7());
        Ok(Self { sandbox: Sandbox::create_called(root, instance, name)? })
    }

    /// Which place this is, read afresh.
    ///
    /// # Errors
    /// [`Obstacle::Unclear`] if it cannot be read.
    pub fn place(&self) -> Result<Place, Obstacle> {
        self.sandbox.place()
    }

    /// One announcement, if there was one.
    ///
    /// # Errors
    /// [`Obstacle::Unclear`] if it cannot be read.
    pub fn read(&self, uid: Uuid) -> Result<Option<Announcement>, Obstacle> {
        match self.sandbox.read(ANNOUNCEMENTS, &uid.to_string())? {
            None => Ok(None),
            Some(object) => serde_json::from_value(Value::Object(object))
                .map(Some)
                .map_err(|e| Obstacle::Unclear(format!("announcements/{uid}: {e}"))),
        }
    }

    /// Write it down.
    ///
    /// # Errors
    /// [`Obstacle::Refuse`] if it holds a greater fence, [`Obstacle::Unclear`] if the file system refuses.
    pub fn write(&self, announcement: &Announcement, fence: Fence) -> Result<(), Obstacle> {
        let object = match serde_json::to_value(announcement) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return Err(Obstacle::Unclear("an announcement is no object".into())),
            Err(e) => {
                return Err(Obstacle::Unclear(format!("writing announcement {}: {e}", announcement.uid)));
            }
        };
        self.sandbox.write(ANNOUNCEMENTS, &announcement.uid.to_string(), object, fence)
    }

    /// All announcements, ascending by UID.
    ///
    /// # Errors
    /// [`Obstacle::Unclear`] if one cannot be read.
    pub fn all(&self) -> Result<Vec<Announcement>, Obstacle> {
        let mut all = Vec::new();
        for name in self.sandbox.list(ANNOUNCEMENTS)? {
            let uid = Uuid::parse_str(&name).map_err(|e| {
                Obstacle::Unclear(format!("announcements/{name} is not called by a UID: {e}"))
            })?;
            all.extend(self.read(uid)?);
        }
        Ok(all)
    }

    /// Take the lock of an announcement, without waiting: two copies would tell people twice.
    ///
    /// # Errors
    /// [`Obstacle::Busy`] if another holds it, [`Obstacle::Unclear`] if the file system refuses.
    pub fn lock(&self, uid: Uuid) -> Result<Lock, Obstacle> {
        self.place()?;
        let folder = self.sandbox.folder().join("locks");
        let path = folder.join(uid.to_string());
        let unclear =
            |e: &dyn std::fmt::Display| Obstacle::Unclear(format!("locking {}: {e}", path.display()));
        std::fs::create_dir_all(&folder).map_err(|e| unclear(&e))?;
        let file = File::create(&path).map_err(|e| unclear(&e))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => {
                Err(Obstacle::Busy(format!("another copy works on announcement {uid}")))
            }
            Err(TryLockError::Error(e)) => Err(unclear(&e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_spool_is_a_place_of_its_own_and_stays_it() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let instance: Instance = "notifier.main".parse().unwrap();
        let place = Spool::create(one.path(), &instance).unwrap().place().unwrap();
        assert_eq!(Spool::create(one.path(), &instance).unwrap().place().unwrap(), place);
        assert_ne!(Spool::create(other.path(), &instance).unwrap().place().unwrap(), place);
        std::fs::remove_file(one.path().join("notifier/main/place.json")).unwrap();
        assert_ne!(Spool::create(one.path(), &instance).unwrap().place().unwrap(), place);
    }
}
