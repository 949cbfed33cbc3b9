//! A hook that runs real commands.
#![expect(clippy::unwrap_used, reason = "a test: what fails here fails it")]
mod bench;

use std::path::{Path, PathBuf};

use bench::{Bench, evidence, refusal, retry};
use serde_json::json;
use sexton_hook::{DriverConfig, actions, driver};
use sexton_model::step::{Mode, Presence, RetryClass};

const ACTIONS: &str = r#"
subsystem = "badges"
[actions.inspect]
nature = "inspect"
earliest = "announce"
deadline_ms = 30000
longest_call_ms = 5000
about = "Looks up the badge"
[actions.block]
nature = "reversible"
earliest = "soft"
deadline_ms = 30000
longest_call_ms = 5000
about = "Blocks the badge"
[actions.shred]
nature = "destructive"
earliest = "hard"
deadline_ms = 30000
longest_call_ms = 5000
about = "Shreds the badge"
"#;

/// The program keeps each badge in a file; 3 means that there is none.
const PROGRAM: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 9
case "$1" in
place) printf '{"id":"gatehouse"}' ;;
show) if [ -e "badge-$2" ]; then cat "badge-$2"; else exit 3; fi ;;
set) printf '{"uuid":"%s","open":%s}' "$3" "$4" > "badge-$2"; if [ -e broken ]; then exit 1; fi ;;
shred) if [ -e lazy ]; then exit 0; fi; rm -f "badge-$2" ;;
hang) exec sleep 600 ;;
chatter) head -c 3000000 /dev/zero | tr '\0' x ;;
esac
"#;

struct Gatehouse {
    root: tempfile::TempDir,
}

impl Gatehouse {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let gatehouse = Self { root: tempfile::tempdir().unwrap() };
        let program = gatehouse.path("badges");
        std::fs::write(&program, PROGRAM).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(gatehouse.path("actions.toml"), ACTIONS).unwrap();
        gatehouse.badge("u1", true);
        gatehouse
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn badge(&self, uuid: &str, open: bool) {
        std::fs::write(self.path("badge-web01"), json!({ "uuid": uuid, "open": open }).to_string()).unwrap();
    }

    fn definition(&self, show: &str) -> String {
        let program = self.path("badges").display().to_string();
        format!(
            r#"
subsystem = "badges"
[place]
command = ["{program}", "place"]
present = {{ code = [0] }}
value = "/id"
[object]
command = ["{program}", "{show}", "{{resource.name}}"]
timeout_ms = 3000
present = {{ code = [0] }}
absent = {{ code = [3] }}
identity = {{ "/uuid" = "{{identity.uuid}}" }}
[actions.block]
capture = {{ open = "/open" }}
intended = {{ open = false }}
perform = [{{ command = ["{program}", "set", "{{resource.name}}", "{{identity.uuid}}", "false"], expect = [0] }}]
undo = [{{ command = ["{program}", "set", "{{resource.name}}", "{{identity.uuid}}", "{{manifest.open}}"], expect = [0] }}]
[actions.shred]
perform = [{{ command = ["{program}", "shred", "{{resource.name}}", "{{attributes.why}}"], expect = [0] }}]
"#
        )
    }

    fn bench(&self, show: &str) -> Bench {
        std::fs::write(self.path("hook.toml"), self.definition(show)).unwrap();
        let config: DriverConfig = serde_json::from_value(json!({
            "driver": "hook", "subsystem": "badges", "definition": self.path("hook.toml"),
            "actions": self.path("actions.toml"), "place": "gatehouse",
        }))
        .unwrap();
        let actions = actions(Path::new(&self.path("actions.toml"))).unwrap();
        let mut bench = Bench::new(driver(config).unwrap(), actions, "u1");
        bench.attributes = json!({ "why": "left; touch $(dirname $0)/owned" });
        bench
    }
}

#[tokio::test]
async fn a_whole_deletion_and_its_undo() {
    let gatehouse = Gatehouse::new();
    let before = std::fs::read(gatehouse.path("badge-web01")).unwrap();
    let mut bench = gatehouse.bench("show");
    evidence(&bench.pin().await, Presence::Present);
    let manifest = bench.capture("block").await;
    // Fails after the effect, which the next attempt finds.
    std::fs::write(gatehouse.path("broken"), "").unwrap();
    retry(&bench.ask(Mode::Perform, "block", Some(&manifest)).await, RetryClass::Failed);
    for mode in [Mode::Perform, Mode::Perform] {
        evidence(&bench.ask(mode, "block", Some(&manifest)).await, Presence::Present);
    }
    std::fs::remove_file(gatehouse.path("broken")).unwrap();
    for mode in [Mode::Undo, Mode::Undo, Mode::Verify] {
        evidence(&bench.ask(mode, "block", Some(&manifest)).await, Presence::Present);
    }
    let after: serde_json::Value =
        serde_json::from_slice(&std::fs::read(gatehouse.path("badge-web01")).unwrap()).unwrap();
    assert_eq!(after, serde_json::from_slice::<serde_json::Value>(&before).unwrap());

    std::fs::write(gatehouse.path("lazy"), "").unwrap();
    retry(&bench.perform("shred").await, RetryClass::Failed);
    std::fs::remove_file(gatehouse.path("lazy")).unwrap();
    for _ in 0..2 {
        evidence(&bench.perform("shred").await, Presence::Absent);
    }
    assert!(!gatehouse.path("owned").exists(), "what is filled in never passes through a shell");
}

#[tokio::test]
async fn what_cannot_be_filled_in_or_belongs_to_another_is_refused() {
    let gatehouse = Gatehouse::new();
    let mut bench = gatehouse.bench("show");
    bench.pin().await;
    bench.attributes = json!({});
    assert!(refusal(&bench.perform("shred").await).contains("attributes.why"));
    bench.attributes = json!({ "why": "--all" });
    assert!(refusal(&bench.perform("shred").await).contains("option"));
    gatehouse.badge("u2", true);
    assert!(refusal(&bench.perform("shred").await).contains("u2"));
    assert!(gatehouse.path("badge-web01").exists());
}

#[tokio::test]
async fn a_command_that_hangs_or_talks_without_end_is_no_answer() {
    for (show, why) in [("hang", "no whole answer"), ("chatter", "says more than")] {
        let gatehouse = Gatehouse::new();
        let mut bench = gatehouse.bench(show);
        let answer = retry(&bench.pin().await, RetryClass::Failed);
        assert!(answer.contains(why), "{answer}");
    }
}
