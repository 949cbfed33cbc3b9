//! Runs the program, and tells by its words why it failed.
//!
//! Repository and password file are given in the environment, never as arguments, which everybody may read.
//! Output is bounded. Whoever drops the future stops the program: first asked (so that it removes its lock),
//! then killed.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sexton_consumer::driver::{Obstacle, Progress};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// Largest listing, in bytes: some hundred thousand snapshots of 500 bytes each.
const STDOUT_MAX_BYTES: usize = 64 << 20;
/// What is kept of complaints, in bytes: the first ones say why.
const STDERR_KEPT_BYTES: usize = 8 << 10;
/// How often a long run says that it goes on, in seconds. Extensions are asked for less often than that.
const TICK_S: u64 = 1;
/// How long a stopped program may take to remove its lock, in seconds; the lease's slack covers it.
const STOP_S: u64 = 5;

/// How to call restic.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) program: PathBuf,
    pub(super) repository: SecretString,
    pub(super) password_file: PathBuf,
    pub(super) environment: BTreeMap<String, SecretString>,
    pub(super) cache_dir: Option<PathBuf>,
}

/// What the program is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It changes nothing, however it ends.
    Look,
    /// It may have changed something, if it got as far as opening the repository.
    Change,
}

/// What a run left behind.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) success: bool,
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// One call.
pub(super) struct Call<'a> {
    /// What is being done to which resource, for errors.
    pub(super) what: String,
    pub(super) arguments: Vec<String>,
    /// What the program reads, if anything.
    pub(super) stdin: Option<&'static str>,
    /// Longest time it may take.
    pub(super) limit: Duration,
    /// Told every second that the program still runs, with what the program itself says of its progress.
    pub(super) progress: Option<&'a Progress>,
}

impl Program {
    /// Run to the end.
    ///
    /// # Errors
    /// If the program cannot be run, takes too long or says too much. That it failed is no error here.
    pub(super) async fn run(&self, call: &Call<'_>) -> Result<Output, Obstacle> {
        self.run_for(Purpose::Change, call).await
    }

    async fn run_for(&self, purpose: Purpose, call: &Call<'_>) -> Result<Output, Obstacle> {
        let unclear = |why: String| Obstacle::Unclear(format!("{}: {why}", call.what));
        let child = self
            .command(call)
            .spawn()
            .map_err(|e| unclear(format!("starting {}: {e}", self.program.display())))?;
        let mut running = Running { child: Some(child) };
        let output = tokio::time::timeout(call.limit, running.follow(call, self.stderr_read_bytes()))
            .await
            .map_err(|_| match (purpose, format!("no end after {} ms", call.limit.as_millis())) {
                // Asked by the program again and again, the repository did not answer.
                (Purpose::Look, why) => Obstacle::Busy(format!("{}: {why}", call.what)),
                (Purpose::Change, why) => unclear(why),
            })?
            .map_err(|e| unclear(e.to_string()))?;
        Ok(Output { stderr: self.kept(output.stderr), ..output })
    }

    /// Run what only looks to the end, and accept nothing but success.
    ///
    /// # Errors
    /// As [`Self::run`], but [`Obstacle::Busy`] if it takes too long; or what the program's complaint means.
    pub(super) async fn look(&self, call: &Call<'_>) -> Result<String, Obstacle> {
        let output = self.run_for(Purpose::Look, call).await?;
        if output.success { Ok(output.stdout) } else { Err(complaint(&call.what, Purpose::Look, &output)) }
    }

