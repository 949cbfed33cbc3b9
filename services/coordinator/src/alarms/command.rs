//! The route `command`: a program that is given a notice as JSON on its standard input. Exit code 0 says that it was taken.
//!
//! No shell: the program and its arguments are what the configuration says. Nothing of this process's environment but the
//! search path. Whoever takes too long is killed; what it has started itself lives on.
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use sexton_model::alarm::Notice;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::route::{Route, RouteKind};

/// What is kept of what the program says on its standard error, in bytes; the rest is read and forgotten.
const SAID_BYTES: u64 = 300;

/// See the module.
pub struct Command {
    program: PathBuf,
    arguments: Vec<String>,
    timeout: Duration,
}

impl Command {
    /// A program with its arguments, and how long it may take.
    pub fn new(program: PathBuf, arguments: Vec<String>, timeout: Duration) -> Self {
        Self { program, arguments, timeout }
    }

    async fn run(&self, notice: &Notice) -> Result<(), String> {
        let program = self.program.display();
        let input = serde_json::to_vec(notice).map_err(|e| e.to_string())?;
        let mut child = tokio::process::Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("LC_ALL", "C.UTF-8")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| format!("starting {program}: {e}"))?;
        let (Some(mut stdin), Some(stderr)) = (child.stdin.take(), child.stderr.take()) else {
            return Err(format!("{program}: no pipes"));
        };
        let write = async {
            // One that does not read it to its end says by its exit code what it thinks of it.
            stdin.write_all(&input).await.ok();
            drop(stdin);
        };
        let ((), said, status) = tokio::join!(write, said(stderr), child.wait());
        let status = status.map_err(|e| format!("waiting for {program}: {e}"))?;
        match status.code() {
            Some(0) => Ok(()),
            Some(code) => Err(format!("{program} ended with {code}: {said}")),
            None => Err(format!("{program} was ended by a signal: {said}")),
        }
    }
}

/// The beginning of what it says; all of it is read, lest it wait for somebody who reads.
async fn said(pipe: impl AsyncRead + Unpin) -> String {
    let mut first = Vec::new();
    let mut pipe = pipe.take(SAID_BYTES);
    pipe.read_to_end(&mut first).await.ok();
    tokio::io::copy(&mut pipe.into_inner(), &mut tokio::io::sink()).await.ok();
    String::from_utf8_lossy(&first).trim().to_owned()
}

#[async_trait]
impl Route for Command {
    fn kind(&self) -> RouteKind {
        RouteKind::Command
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let late = |_| {
            format!(
                "{} took longer than {} ms, and was killed",
                self.program.display(),
                self.timeout.as_millis()
            )
        };
        tokio::time::timeout(self.timeout, self.run(notice)).await.map_err(late)?
    }
}

#[cfg(test)]
mod tests {
    use sexton_model::Timestamp;
    use sexton_model::alarm::{Phase, Standing, hold};

    use super::*;

    fn notice() -> Notice {
        let alarm = hold::job_table("here", "$(touch /tmp/x); `id`");
        let standing = Standing { id: 1, alarm, raised_at: Timestamp(0), ended_at: None, acknowledged: None };
        Notice::of_alarm("l", Phase::Raised, standing)
    }

    fn sh(script: &str, timeout_ms: u64) -> Command {
        let arguments = vec!["-c".to_owned(), script.to_owned()];
        Command::new("sh".into(), arguments, Duration::from_millis(timeout_ms))
    }

    #[tokio::test]
    async fn a_program_is_told_by_its_standard_input() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("told");
        let script = format!("cat > {}", file.display());
        assert_eq!(sh(&script, 30_000).deliver(&notice()).await, Ok(()));
        let told: Notice = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(told, notice());
    }

    #[tokio::test]
    async fn what_it_says_is_the_reason() {
        let error = sh("echo it is full >&2; exit 7", 30_000).deliver(&notice()).await.unwrap_err();
        assert_eq!(error, "sh ended with 7: it is full");
        let error = Command::new("/nonexistent".into(), Vec::new(), Duration::from_secs(9));
        let error = error.deliver(&notice()).await.unwrap_err();
        assert!(error.starts_with("starting /nonexistent: "), "{error}");
        // One that says much is read to its end, and little of it is kept.
        let error = sh("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1", 30_000);
        assert!(error.deliver(&notice()).await.unwrap_err().len() < 400);
    }

    #[tokio::test]
    async fn whoever_takes_too_long_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("echo $$ > {}; exec sleep 1000", pid.display());
        let error = sh(&script, 1000).deliver(&notice()).await.unwrap_err();
        assert!(error.contains("took longer than 1000 ms"), "{error}");
        let pid = std::fs::read_to_string(&pid).unwrap();
        let there = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            // What was killed and not yet waited for is there as a zombie.
            stat.contains("(sleep)") && !stat.contains(") Z ")
        };
        let begun = std::time::Instant::now();
        while there() {
            assert!(begun.elapsed() < Duration::from_secs(30), "it lives");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
