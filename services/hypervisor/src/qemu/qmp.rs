//! QEMU's monitor: one JSON object a line. What comes from there comes from the process that runs a guest, so
//! lines, events and waiting are bounded, and an answer is taken for nothing but what it says.
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::{Duration, timeout};

use crate::process::Process;

/// Longest line, in bytes. The commands used here are answered in less than 200.
const LINE_MAX_BYTES: u64 = 64 * 1024;
/// Most events before an answer: a guest can cause them as fast as it likes.
const EVENTS_MAX: usize = 1000;
/// Longest an error's text is repeated, in characters.
const TEXT_MAX: usize = 200;

/// Why the monitor did not do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum QmpError {
    /// It cannot be reached.
    #[error("connecting to the monitor")]
    Connect(#[source] io::Error),
    /// Another process listens there.
    #[error("the monitor's socket belongs to process {0}")]
    Stranger(i32),
    /// No answer in time; others may be connected to it.
    #[error("the monitor did not answer {0} within {1:?}")]
    TimedOut(&'static str, Duration),
    /// The connection broke, or was closed.
    #[error("the monitor hung up during {0}")]
    HungUp(&'static str, #[source] Option<io::Error>),
    /// A line longer than any answer.
    #[error("the monitor's answer to {0} has no end")]
    TooLong(&'static str),
    /// Not what the protocol says.
    #[error("the monitor's answer to {0} is not understood: {1}")]
    Nonsense(&'static str, String),
    /// It said no.
    #[error("the monitor refused {0}: {1}")]
    No(&'static str, String),
}

/// A line from the monitor. Exactly one of its parts is there.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(rename = "QMP")]
    greeting: Option<Value>,
    #[serde(rename = "return")]
    returned: Option<Value>,
    error: Option<Complaint>,
    event: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Complaint {
    #[serde(default)]
    desc: String,
}

/// A connection to one monitor.
#[derive(Debug)]
pub(super) struct Qmp<S> {
    stream: BufReader<S>,
    within: Duration,
}

impl Qmp<UnixStream> {
    /// Connect to the monitor of this very process. It talks to one client at a time: `turn` is how long it may take
    /// until the others have let go of it. Each call may take `within`.
    pub(super) async fn connect(
        socket: &Path,
        process: Process,
        turn: Duration,
        within: Duration,
    ) -> Result<Self, QmpError> {
        let stream = timeout(within, UnixStream::connect(socket))
            .await
            .map_err(|_| QmpError::TimedOut("connect", within))?
            .map_err(QmpError::Connect)?;
        let peer = stream.peer_cred().map_err(QmpError::Connect)?.pid();
        // Whoever made the socket; a machine that was started meanwhile has another id.
        if let Some(stranger) = peer.filter(|pid| u32::try_from(*pid) != Ok(process.pid)) {
            return Err(QmpError::Stranger(stranger));
        }
        Self::greet(stream, turn, within).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Qmp<S> {
    async fn greet(stream: S, turn: Duration, within: Duration) -> Result<Self, QmpError> {
        let mut qmp = Self { stream: BufReader::new(stream), within };
        let line =
            timeout(turn, qmp.line("greeting")).await.map_err(|_| QmpError::TimedOut("greeting", turn))??;
        if line.greeting.is_none() {
            return Err(QmpError::Nonsense("greeting", "no greeting".into()));
        }
        qmp.call("qmp_capabilities").await?;
        Ok(qmp)
    }

    /// Give a command without arguments.
    pub(super) async fn call(&mut self, command: &'static str) -> Result<Value, QmpError> {
        timeout(self.within, self.exchange(command))
            .await
            .map_err(|_| QmpError::TimedOut(command, self.within))?
    }

    /// The UUID of the machine that is run.
    pub(super) async fn uuid(&mut self) -> Result<uuid::Uuid, QmpError> {
        let answer = self.call("query-uuid").await?;
        answer
            .get("UUID")
            .and_then(Value::as_str)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| QmpError::Nonsense("query-uuid", short(&answer.to_string())))
    }

    async fn exchange(&mut self, command: &'static str) -> Result<Value, QmpError> {
        let mut order = json!({ "execute": command }).to_string();
        order.push('\n');
        let stream = self.stream.get_mut();
        stream.write_all(order.as_bytes()).await.map_err(|e| QmpError::HungUp(command, Some(e)))?;
        stream.flush().await.map_err(|e| QmpError::HungUp(command, Some(e)))?;
        for _ in 0..EVENTS_MAX {
            let line = self.line(command).await?;
            if let Some(complaint) = line.error {
                return Err(QmpError::No(command, short(&complaint.desc)));
            }
            if let Some(returned) = line.returned {
                return Ok(returned);
            }
            if line.event.is_none() {
                return Err(QmpError::Nonsense(command, "neither an answer nor an event".into()));
            }
        }
        Err(QmpError::TooLong(command))
    }

    async fn line(&mut self, during: &'static str) -> Result<Line, QmpError> {
        let mut line = Vec::new();
        let read = (&mut self.stream)
            .take(LINE_MAX_BYTES)
            .read_until(b'\n', &mut line)
            .await
            .map_err(|e| QmpError::HungUp(during, Some(e)))?;
        if line.last() != Some(&b'\n') {
            let whole = read as u64 == LINE_MAX_BYTES;
            return Err(if whole { QmpError::TooLong(during) } else { QmpError::HungUp(during, None) });
        }
        serde_json::from_slice(&line).map_err(|e| QmpError::Nonsense(during, e.to_string()))
    }
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sexton_testkit::fuzz::{Form, Fuzz};
    use tokio::io::DuplexStream;

    const WITHIN: Duration = Duration::from_secs(5);
    const GREETING: &str = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\n";

    /// A monitor that says all of this, whatever it is asked.
    async fn saying(text: &str) -> Result<Qmp<DuplexStream>, QmpError> {
        let (mut there, here) = tokio::io::duplex(1 << 20);
        there.write_all(text.as_bytes()).await.unwrap();
        let connected = Qmp::greet(here, WITHIN, WITHIN).await;
        drop(there);
        connected
    }

    #[tokio::test]
    async fn events_are_passed_over() {
        let text = format!(
            "{GREETING}{{\"return\": {{}}}}\n{}{{\"return\": {{\"UUID\": \"{}\"}}}}\n",
            "{\"event\": \"RTC_CHANGE\", \"data\": {}}\n".repeat(5),
            uuid::Uuid::from_u128(7)
        );
        let (mut there, here) = tokio::io::duplex(1 << 20);
        there.write_all(text.as_bytes()).await.unwrap();
        let mut qmp = Qmp::greet(here, WITHIN, WITHIN).await.unwrap();
        assert_eq!(qmp.uuid().await.unwrap(), uuid::Uuid::from_u128(7));
    }

    #[tokio::test]
    async fn hostile_answers_are_errors_and_end() {
        let endless = "x".repeat(1 << 17);
        let events = "{\"event\": \"X\"}\n".repeat(EVENTS_MAX + 1);
        for (text, wanted) in [
            (String::new(), "hung up"),
            ("{\"QMP\": {}".to_owned(), "hung up"),
            ("{}\n".to_owned(), "no greeting"),
            ("[1]\n".to_owned(), "not understood"),
            (endless.clone(), "no end"),
            (format!("{GREETING}{endless}"), "no end"),
            (format!("{GREETING}{events}"), "no end"),
            (format!("{GREETING}{{\"error\": {{\"class\": \"X\", \"desc\": \"not you\"}}}}\n"), "not you"),
        ] {
            let (mut there, here) = tokio::io::duplex(1 << 20);
            there.write_all(text.as_bytes()).await.unwrap();
            there.shutdown().await.unwrap();
            let error = Qmp::greet(here, WITHIN, WITHIN).await.unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
        let mut qmp = saying(&format!("{GREETING}{{\"return\": {{}}}}\n{{\"return\": {{\"UUID\": 7}}}}\n"))
            .await
            .unwrap();
        assert!(qmp.uuid().await.is_err());
    }

    #[test]
    fn fuzz_monitors() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let uuid = uuid::Uuid::from_u128(7);
        let whole = format!(
            "{GREETING}{{\"return\": {{}}}}\n{{\"event\": \"X\", \"data\": {{}}}}\n{{\"return\": {{\"UUID\": \"{uuid}\"}}}}\n"
        );
        let no = format!("{GREETING}{{\"error\": {{\"class\": \"X\", \"desc\": \"no\"}}}}\n");
        let talk = async |bytes: &[u8]| -> Result<(), QmpError> {
            let (mut there, here) = tokio::io::duplex(1 << 20);
            there.write_all(bytes).await.unwrap();
            there.shutdown().await.unwrap();
            let mut qmp = Qmp::greet(here, WITHIN, WITHIN).await?;
            qmp.uuid().await.map(drop)
        };
        let error = runtime.block_on(talk(no.as_bytes())).unwrap_err();
        assert!(matches!(error, QmpError::No(..)), "{error}");
        Fuzz::new("qmp", Form::JsonLines)
            .seed(whole)
            .slow(4)
            .run(|bytes| runtime.block_on(talk(bytes)).map_err(|error| error.to_string()));
    }

    #[tokio::test]
    async fn a_silent_monitor_is_not_waited_for() {
        let (_there, here) = tokio::io::duplex(1024);
        let turn = Duration::from_millis(10);
        assert!(matches!(Qmp::greet(here, turn, WITHIN).await, Err(QmpError::TimedOut("greeting", _))));
    }
}
