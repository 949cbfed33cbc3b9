//! Calling a program: bounded in time and in what it may say.
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::{Duration, timeout};

/// Largest answer, in bytes: the description of a volume with thousands of snapshots fits.
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

/// Run a program to its end, at most this long; then it is killed, and so it is when it has said too much.
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
    let talk = async { tokio::try_join!(all_of(answer), some_of(complaint), child.wait()) };
    match timeout(within, talk).await {
        Ok(Ok((answer, complaint, status))) => {
            let complaint = String::from_utf8_lossy(&complaint).trim().replace('\n', "; ");
            Ok(Said { ok: status.success(), answer, complaint })
        }
        Ok(Err(e)) => Err(format!("waiting for {name}: {e}")),
        Err(_) => Err(format!("{name} did not end within {} ms", within.as_millis())),
    }
}

/// Everything, if it is not too much. Says so at once: the program may be waiting to write more.
async fn all_of(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(ANSWER_MAX_BYTES + 1).read_to_end(&mut all).await?;
    }
    if all.len() as u64 > ANSWER_MAX_BYTES {
        return Err(std::io::Error::other(format!("it says more than {ANSWER_MAX_BYTES} bytes")));
    }
    Ok(all)
}

/// Read to the end, and keep the beginning.
async fn some_of(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut pipe) = pipe {
        (&mut pipe).take(COMPLAINT_MAX_BYTES).read_to_end(&mut kept).await?;
        tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, within: Duration) -> Result<Said, String> {
        run(Path::new("/bin/sh"), &["-c".to_owned(), script.to_owned()], within).await
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_given_up_at_a_bound() {
        let why = shell("exec yes", Duration::from_secs(60)).await.unwrap_err();
        assert!(why.contains("says more than 4194304 bytes"), "{why}");
    }

    #[tokio::test]
    async fn of_complaints_the_beginning_is_kept_and_one_without_an_end_takes_no_longer_than_it_may() {
        let long = "yes wrong | head -c 100000 >&2; exit 1";
        let said = shell(long, Duration::from_secs(60)).await.unwrap();
        assert!(!said.ok && said.complaint.starts_with("wrong; wrong"), "{said:?}");
        // Each end of a line becomes two characters.
        assert!(said.complaint.len() <= 2 * 2048, "{}", said.complaint.len());
        let why = shell("exec yes >&2", Duration::from_millis(200)).await.unwrap_err();
        assert!(why.contains("did not end within 200 ms"), "{why}");
    }
}
