//! What others do to the job table of one machine.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::path::Path;
use std::process::Command;

/// Change the job table in this file behind the back of whoever has it open, by one statement or several.
///
/// # Panics
/// If that does not go through, or whoever writes to it at the moment takes longer than a minute.
pub fn alter(file: &Path, sql: &str) {
    let script = "import sqlite3, sys\n\
                  job_table = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)\n\
                  job_table.executescript(sys.argv[2])\n";
    let done = Command::new("python3").args(["-c", script]).arg(file).arg(sql).status().unwrap();
    assert!(done.success(), "{sql}");
}
