//! A directory sandbox: a subsystem instance whose objects are plain JSON files one can look at.
//!
//! For the demo, for tests, and for machines without the real servers. The layout is
//! `ROOT/SUBSYSTEM/INSTANCE/KIND/NAME.json`; `place.json` beside the kinds says which place this is, so that
//! absence can be told from a wrong or missing folder. Every object holds the fence of its last change, and refuses
//! an older one.
//!
//! *What fences cannot stop here*: it is asked right before the change, not in one with it, and goes with the object.
//! A consumer that falls asleep exactly between the two is stopped by nothing.
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sexton_model::{Fence, Instance};

use crate::driver::{Obstacle, Place};

/// One object: attribute → value. `fence` is reserved.
pub type Object = Map<String, Value>;

/// One instance of a subsystem, in a folder.
#[derive(Debug, Clone)]
pub struct Sandbox {
    folder: PathBuf,
}

fn unclear(what: &str, path: &Path, error: &dyn std::fmt::Display) -> Obstacle {
    Obstacle::Unclear(format!("{what} {}: {error}", path.display()))
}

impl Sandbox {
    /// Make the folder of `instance` under `root` a place, if it is none yet.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn create(root: &Path, instance: &Instance) -> std::io::Result<Self> {
        Self::create_called(root, instance, format!("sandbox:{instance}"))
    }

    /// The same, but a place that is new is called `name`. One that is there keeps the name it has, also if two
    /// make it at once.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn create_called(root: &Path, instance: &Instance, name: String) -> std::io::Result<Self> {
        let sandbox = Self::at(root, instance);
        fs::create_dir_all(&sandbox.folder)?;
        let place = sandbox.folder.join("place.json");
        if !place.try_exists()? {
            let object = Object::from_iter([("place".to_owned(), Value::String(name))]);
            let new = sandbox.folder.join(format!("place-{}", std::process::id()));
            write_whole(&new, &object)?;
            // A link replaces nothing, unlike a rename.
            let linked = fs::hard_link(&new, &place);
            fs::remove_file(&new)?;
            linked.or_else(|e| if e.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(e) })?;
        }
        Ok(sandbox)
    }

    /// The folder of `instance` under `root`, which may or may not be a place.
    pub fn at(root: &Path, instance: &Instance) -> Self {
        Self { folder: root.join(instance.subsystem.as_str()).join(instance.name.as_str()) }
    }

    /// The folder itself, for what is not JSON (disk images, process ids).
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Which place this is, read afresh: the proof that goes with every absence.
    ///
    /// # Errors
    /// [`Obstacle::Unclear`] if it cannot be read.
    pub fn place(&self) -> Result<Place, Obstacle> {
        let path = self.folder.join("place.json");
        let object = read_whole(&path)?
            .ok_or_else(|| Obstacle::Unclear(format!("{} is missing: not a place", path.display())))?;
        match object.get("place") {
            Some(Value::String(place)) => Ok(Place(place.clone())),
            Some(_) | None => Err(Obstacle::Unclear(format!("{}: no \"place\"", path.display()))),
        }
    }

    /// One object; `None` only if the place was readable and the object is not there.
    ///
    /// # Errors
    /// [`Obstacle::Unclear`] on anything else.
    pub fn read(&self, kind: &str, name: &str) -> Result<Option<Object>, Obstacle> {
        self.place()?;
        read_whole(&self.path(kind, name)?)
    }

    /// Names of all objects of a kind, ascending.
    ///
    /// # Errors
    /// [`Obstacle::Unclear`] if the place or the folder cannot be read.
    pub fn list(&self, kind: &str) -> Result<Vec<String>, Obstacle> {
        self.place()?;
        let folder = self.folder.join(kind);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(unclear("listing", &folder, &e)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| unclear("listing", &folder, &e))?;
            if let Some(name) = entry.file_name().to_str().and_then(|n| n.strip_suffix(".json")) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// How many objects of a kind there are, by their files alone: also those whose names are none.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn count(&self, kind: &str) -> Result<usize, Obstacle> {
        self.place()?;
        let folder = self.folder.join(kind);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(0),
            Err(e) => return Err(unclear("counting", &folder, &e)),
        };
        let mut count = 0;
        for entry in entries {
            let entry = entry.map_err(|e| unclear("counting", &folder, &e))?;
            count += usize::from(entry.path().extension().is_some_and(|extension| extension == "json"));
        }
        Ok(count)
    }

    /// Write an object whole or not at all.
    ///
    /// # Errors
    /// [`Obstacle::Refuse`] if the object holds a greater fence; [`Obstacle::Unclear`] if the file system
    /// refuses.
    pub fn write(&self, kind: &str, name: &str, mut object: Object, fence: Fence) -> Result<(), Obstacle> {
        self.place()?;
        let path = self.path(kind, name)?;
        refuse_older(&path, fence)?;
        object.insert("fence".into(), serde_json::json!([fence.epoch, fence.number]));
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| unclear("making", folder, &e))?;
        }
        write_whole(&path, &object).map_err(|e| unclear("writing", &path, &e))
    }

    /// Remove an object; already gone is fine.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn remove(&self, kind: &str, name: &str, fence: Fence) -> Result<(), Obstacle> {
        self.place()?;
        let path = self.path(kind, name)?;
        refuse_older(&path, fence)?;
        match fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(unclear("removing", &path, &e)),
        }
    }

    fn path(&self, kind: &str, name: &str) -> Result<PathBuf, Obstacle> {
        if name.is_empty() || name.starts_with('.') || name.contains('/') || name.contains('\0') {
            return Err(Obstacle::Refuse(format!("{name:?} cannot be the name of a file")));
        }
        Ok(self.folder.join(kind).join(format!("{name}.json")))
    }
}

