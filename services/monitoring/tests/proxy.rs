//! The Prometheus driver asks its server, whatever proxy the environment names.
use std::time::Duration;

use serde_json::json;
use sexton_monitoring::{DriverConfig, actions, driver};
use sexton_testkit::bench::Bench;

#[tokio::test]
#[ignore = "the next test runs it, in an environment with a proxy"]
async fn asks_the_server_itself() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config: DriverConfig = serde_json::from_value(json!({
        "driver": "prometheus",
        "url": format!("http://{}", server.local_addr().unwrap()),
        "targets_dir": folder.path(),
        "place": { "flag": { "name": "storage.tsdb.path", "value": "/data" } },
    }))
    .unwrap();
    let mut bench = Bench::new(driver(config).unwrap(), actions(), "u1");
    tokio::select! {
        asked = tokio::time::timeout(Duration::from_secs(20), server.accept()) => { asked.unwrap().unwrap(); }
        answer = bench.pin() => panic!("the server was not asked: {answer:?}"),
    }
}

#[test]
fn a_proxy_of_the_environment_is_not_asked() {
    // Nobody listens at this port.
    let proxy = "http://127.0.0.1:9";
    let said = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "asks_the_server_itself", "--ignored"])
        .envs(["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"].map(|name| (name, proxy)))
        .env_remove("no_proxy")
        .env_remove("NO_PROXY")
        .output()
        .unwrap();
    let said_text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success() && said_text.contains("1 passed"), "{said_text}");
}
