//! Definitions: `ROOT/vms/NAME/domain.json`, written whole or not at all.
//!
//! `{"uuid", "memory_mib", "disks": [FILE], "images": [FILE], "autostart", "onboot", "ha", "extra": [ARGUMENT],
//! "protected", "fence"}`. What else is in it is kept, and counts as a setting.
//!
//! Its disks are the machine's own, and go with it. Its images are not: it reads them, and so may others; while it is defined
//! nobody deletes them, and with it they never go.
use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sexton_consumer::driver::Obstacle;
use sexton_model::Fence;
use uuid::Uuid;

use crate::machine::{Domain, Flags, VOLUMES_MAX};

/// Largest definition, in bytes.
const DEFINITION_MAX_BYTES: u64 = 64 * 1024;

/// The attributes that are read.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Definition {
    pub(super) uuid: Uuid,
    pub(super) memory_mib: u32,
    #[serde(default)]
    pub(super) disks: Vec<String>,
    /// Volumes that it only reads, and that are not its own.
    #[serde(default)]
    pub(super) images: Vec<String>,
    #[serde(flatten)]
    pub(super) flags: Flags,
    #[serde(default)]
    pub(super) extra: Vec<String>,
    #[serde(default)]
    protected: Option<String>,
    #[serde(default)]
    fence: (u32, i64),
}

/// A definition: everything in the file, and what is read of it.
type Whole = (Map<String, Value>, Definition);

/// The folder of definitions.
#[derive(Debug, Clone)]
pub(super) struct Definitions {
    folder: PathBuf,
}

fn unclear(what: &str, path: &Path, error: &dyn std::fmt::Display) -> Obstacle {
    Obstacle::Unclear(format!("{what} {}: {error}", path.display()))
}

impl Definition {
    /// As what the machine uses a volume, if it does.
    pub(super) fn uses(&self, volume: &str) -> Option<&'static str> {
        let among = |files: &[String]| files.iter().any(|file| file == volume);
        if among(&self.disks) {
            return Some("a disk of");
        }
        if among(&self.images) {
            return Some("an image of");
        }
        // However the file is given there, its name is in it: as it is, or as the emulator's options want commas. A name that
        // only ends in this one counts as well.
        let doubled = volume.replace(',', ",,");
        let named = |argument: &String| argument.contains(volume) || argument.contains(&doubled);
        self.extra.iter().any(named).then_some("named in an argument (\"extra\") of")
    }

    /// Refuses an order older than the last one that changed the machine.
    pub(super) fn refuse_older(&self, name: &str, fence: Fence) -> Result<(), Obstacle> {
        let (epoch, number) = self.fence;
        let held = Fence { epoch, number };
        if held.refuses(fence) {
            return Err(Obstacle::Refuse(format!(
                "{name} was changed under fence {held}, later than {fence}"
            )));
        }
        Ok(())
    }
}

impl Definitions {
    pub(super) fn at(root: &Path) -> Self {
        Self { folder: root.join("vms") }
    }

    /// The folder of one machine, with its definition, its monitor's socket and its process id.
    pub(super) fn folder_of(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The names of all machines that are defined, as far as they are text.
    pub(super) fn names(&self) -> Result<Vec<String>, Obstacle> {
        let all = self.defined()?;
        let mut names: Vec<String> = all.iter().filter_map(|name| name.to_str()).map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// The same, but refuses if the name of one is no text: what it has cannot be told, so not that it has something not.
    pub(super) fn all_names(&self) -> Result<Vec<String>, Obstacle> {
        let mut names = Vec::new();
        for name in self.defined()? {
            names.push(name.into_string().map_err(|name| {
                let folder = self.folder.join(name);
                Obstacle::Refuse(format!(
                    "it cannot be told what {} has: its name is no text",
                    folder.display()
                ))
            })?);
        }
        names.sort();
        Ok(names)
    }

    /// How many are defined, whatever they are called.
    pub(super) fn count(&self) -> Result<usize, Obstacle> {
        Ok(self.defined()?.len())
    }

    /// The folders that hold a definition.
    fn defined(&self) -> Result<Vec<OsString>, Obstacle> {
        let failed = |e: std::io::Error| unclear("listing", &self.folder, &e);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type().map_err(failed)?.is_file() {
                // The mark of the place.
                continue;
            }
            if entry.path().join("domain.json").try_exists().map_err(failed)? {
                names.push(entry.file_name());
            }
        }
        Ok(names)
    }

    /// One definition, if it is there; the caller knows that the folder is.
    pub(super) fn read(&self, name: &str) -> Result<Option<Whole>, Obstacle> {
        let path = self.folder_of(name).join("domain.json");
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(unclear("reading", &path, &e)),
        };
        let mut text = Vec::new();
        file.take(DEFINITION_MAX_BYTES + 1)
            .read_to_end(&mut text)
            .map_err(|e| unclear("reading", &path, &e))?;
        if text.len() as u64 > DEFINITION_MAX_BYTES {
            return Err(unclear("reading", &path, &"it is too large"));
        }
        parse(&text).map(Some).map_err(|why| unclear("reading", &path, &why))
    }

