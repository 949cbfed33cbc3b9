//! How far a target is, for whoever waits, and what came of it: `scripts/fuzz` names a folder, and finds a file of each target there.
//! A process that ends without a word (no memory, no stack) leaves in it which inputs it was at.
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

/// See the module. Where nobody named a folder it does nothing.
#[derive(Debug)]
pub(super) struct Progress {
    /// The folder, and the name in it.
    place: Option<(PathBuf, &'static str)>,
    from: u64,
    inputs: u64,
    began: Instant,
    peak_bytes: usize,
}

impl Progress {
    /// Of a target that tries so many inputs from this number on.
    ///
    /// # Panics
    /// If it cannot be written down.
    pub(super) fn begin(name: &'static str, from: u64, inputs: u64) -> Self {
        let folder = std::env::var_os("SEXTON_FUZZ_PROGRESS").map(PathBuf::from);
        Self::below(folder, name, from, inputs)
    }

    fn below(folder: Option<PathBuf>, name: &'static str, from: u64, inputs: u64) -> Self {
        let place = folder.map(|folder| (folder, name));
        let mut progress = Self { place, from, inputs, began: Instant::now(), peak_bytes: 0 };
        progress.tell(0, 0, 0);
        progress
    }

    /// So many were tried, of which so many were taken; this is the most memory that the process has had since it was told last.
    ///
    /// # Panics
    /// If it cannot be written down.
    pub(super) fn tell(&mut self, done: u64, taken: u64, resident_bytes: usize) {
        self.peak_bytes = self.peak_bytes.max(resident_bytes);
        let Some((folder, name)) = &self.place else { return };
        let said = json!({
            "from": self.from, "inputs": self.inputs, "done": done, "taken": taken,
            "seconds": self.began.elapsed().as_secs_f64(), "peak_bytes": self.peak_bytes,
        });
        if let Err(error) = write(folder, name, &said.to_string()) {
            panic!("{}: {error}", folder.join(name).display());
        }
    }
}

/// Whoever reads it meanwhile finds this or the one before, and nothing in between.
fn write(folder: &Path, name: &str, said: &str) -> std::io::Result<()> {
    let new = folder.join(format!(".{name}"));
    std::fs::write(&new, said)?;
    std::fs::rename(new, folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_last_is_there_with_the_most_memory_so_far() {
        let folder = std::env::temp_dir().join(format!("sexton-fuzz-progress-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let said = || -> serde_json::Value {
            serde_json::from_slice(&std::fs::read(folder.join("words")).unwrap()).unwrap()
        };
        let mut progress = Progress::below(Some(folder.clone()), "words", 5, 100);
        assert_eq!((said()["done"].as_u64(), said()["from"].as_u64()), (Some(0), Some(5)));
        progress.tell(64, 3, 2000);
        progress.tell(100, 7, 1000);
        let last = said();
        let numbers = ["inputs", "done", "taken", "peak_bytes"].map(|name| last[name].as_u64());
        assert_eq!(numbers, [100, 100, 7, 2000].map(Some));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
