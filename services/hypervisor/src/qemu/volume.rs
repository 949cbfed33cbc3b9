//! Volumes: plain files in `ROOT/volumes`, called `*.qcow2` or `*.raw`. The format follows from the name and is
//! never guessed from the content, which a guest writes.
//!
//! What makes a volume this one is its inode and the time its file was made: a file that was made anew under the
//! same name has others. A file system that does not know when a file was made is refused, since it gives the same
//! inode to the next file.
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use serde::Deserialize;
use sexton_consumer::driver::Obstacle;
use tokio::sync::Mutex;
use tokio::time::{Duration, Instant};

use super::program::{self, Said};
use super::{definition, image};
use crate::machine::{SNAPSHOTS_MAX, Volume, builds_on};
use crate::process::{self, Process};

/// Longest `qemu-img info` may take.
const INFO_WITHIN: Duration = Duration::from_secs(10);

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

/// What is nothing without a volume, by its name in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Above {
    /// A volume that builds on it.
    Builds(String),
    /// The volume itself, under another name.
    Link(String),
}

impl Above {
    /// For people, with the machine that has it as a disk, if one does.
    fn told(&self, disks: &BTreeMap<String, String>) -> String {
        match self {
            Self::Builds(other) => builds_on(other, disks.get(other).map(String::as_str)),
            Self::Link(other) => match disks.get(other) {
                Some(machine) => format!("{other}, a disk of {machine}, is a link to it"),
                None => format!("{other} is a link to it"),
            },
        }
    }
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

/// A volume as the program describes it; `file` is what makes it this one.
fn described((name, path): (&str, &Path), file: String, answer: &[u8]) -> Result<Volume, Obstacle> {
    let info: Info = serde_json::from_slice(answer).map_err(|e| unclear("reading", path, &e))?;
    Ok(Volume {
        path: name.to_owned(),
        file,
        format: format(name)?.to_owned(),
        size: info.size,
        snapshots: info.snapshots.into_iter().take(SNAPSHOTS_MAX).map(|s| s.name).collect(),
    })
}

/// What makes a file this one.
fn identity(inode: u64, made: Option<Duration>) -> Result<String, &'static str> {
    let made = made.ok_or(
        "its file system does not say when a file was made, so another one could not be told from it",
    )?;
    Ok(format!("inode {inode} of {}.{:09}", made.as_secs(), made.subsec_nanos()))
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
        let made = metadata.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        identity(metadata.ino(), made)
            .map(Some)
            .map_err(|why| Obstacle::Refuse(format!("{}: {why}", path.display())))
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
        described((name, path.as_path()), file, &said.answer).map(Some)
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

    /// Who still uses the file of a volume: a link to it, a volume on top of it, a process other than `but` that has it open, a
    /// lock. `disks` says of each volume which machine has it as a disk.
    pub(super) async fn user(
        &self,
        name: &str,
        but: Option<Process>,
        ends: Instant,
        disks: &BTreeMap<String, String>,
    ) -> Result<Option<String>, Obstacle> {
        let path = self.path(name);
        if self.file(name)?.is_none() {
            return Ok(None);
        }
        let _turn = self.looking.lock().await;
        // First: of a machine that is on, it says more than that a process has the volume open.
        if let Some(above) = self.on_top_of(name)? {
            return Ok(Some(above.told(disks)));
        }
        let holder = process::holder_that_stays(&path, but).await;
        if let Some(pid) = holder.map_err(|e| unclear("looking for users of", &path, &e))? {
            return Ok(Some(format!("process {pid} has it open")));
        }
        let within = INFO_WITHIN.min(ends.saturating_duration_since(Instant::now()));
        // Also sees users on other hosts, where the file system carries locks. What runs here has a lock itself, and
        // nobody else gets one meanwhile.
        let said = self.info(name, but.is_some(), within).await?;
        if !said.ok {
            if said.complaint.contains(" lock") {
                return Ok(Some(said.complaint));
            }
            return Err(unclear("reading", &path, &said.complaint));
        }
        Ok(None)
    }

