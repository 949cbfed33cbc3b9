//! Volumes: plain files in `ROOT/volumes`, called `*.qcow2` or `*.raw`. The format follows from the name and is
//! never guessed from the content, which a guest writes.
//!
//! What makes a volume this one is its inode and the time its file was made: a file that was made anew under the
//! same name has others.
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use serde::Deserialize;
use sexton_consumer::driver::Obstacle;
use tokio::sync::Mutex;
use tokio::time::{Duration, Instant};

use super::definition;
use super::program::{self, Said};
use crate::machine::{SNAPSHOTS_MAX, Volume};
use crate::process;

/// Longest `qemu-img info` may take.
const INFO_WITHIN: Duration = Duration::from_secs(10);
/// How often a file must be seen open until its holder counts as a user of it, and how long after each other. A
/// copy of this consumer that reads headers has a file open for less than a millisecond.
const LOOKS: usize = 3;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The folder of volumes, and the program that reads them.
#[derive(Debug, Clone)]
pub(super) struct Volumes {
    folder: PathBuf,
    qemu_img: PathBuf,
    /// Held while users are looked for: that opens every volume for a moment, and somebody else who looks at the
    /// same time would take this process for a user of it.
    looking: Arc<Mutex<()>>,
}

/// What is read of the program's answer.
#[derive(Debug, Deserialize)]
struct Info {
    #[serde(rename = "virtual-size")]
    size: u64,
    #[serde(default)]
    snapshots: Vec<Snapshot>,
}

#[derive(Debug, Deserialize)]
struct Snapshot {
    name: String,
}

fn unclear(what: &str, path: &Path, error: &dyn std::fmt::Display) -> Obstacle {
    Obstacle::Unclear(format!("{what} {}: {error}", path.display()))
}

/// The format that a volume's name promises; refuses what cannot be the name of a volume.
pub(super) fn format(name: &str) -> Result<&'static str, Obstacle> {
    let plain = !name.starts_with(['.', '-']) && !name.contains(['/', '\0', '\n']) && name.len() <= 255;
    match name.rsplit_once('.') {
        Some((_, "qcow2")) if plain => Ok("qcow2"),
        Some((_, "raw")) if plain => Ok("raw"),
        Some(_) | None => {
            let short: String = name.chars().take(80).collect();
            Err(Obstacle::Refuse(format!("{short:?} cannot be the name of a volume")))
        }
    }
}

impl Volumes {
    pub(super) fn at(root: &Path, qemu_img: &Path) -> Self {
        Self { folder: root.join("volumes"), qemu_img: qemu_img.to_owned(), looking: Arc::default() }
    }

