//! Images: what machines are made from goes only when nobody uses it.
use std::os::unix::fs::MetadataExt;
use std::time::UNIX_EPOCH;

use sexton_model::resource::Identity;

use super::*;

impl Host {
    /// An image: empty, or one that builds on another.
    pub(super) fn make_image(&self, name: &str, on: Option<&str>) {
        let path = self.volume(name).display().to_string();
        match on {
            None => run("qemu-img", &["create", "-q", "-f", "qcow2", &path, "64M"]),
            Some(on) => {
                run(
                    "qemu-img",
                    &["create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", on, &path, "64M"],
                );
            }
        }
    }

    /// What makes an image this one: its inode, and when it was made.
    pub(super) fn identity_of(&self, image: &str) -> Identity {
        let metadata = std::fs::metadata(self.volume(image)).unwrap();
        let made = metadata.created().unwrap().duration_since(UNIX_EPOCH).unwrap();
        let file = format!("inode {} of {}.{:09}", metadata.ino(), made.as_secs(), made.subsec_nanos());
        serde_json::from_value(json!({ "file": file })).unwrap()
    }

    /// Asked about an image.
    fn bench_of(&self, image: &str) -> Bench {
        let mut bench = self.bench();
        bench.resource = format!("image/{image}").parse().unwrap();
        bench.identity = self.identity_of(image);
        bench
    }

    /// What an inspection pins of an image.
    pub(super) async fn pinned_image(&self, image: &str) -> Value {
        match self.bench_of(image).ask(Mode::Inspect, "inspect_image", None).await {
            Outcome::Done { finding: Some(targets), .. } => targets,
            other => panic!("{other:?}"),
        }
    }
}

/// A disk that builds on it, with and without a machine, machines that have it themselves, and a program.
#[tokio::test]
async fn who_uses_an_image_is_told_in_each_stage_and_it_goes_only_when_nobody_does() {
    let host = Host::with("SEXTON_TEST_QEMU_POLITE");
    let image = "debian12.qcow2";
    host.make_image(image, None);
    let mut bench = host.bench_of(image);
    bench.targets = host.pinned_image(image).await;
    let refused = async |because: &str| {
        for (mode, action) in [
            (Mode::Inspect, "inspect_image"),
            (Mode::Perform, "check_unused"),
            (Mode::Perform, "delete_image"),
        ] {
            let why = refusal(&bench.ask(mode, action, None).await);
            assert!(
                why.contains("image debian12.qcow2 is in use") && why.contains(because),
                "{action}: {why}"
            );
        }
        assert!(host.volume(image).exists());
    };
    host.make_image("db01-root.qcow2", Some(image));
    refused("volume db01-root.qcow2 builds on it").await;
    let db01 = |disk: &str| {
        let db01 = json!({ "uuid": Uuid::new_v4(), "memory_mib": 16, "disks": [disk] });
        qemu::define(host.root(), "db01", db01.as_object().unwrap()).unwrap();
    };
    let reader = json!({ "uuid": Uuid::new_v4(), "memory_mib": 16, "images": [image] });
    qemu::define(host.root(), "ro01", reader.as_object().unwrap()).unwrap();
    refused("it is an image of ro01").await;
    std::fs::remove_dir_all(host.root().join("vms/ro01")).unwrap();
    db01("db01-root.qcow2");
    refused("volume db01-root.qcow2, a disk of db01, builds on it").await;
    std::fs::remove_file(host.volume("db01-root.qcow2")).unwrap();
    db01(image);
    refused("it is a disk of db01").await;
    std::fs::remove_dir_all(host.root().join("vms/db01")).unwrap();
    let open = std::fs::File::open(host.volume(image)).unwrap();
    refused("has it open").await;
    drop(open);
    assert!(matches!(bench.perform("check_unused").await, Outcome::Done { .. }));
    for _ in 0..2 {
        evidence(&bench.perform("delete_image").await, Presence::Absent);
    }
    assert!(!host.volume(image).exists());
}
