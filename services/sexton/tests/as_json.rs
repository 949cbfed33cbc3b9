//! `-o json`: whatever a command answers, a program can read it. And the completions know what there is.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod site;
mod waiting;

use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use site::{Site, sexton};

/// What a served program is asked, in this order. FOLDER is its folder, DATE a day that is far off.
const ASKED: [&str; 38] = [
    "register FOLDER/one.json",
    "import FOLDER/inventory.jsonl",
    "plan vm/vm0002 --on DATE --no-look",
    "delete vm/vm0001 --on DATE --reason test",
    "list",
    "list --archived",
    "show vm/vm0001",
    "priority vm/vm0001 50",
    "hold vm/vm0001 --reason test",
    "release vm/vm0001",
    "hold vm/vm0002 --resource --reason test",
    "release vm/vm0002 --resource",
    "pause --stage hard --reason test",
    "pause",
    "resume 1 --dry-run",
    "resume 1",
    "ceiling --everywhere --to soft --reason test",
    "ceiling --everywhere --to hard --dry-run",
    "ceiling",
    "batches",
    "override",
    "canaries",
    "drill",
    "census",
    "review",
    "audit",
    "audit --access",
    "token new ci --role viewer --everywhere",
    "token list",
    "token revoke ci",
    "whoami",
    "cancel --scope demo --dry-run",
    "cancel vm/vm0001 --reason test",
    "watch",
    "name vm/vm0001",
    "alarms",
    "digest",
    "health",
    "keys FOLDER/keys --instances dns.main",
];
/// Commands that are asked elsewhere, and where.
const ELSEWHERE: [(&str, &str); 13] = [
    ("sandbox", "a_sandbox_is_told_as_json"),
    ("demo", "tests/demo.rs"),
    ("receipt", "tests/undo.rs"),
    ("verify", "tests/verify.rs"),
    ("archived", "src/archived.rs"),
    // Of a record that has come to a stop, and of a batch: each answers as those above do.
    ("approve", "tests/batches.rs"),
    ("park", "answers with what `retry` does"),
    ("retry", "of what is parked"),
    ("waive", "of what is parked"),
    ("acknowledge", "tests/notice.rs"),
    ("bounced", "tests/notice.rs"),
    ("rescue", "of what is between hard and purge"),
    ("serve", "it answers nothing"),
];
/// They are a script, whatever else is wanted.
const SCRIPT: &str = "completions";

/// All commands, as the program lists them.
fn commands() -> BTreeSet<String> {
    let help = sexton().arg("-h").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| line.is_empty() || line.starts_with(' '));
    let named = listed.filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')));
    let named: BTreeSet<_> = named.filter_map(|rest| rest.split(' ').next()).map(str::to_owned).collect();
    assert!(named.len() > 30, "{help}");
    named.into_iter().filter(|name| name != "help").collect()
}

/// What was answered: one value, or one after another.
fn read(asked: &str, output: &Output) -> Vec<Value> {
    let said = String::from_utf8_lossy(&output.stdout);
    let read: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(&said).into_iter().collect();
    let told = || format!("{asked}: {said}{}", String::from_utf8_lossy(&output.stderr));
    let read = read.unwrap_or_else(|error| panic!("{error}: {}", told()));
    assert!(!read.is_empty(), "nothing was answered to {}", told());
    read
}

#[test]
fn no_command_is_forgotten_here() {
    let asked = ASKED.iter().filter_map(|line| line.split(' ').next());
    let known: BTreeSet<_> =
        asked.chain(ELSEWHERE.iter().map(|(name, _)| *name)).chain([SCRIPT]).map(str::to_owned).collect();
    assert_eq!(known, commands());
}

#[test]
fn whatever_is_answered_is_json_if_that_is_wanted() {
    let site = Site::start(3, "");
    let folder = site.folder.path();
    let inventory = std::fs::read_to_string(folder.join("inventory.jsonl")).unwrap();
    std::fs::write(folder.join("one.json"), inventory.lines().next().unwrap()).unwrap();
    let day = (chrono::Utc::now().date_naive() + chrono::Days::new(300)).to_string();
    let url = format!("http://{}", site.api);
    let ask = |line: &str| {
        let line = line.replace("FOLDER", folder.to_str().unwrap()).replace("DATE", &day);
        let mut command = sexton();
        command.args(["--url", &url, "--actor", "test", "-o", "json"]).args(line.split(' '));
        command.stdin(Stdio::null()).output().unwrap()
    };
    for line in ASKED {
        read(line, &ask(line));
    }
    let rotate = "keys rotate dns.main --folder FOLDER/keys";
    let steps = [0; 3].map(|_| read(rotate, &ask(rotate))[0]["step"].clone());
    assert_eq!(steps, [1, 2, 3].map(Value::from));
    let made = read("keys", &ask("keys FOLDER/keys --instances dns.main,ipam.main"));
    assert_eq!(made[0]["added"], serde_json::json!(["ipam.main"]));
}

#[test]
fn a_sandbox_is_told_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let ask = |further: &[&str]| {
        let mut command = sexton();
        command.args(["-o", "json", "sandbox"]).arg(folder.path().join("platform")).args(further);
        command.output().unwrap()
    };
    let outputs = [&["--machines", "2"][..], &["--describe", "vm0002"], &["--stop"]].map(ask);
    let [made, described, stopped] = outputs.map(|output| read("sandbox", &output).remove(0));
    let ids: Vec<_> = made.as_array().unwrap().iter().map(|machine| &machine["id"]).collect();
    assert_eq!(ids, ["vm/vm0001", "vm/vm0002"]);
    assert!(described["hypervisor"].is_object(), "{described}");
    assert_eq!(stopped["stopped"], true);
}

#[test]
fn every_shell_is_told_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = sexton().args(["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{shell}");
        for part in commands().iter().map(String::as_str).chain(["break-glass", "idempotency-key"]) {
            assert!(script.contains(part), "{shell}: {part} is missing");
        }
    }
}

/// As bash does it when somebody presses the tabulator.
#[test]
fn bash_completes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("sexton.bash");
    std::fs::write(&script, sexton().args(["completions", "bash"]).output().unwrap().stdout).unwrap();
    let completed = |words: &str, at: usize, begun: &str, before: &str| {
        let press = format!(
            "source '{}'; COMP_WORDS=({words}); COMP_CWORD={at}; _sexton sexton '{begun}' '{before}'; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        let output = Command::new("bash").args(["--norc", "-c", &press]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
        let offered = String::from_utf8(output.stdout).unwrap();
        offered.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(completed("sexton wat", 1, "wat", "sexton"), ["watch"]);
    let offered = completed("sexton delete --", 2, "--", "delete");
    assert!(["--on", "--reason", "--gone-by"].iter().all(|o| offered.iter().any(|x| x == o)), "{offered:?}");
}
