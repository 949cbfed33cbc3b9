//! Which host this is, and the proof that its folders are really there.
//!
//! `ROOT/host.json`, `ROOT/vms/.place` and `ROOT/volumes/.place` say the same, `{"host": UUID}`. A mark stands
//! *inside* each folder, because each may be a disk of its own: an empty mount point can be listed, too, and
//! whatever it does not hold would be taken for gone.
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};
use sexton_consumer::driver::{Obstacle, Place};
use uuid::Uuid;

use super::definition::write_whole;

/// The mark of a folder.
const MARK: &str = ".place";
/// The folders whose emptiness must not be taken for absence.
const MARKED: [&str; 2] = ["vms", "volumes"];
/// Largest mark, in bytes; it holds one UUID.
const MARK_MAX_BYTES: u64 = 1024;

#[derive(Deserialize)]
struct Mark {
    host: Uuid,
}

/// Every file that says which host this is.
fn files(root: &Path) -> Vec<PathBuf> {
    let marks = MARKED.map(|folder| root.join(folder).join(MARK));
    std::iter::once(root.join("host.json")).chain(marks).collect()
}

/// Make the folders, if need be, and write into each which host this is.
pub(super) fn create(root: &Path, host: Uuid) -> std::io::Result<()> {
    for folder in MARKED.into_iter().chain(["locks"]) {
        fs::create_dir_all(root.join(folder))?;
    }
    let mark: Map<String, Value> = Map::from_iter([("host".to_owned(), Value::String(host.to_string()))]);
    files(root).iter().try_for_each(|file| write_whole(file, &mark))
}

/// Which place this is, read afresh from every folder.
pub(super) fn read(root: &Path) -> Result<Place, Obstacle> {
    let mut host = None;
    for file in files(root) {
        let said = read_mark(&file)?;
        let first = *host.get_or_insert(said);
        if first != said {
            return Err(Obstacle::Refuse(format!(
                "{} says host {said}, and {} says {first}: the folders are of different hosts",
                file.display(),
                root.join("host.json").display()
            )));
        }
    }
    let host = host.ok_or_else(|| Obstacle::Unclear("no mark says which host this is".to_owned()))?;
    Ok(Place(format!("qemu:{host}")))
}

fn read_mark(path: &Path) -> Result<Uuid, Obstacle> {
    let unclear = |e: &dyn std::fmt::Display| {
        Obstacle::Unclear(format!(
            "reading {}, without which nothing here counts as absent: {e}",
            path.display()
        ))
    };
    let mut text = Vec::new();
    let file = fs::File::open(path).map_err(|e| unclear(&e))?;
    file.take(MARK_MAX_BYTES).read_to_end(&mut text).map_err(|e| unclear(&e))?;
    let mark: Mark = serde_json::from_slice(&text).map_err(|e| unclear(&e))?;
    Ok(mark.host)
}

#[cfg(test)]
mod tests {
    use sexton_testkit::fuzz::{Form, Fuzz};

    use super::*;

    #[test]
    fn fuzz_marks() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(MARK);
        let host = Uuid::from_u128(1);
        Fuzz::new("qemu-marks", Form::Json).seed(format!("{{\"host\": \"{host}\"}}")).slow(2).run(|bytes| {
            fs::write(&file, bytes).unwrap();
            read_mark(&file).map(drop).map_err(|error| error.to_string())
        });
    }

    #[test]
    fn an_unmounted_folder_is_no_place() {
        for folder in MARKED {
            let root = tempfile::tempdir().unwrap();
            create(root.path(), Uuid::from_u128(1)).unwrap();
            read(root.path()).unwrap();
            // What is left of a folder whose disk is not mounted.
            fs::remove_dir_all(root.path().join(folder)).unwrap();
            fs::create_dir(root.path().join(folder)).unwrap();
            let unclear = read(root.path()).unwrap_err();
            assert!(matches!(&unclear, Obstacle::Unclear(why) if why.contains(folder)), "{unclear}");
        }
    }

    #[test]
    fn the_disk_of_another_host_is_refused() {
        for folder in MARKED {
            let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            create(root.path(), Uuid::from_u128(1)).unwrap();
            create(other.path(), Uuid::from_u128(2)).unwrap();
            fs::remove_dir_all(root.path().join(folder)).unwrap();
            fs::rename(other.path().join(folder), root.path().join(folder)).unwrap();
            let refused = read(root.path()).unwrap_err();
            assert!(
                matches!(&refused, Obstacle::Refuse(why) if why.contains("different hosts")),
                "{refused}"
            );
        }
    }
}