fn refuse_older(path: &Path, fence: Fence) -> Result<(), Obstacle> {
    let held = read_whole(path)?.and_then(|o| o.get("fence").cloned());
    let held: Option<(u32, i64)> = held.and_then(|v| serde_json::from_value(v).ok());
    match held.map(|(epoch, number)| Fence { epoch, number }) {
        Some(held) if held.refuses(fence) => Err(Obstacle::Refuse(format!(
            "{} was changed under fence {held}, later than {fence}",
            path.display()
        ))),
        Some(_) | None => Ok(()),
    }
}

fn read_whole(path: &Path) -> Result<Option<Object>, Obstacle> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unclear("reading", path, &e)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|e| unclear("reading", path, &e))
}

fn write_whole(path: &Path, object: &Object) -> std::io::Result<()> {
    let temporary = path.with_extension("json.new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec_pretty(object)?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> Instance {
        "dns.main".parse().unwrap()
    }

    #[test]
    fn absence_needs_a_place() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(
            Sandbox::at(root.path(), &instance()).read("vms", "web01"),
            Err(Obstacle::Unclear(_))
        ));
        let sandbox = Sandbox::create(root.path(), &instance()).unwrap();
        assert_eq!(sandbox.read("vms", "web01"), Ok(None));
        fs::create_dir_all(root.path().join("dns/main/vms")).unwrap();
        fs::write(root.path().join("dns/main/vms/web01.json"), "{ half").unwrap();
        assert!(matches!(sandbox.read("vms", "web01"), Err(Obstacle::Unclear(_))));
    }

    #[test]
    fn an_older_fence_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::create(root.path(), &instance()).unwrap();
        let later = Fence { epoch: 1, number: 9 };
        let earlier = Fence { epoch: 1, number: 8 };
        sandbox.write("vms", "web01", Object::new(), later).unwrap();
        assert!(matches!(sandbox.write("vms", "web01", Object::new(), earlier), Err(Obstacle::Refuse(_))));
        assert!(matches!(sandbox.remove("vms", "web01", earlier), Err(Obstacle::Refuse(_))));
        sandbox.remove("vms", "web01", later).unwrap();
        sandbox.remove("vms", "web01", later).unwrap();
    }
}
