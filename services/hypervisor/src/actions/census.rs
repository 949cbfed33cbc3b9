//! The census: all machines that are defined on this host, whoever defined them, page after page.
use std::collections::BTreeMap;

use sexton_consumer::driver::{Listed, Obstacle};
use sexton_model::ResourceId;
use sexton_model::belts::census::listing::Entry;
use sexton_model::resource::Identity;

use crate::machine::Host;
use crate::process;

/// The kind that is listed.
pub(crate) const KIND: &str = "vm";

/// At most `most` machines behind `after`. What is counted has to be what can be read, name by name: a machine that is left
/// out would be taken for gone.
pub(crate) async fn page(
    host: &dyn Host,
    after: Option<&ResourceId>,
    most: usize,
) -> Result<Listed, Obstacle> {
    let place = host.place().await?;
    let (names, total) = (host.names().await?, host.count().await?);
    if names.len() != total {
        return Err(Obstacle::Unclear(format!(
            "{}: {total} machines are defined, and {} names can be read",
            place.0,
            names.len()
        )));
    }
    let id = |name: &String| {
        let id = format!("{KIND}/{name}").parse::<ResourceId>();
        id.map_err(|_| Obstacle::Refuse(format!("{}: {name:?} is no name of a resource", place.0)))
    };
    let mut ids = names.iter().map(id).collect::<Result<Vec<ResourceId>, Obstacle>>()?;
    ids.retain(|id| after.is_none_or(|after| id > after));
    ids.sort();
    let more = ids.len() > most;
    ids.truncate(most);
    let mut entries = Vec::with_capacity(ids.len());
    for id in ids {
        let gone = || Obstacle::Unclear(format!("{id} went away while it was listed"));
        let domain = host.domain(id.name.as_str()).await?.ok_or_else(gone)?;
        let identity = Identity::try_from(BTreeMap::from([("uuid".to_owned(), domain.uuid.to_string())]))
            .map_err(|e| Obstacle::Refuse(format!("{id}: {e}")))?;
        entries.push(Entry { id, identity: Some(identity) });
    }
    let still = host.place().await?;
    if still != place {
        return Err(Obstacle::Refuse(format!(
            "it was {} and is {} now: it is another host",
            place.0, still.0
        )));
    }
    let total = u64::try_from(total).unwrap_or(u64::MAX);
    Ok(Listed { entries, more, total, credential: format!("uid {}", process::user()), place })
}

#[cfg(test)]
mod tests {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::OsStrExt;
    use std::path::PathBuf;

    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::{qemu, sandbox};

    const NAMES: [&str; 5] = ["db01", "web01", "web02", "web03", "web10"];

    fn uuid(name: &str) -> Uuid {
        Uuid::from_u128(NAMES.iter().position(|known| *known == name).unwrap() as u128 + 1)
    }

    /// A host with these machines, all off, and where it keeps them.
    struct Somewhere {
        _folder: tempfile::TempDir,
        host: Box<dyn Host>,
        vms: PathBuf,
        emulates: bool,
    }

    fn everywhere() -> [Somewhere; 2] {
        let folder = tempfile::tempdir().unwrap();
        let instance = "hypervisor.main".parse().unwrap();
        for name in NAMES {
            sandbox::create_vm(folder.path(), &instance, name, uuid(name), false).unwrap();
        }
        let config = sandbox::Config { root: folder.path().to_owned(), instance };
        let vms = folder.path().join("hypervisor/main/vms");
        let host = Box::new(sandbox::SandboxHost::new(&config));
        let sandbox = Somewhere { _folder: folder, host, vms, emulates: false };

        let folder = tempfile::tempdir().unwrap();
        qemu::create(folder.path(), Uuid::from_u128(77)).unwrap();
        for name in NAMES {
            let definition = json!({ "uuid": uuid(name), "memory_mib": 16, "disks": [] });
            qemu::define(folder.path(), name, definition.as_object().unwrap()).unwrap();
        }
        let config = qemu::Config {
            root: folder.path().to_owned(),
            qemu_system: "qemu-system-x86_64".into(),
            qemu_img: "qemu-img".into(),
            accelerator: "tcg".into(),
        };
        let vms = folder.path().join("vms");
        let host = Box::new(qemu::QemuHost::new(config).unwrap());
        [sandbox, Somewhere { _folder: folder, host, vms, emulates: true }]
    }

    impl Somewhere {
        fn file(&self, name: &OsStr) -> PathBuf {
            if self.emulates {
                return self.vms.join(name).join("domain.json");
            }
            let mut file = OsString::from(name);
            file.push(".json");
            self.vms.join(file)
        }

        /// The definition of one more machine says this.
        fn write(&self, name: &OsStr, text: &[u8]) {
            let file = self.file(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }

        async fn all(&self, most: usize) -> Result<Vec<Listed>, Obstacle> {
            let mut pages: Vec<Listed> = Vec::new();
            loop {
                let after = pages.last().and_then(|page| page.entries.last()).map(|entry| entry.id.clone());
                let next = page(&*self.host, after.as_ref(), most).await?;
                let more = next.more;
                pages.push(next);
                if !more {
                    return Ok(pages);
                }
            }
        }
    }

    #[tokio::test]
    async fn every_machine_is_listed_once_with_its_uuid_however_small_the_pages() {
        for place in everywhere() {
            for (most, expected) in [(1, 5), (2, 3), (4, 2), (5, 1), (200, 1)] {
                let pages = place.all(most).await.unwrap();
                assert_eq!(pages.len(), expected, "pages of {most}");
                let listed: Vec<_> = pages.iter().flat_map(|page| &page.entries).collect();
                let names: Vec<_> = listed.iter().map(|entry| entry.id.name.as_str()).collect();
                assert_eq!(names, NAMES);
                for entry in listed {
                    let shown = entry.identity.as_ref().and_then(|identity| identity.get("uuid"));
                    assert_eq!(shown, Some(&*uuid(entry.id.name.as_str()).to_string()));
                }
                assert!(pages.iter().all(|page| page.total == 5 && page.place == pages[0].place));
            }
        }
    }

    #[tokio::test]
    async fn a_machine_that_cannot_be_read_fails_the_listing() {
        for place in everywhere() {
            for text in [&b"{"[..], br#"{"uuid": "none", "identity": {"uuid": "none"}}"#] {
                place.write(OsStr::new("web04"), text);
                let failed = place.all(200).await.unwrap_err();
                assert!(matches!(failed, Obstacle::Unclear(_)), "{failed:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_machine_whose_name_is_none_fails_the_listing() {
        for place in everywhere() {
            let whole = std::fs::read(place.file(OsStr::new("web01"))).unwrap();
            place.write(OsStr::from_bytes(b"web\xff"), &whole);
            let failed = place.all(200).await.unwrap_err().to_string();
            assert!(failed.contains("6 machines are defined, and 5 names can be read"), "{failed}");
        }
        for place in everywhere() {
            let whole = std::fs::read(place.file(OsStr::new("web01"))).unwrap();
            place.write(OsStr::new("web 01"), &whole);
            let failed = place.all(2).await.unwrap_err();
            assert!(matches!(&failed, Obstacle::Refuse(why) if why.contains("\"web 01\"")), "{failed:?}");
        }
    }

    #[tokio::test]
    async fn a_place_that_is_none_lists_nothing() {
        for place in everywhere() {
            let mark =
                if place.emulates { place.vms.join(".place") } else { place.vms.join("../place.json") };
            std::fs::remove_file(mark).unwrap();
            assert!(matches!(place.all(200).await.unwrap_err(), Obstacle::Unclear(_)));
        }
    }
}
