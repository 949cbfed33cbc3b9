//! `sexton demo` as a person runs it: as a process that says what it expected, and ends accordingly.
#![cfg(feature = "serve")]
mod waiting;

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

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
/// What the demo expects, in this order. With the first it says how often, with the third what is left.
const EXPECTATIONS: [&str; 26] = [
    "consumers were killed and started again on the way",
    "web01 went through all five stages",
    "nothing of web01 is left in any subsystem",
    "web02 was cancelled after soft",
    "web02 was really off in between",
    "its owner was told that web02 goes, and then that it stays",
    "web02 is back exactly as it was",
    "the other machines are untouched",
    "the audit chain of web01 verifies",
    "the audit chain of web02 verifies",
    "a record for another machine called spare01 was refused",
    "nothing of db01 began during the pause",
    "db01 was announced after the pause, and cancelled",
    "the audit chain of spare01 verifies",
    "the audit chain of db01 verifies",
    "an order for web03 that came to the wrong cluster was refused",
    "nothing was changed there, nor in the cluster of web03",
    "web03 went on where it belongs, and was cancelled",
    "web03 is back exactly as it was, and so is its copy",
    "the audit chain of web03 verifies",
    "not one of the 3 of demo/crowd began, where 2 may in a day",
    "who requested them could not approve them",
    "somebody else approved exactly that batch",
    "they were announced then, and cancelled",
    "no batch is left",
    "the name web01 is free again",
];
const LEFT: usize = 2;
/// What it says first; behind it stands where.
const PLATFORM: &str = "A sandbox platform of 8 machines in ";
/// It takes less than so many seconds, once it is built.
const LESS_THAN_S: f64 = 60.0;
/// What a bar is drawn of.
const BAR: [char; 2] = ['█', '░'];
/// How exactly it says how long it took.
const ROUNDING: Duration = Duration::from_millis(100);
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

/// Whether these seconds are about the time since then, in which it was started, has run and has ended.
fn took_so_long(seconds: f64, began: Instant) -> bool {
    let waited = began.elapsed() + ROUNDING;
    (waited.as_secs_f64() / 2.0..waited.as_secs_f64()).contains(&seconds)
}

#[test]
fn every_expectation_of_the_demo_holds() {
    let began = Instant::now();
    let output = demo().output().unwrap();
    let told = told(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let answer = String::from_utf8_lossy(&output.stdout);
    let last = answer.lines().last().unwrap();
    let took = last.strip_prefix("0 expectations failed; ").and_then(|took| took.strip_suffix(" s"));
    let took: f64 = took.unwrap_or_else(|| panic!("{told}")).parse().unwrap();
    assert!(took_so_long(took, began) && took < LESS_THAN_S, "{told}");
    assert!(answer.lines().next().unwrap().starts_with(PLATFORM), "{told}");
    let held: Vec<&str> = answer.lines().filter_map(|line| line.trim().strip_prefix("held ")).collect();
    assert_eq!(held.len(), EXPECTATIONS.len(), "{told}");
    for (expected, held) in EXPECTATIONS.iter().zip(held) {
        assert!(held.trim().starts_with(expected), "expected {expected:?} in {held:?}");
    }
    for part in ["held", "Audit trail of web01", "Audit trail of web02", "hypervisor.delete_volumes"] {
        assert!(answer.contains(part), "expected {part:?} in {told}");
    }
    assert!(!answer.contains("FAILED"), "{told}");
}

/// On a terminal, as `script` makes one (of bsdutils, which every Debian has), each machine has a bar instead of lines.
#[test]
fn on_a_terminal_bars_are_drawn() {
    // Without a size, tables would be as narrow as they can be.
    let demo = format!("stty cols 200 rows 50; exec '{}' demo", env!("CARGO_BIN_EXE_sexton"));
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &demo, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output()
        .expect("script is there");
    let told = told(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let lines = || told.split(['\r', '\n']);
    let drawn = |machine: &str, what: &str| {
        lines().any(|line| line.contains(machine) && line.contains(BAR) && line.contains(what))
    };
    for stage in ["announce", "soft", "hard", "purge", "recycle"] {
        assert!(drawn("web01 ", stage), "no bar shows that web01 came to {stage}: {told}");
    }
    assert!(drawn("web02 ", "restore"), "no bar shows that web02 was brought back: {told}");
    assert!(drawn("web01 ", "consumers killed"), "{told}");
    let plain = lines().find(|line| line.starts_with("web01 ") && !line.contains(BAR));
    assert_eq!(plain, None, "{told}");
    for part in [PLATFORM, "Audit trail of web01", "0 expectations failed; "] {
        assert!(told.contains(part), "expected {part:?} in {told}");
    }
}

/// Whoever leaves a file of the machine behind in the platform while the demo runs is found. Until then, where the
/// machines stand is shown as they get there.
#[test]
fn what_is_left_of_the_machine_fails_the_demo() {
    let folder = tempfile::tempdir().unwrap();
    let (kept, beside) = (folder.path().join("kept"), folder.path().join("beside"));
    let began = Instant::now();
    let mut running = demo()
        .args(["-o", "json", "--folder"])
        .arg(&kept)
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&beside).unwrap())
        .spawn()
        .unwrap();
    until("the platform is there", || kept.join("sexton.db").exists());
    std::fs::write(kept.join("platform/copy-of-web01"), "forgotten").unwrap();
    let shown = |machine: &str, stage: &str| {
        let beside = std::fs::read_to_string(&beside).unwrap();
        beside.lines().any(|line| line.strip_prefix(machine).is_some_and(|rest| rest.contains(stage)))
    };
    until("where web01 stands is shown", || shown("web01 ", "soft"));
    assert!(running.try_wait().unwrap().is_none(), "it was over before it had shown anything");
    let output = running.wait_with_output().unwrap();
    for stage in ["announce", "soft", "hard", "purge", "recycle"] {
        assert!(shown("web01 ", stage), "it was not shown that web01 came to {stage}");
    }
    assert!(shown("web02 ", "restore"), "it was not shown that web02 was brought back");
    let told = told(&output) + &std::fs::read_to_string(&beside).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains(PLATFORM), "{told}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {told}"));
    assert!(took_so_long(report["took_s"].as_f64().unwrap(), began), "{told}");
    let expectations = report["expectations"].as_array().unwrap();
    let whats: Vec<&str> = expectations.iter().map(|e| e["what"].as_str().unwrap()).collect();
    assert_eq!(whats.len(), EXPECTATIONS.len(), "{whats:#?}");
    for (n, (expected, what)) in EXPECTATIONS.into_iter().zip(whats).enumerate() {
        let more =
            what.strip_prefix(expected).unwrap_or_else(|| panic!("expected {expected:?}, found {what:?}"));
        assert_eq!(expectations[n]["held"], n != LEFT, "{told}");
        match n {
            0 => assert!(more.starts_with(" (") && more.ends_with(" times)"), "{what}"),
            LEFT => assert!(more.contains("copy-of-web01"), "{what}"),
            _ => assert_eq!(more, "", "{what}"),
        }
    }
    assert_eq!(report["failed"], 1, "{told}");
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
