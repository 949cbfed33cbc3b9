//! A subsystem that is reached by commands.
#![allow(dead_code, reason = "each test file uses a part of it")]
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use sexton_consumer::Driver;
use sexton_hook::{DriverConfig, actions, driver};
use sexton_model::catalogue::SubsystemActions;
use sexton_testkit::bench::Bench;

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
place) printf '{"id":"%s"}' "$(cat place)" ;;
show) if [ -e "badge-$2" ]; then cat "badge-$2"; else exit 3; fi ;;
set) printf '{"uuid":"%s","open":%s}' "$3" "$4" > "badge-$2"; if [ -e broken ]; then exit 1; fi ;;
shred) if [ -e lazy ]; then exit 0; fi; rm -f "badge-$2" ;;
hang) exec sleep 600 ;;
chatter) head -c 3000000 /dev/zero | tr '\0' x ;;
esac
"#;

/// A program that keeps badges, in a folder of its own.
pub struct Gatehouse {
    root: tempfile::TempDir,
}

impl Gatehouse {
    pub fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let gatehouse = Self { root: tempfile::tempdir().unwrap() };
        let program = gatehouse.path("badges");
        std::fs::write(&program, PROGRAM).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(gatehouse.path("actions.toml"), ACTIONS).unwrap();
        std::fs::write(gatehouse.path("place"), "gatehouse").unwrap();
        gatehouse.badge("u1", true);
        gatehouse
    }

    /// The program answers for another place from now on, which has no badge.
    pub fn move_to(&self, place: &str) {
        std::fs::write(self.path("place"), place).unwrap();
        std::fs::remove_file(self.path("badge-web01")).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn badge(&self, uuid: &str, open: bool) {
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

    pub fn actions(&self) -> SubsystemActions {
        actions(&self.path("actions.toml")).unwrap()
    }

    /// The driver, which looks badges up with the program's command `show`.
    pub fn driver(&self, show: &str) -> Arc<dyn Driver> {
        std::fs::write(self.path("hook.toml"), self.definition(show)).unwrap();
        let config: DriverConfig = serde_json::from_value(json!({
            "driver": "hook", "subsystem": "badges", "definition": self.path("hook.toml"),
            "actions": self.path("actions.toml"), "place": "gatehouse",
        }))
        .unwrap();
        driver(config).unwrap()
    }

    pub fn bench(&self, show: &str) -> Bench {
        let mut bench = Bench::new(self.driver(show), self.actions(), "u1");
        bench.attributes = json!({ "why": "left; touch $(dirname $0)/owned" });
        bench
    }
}
