//! Health and metrics of a running process, read as a probe and Prometheus read them.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod site;
mod waiting;

use site::{Site, free_port, get};
use waiting::until;

/// The value of the first line of a metric whose labels contain all of `labels`.
fn value(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    text.lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])))
        .find(|line| labels.iter().all(|label| line.contains(label)))
        .and_then(|line| line.rsplit(' ').next())
        .and_then(|value| value.parse().ok())
}

/// What a plan needs and nobody has configured is what makes records be refused: it is shown before somebody tries.
#[test]
fn what_a_plan_needs_and_nobody_has_configured_is_shown() {
    let mut site = Site::start(1, "");
    let shown = site.says(&["health"]).1;
    assert!(shown.contains("dns.main") && !shown.contains("no key") && !shown.contains("NO KEY"), "{shown}");
    site.begin_without("dns.main");
    let inventory = site.folder.path().join("inventory.jsonl");
    assert!(site.says(&["import", inventory.to_str().unwrap()]).0);
    let shown = site.says(&["health"]).1;
    assert!(shown.contains("NO KEY of dns.main: records that need it are refused"), "{shown}");
    let in_a_month = (chrono::Utc::now().date_naive() + chrono::Days::new(30)).to_string();
    let (done, said) = site.says(&["delete", "vm/vm0001", "--on", &in_a_month, "--reason", "a test"]);
    assert!(!done && said.contains("its plan needs dns.main"), "{said}");
}

#[test]
fn a_running_process_shows_how_it_is_doing() {
    let health = free_port();
    let site = Site::start(1, &format!("[health]\nlisten = \"{health}\"\n"));
    assert_eq!(get(health, "/healthz").unwrap().0, 200);
    until("every consumer has heard a beacon", || get(health, "/readyz").unwrap().0 == 200);
    site.delete("vm/vm0001", None);
    let dns = ["consumer=\"dns.main\"", "action=\"inspect\"", "mode=\"inspect\""];
    let mut text = String::new();
    until("the machine was inspected", || {
        text = get(health, "/metrics").unwrap().1;
        value(&text, "sexton_steps_total", &[&dns[..], &["result=\"done\""]].concat()) == Some(1.0)
    });
    assert_eq!(value(&text, "sexton_orders_received_total", &dns[..2]), Some(1.0));
    assert_eq!(value(&text, "sexton_step_duration_seconds_count", &dns), Some(1.0));
    assert!(value(&text, "sexton_beacon_age_seconds", &dns[..1]).unwrap() < 5.0);
    assert!(value(&text, "sexton_outcomes_unconfirmed", &dns[..1]).is_some());
    assert!(value(&text, "sexton_decisions_total", &[]).unwrap() >= 2.0);
    assert!(value(&text, "sexton_orders_given_total", &[]).unwrap() >= 1.0);
    assert!(value(&text, "sexton_batch_size_count", &[]).unwrap() >= 1.0);
    assert!(value(&text, "sexton_batch_duration_seconds_count", &[]).unwrap() >= 1.0);
    assert!(value(&text, "sexton_looked_at_seconds", &[]).unwrap() > 1e9);
    until("the coordinator's figures are shown", || {
        text = get(health, "/metrics").unwrap().1;
        value(&text, "sexton_jobs", &["state=\"done\""]).is_some_and(|done| done >= 1.0)
    });
    assert_eq!(value(&text, "sexton_jobs", &["state=\"parked\""]), Some(0.0));
    assert_eq!(value(&text, "sexton_credit_used", &dns[..1]), Some(0.0));
    assert!(value(&text, "sexton_pulse_age_seconds", &dns[..1]).unwrap() < 10.0);
    assert_eq!(value(&text, "sexton_oldest_due_seconds", &[]), Some(0.0));
    assert!(!text.contains("otel_scope"), "labels for nobody");
}

#[test]
fn a_sandbox_without_its_mark_is_not_ready() {
    let health = free_port();
    let site = Site::start(1, &format!("[health]\nlisten = \"{health}\"\n"));
    let mut ready = (0, String::new());
    until("every consumer has heard a beacon", || {
        ready = get(health, "/readyz").unwrap();
        ready.0 == 200
    });
    let mark = site.folder.path().join("platform/dns/main/place.json");
    let kept = mark.with_extension("kept");
    std::fs::rename(&mark, &kept).unwrap();
    ready = get(health, "/readyz").unwrap();
    assert_eq!(ready.0, 503, "{ready:?}");
    assert!(ready.1.contains("dns.main: ") && ready.1.contains("place.json is missing"), "{ready:?}");
    assert!(!ready.1.contains("ipam.main"), "{ready:?}");
    std::fs::rename(&kept, &mark).unwrap();
    assert_eq!(get(health, "/readyz").unwrap().0, 200);
}

#[test]
fn an_address_that_is_taken_is_a_mistake_that_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("sexton.toml");
    let top = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");
    let text = std::fs::read_to_string(format!("{top}/sexton.toml")).unwrap();
    let text = text.replace("folder = \"plans\"", &format!("folder = \"{top}/plans\""));
    let text = text.replace("subsystems = \"subsystems\"", &format!("subsystems = \"{top}/subsystems\""));
    std::fs::write(&config, format!("{text}\n[health.sexton]\nlisten = \"{address}\"\n")).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_sexton"))
        .args(["serve", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(&format!("[health.\"sexton\"]: listening on {address}")), "{error}");
}