    /// The file of a volume.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What makes the file this one; `None` if it is not there. The caller knows that the folder is.
    fn file(&self, name: &str) -> Result<Option<String>, Obstacle> {
        format(name)?;
        let path = self.path(name);
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(unclear("reading", &path, &e)),
        };
        if !metadata.is_file() {
            return Err(Obstacle::Refuse(format!("{} is not a plain file", path.display())));
        }
        // Not every file system knows when a file was made; then the inode alone must do.
        let made = metadata.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let made =
            made.map_or_else(String::new, |at| format!(" of {}.{:09}", at.as_secs(), at.subsec_nanos()));
        Ok(Some(format!("inode {}{made}", metadata.ino())))
    }

    /// One volume, if it is there.
    pub(super) async fn read(&self, name: &str, in_use: bool) -> Result<Option<Volume>, Obstacle> {
        let Some(file) = self.file(name)? else { return Ok(None) };
        let path = self.path(name);
        let said = self.info(name, in_use, INFO_WITHIN).await?;
        if !said.ok {
            if self.file(name)?.is_none() {
                // It went while it was being read.
                return Ok(None);
            }
            return Err(unclear("reading", &path, &said.complaint));
        }
        let info: Info = serde_json::from_slice(&said.answer).map_err(|e| unclear("reading", &path, &e))?;
        Ok(Some(Volume {
            path: name.to_owned(),
            file,
            format: format(name)?.to_owned(),
            size: info.size,
            snapshots: info.snapshots.into_iter().take(SNAPSHOTS_MAX).map(|s| s.name).collect(),
        }))
    }

    /// Describe a volume; without `in_use` only if nobody writes to it.
    async fn info(&self, name: &str, in_use: bool, within: Duration) -> Result<Said, Obstacle> {
        let mut arguments = vec!["info".to_owned(), "--output=json".to_owned(), "-f".to_owned()];
        arguments.push(format(name)?.to_owned());
        if in_use {
            arguments.push("-U".to_owned());
        }
        arguments.push(self.path(name).display().to_string());
        program::run(&self.qemu_img, &arguments, within).await.map_err(Obstacle::Unclear)
    }

    /// Who still uses the file of a volume: a process that has it open, a lock, a volume on top of it.
    pub(super) async fn user(&self, name: &str, ends: Instant) -> Result<Option<String>, Obstacle> {
        let path = self.path(name);
        if self.file(name)?.is_none() {
            return Ok(None);
        }
        let _turn = self.looking.lock().await;
        if let Some(pid) = holder_that_stays(&path).await? {
            return Ok(Some(format!("process {pid} has it open")));
        }
        let within = INFO_WITHIN.min(ends.saturating_duration_since(Instant::now()));
        // Also sees users on other hosts, where the file system carries locks.
        let said = self.info(name, false, within).await?;
        if !said.ok {
            if said.complaint.contains(" lock") {
                return Ok(Some(said.complaint));
            }
            return Err(unclear("reading", &path, &said.complaint));
        }
        Ok(self.on_top_of(name)?.map(|other| format!("volume {other} builds on it")))
    }

    /// A volume whose backing file this is.
    fn on_top_of(&self, name: &str) -> Result<Option<String>, Obstacle> {
        let failed = |e: std::io::Error| unclear("listing", &self.folder, &e);
        let wanted = fs::canonicalize(self.path(name)).map_err(failed)?;
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !entry.file_type().map_err(failed)?.is_file() {
                continue;
            }
            let Some(backing) = backing_of(&entry.path()).map_err(failed)? else { continue };
            if fs::canonicalize(self.folder.join(backing)).is_ok_and(|backing| backing == wanted) {
                return Ok(Some(entry.file_name().to_string_lossy().into_owned()));
            }
        }
        Ok(None)
    }

    /// Delete one volume, if it is still the pinned one, and see it gone.
    pub(super) fn delete(&self, volume: &Volume) -> Result<(), Obstacle> {
        let path = self.path(&volume.path);
        match self.file(&volume.path)? {
            None => return Ok(()),
            Some(file) if file == volume.file => {}
            Some(file) => {
                let pinned = &volume.file;
                return Err(Obstacle::Refuse(format!("{} is {file}, pinned was {pinned}", path.display())));
            }
        }
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(unclear("removing", &path, &e)),
        }
        definition::sync(&self.folder).map_err(|e| unclear("removing", &path, &e))?;
        match self.file(&volume.path)? {
            None => Ok(()),
            Some(_) => Err(unclear("removing", &path, &"it is still there")),
        }
    }
}