    /// The definition under this name, if it has this UUID and no later fence.
    pub(super) fn this(&self, name: &str, uuid: Uuid, fence: Fence) -> Result<Whole, Obstacle> {
        let (whole, definition) =
            self.read(name)?.ok_or_else(|| Obstacle::Refuse(format!("{name} is not defined")))?;
        if definition.uuid != uuid {
            return Err(Obstacle::Refuse(format!(
                "{name} has uuid {}, expected was {uuid}",
                definition.uuid
            )));
        }
        definition.refuse_older(name, fence)?;
        Ok((whole, definition))
    }

    /// Set the flags and the fence.
    pub(super) fn set_flags(
        &self,
        name: &str,
        uuid: Uuid,
        flags: Flags,
        fence: Fence,
    ) -> Result<(), Obstacle> {
        let (mut whole, _) = self.this(name, uuid, fence)?;
        for (name, on) in [("autostart", flags.autostart), ("onboot", flags.onboot), ("ha", flags.ha)] {
            whole.insert(name.into(), json!(on));
        }
        whole.insert("fence".into(), json!([fence.epoch, fence.number]));
        let path = self.folder_of(name).join("domain.json");
        write_whole(&path, &whole).map_err(|e| unclear("writing", &path, &e))
    }

    /// Remove the definition and what belongs to its runtime.
    pub(super) fn remove(&self, name: &str, uuid: Uuid, fence: Fence) -> Result<(), Obstacle> {
        if self.read(name)?.is_none() {
            return Ok(());
        }
        self.this(name, uuid, fence)?;
        let folder = self.folder_of(name);
        // The definition last: whoever is killed before that does all of it again. Killed after it, an empty folder stays,
        // which nobody takes for a machine.
        for file in ["qmp", "pid", "domain.json"] {
            let path = folder.join(file);
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(unclear("removing", &path, &e)),
            }
        }
        sync(&folder).map_err(|e| unclear("removing", &folder, &e))?;
        match fs::remove_dir(&folder) {
            Ok(()) => Ok(()),
            // Something that is not ours lies in it: it stays.
            Err(e) if matches!(e.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound) => Ok(()),
            Err(e) => Err(unclear("removing", &folder, &e)),
        }
    }
}

/// What a definition says.
fn parse(text: &[u8]) -> Result<Whole, String> {
    let whole: Map<String, Value> = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    let definition: Definition =
        serde_json::from_value(Value::Object(whole.clone())).map_err(|e| e.to_string())?;
    if definition.disks.len() + definition.images.len() > VOLUMES_MAX {
        return Err(format!("more than {VOLUMES_MAX} disks and images"));
    }
    if let Some(both) = definition.images.iter().find(|image| definition.disks.contains(image)) {
        return Err(format!("{both} is one of its disks, which go with it, and of its images, which do not"));
    }
    Ok((whole, definition))
}

/// A definition in the words of all hosts.
pub(super) fn domain(name: &str, mut whole: Map<String, Value>, definition: Definition) -> Domain {
    for attribute in ["uuid", "autostart", "onboot", "ha", "protected", "fence"] {
        whole.remove(attribute);
    }
    Domain {
        name: name.to_owned(),
        uuid: definition.uuid,
        flags: definition.flags,
        volumes: definition.disks,
        settings: Value::Object(whole),
        protected: definition.protected,
    }
}

/// Write a file whole or not at all, and durably.
pub(super) fn write_whole(path: &Path, object: &Map<String, Value>) -> std::io::Result<()> {
    let temporary = path.with_extension("json.new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec_pretty(object)?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), sync)
}

/// Make what was done to a folder's entries durable.
pub(super) fn sync(folder: &Path) -> std::io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use sexton_testkit::fuzz::{Form, Fuzz};

    use super::*;

    /// What is written of one that was read is that one, and what else is in it is a setting.
    #[test]
    fn fuzz_definitions() {
        let uuid = Uuid::from_u128(7);
        let seed = json!({
            "uuid": uuid, "memory_mib": 512, "disks": ["a.qcow2"], "images": ["b.raw"], "autostart": true, "onboot": false, "ha": true,
            "extra": ["-nodefaults"], "protected": "by the owner", "fence": [1, 77], "cpus": 0.5,
        });
        Fuzz::new("definitions", Form::Json).seed(seed.to_string()).run(|bytes| {
            let (whole, definition) = parse(bytes)?;
            let again = parse(&serde_json::to_vec_pretty(&whole).unwrap()).unwrap();
            assert_eq!((&again.0, again.1.uuid), (&whole, definition.uuid));
            let domain = domain("web01", whole, definition);
            assert!(domain.settings.get("uuid").is_none() && domain.settings.get("fence").is_none());
            Ok(())
        });
    }
}
