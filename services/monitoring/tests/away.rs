//! What the Prometheus driver makes of a server that is away: an outage costs time and no attempt, where nothing can have
//! been changed. And of a server that took the place of another one: nothing of what was pinned there is changed here.
#![expect(clippy::unwrap_used, reason = "a test: what fails here fails it")]
use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use sexton_model::step::{Mode, Outcome, RetryClass};
use sexton_monitoring::{DriverConfig, actions, driver};
use sexton_testkit::bench::{Bench, refusal, retry};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What questions and orders are answered with; 200 is an answer to the question.
#[derive(Debug, Clone, Copy)]
struct Server {
    questions: StatusCode,
    orders: StatusCode,
}

async fn answer(State(server): State<Server>, method: Method, uri: Uri) -> Response {
    if method != Method::GET {
        return server.orders.into_response();
    }
    if server.questions != StatusCode::OK {
        return server.questions.into_response();
    }
    let data: Value = match uri.path() {
        "/api/v1/status/flags" => json!({ "storage.tsdb.path": "/data" }),
        "/api/v1/targets" => json!({ "activeTargets": [], "droppedTargets": [] }),
        "/api/v1/series" => json!([{ "uuid": "u1" }]),
        _ => json!({ "resultType": "vector", "result": [] }),
    };
    Json(json!({ "status": "success", "data": data })).into_response()
}

/// A consumer of the server at `url`, with a folder of targets.
fn bench(url: &str, folder: &tempfile::TempDir) -> Bench {
    std::fs::write(folder.path().join(".place"), r#"{"place": "storage.tsdb.path=/data"}"#).unwrap();
    let config: DriverConfig = serde_json::from_value(json!({
        "driver": "prometheus",
        "url": url,
        "targets_dir": folder.path(),
        "place": { "flag": { "name": "storage.tsdb.path", "value": "/data" } },
    }))
    .unwrap();
    let mut bench = Bench::new(driver(config).unwrap(), actions(), "u1");
    bench.targets = json!({ "place": "storage.tsdb.path=/data", "target": true });
    bench
}

/// The address of such a server.
async fn serving(server: Server) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(answer).with_state(server);
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// How the deletion of the history fares with such a server.
async fn deleting(questions: StatusCode, orders: StatusCode) -> Outcome {
    let url = serving(Server { questions, orders }).await;
    let folder = tempfile::tempdir().unwrap();
    bench(&url, &folder).perform("delete_history").await
}

#[tokio::test]
async fn a_question_that_is_not_answered_spends_no_attempt() {
    for code in [429, 502, 503, 504] {
        let code = StatusCode::from_u16(code).unwrap();
        let why = retry(&deleting(code, StatusCode::NO_CONTENT).await, RetryClass::Spared);
        assert!(why.contains(code.as_str()), "{why}");
    }
    let own = deleting(StatusCode::INTERNAL_SERVER_ERROR, StatusCode::NO_CONTENT).await;
    retry(&own, RetryClass::Failed);
}

#[tokio::test]
async fn an_order_whose_answer_is_lost_may_have_been_carried_out() {
    retry(&deleting(StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE).await, RetryClass::Spared);
    for code in [StatusCode::BAD_GATEWAY, StatusCode::GATEWAY_TIMEOUT] {
        let why = retry(&deleting(StatusCode::OK, code).await, RetryClass::Failed);
        assert!(why.contains("delete_series"), "{why}");
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_during_a_question_spends_no_attempt() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            drop(connection);
        }
    });
    let folder = tempfile::tempdir().unwrap();
    retry(&bench(&url, &folder).pin().await, RetryClass::Spared);
}

/// One that goes on for twice as long as an answer may be.
#[tokio::test]
async fn an_answer_beyond_the_bound_is_not_read_on() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n")
                && connection.read_buf(&mut asked).await.is_ok_and(|read| read > 0)
            {}
            let _ = connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{").await;
            let mut pieces = 0;
            while pieces < 2048 && connection.write_all(&[b' '; 1 << 16]).await.is_ok() {
                pieces += 1;
            }
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let why = retry(&bench(&url, &folder).pin().await, RetryClass::Failed);
    assert!(why.contains("longer than 67108864 bytes"), "{why}");
}

/// All else is right: the name, the identity, and the folder of targets.
#[tokio::test]
async fn what_was_pinned_in_another_place_is_not_touched_in_this_one() {
    let url = serving(Server { questions: StatusCode::OK, orders: StatusCode::NO_CONTENT }).await;
    let folder = tempfile::tempdir().unwrap();
    let mut bench = bench(&url, &folder);
    let file = folder.path().join("web01.json");
    let text = r#"[{"targets":["192.0.2.10:9100"],"labels":{"uuid":"u1"}}]"#;
    std::fs::write(&file, text).unwrap();
    bench.targets = json!({ "place": "storage.tsdb.path=/srv/another", "target": true });
    let manifest = json!({ "file": text });
    for (mode, action, manifest) in [
        (Mode::Capture, "silence", None),
        (Mode::Perform, "silence", Some(&manifest)),
        (Mode::Undo, "silence", Some(&manifest)),
        // The file is as it was captured: but for its place the undo would hold.
        (Mode::Verify, "silence", Some(&manifest)),
        (Mode::Perform, "remove_target", None),
        (Mode::Perform, "delete_history", None),
    ] {
        let why = refusal(&bench.ask(mode, action, manifest).await);
        let both = why.contains("/srv/another") && why.contains("storage.tsdb.path=/data");
        assert!(both, "{mode:?} {action}: {why}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "{mode:?} {action}");
    }
}
