//! The Prometheus driver against a real server: `SEXTON_TEST_PROMETHEUS_URL`, with the admin API, and its folder
//! of target files, `SEXTON_TEST_PROMETHEUS_TARGETS`. Each test has a resource of its own; the server probes
//! itself, so there are samples.
#![cfg(feature = "real-servers")]
#![expect(clippy::unwrap_used, reason = "a test: what fails here fails it")]
mod kit;

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use sexton_consumer::Driver;
use sexton_model::step::{Mode, Presence, RetryClass};
use sexton_monitoring::{DriverConfig, actions, driver};
use sexton_testkit::bench::{Bench, evidence, refusal, retry};

fn wanted(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: these tests need a Prometheus with the admin API and file_sd targets")
    })
}

fn url() -> String {
    wanted("SEXTON_TEST_PROMETHEUS_URL").trim_end_matches('/').to_owned()
}

fn folder() -> PathBuf {
    wanted("SEXTON_TEST_PROMETHEUS_TARGETS").into()
}

async fn get(path: &str, query: &[(&str, &str)]) -> Value {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let answer =
        reqwest::Client::new().get(format!("{}/api/v1/{path}", url())).query(query).send().await.unwrap();
    answer.json().await.unwrap()
}

/// How many series of `uuid` have samples.
async fn series(uuid: &str) -> usize {
    let query = format!("last_over_time({{uuid=\"{uuid}\"}}[1h])");
    get("query", &[("query", &query)]).await["data"]["result"].as_array().unwrap().len()
}

/// Whether the server lists a target of `uuid`.
async fn listed(uuid: &str) -> bool {
    let all = get("targets", &[]).await;
    all["data"]["activeTargets"].as_array().unwrap().iter().any(|t| t["labels"]["uuid"] == uuid)
}

/// Write a target file with the server itself as the target.
fn write(file: &str, uuid: &str) -> PathBuf {
    let address = url().split("//").nth(1).unwrap().to_owned();
    let path = folder().join(format!("{file}.json"));
    let text = json!([{ "targets": [address], "labels": { "uuid": uuid, "test": file } }]).to_string();
    // As whoever keeps the targets should: whole or not at all.
    std::fs::write(path.with_extension("tmp"), text).unwrap();
    std::fs::rename(path.with_extension("tmp"), &path).unwrap();
    path
}

/// Make the folder the place of this server, in the name of a test; the server's storage path, which proves it.
async fn place(test: &str) -> String {
    let flags = get("status/flags", &[]).await;
    let storage = flags["data"]["storage.tsdb.path"].as_str().unwrap().to_owned();
    let said = json!({ "place": format!("storage.tsdb.path={storage}") }).to_string();
    let new = folder().join(format!(".place-{test}.new"));
    std::fs::write(&new, said).unwrap();
    std::fs::rename(new, folder().join(".place")).unwrap();
    storage
}

fn driver_at(url: &str, storage: &str) -> Arc<dyn Driver> {
    let config: DriverConfig = serde_json::from_value(json!({
        "driver": "prometheus",
        "url": url,
        "targets_dir": folder(),
        "place": { "flag": { "name": "storage.tsdb.path", "value": storage } },
    }))
    .unwrap();
    driver(config).unwrap()
}

/// A target of its own, that goes with the test.
struct Target {
    name: String,
    uuid: String,
    files: Vec<PathBuf>,
}

impl Target {
    fn new(name: &str) -> Self {
        let uuid = format!("{name}-{}", std::process::id());
        let name = format!("{name}-{}", std::process::id());
        Self { name, uuid, files: Vec::new() }
    }

    fn write(&mut self, file: &str, uuid: &str) -> PathBuf {
        let path = write(file, uuid);
        self.files.push(path.clone());
        path
    }

    fn own(&mut self) -> PathBuf {
        let (name, uuid) = (self.name.clone(), self.uuid.clone());
        self.write(&name, &uuid)
    }

    async fn bench(&self) -> Bench {
        self.bench_at(&url(), &place(&self.name).await)
    }

    fn bench_at(&self, url: &str, storage: &str) -> Bench {
        let mut bench = Bench::new(driver_at(url, storage), actions(), &self.uuid);
        bench.resource = format!("vm/{}", self.name).parse().unwrap();
        bench
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        for file in &self.files {
            let _ = std::fs::remove_file(file);
        }
    }
}

#[tokio::test]
async fn silencing_reaches_the_server_and_is_undone_exactly() {
    let mut target = Target::new("silence");
    let file = target.own();
    let before = std::fs::read(&file).unwrap();
    let mut bench = target.bench().await;
    evidence(&bench.pin().await, Presence::Present);
    let manifest = bench.capture("silence").await;
    for _ in 0..2 {
        evidence(&bench.perform_by("silence", &manifest).await, Presence::Present);
    }
    let all = get("targets", &[]).await;
    let ours: Vec<&Value> = all["data"]["activeTargets"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|t| t["labels"]["uuid"] == target.uuid)
        .collect();
    assert!(ours.len() == 1 && ours[0]["labels"]["silenced"] == "true", "{ours:?}");
    refusal(&bench.ask(Mode::Verify, "silence", Some(&manifest)).await);
    for mode in [Mode::Undo, Mode::Undo, Mode::Verify] {
        evidence(&bench.ask(mode, "silence", Some(&manifest)).await, Presence::Present);
    }
    assert_eq!(std::fs::read(&file).unwrap(), before);

    std::fs::write(&file, String::from_utf8(before).unwrap().replace("\"test\"", "\"rack\"")).unwrap();
    for mode in [Mode::Perform, Mode::Undo] {
        assert!(refusal(&bench.ask(mode, "silence", Some(&manifest)).await).contains("changed by others"));
    }
    assert!(std::fs::read_to_string(&file).unwrap().contains("rack"));
}