/// A process that has this file open at every look.
async fn holder_that_stays(path: &Path) -> Result<Option<u32>, Obstacle> {
    for look in 1.. {
        let looked = path.to_owned();
        let holder = tokio::task::spawn_blocking(move || process::holder_of(&looked))
            .await
            .map_err(|e| unclear("looking for users of", path, &e))?
            .map_err(|e| unclear("looking for users of", path, &e))?;
        if holder.is_none() || look == LOOKS {
            return Ok(holder);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(None)
}

/// The backing file that the header of a qcow2 file names.
fn backing_of(path: &Path) -> std::io::Result<Option<PathBuf>> {
    /// Longest name that the format allows.
    const NAME_MAX_BYTES: u32 = 1023;
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut header = Vec::new();
    (&mut file).take(20).read_to_end(&mut header)?;
    let Some((offset, length)) = parse_header(&header) else { return Ok(None) };
    if offset == 0 || length == 0 || length > NAME_MAX_BYTES {
        return Ok(None);
    }
    use std::os::unix::fs::FileExt;
    let mut name = vec![0; length as usize];
    if file.read_exact_at(&mut name, offset).is_err() {
        return Ok(None);
    }
    let name = String::from_utf8_lossy(&name).into_owned();
    // "json:" names may hold anything; "file:" is the long form of a plain one.
    Ok(Some(PathBuf::from(name.strip_prefix("file:").unwrap_or(&name))))
}

/// Where a qcow2 header says that its backing file's name is, and how long.
fn parse_header(header: &[u8]) -> Option<(u64, u32)> {
    let magic = header.get(..4)?;
    let offset = u64::from_be_bytes(header.get(8..16)?.try_into().ok()?);
    let length = u32::from_be_bytes(header.get(16..20)?.try_into().ok()?);
    (magic == b"QFI\xfb").then_some((offset, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_volumes() {
        assert_eq!(format("web01-root.qcow2"), Ok("qcow2"));
        assert_eq!(format("web01.raw"), Ok("raw"));
        for bad in ["", "web01", "web01.img", "../x.qcow2", "a/b.qcow2", ".x.qcow2", "-U.qcow2", "a\0.raw"] {
            assert!(matches!(format(bad), Err(Obstacle::Refuse(_))), "{bad:?} was taken");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn who_only_looks_for_users_is_no_user() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("volumes")).unwrap();
        // A program that is content with every volume.
        let volumes = Volumes::at(root.path(), Path::new("true"));
        let names: Vec<String> = (0..64).map(|n| format!("web{n:02}.qcow2")).collect();
        for name in &names {
            fs::write(volumes.path(name), "QFI").unwrap();
        }
        let ends = Instant::now() + Duration::from_secs(60);
        let mut looks = tokio::task::JoinSet::new();
        for name in names {
            let volumes = volumes.clone();
            looks.spawn(async move { volumes.user(&name, ends).await });
        }
        while let Some(seen) = looks.join_next().await {
            assert_eq!(seen.unwrap(), Ok(None));
        }
        let open = fs::File::open(volumes.path("web07.qcow2")).unwrap();
        let why = volumes.user("web07.qcow2", ends).await.unwrap().unwrap();
        assert!(why.contains("has it open"), "{why}");
        drop(open);
    }

    #[test]
    fn a_backing_file_is_read_from_the_header() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("top.qcow2");
        let mut file = b"QFI\xfb\0\0\0\x03".to_vec();
        file.extend(32_u64.to_be_bytes());
        file.extend(10_u32.to_be_bytes());
        file.resize(32, 0);
        file.extend(b"base.qcow2");
        fs::write(&path, &file).unwrap();
        assert_eq!(backing_of(&path).unwrap(), Some("base.qcow2".into()));
        for length in [0, 7, 19, 41] {
            fs::write(&path, &file[..length]).unwrap();
            assert_eq!(backing_of(&path).unwrap(), None, "of {length} bytes");
        }
        file[16] = 0xff;
        fs::write(&path, &file).unwrap();
        assert_eq!(backing_of(&path).unwrap(), None);
    }

    #[test]
    fn an_answer_of_the_program_is_understood() {
        let answer = r#"{"virtual-size": 67108864, "filename": "x", "format": "qcow2", "actual-size": 1,
            "snapshots": [{"vm-clock-nsec": 0, "name": "before", "id": "1", "vm-state-size": 0}]}"#;
        let info: Info = serde_json::from_str(answer).unwrap();
        assert_eq!((info.size, info.snapshots[0].name.as_str()), (67_108_864, "before"));
        assert!(serde_json::from_str::<Info>("{}").is_err());
    }
}
