//! `sexton demo` as a person runs it: as a process that says what it expected, and ends accordingly.
#![cfg(feature = "serve")]
mod waiting;

use std::process::{Command, Output, Stdio};

use serde_json::Value;
use sexton_model::catalogue::Catalogue;
use sexton_model::plan::Plan;
use waiting::until;

const SUBSYSTEMS: [&str; 8] = [
    sexton_hypervisor::ACTIONS,
    sexton_ipam::ACTIONS,
    sexton_dns::ACTIONS,
    sexton_backup::ACTIONS,
    sexton_monitoring::ACTIONS,
    sexton_notifier::ACTIONS,
    include_str!("../../../deploy/subsystems/accounting.toml"),
    include_str!("../../../deploy/subsystems/config.toml"),
];
const DEMO: &str = include_str!("../src/demo/plan.toml");
const VM: &str = include_str!("../../../deploy/plans/vm.toml");

fn demo() -> Command {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_sexton"));
    demo.arg("demo").stdin(Stdio::null());
    demo
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn every_expectation_of_the_demo_holds() {
    let output = demo().output().unwrap();
    let told = told(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let answer = String::from_utf8_lossy(&output.stdout);
    let last = answer.lines().last().unwrap();
    assert!(last.starts_with("0 expectations failed; "), "{told}");
    for part in ["held", "Audit trail of web01", "Audit trail of web02", "hypervisor.delete_volumes"] {
        assert!(answer.contains(part), "expected {part:?} in {told}");
    }
    assert!(!answer.contains("FAILED"), "{told}");
}

/// Whoever leaves a file of the machine behind in the platform while the demo runs is found.
#[test]
fn what_is_left_of_the_machine_fails_the_demo() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    let running = demo()
        .args(["-o", "json", "--folder"])
        .arg(&kept)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("the platform is there", || kept.join("sexton.db").exists());
    std::fs::write(kept.join("platform/copy-of-web01"), "forgotten").unwrap();
    let output = running.wait_with_output().unwrap();
    let told = told(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {told}"));
    let expectations = report["expectations"].as_array().unwrap();
    let failed: Vec<_> = expectations.iter().filter(|e| e["held"] == false).collect();
    assert!(failed.len() == 1 && report["failed"] == 1, "{told}");
    let what = failed[0]["what"].as_str().unwrap();
    assert!(what.contains("nothing of web01 is left") && what.contains("copy-of-web01"), "{told}");
    let machines: Vec<_> = report["trails"].as_array().unwrap().iter().map(|t| &t["machine"]).collect();
    assert_eq!(machines, ["web01", "web02"], "{told}");
    assert!(report["trails"][0]["events"].as_array().unwrap().len() > 20, "{told}");
}

/// The demo shows what is delivered: only how long things may take is its own, and when they are due.
#[test]
fn the_demo_plays_the_plan_that_is_delivered() {
    let mut catalogue = Catalogue::default();
    for (n, text) in SUBSYSTEMS.into_iter().enumerate() {
        catalogue.add(&format!("subsystem {n}"), text).unwrap();
    }
    let steps = |text: &str| {
        let mut plan = Plan::parse("plan.toml", text, &catalogue, true).unwrap();
        for step in plan.stages.iter_mut().flat_map(|stage| &mut stage.steps) {
            (step.deadline_ms, step.longest_call_ms) = (0, 0);
        }
        let stages = plan.stages.map(|stage| stage.steps);
        (plan.kind, plan.criticality, plan.exclusive, stages)
    };
    assert_eq!(steps(DEMO), steps(VM));
}
