//! Requests as they travel: what any program sends to the API, and not the typed client alone.
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::waits::in_time;

/// Whoever is trusted because of the loopback address, as a header.
pub const TRUSTED: &str = "sexton-actor: root\r\n";

/// Whoever shows this token, as a header.
pub fn bearer(secret: &str) -> String {
    format!("authorization: Bearer {secret}\r\n")
}

/// What is answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
    /// Whether it was given before.
    pub replayed: bool,
}

impl Answer {
    /// Why it is refused; empty if it is not.
    pub fn detail(&self) -> &str {
        self.body["detail"].as_str().unwrap_or_default()
    }
}

/// Ask the API at `url`, with these headers more.
pub async fn ask(url: &str, headers: &str, method: &str, path: &str, body: &Value) -> Answer {
    let at = url.trim_start_matches("http://");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    in_time("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let replayed = head.lines().any(|line| line == "idempotent-replayed: true");
    Answer { status, body: serde_json::from_str(body).unwrap_or(Value::Null), replayed }
}
