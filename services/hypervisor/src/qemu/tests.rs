//! Who uses a volume, by the definitions of machines that are off: no emulator is needed for that.
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use serde_json::json;
use tokio::time::Duration;

use super::*;

const IMAGE: &str = "debian12.qcow2";

struct Somewhere {
    folder: tempfile::TempDir,
    host: QemuHost,
    /// The volume that is asked for.
    image: &'static str,
}

impl Somewhere {
    /// With an image, and a program that is content with every volume.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        create(folder.path(), Uuid::from_u128(77)).unwrap();
        let config = Config {
            root: folder.path().to_owned(),
            qemu_system: "false".into(),
            qemu_img: "true".into(),
            accelerator: "tcg".into(),
        };
        let host = QemuHost::new(config).unwrap();
        std::fs::write(host.volumes.path(IMAGE), "QFI").unwrap();
        Self { folder, host, image: IMAGE }
    }

    /// The machine `db01` is defined, and has these keys.
    fn define(&self, keys: &Value) {
        let mut definition = json!({ "uuid": Uuid::from_u128(7), "memory_mib": 16 });
        definition.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        define(self.folder.path(), "db01", definition.as_object().unwrap()).unwrap();
    }

    /// Who uses the image.
    async fn user(&self, but: Option<Owner<'_>>) -> Result<Option<String>, Obstacle> {
        let image = Volume {
            path: self.image.to_owned(),
            file: "inode 7".to_owned(),
            format: "qcow2".to_owned(),
            size: 0,
            snapshots: Vec::new(),
        };
        self.host.volume_user(&image, but, Instant::now() + Duration::from_secs(60)).await
    }
}

#[tokio::test]
async fn an_image_is_used_by_a_machine_and_never_its_own() {
    let place = Somewhere::new();
    assert_eq!(place.user(None).await, Ok(None));
    place.define(&json!({ "disks": ["db01-root.qcow2"], "images": [IMAGE] }));
    assert_eq!(place.user(None).await, Ok(Some("it is an image of db01".to_owned())));
    // What would be pinned, and go with it.
    let domain = place.host.domain("db01").await.unwrap().unwrap();
    assert_eq!(domain.volumes, ["db01-root.qcow2"]);
    assert_eq!(domain.settings["images"], json!([IMAGE]));

    // It may be read, by whoever else reads it, too.
    let (_, definition) = place.host.definitions.read("db01").unwrap().unwrap();
    let folder = place.host.definitions.folder_of("db01");
    let started = power::arguments("db01", &definition, &folder, &place.host.volumes, "tcg").unwrap();
    let blocks = started.windows(2).filter(|pair| pair[0] == "-blockdev");
    let blocks: Vec<Value> = blocks.map(|pair| serde_json::from_str(&pair[1]).unwrap()).collect();
    let path = place.host.volumes.path(IMAGE).display().to_string();
    let [disk, image] = blocks.as_slice() else { panic!("{blocks:?}") };
    assert_eq!((&image["file"]["filename"], &image["read-only"]), (&json!(path), &json!(true)));
    assert_eq!(disk.get("read-only"), None);

    place.define(&json!({ "disks": [IMAGE], "images": [IMAGE] }));
    let both = place.user(None).await;
    assert!(matches!(&both, Err(Obstacle::Unclear(why)) if why.contains("of its images")), "{both:?}");
    place.define(&json!({ "disks": [IMAGE] }));
    assert_eq!(place.user(None).await, Ok(Some("it is a disk of db01".to_owned())));
    assert_eq!(place.user(Some(Owner { name: "db01", process: None })).await, Ok(None));
}

#[tokio::test]
async fn a_machine_whose_name_cannot_be_read_is_not_left_out() {
    let place = Somewhere::new();
    place.define(&json!({ "disks": [IMAGE] }));
    let vms = place.folder.path().join("vms");
    let folder = vms.join(OsStr::from_bytes(b"db\xff"));
    std::fs::rename(vms.join("db01"), &folder).unwrap();
    let refused =
        |why: &Obstacle| matches!(why, Obstacle::Refuse(why) if why.contains("its name is no text"));
    let user = place.user(None).await;
    assert!(user.as_ref().is_err_and(refused), "{user:?}");
    // Nor is it told from one that is not there.
    let defined = place.host.defined_as(Uuid::from_u128(7)).await;
    assert!(defined.as_ref().is_err_and(refused), "{defined:?}");
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(place.user(None).await, Ok(None));
}

#[tokio::test]
async fn a_file_that_an_argument_names_is_used() {
    let mut place = Somewhere::new();
    let used = Ok(Some("it is named in an argument (\"extra\") of db01".to_owned()));
    let path = place.host.volumes.path(IMAGE).display().to_string();
    for argument in [format!("file={path},media=cdrom"), json!({ "filename": path }).to_string()] {
        place.define(&json!({ "extra": ["-drive", argument] }));
        assert_eq!(place.user(None).await, used);
        assert_eq!(place.user(Some(Owner { name: "db01", process: None })).await, Ok(None));
    }
    place.define(&json!({ "extra": ["-drive", "file=other.qcow2,media=cdrom"] }));
    assert_eq!(place.user(None).await, Ok(None));

    place.image = "debian12,small.qcow2";
    std::fs::write(place.host.volumes.path(place.image), "QFI").unwrap();
    place.define(&json!({ "extra": ["-drive", "file=volumes/debian12,,small.qcow2,format=qcow2"] }));
    assert_eq!(place.user(None).await, used);
}