    /// What is nothing without this volume. Refuses if that cannot be told of anything in the folder.
    fn on_top_of(&self, name: &str) -> Result<Option<Above>, Obstacle> {
        let failed = |e: std::io::Error| unclear("listing", &self.folder, &e);
        let wanted = fs::canonicalize(self.path(name)).map_err(failed)?;
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let other = entry.file_name().to_string_lossy().into_owned();
            if other == name {
                continue;
            }
            // Whatever it is called: its header, if it has one, is the volume's own.
            match fs::canonicalize(entry.path()) {
                Ok(seen) if seen == wanted => return Ok(Some(Above::Link(other))),
                Ok(_) => {}
                // It went just now, or leads to nothing; to this volume it does not.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => {
                    let why = format!("it cannot be told where {other} leads: {e}");
                    return Err(Obstacle::Refuse(why));
                }
            }
            // What is in a raw volume is its guest's, not a header.
            if format(&other) == Ok("raw") {
                continue;
            }
            if needs(&entry.path(), &wanted).map_err(|why| {
                Obstacle::Refuse(format!("it cannot be told what volume {other} builds on: {why}"))
            })? {
                return Ok(Some(Above::Builds(other)));
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

/// Whether the image at `path` needs the file `wanted`. `Err` says why it cannot be told.
fn needs(path: &Path, wanted: &Path) -> Result<bool, String> {
    let is_link = |path: &Path| fs::symlink_metadata(path).is_ok_and(|link| link.is_symlink());
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Ok(false),
        Err(e) if e.kind() == ErrorKind::NotFound && !is_link(path) => return Ok(false),
        Err(e) => return Err(e.to_string()),
    }
    let file = fs::File::open(path).map_err(|e| e.to_string())?;
    let real = fs::canonicalize(path).map_err(|e| e.to_string())?;
    for name in image::needs(&file).map_err(|e| e.to_string())?? {
        // Relative to the image, which QEMU may have been given by either of its names.
        let seen = [path, &real].map(|image| fs::canonicalize(image.with_file_name("").join(&name)));
        if seen.iter().flatten().any(|seen| *seen == wanted) {
            return Ok(true);
        }
        if seen.iter().all(Result::is_err) {
            return Err(format!("it names {}, which is not there", name.display()));
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use sexton_testkit::fuzz::{Form, Fuzz};

    use super::super::image::tests::image;
    use super::*;

    #[test]
    fn fuzz_descriptions() {
        let said = r#"{"virtual-size": 1048576, "format": "qcow2", "dirty-flag": false, "snapshots": [{"id": "1", "name": "a"}]}"#;
        Fuzz::new("qemu-img", Form::Json).seed(said).seed(r#"{"virtual-size": 0}"#).run(|bytes| {
            let (name, path) = ("web01.qcow2", Path::new("/volumes/web01.qcow2"));
            let volume = described((name, path), "inode 7".to_owned(), bytes);
            let volume = volume.map_err(|error| error.to_string())?;
            assert!(volume.snapshots.len() <= SNAPSHOTS_MAX && volume.format == "qcow2", "{volume:?}");
            Ok(())
        });
    }

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
        let disks = BTreeMap::new();
        let mut looks = tokio::task::JoinSet::new();
        for name in names {
            let (volumes, disks) = (volumes.clone(), disks.clone());
            looks.spawn(async move { volumes.user(&name, None, ends, &disks).await });
        }
        while let Some(seen) = looks.join_next().await {
            assert_eq!(seen.unwrap(), Ok(None));
        }
        let open = fs::File::open(volumes.path("web07.qcow2")).unwrap();
        let why = volumes.user("web07.qcow2", None, ends, &disks).await.unwrap().unwrap();
        assert!(why.contains("has it open"), "{why}");
        let own = Process::of(std::process::id()).unwrap();
        assert_eq!(volumes.user("web07.qcow2", own, ends, &disks).await, Ok(None));
        drop(open);
    }

    #[test]
    fn what_builds_on_a_volume_is_seen_and_what_cannot_be_told_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let volumes = Volumes::at(root.path(), Path::new("qemu-img"));
        fs::create_dir(&volumes.folder).unwrap();
        let write = |name: &str, content: &[u8]| fs::write(volumes.path(name), content).unwrap();
        let json =
            image(br#"json:{"driver":"qcow2","file":{"driver":"file","filename":"base.qcow2"}}"#, None);
        write("base.qcow2", &image(b"", None));
        // Neither its own header, nor what a guest wrote, nor a folder.
        write("self.qcow2", &json);
        write("guest.raw", &json);
        fs::create_dir(volumes.path("folder")).unwrap();
        assert_eq!(volumes.on_top_of("self.qcow2"), Ok(None));
        fs::remove_file(volumes.path("self.qcow2")).unwrap();
        assert_eq!(volumes.on_top_of("base.qcow2"), Ok(None));

        for (name, content) in [
            ("clone.qcow2", image(b"base.qcow2", None)),
            ("clone.img", image(b"./base.qcow2", None)),
            ("holder.qcow2", image(b"", Some(b"base.qcow2"))),
        ] {
            write(name, &content);
            assert_eq!(volumes.on_top_of("base.qcow2"), Ok(Some(Above::Builds(name.to_owned()))));
            fs::remove_file(volumes.path(name)).unwrap();
        }
        for (name, content) in [("by-json.qcow2", json), ("gone.qcow2", image(b"elsewhere.qcow2", None))] {
            write(name, &content);
            let refused = volumes.on_top_of("base.qcow2");
            assert!(matches!(&refused, Err(Obstacle::Refuse(why)) if why.contains(name)), "{refused:?}");
            fs::remove_file(volumes.path(name)).unwrap();
        }
    }

    #[test]
    fn an_image_behind_a_link_counts() {
        let root = tempfile::tempdir().unwrap();
        let volumes = Volumes::at(root.path(), Path::new("qemu-img"));
        fs::create_dir(&volumes.folder).unwrap();
        fs::write(volumes.path("base.qcow2"), image(b"", None)).unwrap();
        let elsewhere = root.path().join("elsewhere.qcow2");
        for backing in ["base.qcow2", "volumes/base.qcow2"] {
            fs::write(&elsewhere, image(backing.as_bytes(), None)).unwrap();
            std::os::unix::fs::symlink(&elsewhere, volumes.path("link.qcow2")).unwrap();
            let builds = Above::Builds("link.qcow2".to_owned());
            assert_eq!(volumes.on_top_of("base.qcow2"), Ok(Some(builds)), "{backing}");
            fs::remove_file(&elsewhere).unwrap();
            // It leads to a disk that is not mounted.
            assert!(matches!(volumes.on_top_of("base.qcow2"), Err(Obstacle::Refuse(_))));
            fs::remove_file(volumes.path("link.qcow2")).unwrap();
        }
    }

    #[tokio::test]
    async fn a_link_to_the_volume_itself_counts_whatever_it_is_called() {
        let root = tempfile::tempdir().unwrap();
        // A program that is content with every volume.
        let volumes = Volumes::at(root.path(), Path::new("true"));
        fs::create_dir(&volumes.folder).unwrap();
        let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, volumes.path(name)).unwrap();
        let ends = Instant::now() + Duration::from_secs(60);
        for name in ["base.qcow2", "base.raw"] {
            fs::write(volumes.path(name), image(b"", None)).unwrap();
        }
        fs::write(volumes.path("other.raw"), b"a guest's").unwrap();
        for (to, name) in [
            ("base.qcow2", "link.qcow2"),
            ("base.qcow2", "link.raw"),
            ("base.raw", "link.raw"),
            ("base.raw", "latest"),
        ] {
            // By its bare name, and through a second link from elsewhere.
            let elsewhere = root.path().join("elsewhere");
            std::os::unix::fs::symlink(volumes.path(to), &elsewhere).unwrap();
            for through in [Path::new(to), &elsewhere] {
                link(through, name);
                let disks = BTreeMap::new();
                let seen = volumes.user(to, None, ends, &disks).await.unwrap();
                assert_eq!(seen.unwrap(), format!("{name} is a link to it"), "{to}");
                let disks = BTreeMap::from([(name.to_owned(), "db01".to_owned())]);
                let seen = volumes.user(to, None, ends, &disks).await.unwrap();
                assert_eq!(seen.unwrap(), format!("{name}, a disk of db01, is a link to it"), "{to}");
                fs::remove_file(volumes.path(name)).unwrap();
            }
            fs::remove_file(&elsewhere).unwrap();
        }
        // To another volume, and to nothing: what has no header needs nothing else.
        link(Path::new("other.raw"), "link.raw");
        link(Path::new("gone.raw"), "dangling.raw");
        for name in ["base.qcow2", "base.raw"] {
            assert_eq!(volumes.on_top_of(name), Ok(None), "{name}");
        }
        // Where it leads cannot be told: a circle.
        link(Path::new("circle.raw"), "circle.raw");
        let refused = volumes.on_top_of("base.raw");
        assert!(matches!(&refused, Err(Obstacle::Refuse(why)) if why.contains("circle.raw")), "{refused:?}");
    }

    #[test]
    fn an_inode_alone_is_no_identity() {
        let first = identity(7, Some(Duration::new(1, 2))).unwrap();
        assert_eq!(first, "inode 7 of 1.000000002");
        assert_ne!(identity(7, Some(Duration::new(1, 3))).unwrap(), first);
        assert!(identity(7, None).is_err());
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