#[tokio::test]
async fn history_is_deleted_after_the_target_and_only_its_own() {
    let mut target = Target::new("history");
    let mut other = Target::new("neighbour");
    target.own();
    other.own();
    let mut bench = target.bench().await;
    bench.pin().await;
    while series(&target.uuid).await == 0 || series(&other.uuid).await == 0 {}
    assert!(refusal(&bench.perform("delete_history").await).contains("still probed"));

    for _ in 0..2 {
        evidence(&bench.perform("remove_target").await, Presence::Absent);
    }
    let kept = series(&other.uuid).await;
    assert!(series(&target.uuid).await > 0, "removing a target leaves its history");
    for _ in 0..2 {
        evidence(&bench.perform("delete_history").await, Presence::Absent);
    }
    assert_eq!(series(&target.uuid).await, 0);
    assert!(series(&other.uuid).await >= kept && kept > 0, "the neighbour's history stays");
}

#[tokio::test]
async fn what_was_never_measured_is_absent_and_what_has_no_target_must_be_expected() {
    let target = Target::new("nothing");
    let mut bench = target.bench().await;
    assert!(refusal(&bench.pin().await).contains("unexpectedly absent"));
    bench.attributes = json!({ "none": true });
    evidence(&bench.pin().await, Presence::Present);
    for action in ["remove_target", "delete_history"] {
        let seen = evidence(&bench.perform(action).await, Presence::Absent);
        assert!(seen.contains("already absent in prometheus storage.tsdb.path="), "{seen}");
    }
}

#[tokio::test]
async fn another_of_the_same_name_and_a_second_target_are_refused() {
    let mut target = Target::new("namesake");
    let file = target.own();
    let mut bench = target.bench().await;
    bench.pin().await;
    let manifest = bench.capture("silence").await;
    let name = target.name.clone();
    target.write(&name, "somebody-else");
    assert!(refusal(&bench.perform("remove_target").await).contains("somebody-else"));
    assert!(refusal(&bench.ask(Mode::Undo, "silence", Some(&manifest)).await).contains("somebody-else"));
    assert!(file.exists());

    target.own();
    let uuid = target.uuid.clone();
    let second = format!("{name}-second");
    target.write(&second, &uuid);
    // Until the server lists the second one.
    loop {
        let all = get("targets", &[]).await;
        let listed = |t: &Value| t["labels"]["test"] == second.as_str();
        if all["data"]["activeTargets"].as_array().unwrap().iter().any(listed) {
            break;
        }
    }
    let first = bench.perform("remove_target").await;
    assert!(refusal(&first).contains("-second.json"), "{first:?}");
}

#[tokio::test]
async fn another_server_and_a_server_that_is_down_are_no_absence() {
    let mut target = Target::new("elsewhere");
    target.own();
    let mut bench = target.bench().await;
    bench.pin().await;
    let pinned = bench.targets.clone();
    let mut bench = target.bench_at(&url(), "/another/folder");
    let why = retry(&bench.pin().await, RetryClass::Failed);
    assert!(why.contains("not the place"), "{why}");
    bench.targets = pinned.clone();
    retry(&bench.perform("remove_target").await, RetryClass::Failed);

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut bench = target.bench_at(&format!("http://127.0.0.1:{port}"), "x");
    bench.targets = pinned;
    for action in ["remove_target", "delete_history"] {
        retry(&bench.perform(action).await, RetryClass::Spared);
    }
    assert!(target.files[0].exists());
}

/// Passes questions on to the real server, and answers every deletion with 204 without passing it on.
async fn liar() -> String {
    async fn answer(request: axum::extract::Request) -> axum::response::Response {
        use axum::response::IntoResponse;
        if request.method() == axum::http::Method::POST {
            return axum::http::StatusCode::NO_CONTENT.into_response();
        }
        let path = request.uri().path_and_query().unwrap().to_string();
        let answer = reqwest::get(format!("{}{path}", url())).await.unwrap();
        answer.bytes().await.unwrap().into_response()
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
    format!("http://{address}")
}

#[tokio::test]
async fn a_204_is_not_believed() {
    let mut target = Target::new("believed");
    target.own();
    let mut bench = target.bench().await;
    bench.pin().await;
    while series(&target.uuid).await == 0 {}
    evidence(&bench.perform("remove_target").await, Presence::Absent);
    let flags = get("status/flags", &[]).await;
    let storage = flags["data"]["storage.tsdb.path"].as_str().unwrap();
    let mut lied_to = target.bench_at(&liar().await, storage);
    lied_to.targets = bench.targets.clone();
    let why = retry(&lied_to.perform("delete_history").await, RetryClass::Failed);
    assert!(why.contains("samples are left"), "{why}");
    evidence(&bench.perform("delete_history").await, Presence::Absent);
}
