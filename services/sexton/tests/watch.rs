//! `sexton watch`: says what changes, outlasts a restart, and ends when nothing is left to change.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod site;
mod waiting;

use std::fs::File;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;
use site::{Site, serve, sexton};
use waiting::{until, until_within};

/// From announce to recycle it is 43 days.
const DAY_MS: u32 = 500;
/// All of them, on a busy machine.
const RECYCLED: Duration = Duration::from_secs(240);

/// Whoever watches, ended with the test.
struct Watcher(Child);

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What it says goes to files: a pipe that nobody reads would stop it.
fn watch(site: &Site, file: &str, arguments: &[&str]) -> Watcher {
    let [said, complained] = [file.to_owned(), format!("{file}.errors")]
        .map(|f| File::create(site.folder.path().join(f)).unwrap());
    let mut command = sexton();
    command.args(["--url", &format!("http://{}", site.api), "--actor", "test", "watch"]).args(arguments);
    Watcher(command.stdin(Stdio::null()).stdout(said).stderr(complained).spawn().unwrap())
}

#[test]
fn a_deletion_is_followed_until_it_is_over() {
    let site = Site::start_with_days_of(DAY_MS, 2, "");
    let id = site.delete("vm/vm0001", None);
    let mut one = watch(&site, "one", &[id.as_str(), "-o", "json"]);
    let mut all = watch(&site, "all", &[]);
    for watcher in [&mut one, &mut all] {
        until_within(RECYCLED, "it ends by itself", || watcher.0.try_wait().unwrap().is_some());
        assert!(watcher.0.wait().unwrap().success());
    }
    let said = |file: &str| std::fs::read_to_string(site.folder.path().join(file)).unwrap();
    let seen: Vec<Value> = said("one").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (first, last) = (seen.first().unwrap(), seen.last().unwrap());
    assert_eq!((&first["status"], &last["status"]), (&"live".into(), &"recycled".into()), "{seen:?}");
    assert!(seen.iter().all(|info| info["id"] == id.as_str()), "{seen:?}");
    assert!(seen.len() > 2 && seen.windows(2).all(|two| two[0] != two[1]), "only changes are said: {seen:?}");
    let all = said("all");
    assert!(all.contains("vm/vm0001") && !all.contains("vm/vm0002"), "{all}");
    assert!(["announce", "soft", "hard"].iter().any(|stage| all.contains(stage)), "{all}");
    assert!(all.contains("recycle"), "{all}");
}

#[test]
fn a_restart_is_outlasted_and_said_once() {
    let mut site = Site::start(1, "");
    let id = site.delete("vm/vm0001", None);
    let _watcher = watch(&site, "one", &[id.as_str()]);
    let read = |site: &Site, file: &str| std::fs::read_to_string(site.folder.path().join(file)).unwrap();
    until("the record is seen", || read(&site, "one").contains(&id));
    site.process.kill().unwrap();
    site.process.wait().unwrap();
    until("the outage is told", || read(&site, "one.errors").contains("looking again"));
    site.process = serve(site.folder.path(), site.api);
    let (done, said) = site.says(&["hold", &id, "--reason", "after the restart"]);
    assert!(done, "{said}");
    until("what comes after it is seen", || read(&site, "one").contains("after the restart"));
    // That it is a rehearsal is said once, too, before anything else.
    let complained = read(&site, "one.errors");
    assert!(complained.starts_with("REHEARSAL: ") && complained.lines().count() == 2, "{complained}");
}

#[test]
fn what_nobody_knows_is_not_waited_for() {
    let site = Site::start(1, "");
    let (done, said) = site.says(&["watch", "vm/nobody"]);
    assert!(!done && said.contains("vm/nobody"), "{said}");
    // Nothing is live: there is nothing to wait for.
    assert!(site.says(&["watch"]).0);
}
