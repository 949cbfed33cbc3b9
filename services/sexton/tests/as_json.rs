//! `-o json`: whatever a command answers, a program can read it. And the completions know what there is.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod site;
mod waiting;

use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sexton_api::{Approved, BatchDetails, BatchInfo, DeletionInfo, Outcome};
use sexton_model::deletion::RecordStatus;
use sexton_protocol::BeaconSigner;
use sexton_protocol::archive::seal;
use sexton_testkit::archived::document;
use site::{Site, sexton};
use waiting::{PATIENCE, until, until_within};

/// What a served program is asked, in this order. FOLDER is its folder, DATE a day that is far off.
const ASKED: [&str; 40] = [
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
    "findings",
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
const ELSEWHERE: [(&str, &str); 6] = [
    ("sandbox", "a_sandbox_is_told_as_json"),
    ("demo", "tests/demo.rs"),
    ("receipt", "tests/undo.rs"),
    ("verify", "tests/verify.rs"),
    ("archived", "a_file_of_the_archive_is_told_as_json"),
    ("serve", "it answers nothing"),
];
/// What people decide of a record that has come to a stop, or of a batch: asked below, where there are such.
const DECIDED: [&str; 7] = ["approve", "bounced", "acknowledge", "park", "retry", "waive", "rescue"];
/// They are a script, whatever else is wanted.
const SCRIPT: &str = "completions";

/// No deletion of the machines begins without an approval. And a cluster and a machine that are nowhere: whatever is asked
/// of them fails, and is tried again.
const STOPS: &str = r#"
[[budgets.scopes]]
scope = "demo"
a_day = 0
[consumers."cluster.a"]
driver = "sandbox"
root = "platform"
instance = "cluster.a"
[consumers."machine.main"]
driver = "sandbox"
root = "platform"
instance = "machine.main"
"#;
/// That the one is in the other.
const MEMBER: &str = "membership/storage07-a";
/// Three of them before a notice that came back can be acknowledged, and one between soft and hard.
const DAY_MS: u32 = 1_000;
/// Nobody has saved anything before the last order can be carried out no more, which takes a minute.
const RESCUED: Duration = Duration::from_secs(240);

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

/// What somebody is answered who asks a served program for JSON. FOLDER is its folder.
fn ask(site: &Site, actor: &str, line: &str) -> Output {
    let line = line.replace("FOLDER", site.folder.path().to_str().unwrap());
    let url = format!("http://{}", site.api);
    let mut command = sexton();
    command.args(["--url", &url, "--actor", actor, "-o", "json"]).args(line.split(' '));
    command.stdin(Stdio::null()).output().unwrap()
}

/// The same, as soon as it is not refused any more.
fn ask_until_done(site: &Site, actor: &str, line: &str) -> Output {
    ask_within(PATIENCE, site, actor, line)
}

fn ask_within(patience: Duration, site: &Site, actor: &str, line: &str) -> Output {
    let mut answer = None;
    until_within(patience, line, || {
        answer = Some(ask(site, actor, line)).filter(|output| output.status.success());
        answer.is_some()
    });
    answer.unwrap()
}

/// One value of this type, and nothing that the type does not tell.
fn told<T: Serialize + DeserializeOwned>(asked: &str, output: &Output) -> T {
    let mut read = read(asked, output);
    assert!(output.status.success() && read.len() == 1, "{asked}: {read:?}");
    of_type(asked, &read.remove(0))
}

fn of_type<T: Serialize + DeserializeOwned>(asked: &str, value: &Value) -> T {
    let told: T = serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{asked}: {e}: {value}"));
    assert_eq!(serde_json::to_value(&told).unwrap(), *value, "{asked}");
    told
}

#[test]
fn no_command_is_forgotten_here() {
    let asked = ASKED.iter().filter_map(|line| line.split(' ').next());
    let elsewhere = ELSEWHERE.iter().map(|(name, _)| *name);
    let known: BTreeSet<_> =
        asked.chain(elsewhere).chain(DECIDED).chain([SCRIPT]).map(str::to_owned).collect();
    assert_eq!(known, commands());
}

#[test]
fn whatever_is_answered_is_json_if_that_is_wanted() {
    let site = Site::start(3, "");
    let folder = site.folder.path();
    let inventory = std::fs::read_to_string(folder.join("inventory.jsonl")).unwrap();
    std::fs::write(folder.join("one.json"), inventory.lines().next().unwrap()).unwrap();
    let day = (chrono::Utc::now().date_naive() + chrono::Days::new(300)).to_string();
    let ask = |line: &str| ask(&site, "test", &line.replace("DATE", &day));
    for line in ASKED {
        read(line, &ask(line));
    }
    let rotate = "keys rotate dns.main --folder FOLDER/keys";
    let steps = [0; 3].map(|_| read(rotate, &ask(rotate))[0]["step"].clone());
    assert_eq!(steps, [1, 2, 3].map(Value::from));
    let made = read("keys", &ask("keys FOLDER/keys --instances dns.main,ipam.main"));
    assert_eq!(made[0]["added"], json!(["ipam.main"]));
}

/// Each of [`DECIDED`] but a rescue, in a state in which it is not refused.
#[test]
fn what_is_decided_of_a_record_is_told_as_its_type_says() {
    let site = Site::start_with_days_of(DAY_MS, 1, STOPS);
    let live = |line: &str, output: &Output| {
        assert_eq!(told::<Outcome>(line, output).status, RecordStatus::Live, "{line}");
    };
    // Its notice can come back as long as soft has not begun.
    let stop = "ceiling --scope demo --to announce --reason test";
    read(stop, &ask(&site, "test", stop));
    site.delete("vm/vm0001", None);
    let frozen = || told::<Vec<BatchInfo>>("batches", &ask(&site, "test", "batches"));
    until("it is frozen", || !frozen().is_empty());
    let BatchDetails { digest, .. } = told("batches 1", &ask(&site, "test", "batches 1"));
    let approve = format!("approve 1 --digest {digest} --reason test");
    let approved: Approved = told(&approve, &ask(&site, "boss", &approve));
    assert_eq!(approved, Approved { batch: 1, members: 1 });
    let bounced = "bounced vm/vm0001 --reason no-such-box";
    live(bounced, &ask_until_done(&site, "test", bounced));

    let member = json!({
        "id": MEMBER, "scope": "storage", "criticality": "credential", "exclusive": "machine/storage07",
        "identity": { "cluster": "fsid-a", "machine": "serial-7" }, "instances": { "cluster": "a" },
    });
    std::fs::write(site.folder.path().join("member.json"), member.to_string()).unwrap();
    let tomorrow = chrono::Utc::now().date_naive() + chrono::Days::new(1);
    let delete = format!("delete {MEMBER} --on {tomorrow} --reason test");
    for line in ["register FOLDER/member.json", &delete] {
        read(line, &ask(&site, "test", line));
    }
    let mark = |what: &str| {
        let show = format!("show {what}");
        told::<DeletionInfo>(&show, &ask(&site, "test", &show)).mark.unwrap()
    };
    // What is parked stays so until somebody decides.
    let [park, retry] =
        ["park MEMBER --reason test", "retry MEMBER"].map(|line| line.replace("MEMBER", MEMBER));
    live(&park, &ask_until_done(&site, "test", &park));
    live(&retry, &ask(&site, "test", &retry));
    live(&park, &ask_until_done(&site, "test", &park));
    let waive = format!("waive {MEMBER} --absent --mark {} --evidence looked", mark(MEMBER));
    live(&waive, &ask(&site, "boss", &waive));
    let acknowledge = format!("acknowledge vm/vm0001 --mark {} --reason by-phone", mark("vm/vm0001"));
    live(&acknowledge, &ask_until_done(&site, "boss", &acknowledge));
}

/// Nothing ends the time for it: the ceiling keeps purge from beginning, however long it takes until a rescue is accepted.
#[test]
fn a_rescue_is_told_as_its_type_says() {
    let site = Site::start_with_days_of(DAY_MS, 1, "");
    let stop = "ceiling --everywhere --to hard --reason test";
    read(stop, &ask(&site, "test", stop));
    site.delete("vm/vm0001", None);
    let rescue = "rescue vm/vm0001 --evidence started-by-hand";
    let rescued: Outcome = told(rescue, &ask_within(RESCUED, &site, "test", rescue));
    assert_eq!(rescued.status, RecordStatus::Rescued);
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
    assert_eq!(described["notifier"], json!({ "told": [] }), "nobody has heard of a deletion");
    assert_eq!(stopped["stopped"], true);
}

#[test]
fn a_file_of_the_archive_is_told_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let (file, keys) = (folder.path().join("deletion-17.json"), folder.path().join("keys.toml"));
    let signer = BeaconSigner::generate("k", &mut rand::rng());
    std::fs::write(&file, seal(&document(), &signer).unwrap()).unwrap();
    std::fs::write(&keys, signer.verifier().to_file()).unwrap();
    let output = sexton().args(["-o", "json", "archived"]).arg(file).arg("--key").arg(keys).output().unwrap();
    let found: Value = told("archived", &output);
    assert_eq!(
        (&found["signature"], &found["document"]),
        (&json!("verified"), &json!("verified")),
        "{found}"
    );
    let record: DeletionInfo = of_type("archived", &found["record"]);
    assert_eq!((record.id, record.status), (document().deletion, RecordStatus::Recycled));
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