    fn command(&self, call: &Call<'_>) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .envs(
                std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "HOME" || name == "TMPDIR"),
            )
            .envs(self.environment.iter().map(|(name, value)| (name, value.expose_secret())))
            .env("LC_ALL", "C")
            .env("RESTIC_REPOSITORY", self.repository.expose_secret())
            .env("RESTIC_PASSWORD_FILE", &self.password_file)
            .env("RESTIC_PROGRESS_FPS", "1")
            .args(call.arguments.first())
            .stdin(if call.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        match &self.cache_dir {
            Some(folder) => command.env("RESTIC_CACHE_DIR", folder),
            None => command.arg("--no-cache"),
        };
        command.args(call.arguments.iter().skip(1));
        command
    }

    /// What must not be told on.
    fn secrets(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.repository)
            .chain(self.environment.values())
            .map(|secret| secret.expose_secret())
            // Something as short as a region's name is no secret, and replacing it would garble the text.
            .filter(|secret| secret.len() > 3)
    }

    fn redact(&self, mut text: String) -> String {
        let mut secrets: Vec<&str> = self.secrets().collect();
        // The longest first: of one that another is a part of, the rest would stay.
        secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
        for secret in secrets {
            text = text.replace(secret, "…");
        }
        text
    }

    /// How much of complaints is read, in bytes: a secret that begins in what is kept has to be known whole.
    fn stderr_read_bytes(&self) -> usize {
        STDERR_KEPT_BYTES + self.cut_bytes()
    }

    /// How long, in bytes, the beginning of a secret may be that stands where reading ended: that end may be within a
    /// character, too, which is shown as another one then.
    fn cut_bytes(&self) -> usize {
        self.secrets().map(str::len).max().unwrap_or(0) + char::REPLACEMENT_CHARACTER.len_utf8()
    }

    /// What is kept of a complaint of which so much was read as may be. Cut before it is redacted, it could end with
    /// the beginning of a secret; and redacted it is shorter, so that where reading ended may be in what is kept.
    fn kept(&self, said: String) -> String {
        let read_to_the_end = said.len() < self.stderr_read_bytes();
        let mut text = self.redact(said);
        let certain = if read_to_the_end { text.len() } else { text.len().saturating_sub(self.cut_bytes()) };
        text.truncate(text.floor_char_boundary(certain.min(STDERR_KEPT_BYTES)));
        text
    }
}

/// A program that is asked to stop when this is dropped.
struct Running {
    child: Option<Child>,
}

impl Running {
    /// Until it ends. Of its complaints so many bytes are read, the first ones, and the rest is passed over.
    async fn follow(&mut self, call: &Call<'_>, stderr_read_bytes: usize) -> std::io::Result<Output> {
        let Some(child) = self.child.as_mut() else {
            return Err(std::io::Error::other("already ended"));
        };
        if let (Some(mut stdin), Some(text)) = (child.stdin.take(), call.stdin) {
            stdin.write_all(text.as_bytes()).await?;
        }
        let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(std::io::Error::other("no pipes"));
        };
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let (mut out_chunk, mut err_chunk) = (vec![0; 16 << 10], vec![0; 4 << 10]);
        let (mut out_open, mut err_open) = (true, true);
        let mut judged = 0;
        let mut tick = tokio::time::interval(Duration::from_secs(TICK_S));
        let mut at = (0, 100);
        while out_open || err_open {
            tokio::select! {
                read = out.read(&mut out_chunk), if out_open => match read? {
                    0 => out_open = false,
                    count => {
                        stdout.extend_from_slice(&out_chunk[..count]);
                        if call.progress.is_some() && out_chunk[..count].contains(&b'\n') {
                            at = forget_status_lines(&mut stdout, &mut judged).unwrap_or(at);
                        }
                        if stdout.len() > STDOUT_MAX_BYTES {
                            return Err(std::io::Error::other(format!("more than {STDOUT_MAX_BYTES} bytes")));
                        }
                    }
                },
                read = err.read(&mut err_chunk), if err_open => match read? {
                    0 => err_open = false,
                    count => {
                        let room = stderr_read_bytes.saturating_sub(stderr.len()).min(count);
                        stderr.extend_from_slice(&err_chunk[..room]);
                    }
                },
                _ = tick.tick() => if let Some(progress) = call.progress {
                    progress.report(at.0, at.1);
                },
            }
        }
        let status = child.wait().await?;
        self.child = None;
        Ok(Output {
            success: status.success(),
            code: status.code(),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        // Killed at once, it would leave its lock in the repository. Without a runtime, or without the program
        // `kill`, there is only that: the child is killed when it is dropped.
        let asked = child.id().and_then(|id| {
            std::process::Command::new("kill")
                .arg("-INT")
                .arg(id.to_string())
                .stdin(Stdio::null())
                .spawn()
                .ok()
        });
        if let (Some(mut kill), Ok(runtime)) = (asked, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                let _ = tokio::time::timeout(Duration::from_secs(STOP_S), child.wait()).await;
                drop(child);
                // It has ended long since; this only reaps it.
                let _ = kill.try_wait();
            });
        }
    }
}

