//! What stays when the processes of a system are gone: its job table, its witness, and the subsystems' own files.
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sexton_model::ResourceId;
use sexton_testkit::bench::identity;

use super::job_table::{JobTable, Thief};
use super::{System, U1, backup, hypervisor, monitoring, web01};

/// See the module.
pub struct Standing {
    pub folder: tempfile::TempDir,
    pub job_table: JobTable,
}

impl Standing {
    /// With an empty job table, and `vm/web01` in all three subsystems.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (root, about, u1) = (folder.path(), web01(), identity(U1));
        sexton_monitoring::sandbox::create(root, &monitoring(), &about, &u1, "192.0.2.10:9100").unwrap();
        sexton_backup::sandbox::create(root, &backup(), &about, &u1, &["a"]).unwrap();
        let uuid = U1.parse().unwrap();
        sexton_hypervisor::sandbox::create_vm(root, &hypervisor(), "web01", uuid, false).unwrap();
        let job_table = JobTable::new(root);
        Self { folder, job_table }
    }
}

impl System {
    fn standing(&self) -> &Standing {
        self.standing.as_ref().unwrap()
    }

    /// Where everything lies that is a file.
    pub fn folder(&self) -> &Path {
        self.standing().folder.path()
    }

    /// What the subsystems show of `vm/web01`.
    pub fn world(&self) -> Value {
        let root = self.folder();
        json!([
            sexton_monitoring::sandbox::describe(root, &monitoring(), &web01()).unwrap(),
            sexton_backup::sandbox::describe(root, &backup(), &web01()).unwrap(),
            sexton_hypervisor::sandbox::describe_vm(root, &hypervisor(), "web01").unwrap(),
        ])
    }

    /// Another machine, as monitoring and backup have it; not registered.
    pub fn build(&self, id: &ResourceId) {
        let (root, u1) = (self.folder(), identity(U1));
        sexton_monitoring::sandbox::create(root, &monitoring(), id, &u1, "192.0.2.11:9100").unwrap();
        sexton_backup::sandbox::create(root, &backup(), id, &u1, &["a"]).unwrap();
    }

    /// What somebody else does to the job table.
    pub fn execute(&self, sql: &str) {
        self.standing().job_table.execute(sql);
    }

    /// Whether these bytes stand anywhere in the job table, as they are or in hexadecimal.
    pub fn keeps(&self, bytes: &[u8]) -> bool {
        self.standing().job_table.keeps(bytes)
    }

    /// What was begun of these (`canaries`, `drills`) was begun so much earlier, in milliseconds.
    pub fn begun_earlier(&self, table: &str, ms: u64) {
        self.standing().job_table.begun_earlier(table, ms);
    }

    /// Somebody else locks the job table, so that nobody can look for alarms, until what is returned is dropped.
    pub fn lock_job_table(&self) -> Thief {
        self.standing().job_table.lock()
    }

    /// The folder of the hypervisor's sandbox.
    pub fn host(&self) -> PathBuf {
        self.folder().join("hypervisor/main")
    }

    /// Somebody silences `vm/web01`, whatever was ordered.
    pub fn silence(&self) {
        self.edit_target(|target| target["silenced"] = true.into());
    }

    /// Somebody has `vm/web01` probed at another address.
    pub fn readdress(&self, address: &str) {
        self.edit_target(|target| target["address"] = address.into());
    }

    fn edit_target(&self, change: impl FnOnce(&mut Value)) {
        let file = self.folder().join("monitoring/main/targets/web01.json");
        let mut target: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        change(&mut target);
        std::fs::write(file, target.to_string()).unwrap();
    }

    /// Another machine of the same name, as monitoring sees it.
    pub fn recreate(&self) {
        let root = self.folder();
        std::fs::rename(root.join("monitoring"), root.join("monitoring.before")).unwrap();
        sexton_monitoring::sandbox::create(root, &monitoring(), &web01(), &identity("u2"), "192.0.2.10:9100")
            .unwrap();
    }

    /// The machine that was there before [`Self::recreate`], as it was then.
    pub fn bring_back(&self) {
        let root = self.folder();
        std::fs::remove_dir_all(root.join("monitoring")).unwrap();
        std::fs::rename(root.join("monitoring.before"), root.join("monitoring")).unwrap();
    }
}
