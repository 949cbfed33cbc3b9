//! Whoever is on call: told by two routes of different kinds, a server and a program.
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use sexton_coordinator::alarms::Options;
use sexton_coordinator::alarms::command::Command;
use sexton_coordinator::alarms::webhook::{Webhook, address};
use sexton_model::alarm::{AlarmKind, BackOff, Notice, Phase, Subject};

/// The token that the server asks for.
const TOKEN: &str = "let-me-in";

/// Whoever is on call: a server that notes what it is told, and a file that a program writes.
pub struct OnCall {
    folder: tempfile::TempDir,
    server: Arc<Server>,
    address: SocketAddr,
}

/// The server's part.
struct Server {
    told: Mutex<Vec<Notice>>,
    /// What it answers.
    answer: AtomicU16,
}

async fn take(State(server): State<Arc<Server>>, headers: HeaderMap, body: Json<Notice>) -> StatusCode {
    let shown = headers.get("authorization").and_then(|value| value.to_str().ok());
    if shown != Some(&format!("Bearer {TOKEN}")) {
        return StatusCode::UNAUTHORIZED;
    }
    let answer = StatusCode::from_u16(server.answer.load(Ordering::SeqCst)).unwrap();
    if answer.is_success() {
        server.told.lock().unwrap().push(body.0);
    }
    answer
}

impl OnCall {
    pub async fn new() -> Self {
        let server = Arc::new(Server { told: Mutex::default(), answer: AtomicU16::new(204) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/alarms", post(take)).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let folder = tempfile::tempdir().unwrap();
        let token = token_file(folder.path());
        std::fs::write(&token, TOKEN).unwrap();
        private(&token);
        Self { folder, server, address }
    }

    pub fn answers(&self, status: u16) {
        self.server.answer.store(status, Ordering::SeqCst);
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("told")
    }

    /// Both routes, and quick.
    pub fn options(&self) -> Options {
        let url = address(&format!("http://{}/alarms", self.address)).unwrap();
        let timeout = Duration::from_secs(30);
        let token = Some(token_file(self.folder.path()));
        let webhook = Webhook::new(url, token, timeout).unwrap();
        // One line each: JSON has no line ends of its own.
        let script = format!("{{ cat; echo; }} >> '{}'", self.file().display());
        let command = Command::new("sh".into(), vec!["-c".into(), script], timeout);
        Options {
            routes: vec![Arc::new(webhook), Arc::new(command)],
            every: Duration::from_millis(50),
            round_ms: 100,
            outage: Duration::from_millis(100),
            // The job table's file is waited for much longer: a lock in it is no reason to give up a change.
            answer: Duration::from_secs(2),
            back_off: BackOff { first_ms: 500, longest_ms: 2_000 },
            ..Options::default()
        }
    }

    /// What the server was told of alarms of this kind.
    pub fn by_webhook(&self, kind: AlarmKind) -> Vec<(Phase, Subject)> {
        of(&self.server.told.lock().unwrap(), kind)
    }

    /// What the server was told to do about alarms of this kind.
    pub fn todo(&self, kind: AlarmKind) -> Vec<String> {
        let told = self.server.told.lock().unwrap();
        let of_kind = told.iter().filter_map(|notice| match notice {
            Notice::Alarm { alarm, .. } if alarm.alarm.kind == kind => Some(alarm.alarm.todo.clone()),
            Notice::Alarm { .. } | Notice::Digest { .. } => None,
        });
        of_kind.collect()
    }

    /// What the program was told.
    pub fn by_command(&self, kind: AlarmKind) -> Vec<(Phase, Subject)> {
        of(&self.all_by_command(), kind)
    }

    /// The digests that both were told, first the server, then the program.
    pub fn digests(&self) -> [Vec<Notice>; 2] {
        let mut all = [self.server.told.lock().unwrap().clone(), self.all_by_command()];
        for told in &mut all {
            told.retain(|notice| matches!(notice, Notice::Digest { .. }));
        }
        all
    }

    fn all_by_command(&self) -> Vec<Notice> {
        let text = std::fs::read_to_string(self.file()).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn token_file(folder: &Path) -> PathBuf {
    folder.join("token")
}

fn private(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn of(told: &[Notice], kind: AlarmKind) -> Vec<(Phase, Subject)> {
    let one = |notice: &Notice| match notice {
        Notice::Alarm { phase, alarm, .. } if alarm.alarm.kind == kind => {
            Some((*phase, alarm.alarm.subject.clone()))
        }
        Notice::Alarm { .. } | Notice::Digest { .. } => None,
    };
    told.iter().filter_map(one).collect()
}
