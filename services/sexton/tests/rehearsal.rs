//! A rehearsal says so wherever one looks, and nothing else does.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod served;
mod site;
mod waiting;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Stdio;

use served::{Served, resource};
use site::{Site, sexton};

/// What is asked, in this order: each command that asks a coordinator, whether or not it is refused. FOLDER is its folder,
/// DATE a day that is far off.
const ASKED: [&str; 43] = [
    "register FOLDER/one.json",
    "import FOLDER/one.json",
    "plan vm/vm0001 --on DATE --no-look",
    "delete vm/vm0001 --on DATE --reason test",
    "list",
    "list --archived",
    "show d-1",
    "show d-4711",
    "receipt d-1",
    "priority vm/vm0001 50",
    "hold d-1 --reason test",
    "release d-1",
    "pause --stage hard --reason test",
    "pause",
    "resume 1 --dry-run",
    "ceiling",
    "batches",
    "approve 1 --digest none --reason test",
    "override",
    "canaries",
    "drill",
    "census",
    "findings",
    "park d-1 --reason test",
    "review",
    "audit",
    "audit --of d-1",
    "token list",
    "whoami",
    "verify FOLDER/empty --key FOLDER/sexton.db.audit.public.toml",
    "retry d-1",
    "waive d-1 --absent --evidence test",
    "acknowledge d-1 --reason test",
    "bounced d-1 --reason test",
    "rescue d-1 --evidence test",
    "cancel --scope demo --dry-run",
    "cancel d-1 --reason test",
    "watch vm/nobody",
    "name vm/vm0001",
    "alarms",
    "alarms --all",
    "digest",
    "health",
];
/// Commands that ask no coordinator.
const ALONE: [&str; 6] = ["serve", "demo", "sandbox", "keys", "archived", "completions"];
/// What is asked without the program: what there is, what there is not, and what asks nobody.
const PATHS: [&str; 4] = ["/v1/deletions", "/v1/deletions/d-4711", "/nothing", "/livez"];

/// What a command says, on both channels.
fn says(api: SocketAddr, folder: &Path, line: &str) -> [String; 2] {
    let on = (chrono::Utc::now().date_naive() + chrono::Days::new(300)).to_string();
    let line = line.replace("FOLDER", folder.to_str().unwrap()).replace("DATE", &on);
    let mut command = sexton();
    command.args(["--url", &format!("http://{api}"), "--actor", "test"]).args(line.split(' '));
    let output = command.stdin(Stdio::null()).output().unwrap();
    [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned())
}

/// What comes before an answer's body.
fn head(api: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(api).unwrap();
    stream.set_read_timeout(Some(waiting::PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {api}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().0.to_owned()
}

/// Whatever the commands read.
fn lay_out(folder: &Path) {
    std::fs::write(folder.join("one.json"), resource("vm0001", "demo").to_string()).unwrap();
    std::fs::write(folder.join("empty"), "").unwrap();
}

#[test]
fn no_command_is_forgotten_here() {
    let help = String::from_utf8(sexton().arg("-h").output().unwrap().stdout).unwrap();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| line.is_empty() || line.starts_with(' '));
    let named = listed.filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')));
    let named: BTreeSet<&str> = named.filter_map(|rest| rest.split(' ').next()).collect();
    let known = ASKED.iter().filter_map(|line| line.split(' ').next()).chain(ALONE);
    assert_eq!(known.chain(["help"]).collect::<BTreeSet<_>>(), named);
}

#[test]
fn each_command_of_a_rehearsal_says_so_once() {
    let site = Site::start(1, "[audit]\ncheckpoint_secs = 1\n");
    let folder = site.folder.path();
    lay_out(folder);
    for line in ASKED {
        let [out, err] = says(site.api, folder, line);
        let itself = ["digest", "health"].contains(&line);
        let told = [&out, &err].map(|said| said.matches("REHEARSAL: a day lasts 60000 ms\n").count());
        assert_eq!(told, if itself { [1, 0] } else { [0, 1] }, "{line}: {out}{err}");
    }
    // A program reads it in what it asked for, or in the head of the answer.
    let [out, err] = says(site.api, folder, "list -o json");
    assert!(!out.contains("REHEARSAL") && err.is_empty(), "{out}{err}");
    for path in PATHS {
        assert!(head(site.api, path).contains("\r\nsexton-rehearsal: 60000"), "{path}");
    }
}

#[test]
fn where_days_are_those_of_the_calendar_nothing_says_so() {
    let served = Served::start(false);
    let folder = served.folder.path();
    lay_out(folder);
    for line in ASKED {
        let [out, err] = says(served.api, folder, line);
        assert!(!out.contains("REHEARSAL") && !err.contains("REHEARSAL"), "{line}: {out}{err}");
    }
    for path in PATHS {
        assert!(!head(served.api, path).contains("sexton-rehearsal"), "{path}");
    }
}
