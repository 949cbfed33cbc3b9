//! Calling a program: bounded in time and in what it may say.
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::{Duration, timeout};

/// Most of the answer that is read, in bytes: the description of a volume with thousands of snapshots fits.
const ANSWER_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Most of the complaint that is read, in bytes.
const COMPLAINT_MAX_BYTES: u64 = 2048;

/// What a program said.
#[derive(Debug)]
pub(super) struct Said {
    /// Whether it ended well.
    pub(super) ok: bool,
    /// What it answered.
    pub(super) answer: Vec<u8>,
    /// What it complained about, in one line.
    pub(super) complaint: String,
}

/// Run a program to its end, at most this long; then it is killed.
pub(super) async fn run(program: &Path, arguments: &[String], within: Duration) -> Result<Said, String> {
    let name = program.display();
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir("/")
        // Complaints are compared, so they must be in one language.
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("starting {name}: {e}"))?;
    let (answer, complaint) = (child.stdout.take(), child.stderr.take());
    let talk = async {
        tokio::try_join!(
            some_of(answer, ANSWER_MAX_BYTES),
            some_of(complaint, COMPLAINT_MAX_BYTES),
            child.wait()
        )
    };
    match timeout(within, talk).await {
        Ok(Ok((answer, complaint, status))) => {
            let complaint = String::from_utf8_lossy(&complaint).trim().replace('\n', "; ");
            Ok(Said { ok: status.success(), answer, complaint })
        }
        Ok(Err(e)) => Err(format!("waiting for {name}: {e}")),
        Err(_) => Err(format!("{name} did not end within {} ms", within.as_millis())),
    }
}

/// Read to the end, and keep the beginning.
async fn some_of(pipe: Option<impl AsyncRead + Unpin>, most: u64) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut pipe) = pipe {
        (&mut pipe).take(most).read_to_end(&mut kept).await?;
        tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}