/// Drop the complete status lines of `--json` behind the first `judged` bytes, which were looked at before, and say how far
/// the last of them is, in bytes. Each line is judged once, however many there are.
fn forget_status_lines(stdout: &mut Vec<u8>, judged: &mut usize) -> Option<(u64, u64)> {
    let new = stdout.split_off((*judged).min(stdout.len()));
    let end = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let (lines, rest) = new.split_at(end);
    let mut last = None;
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        match serde_json::from_slice::<serde_json::Value>(line) {
            Ok(status) if status["message_type"] == "status" => {
                let total = status["total_bytes"].as_u64().unwrap_or(0);
                last = Some((status["bytes_done"].as_u64().unwrap_or(0), total));
            }
            Ok(_) | Err(_) => stdout.extend_from_slice(line),
        }
    }
    *judged = stdout.len();
    stdout.extend_from_slice(rest);
    last
}

/// What the program says when it could not open the repository: it did nothing.
const NOT_OPENED: [&str; 3] =
    ["unable to open config file", "unable to open repository", "repository does not exist"];

/// What the program says when it got no lock, whatever it was that kept it from one. It did nothing then, either.
const NO_LOCK: &str = "unable to create lock";

/// What it repeats of a store that is away, or of the way there: of the system, of name servers, of a gateway.
const AWAY: [&str; 16] = [
    "connection refused",
    "connection reset",
    "connection timed out",
    "broken pipe",
    "no route to host",
    "network is unreachable",
    "host is down",
    "i/o timeout",
    "handshake timeout",
    "deadline exceeded",
    "server misbehaving",
    "temporary failure in name resolution",
    "too many requests",
    "bad gateway",
    "service unavailable",
    "gateway timeout",
];

/// What it repeats of a store that is there, and lets it do nothing: no outage, however it came out.
const NOT_ALLOWED: [&str; 10] = [
    "no space left",
    "disk quota exceeded",
    "read-only file system",
    "permission denied",
    "access denied",
    "accessdenied",
    "unauthorized",
    "forbidden",
    "invalidaccesskeyid",
    "signaturedoesnotmatch",
];

/// What a failure means. All of them are exit 1 in older versions: only the words differ; newer ones also have
/// the codes 10 (no repository), 11 (locked) and 12 (wrong password).
pub(super) fn complaint(what: &str, purpose: Purpose, output: &Output) -> Obstacle {
    let text = output.stderr.to_lowercase();
    let said = output.stderr.trim();
    if is_locked(output) {
        return Obstacle::Busy(format!("{what}: the repository is locked: {said}"));
    }
    if output.code == Some(12) || text.contains("wrong password") || text.contains("not a password") {
        return Obstacle::Refuse(format!("{what}: the password does not open the repository: {said}"));
    }
    let code = output.code.map_or_else(|| "a signal".to_owned(), |code| format!("code {code}"));
    let says = |list: &[&str]| list.iter().any(|words| text.contains(*words));
    // No repository is no absence of what was in it: a disk may not be mounted.
    let not_opened = output.code == Some(10) || says(&NOT_OPENED);
    let did_nothing = purpose == Purpose::Look || text.contains(NO_LOCK);
    let away = not_opened || (did_nothing && says(&AWAY));
    if away && !says(&NOT_ALLOWED) {
        return Obstacle::Busy(format!("{what}: the repository is away: ended with {code}: {said}"));
    }
    Obstacle::Unclear(format!("{what}: ended with {code}: {said}"))
}

