//! The wrong cluster: what answers at another place than the pinned one is not touched, though all that it holds has the
//! right names and the right identity.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use sexton_model::Instance;
use sexton_model::decide::Event;
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{JobState, Stage, StateName};

use super::gate::Point;
use super::system::{System, backup, hypervisor, monitoring, on_many_machines, ops};

on_many_machines! {
    another_place_is_not_touched,
}

/// All three subsystems.
const PLAN: &str = r#"
kind = "vm"
version = 1
criticality = "reproducible"
rehearsal = true
[stages.announce]
offset_days = 0
steps = [{ do = "hypervisor.inspect" }, { do = "monitoring.inspect" }, { do = "backup.inspect" }]
[stages.soft]
offset_days = 0
steps = [{ do = "monitoring.silence" }, { do = "hypervisor.stop" }, { do = "backup.final" }]
[stages.hard]
offset_days = 1
steps = [{ do = "hypervisor.undefine" }, { do = "monitoring.remove_target" }, { do = "backup.remove_schedule" }]
[stages.purge]
offset_days = 2
steps = [{ do = "hypervisor.delete_volumes" }, { do = "backup.delete_archives", after = ["hypervisor.undefine"] }, { do = "monitoring.delete_history" }]
[stages.recycle]
offset_days = 3
steps = []
"#;

/// An instance that was pointed at another cluster, which is a copy of its own.
struct Elsewhere {
    here: PathBuf,
    own: PathBuf,
}

impl Elsewhere {
    fn point(system: &System, instance: &Instance) -> Self {
        let here = system.folder().join(instance.subsystem.as_str()).join(instance.name.as_str());
        let own = here.with_extension("own");
        std::fs::rename(&here, &own).unwrap();
        assert!(Command::new("cp").arg("-a").args([&own, &here]).status().unwrap().success());
        std::fs::write(here.join("place.json"), r#"{"place": "sandbox:another"}"#).unwrap();
        Self { here, own }
    }

    /// Every file of both.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut all = files(&self.here);
        all.append(&mut files(&self.own));
        all
    }

    fn put_right(self) {
        std::fs::remove_dir_all(&self.here).unwrap();
        std::fs::rename(&self.own, &self.here).unwrap();
    }
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.append(&mut files(&path));
        } else {
            let content = std::fs::read(&path).unwrap();
            all.insert(path, content);
        }
    }
    all
}

/// Before each step, the one that only looks first: whatever is moved, it may be moved at any time.
#[tokio::test(flavor = "multi_thread")]
async fn another_place_is_not_touched() {
    let system = System::start_on(PLAN).await;
    let mut record = None;
    for (instance, gate, action, stage, second) in [
        // As it looks again before soft.
        (hypervisor(), &system.hypervisor, "inspect", Stage::Soft, true),
        // Behind its capture.
        (monitoring(), &system.monitoring, "silence", Stage::Soft, true),
        (hypervisor(), &system.hypervisor, "stop", Stage::Soft, true),
        (backup(), &system.backup, "final", Stage::Soft, false),
        (hypervisor(), &system.hypervisor, "undefine", Stage::Hard, false),
        (monitoring(), &system.monitoring, "remove_target", Stage::Hard, false),
        (backup(), &system.backup, "remove_schedule", Stage::Hard, false),
        (hypervisor(), &system.hypervisor, "delete_volumes", Stage::Purge, false),
        (backup(), &system.backup, "delete_archives", Stage::Purge, false),
        (monitoring(), &system.monitoring, "delete_history", Stage::Purge, false),
    ] {
        if second {
            gate.close_at_change(action, Point::Look);
        } else {
            gate.close(action, Point::Look);
        }
        let id = match record {
            None => system.delete().await,
            Some(id) => {
                system.tell(id, Event::Retry { by: ops() }).await.unwrap();
                id
            }
        };
        record = Some(id);
        gate.reached().await;
        let changes = gate.changes();
        let elsewhere = Elsewhere::point(&system, &instance);
        let before = elsewhere.files();
        gate.open();
        let job = system.until_job(id, stage, |state| state.name() == StateName::Parked).await;
        let JobState::Parked { reason } = job.state else { panic!("{job:?}") };
        assert!(reason.contains(&format!("sandbox:{instance}")), "{action}: {reason}");
        assert!(reason.contains("but this is sandbox:another"), "{action}: {reason}");
        assert_eq!(gate.changes(), changes, "{action}: it is not even told to change anything");
        assert!(elsewhere.files() == before, "{action}: something was changed in one of the two");
        elsewhere.put_right();
    }
    let id = record.unwrap();
    system.tell(id, Event::Retry { by: ops() }).await.unwrap();
    system.until_over(id, RecordStatus::Recycled).await;
}
