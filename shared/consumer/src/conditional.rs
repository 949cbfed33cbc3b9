//! Removing a small file only if it is the right one.
//!
//! Between a look and an `unlink` somebody may have put another file there. So the file is first moved aside
//! (what is moved is what is looked at), compared, and then removed, or put back without overwriting anything.
//! A file left aside by a crash still counts as there.
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::driver::Obstacle;

/// Largest file that is read, in bytes: these are a few lines each.
pub const FILE_MAX_BYTES: u64 = 48 << 10;

fn unclear(what: &str, path: &Path, error: &dyn std::fmt::Display) -> Obstacle {
    Obstacle::Unclear(format!("{what} {}: {error}", path.display()))
}

/// The whole file; `None` only if its folder is there and it is not.
///
/// # Errors
/// [`Obstacle::Unclear`] on anything else.
pub fn read(path: &Path) -> Result<Option<String>, Obstacle> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            // The same error says that the folder is missing, which shows nothing about the file.
            let folder = path.parent().unwrap_or(Path::new("/"));
            fs::read_dir(folder).map_err(|e| unclear("listing", folder, &e))?;
            return Ok(None);
        }
        Err(e) => return Err(unclear("opening", path, &e)),
    };
    let mut text = String::new();
    file.take(FILE_MAX_BYTES + 1).read_to_string(&mut text).map_err(|e| unclear("reading", path, &e))?;
    if text.len() as u64 > FILE_MAX_BYTES {
        return Err(unclear("reading", path, &format!("more than {FILE_MAX_BYTES} bytes")));
    }
    Ok(Some(text))
}

fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.removing"))
}

/// The file, or what a crash left of its removal.
///
/// # Errors
/// As [`read`].
pub fn read_either(path: &Path) -> Result<Option<String>, Obstacle> {
    match read(path)? {
        Some(text) => Ok(Some(text)),
        None => read(&aside(path)),
    }
}

/// Remove `path` if `compare` says that its text is the right one; already gone is fine.
///
/// # Errors
/// [`Obstacle::Refuse`] with what `compare` says, the file being where it was; [`Obstacle::Unclear`] if the
/// file system refuses.
pub fn remove_if(path: &Path, compare: impl Fn(&str) -> Result<(), String>) -> Result<(), Obstacle> {
    let aside = aside(path);
    // What an earlier attempt moved aside was, or was not, the right one: settle that first.
    settle(path, &aside, &compare)?;
    match fs::rename(path, &aside) {
        Ok(()) => settle(path, &aside, &compare)?,
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(unclear("moving aside", path, &e)),
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::File::open(folder).and_then(|f| f.sync_all()).map_err(|e| unclear("syncing", folder, &e))
}

fn settle(path: &Path, aside: &Path, compare: &impl Fn(&str) -> Result<(), String>) -> Result<(), Obstacle> {
    let Some(text) = read(aside)? else {
        return Ok(());
    };
    if let Err(why) = compare(&text) {
        // A link never overwrites, unlike a rename.
        return match fs::hard_link(aside, path).and_then(|()| fs::remove_file(aside)) {
            Ok(()) => Err(Obstacle::Refuse(why)),
            Err(e) => Err(Obstacle::Refuse(format!("{why}; it is left as {}: {e}", aside.display()))),
        };
    }
    match fs::remove_file(aside) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(unclear("removing", aside, &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(text: &str) -> Result<(), String> {
        if text == "right" { Ok(()) } else { Err(format!("it is {text}")) }
    }

    #[test]
    fn only_the_right_file_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web01.json");
        fs::write(&path, "wrong").unwrap();
        assert_eq!(remove_if(&path, right), Err(Obstacle::Refuse("it is wrong".into())));
        assert_eq!(read(&path), Ok(Some("wrong".into())));
        fs::write(&path, "right").unwrap();
        assert_eq!(remove_if(&path, right), Ok(()));
        assert_eq!(remove_if(&path, right), Ok(()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_crash_left_aside_still_counts_and_is_settled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web01.json");
        fs::write(aside(&path), "right").unwrap();
        assert_eq!(read_either(&path), Ok(Some("right".into())));
        assert_eq!(remove_if(&path, right), Ok(()));
        assert_eq!(read_either(&path), Ok(None));
    }

    #[test]
    fn a_missing_folder_is_no_absence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("unmounted/web01.json");
        assert!(matches!(read(&path), Err(Obstacle::Unclear(_))));
        assert!(matches!(read_either(&path), Err(Obstacle::Unclear(_))));
    }

    #[test]
    fn putting_back_overwrites_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web01.json");
        fs::write(aside(&path), "wrong").unwrap();
        fs::write(&path, "newer").unwrap();
        assert!(matches!(remove_if(&path, right), Err(Obstacle::Refuse(_))));
        assert_eq!(read(&path), Ok(Some("newer".into())));
        assert_eq!(read(&aside(&path)), Ok(Some("wrong".into())));
    }

    #[test]
    fn a_file_that_is_too_long_or_no_text_is_unclear() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web01.json");
        fs::write(&path, vec![b'x'; 100_000]).unwrap();
        assert!(matches!(read(&path), Err(Obstacle::Unclear(_))));
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(read(&path), Err(Obstacle::Unclear(_))));
    }
}