/// Whether somebody else's lock stood in the way. That it got none says nothing by itself: the store may be full, or
/// not let it.
pub(super) fn is_locked(output: &Output) -> bool {
    output.code == Some(11) || output.stderr.to_lowercase().contains("already locked")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sexton_testkit::fuzz::{Form, Fuzz};

    fn failed(code: i32, stderr: &str) -> Output {
        Output { success: false, code: Some(code), stdout: String::new(), stderr: stderr.into() }
    }

    #[test]
    fn failures_are_told_apart_by_their_words() {
        for purpose in [Purpose::Look, Purpose::Change] {
            let means = |output: &Output| complaint("x", purpose, output);
            let locked =
                failed(1, "unable to create lock in backend: repository is already locked by PID 7 on h");
            assert!(matches!(means(&locked), Obstacle::Busy(_)));
            assert!(matches!(means(&failed(11, "")), Obstacle::Busy(_)));
            let password = failed(1, "Fatal: wrong password or no key found");
            assert!(matches!(means(&password), Obstacle::Refuse(_)));
            assert!(matches!(means(&failed(12, "")), Obstacle::Refuse(_)));
            assert!(matches!(means(&failed(1, "Fatal: the tree is damaged")), Obstacle::Unclear(_)));
        }
    }

    /// The program says that it got no lock before every reason why.
    #[test]
    fn a_lock_of_others_is_told_from_a_store_that_takes_none() {
        let no_lock = |cause: &str| failed(1, &format!("Fatal: unable to create lock in backend: {cause}"));
        for purpose in [Purpose::Look, Purpose::Change] {
            for cause in [
                "open /r/locks/1f: permission denied",
                "write /r/locks/1f-tmp-7: no space left on device",
                "open /r/locks/1f: read-only file system",
                "client.PutObject: Access Denied.",
                "invalid lock file: invalid data returned",
            ] {
                let (output, refused) = (no_lock(cause), complaint("x", purpose, &no_lock(cause)));
                assert!(!is_locked(&output), "{cause}");
                assert!(matches!(refused, Obstacle::Unclear(_)), "{purpose:?}: {refused:?}");
            }
            let away =
                no_lock("Post \"http://h/locks/1f\": dial tcp 192.0.2.1:8000: connect: connection refused");
            assert!(!is_locked(&away));
            let away = complaint("x", purpose, &away);
            assert!(matches!(&away, Obstacle::Busy(why) if why.contains("away")), "{purpose:?}: {away:?}");
            let others = no_lock("repository is already locked exclusively by PID 7 on h by root");
            assert!(is_locked(&others) && is_locked(&failed(11, "")));
            let others = complaint("x", purpose, &others);
            assert!(matches!(&others, Obstacle::Busy(why) if why.contains("is locked")), "{others:?}");
        }
    }

    /// What did not come as far as the repository has changed nothing. An outage in the middle may have.
    #[test]
    fn a_repository_that_is_away_is_told_from_a_change_that_broke_off() {
        let dial = "dial tcp 192.0.2.1:8000: connect: connection refused";
        let not_opened = [
            failed(1, "Fatal: unable to open config file: stat /r/config: no such file or directory"),
            failed(1, &format!("Fatal: unable to open config file: Head \"http://h/config\": {dial}")),
            failed(1, "Fatal: unable to open repository at sftp:h:/r: unable to start the sftp session"),
            failed(10, "Fatal: repository does not exist: unable to open config file: stat /r/config"),
            failed(10, ""),
        ];
        for output in &not_opened {
            for purpose in [Purpose::Look, Purpose::Change] {
                let means = complaint("x", purpose, output);
                assert!(matches!(means, Obstacle::Busy(_)), "{purpose:?}: {means}");
            }
        }
        for said in [dial, "Load(<data/7>): 503 Service Unavailable", "read tcp 192.0.2.1:8000: i/o timeout"]
        {
            let output = failed(1, said);
            assert!(matches!(complaint("x", Purpose::Look, &output), Obstacle::Busy(_)), "{said}");
            assert!(matches!(complaint("x", Purpose::Change, &output), Obstacle::Unclear(_)), "{said}");
        }
        // The store is there, and its key is wrong: a person has to look before a day is over.
        for said in [
            "Fatal: unable to open config file: Stat: Access Denied.",
            "unexpected HTTP response (401): 401 Unauthorized",
        ] {
            let means = complaint("x", Purpose::Look, &failed(1, said));
            assert!(matches!(means, Obstacle::Unclear(_)), "{means}");
        }
    }

    /// Another program, in the place of restic.
    fn instead(program: &str) -> Program {
        Program {
            program: program.into(),
            repository: "/r".to_owned().into(),
            password_file: "/p".into(),
            environment: BTreeMap::new(),
            cache_dir: Some("/c".into()),
        }
    }

    #[tokio::test]
    async fn what_says_more_than_the_bound_is_not_read_on() {
        let program = instead("head");
        let arguments = ["-c", "200M", "/dev/zero"].map(str::to_owned).to_vec();
        let call = Call {
            what: "x".to_owned(),
            arguments,
            stdin: None,
            limit: Duration::from_secs(120),
            progress: None,
        };
        for asked in [program.look(&call).await.map(drop), program.run(&call).await.map(drop)] {
            let bound = |why: &String| why.contains("more than 67108864 bytes");
            assert!(matches!(&asked, Err(Obstacle::Unclear(why)) if bound(why)), "{asked:?}");
        }
    }

    /// Wherever the bound is in a secret, and however much shorter the text becomes by what is left out.
    #[tokio::test]
    async fn where_a_complaint_is_cut_no_secret_begins() {
        let secret = "rest:http://u:p4ss@h/r/";
        let program = Program { repository: secret.to_owned().into(), ..instead("sh") };
        for before in [0, 4000, 8180, 8191, 8192, 9000] {
            let script = format!(
                "(head -c {before} /dev/zero | tr '\\0' x; yes $RESTIC_REPOSITORY | head -c 20000) >&2; exit 1"
            );
            let call = Call {
                what: "x".to_owned(),
                arguments: vec!["-c".to_owned(), script],
                stdin: None,
                limit: Duration::from_secs(120),
                progress: None,
            };
            let said = program.run(&call).await.unwrap().stderr;
            assert!(!said.contains('r'), "{before} bytes, then: {}", said.trim_start_matches('x'));
            assert!(said.len() > 1000 && said.len() <= STDERR_KEPT_BYTES, "{before}: {} bytes", said.len());
        }
        let short = format!("Fatal: unable to open {secret}\n");
        assert_eq!(program.kept(short), "Fatal: unable to open …\n");
        // Reading ends within a character of a secret.
        let program = Program { repository: "pässwörd".to_owned().into(), ..instead("sh") };
        for before in 8180..8210 {
            let mut said = "x".repeat(before).into_bytes();
            said.extend_from_slice("pässwörd".repeat(3).as_bytes());
            said.truncate(program.stderr_read_bytes());
            let said = program.kept(String::from_utf8_lossy(&said).into_owned());
            assert!(
                !said.contains('p') && said.len() <= STDERR_KEPT_BYTES,
                "{before}: {}",
                said.trim_start_matches('x')
            );
        }
    }

    #[test]
    fn nothing_is_left_of_a_secret_that_another_is_a_part_of() {
        let environment = BTreeMap::from([("KEY".to_owned(), "u:p4ss@h".to_owned().into())]);
        let program = Program { repository: "p4ss".to_owned().into(), environment, ..instead("restic") };
        assert_eq!(program.redact("as u:p4ss@h, by p4ss\n".to_owned()), "as …, by …\n");
    }

    #[tokio::test]
    async fn a_look_without_an_end_has_changed_nothing() {
        let program = instead("sleep");
        let (what, arguments) = ("x".to_owned(), vec!["600".to_owned()]);
        let limit = Duration::from_millis(50);
        let call = Call { what, arguments, stdin: None, limit, progress: None };
        let looked = program.look(&call).await;
        assert!(matches!(looked, Err(Obstacle::Busy(_))), "{looked:?}");
        let changed = program.run(&call).await;
        assert!(matches!(changed, Err(Obstacle::Unclear(_))), "{changed:?}");
    }

    fn is_status(line: &[u8]) -> bool {
        let said = serde_json::from_slice::<serde_json::Value>(line);
        line.ends_with(b"\n") && said.is_ok_and(|said| said["message_type"] == "status")
    }

    /// In whatever pieces it comes: what is no status line stays, in its order, and how far it is does not depend on them.
    #[test]
    fn fuzz_status_lines() {
        let lines = r#"{"message_type":"status","percent_done":0.5,"total_bytes":9,"bytes_done":3}
{"message_type":"verbose_status","action":"new"}
{"message_type":"status","total_bytes":9,"bytes_done":9}
{"message_type":"summary","snapshot_id":"1f"}
"#;
        Fuzz::new("restic-status", Form::JsonLines).seed(lines).slow(4).run(|bytes| {
            let lines = bytes.split_inclusive(|byte| *byte == b'\n');
            let kept: Vec<u8> = lines.filter(|line| !is_status(line)).flatten().copied().collect();
            let mut told: Vec<Option<(u64, u64)>> = Vec::new();
            for length in [1, 7, 16 << 10] {
                let (mut stdout, mut judged, mut at) = (Vec::new(), 0, None);
                for piece in bytes.chunks(length) {
                    stdout.extend_from_slice(piece);
                    if piece.contains(&b'\n') {
                        at = forget_status_lines(&mut stdout, &mut judged).or(at);
                    }
                    assert!(judged <= stdout.len(), "{judged} of {} bytes were looked at", stdout.len());
                }
                assert!(stdout == kept, "kept of pieces of {length}: {}", stdout.escape_ascii());
                told.push(at);
            }
            assert!(told.iter().all(|at| *at == told[0]), "{told:?}");
            told[0].map(drop).ok_or_else(|| "it does not tell how far it is".to_owned())
        });
    }

    /// Whatever it complains of: it did nothing only if it says that it did not come as far, and what is secret is not told on.
    #[test]
    fn fuzz_complaints() {
        let secret = "rest:http://u:p4ss@h/r/";
        let program = Program { repository: secret.to_owned().into(), ..instead("restic") };
        let refused =
            format!("Fatal: unable to open config file: Head \"{secret}config\": connection refused\n");
        let locked = "unable to create lock in backend: repository is already locked by PID 7 on h\n";
        Fuzz::new("restic-complaints", Form::Text).seed(refused).seed(locked).slow(2).run(|bytes| {
            let stderr = program.redact(String::from_utf8_lossy(bytes).into_owned());
            assert!(!stderr.contains(secret), "{stderr}");
            let text = stderr.to_lowercase();
            let says = |words: &&str| text.contains(*words);
            for code in [None, Some(1), Some(10), Some(11), Some(12)] {
                let output = Output { code, ..failed(1, &stderr) };
                if let Obstacle::Busy(why) = complaint("x", Purpose::Change, &output) {
                    let not_opened = code == Some(10) || NOT_OPENED.iter().any(says);
                    assert!(is_locked(&output) || says(&NO_LOCK) || not_opened, "{code:?}: {why}");
                    let looked = complaint("x", Purpose::Look, &output);
                    assert_eq!(looked, Obstacle::Busy(why), "{code:?}");
                }
            }
            match complaint("x", Purpose::Change, &failed(1, &stderr)) {
                Obstacle::Busy(_) => Ok(()),
                Obstacle::Unclear(why) | Obstacle::Refuse(why) => Err(why),
            }
        });
    }

    #[test]
    fn status_lines_are_read_and_dropped() {
        let mut stdout = br#"{"message_type":"status","total_bytes":9,"bytes_done":3}
{"message_type":"summary"}
{"message_type":"sta"#
            .to_vec();
        let mut judged = 0;
        assert_eq!(forget_status_lines(&mut stdout, &mut judged), Some((3, 9)));
        assert_eq!(stdout, b"{\"message_type\":\"summary\"}\n{\"message_type\":\"sta");
        assert_eq!(judged, 27, "the summary is not looked at again");
        stdout.extend_from_slice(b"tus\",\"total_bytes\":9,\"bytes_done\":4}\n\n");
        assert_eq!(forget_status_lines(&mut stdout, &mut judged), Some((4, 9)));
        assert_eq!(stdout, b"{\"message_type\":\"summary\"}\n\n");
        assert_eq!((judged, forget_status_lines(&mut stdout, &mut judged)), (28, None));
    }
}
