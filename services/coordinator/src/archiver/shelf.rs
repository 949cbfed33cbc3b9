//! The folder of the archive. A file appears in it whole and durable, or not at all, and is never replaced.
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use sexton_model::archive::{FILE_MAX_BYTES, NotArchivable};
use sexton_model::audit::Hash;
use sexton_protocol::archive::{open, sha256};
use sexton_protocol::{AuthError, BeaconVerifier};

/// What a file is called until it is whole. Whoever has the lock writes it anew; one that was left behind says nothing.
const ASIDE: &str = ".new";
const LOCK: &str = ".lock";

/// Why a file is not in the archive. The job table keeps the record.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShelfError {
    #[error("the archive: {}", .0.display())]
    Io(PathBuf, #[source] io::Error),
    #[error("the archive is locked by another process: {}", .0.display())]
    Locked(PathBuf),
    #[error("{} is there and is another document: look at both; if no stub names the file, move it away", .0.display())]
    Another(PathBuf),
    #[error("{}: {size} bytes: at most {FILE_MAX_BYTES} are archived", .path.display())]
    TooLarge { path: PathBuf, size: u64 },
    #[error("{} is no file of an archive", .0.display())]
    Form(PathBuf, #[source] serde_json::Error),
    #[error("{} is not signed by a coordinator", .0.display())]
    Unsigned(PathBuf, #[source] AuthError),
    #[error("{} is no whole record", .0.display())]
    Unsound(PathBuf, #[source] NotArchivable),
}

/// See the module. Dropping it gives up its lock.
#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    keys: BeaconVerifier,
    _lock: File,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ShelfError {
    let path = path.to_owned();
    move |error| ShelfError::Io(path, error)
}

fn sync(folder: &Path) -> Result<(), ShelfError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder))
}

impl Shelf {
    /// Open and lock a folder that exists; `keys` are those that its files may be signed with.
    pub(super) fn open(folder: &Path, keys: BeaconVerifier) -> Result<Self, ShelfError> {
        let path = folder.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(failed(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder: folder.to_owned(), keys, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(ShelfError::Locked(path)),
            Err(TryLockError::Error(error)) => Err(failed(&path)(error)),
        }
    }

    /// Keep these bytes under this name, unless the same document lies there already. The SHA-256 of the file, as it was
    /// read back from the disk after all of it was durable. Blocks for as long as the disk takes.
    pub(super) fn keep(&self, name: &str, bytes: &[u8]) -> Result<Hash, ShelfError> {
        let path = self.folder.join(name);
        let size = bytes.len() as u64;
        if size > FILE_MAX_BYTES {
            return Err(ShelfError::TooLarge { path, size });
        }
        let month = path.parent().unwrap_or(&self.folder);
        if !month.try_exists().map_err(failed(month))? {
            fs::create_dir(month).map_err(failed(month))?;
        }
        let aside = self.folder.join(ASIDE);
        write(&aside, bytes).map_err(failed(&aside))?;
        // A rename would replace what is there; a link does not.
        match fs::hard_link(&aside, &path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(ShelfError::Io(path, error));
            }
            Ok(()) | Err(_) => {}
        }
        fs::remove_file(&aside).map_err(failed(&aside))?;
        // Whoever died after it was linked may not have come to this; so it is done for what was found, too.
        File::open(&path).and_then(|file| file.sync_all()).map_err(failed(&path))?;
        sync(month)?;
        sync(&self.folder)?;
        self.check(&path, bytes)
    }

    /// Read a file back: it is whole, signed, and the same document as in `bytes`, whichever of the keys signed it.
    fn check(&self, path: &Path, bytes: &[u8]) -> Result<Hash, ShelfError> {
        let kept = read(path)?;
        let form = |error| ShelfError::Form(path.to_owned(), error);
        let found = open(&kept, &self.keys).map_err(form)?;
        let wanted = open(bytes, &self.keys).map_err(form)?;
        if found.document != wanted.document {
            return Err(ShelfError::Another(path.to_owned()));
        }
        found.signed.map_err(|error| ShelfError::Unsigned(path.to_owned(), error))?;
        found.sound.map_err(|error| ShelfError::Unsound(path.to_owned(), error))?;
        Ok(sha256(&kept))
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn read(path: &Path) -> Result<Vec<u8>, ShelfError> {
    let mut file = File::open(path).map_err(failed(path))?;
    let size = file.metadata().map_err(failed(path))?.len();
    if size > FILE_MAX_BYTES {
        return Err(ShelfError::TooLarge { path: path.to_owned(), size });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed(path))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_archiver_at_a_time_and_in_a_folder_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Shelf::open(folder.path(), BeaconVerifier::default());
        let first = open().unwrap();
        assert!(matches!(open(), Err(ShelfError::Locked(_))));
        drop(first);
        open().unwrap();
        let missing = folder.path().join("not-mounted");
        assert!(matches!(Shelf::open(&missing, BeaconVerifier::default()), Err(ShelfError::Io(..))));
        assert!(!missing.exists());
    }
}
