//! The keys of an installation on many machines: made, completed, exchanged.
//!
//! A folder of keys holds `mac/HOLDER.toml` for each process, `mac/coordinator.toml` with all of them,
//! `beacon.secret.toml` for the coordinators, `beacon.public.toml` for everybody, `broker/USER` with each user's
//! password, and `broker-definitions.json` to be loaded by RabbitMQ. Nothing that is there is ever drawn anew, but
//! by [`rotate`]; a call that was cut short is completed by the next one.
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rand::distr::{Alphanumeric, SampleString};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use sexton_bus::Topology;
use sexton_model::Instance;
use sexton_protocol::{BeaconSigner, Holder, Keyring, Rotation};
use sexton_service::secret::{self, replace, write_new};

/// Length of a broker password, in characters of 62: more than 256 bits.
const PASSWORD_CHARS: usize = 48;
/// The virtual host, if nobody says which.
const VHOST: &str = "sexton";

/// What [`make`] has done.
#[derive(Debug, Serialize)]
pub struct Made {
    folder: PathBuf,
    /// Whose keys are new.
    added: Vec<Holder>,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (folder, added) = (self.folder.display(), &self.added);
        if added.is_empty() {
            return write!(f, "{folder}: nobody was missing; broker-definitions.json was written again");
        }
        let added: Vec<_> = added.iter().map(ToString::to_string).collect();
        write!(
            f,
            "{folder}: new keys for {}.\nGive each process only its own files, the coordinators the new \
             mac/coordinator.toml,\nand load broker-definitions.json into RabbitMQ; then start the coordinators again.",
            added.join(", ")
        )
    }
}

/// What [`rotate`] has done.
#[derive(Debug, Serialize)]
pub struct Rotated {
    holder: Holder,
    /// Which step of the three was taken; none if the one before was only completed.
    step: Option<u8>,
    /// The files that are new: first that of the coordinators, if it is one of them, last the holder's own.
    hand_out: Vec<PathBuf>,
}

impl fmt::Display for Rotated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { holder, step, hand_out } = self;
        let files: Vec<_> = hand_out.iter().map(|file| file.display().to_string()).collect();
        let files = files.join(" and ");
        let done = match step {
            None => {
                return write!(
                    f,
                    "{files} did not hold what the coordinators know of {holder}, and does now. No step was taken; \
                     hand it out."
                );
            }
            Some(1) => "a new key, which is accepted and signs nothing yet",
            Some(2) => "the new key signs, the old one is still accepted",
            Some(_) => "the old key is gone",
        };
        let number = step.unwrap_or_default();
        write!(
            f,
            "{holder}: step {number} of 3: {done}.\nHand out {files}, and start their processes again, in any order."
        )?;
        if number < 3 {
            write!(f, "\nWhen all of them run with it: the same command again.")?;
        }
        Ok(())
    }
}

/// Make `folder`, or add what is missing in it for `instances`. Says what was done.
///
/// # Errors
/// If the folder holds something else, its virtual host is another one, or the file system refuses.
pub fn make(folder: &Path, instances: &[Instance], vhost: Option<&str>) -> anyhow::Result<Made> {
    let doing = || format!("making {}", folder.display());
    let ours = folder.join("mac").is_dir();
    let empty = !folder.exists() || std::fs::read_dir(folder).with_context(doing)?.next().is_none();
    anyhow::ensure!(
        ours || empty,
        "{}: expected a new folder, or one that this command made",
        folder.display()
    );
    let vhost = vhost_of(folder, vhost)?;
    for inner in ["mac", "broker"] {
        std::fs::create_dir_all(folder.join(inner)).with_context(doing)?;
    }
    let mut rng = rand::rng();
    let (keyring, added) = complete(folder, instances, &mut rng)?;
    beacon(folder, &mut rng)?;
    let everybody: Vec<Instance> = keyring.holders().filter_map(instance).collect();
    let topology = Topology::for_instances(&everybody);
    let mut passwords = BTreeMap::new();
    for user in &topology.users {
        let file = folder.join("broker").join(&user.name);
        if !file.exists() {
            write_new(&file, &SecretString::from(Alphanumeric.sample_string(&mut rng, PASSWORD_CHARS)))?;
        }
        passwords.insert(user.name.clone(), secret::read(&file)?.expose_secret().to_owned());
    }
    let definitions = topology.definitions(&vhost, &passwords);
    let definitions = SecretString::from(serde_json::to_string_pretty(&definitions)?);
    replace(&folder.join("broker-definitions.json"), &definitions)?;
    Ok(Made { folder: folder.to_owned(), added })
}

/// Take the next step of exchanging the key of `holder`. Says what was done, and what to do before the next one.
///
/// # Errors
/// If the folder is not one that [`make`] made, `holder` has no key in it, or the file system refuses.
pub fn rotate(folder: &Path, holder: &Holder) -> anyhow::Result<Rotated> {
    let (coordinators, own) = (coordinators(folder), file_of(folder, holder));
    let mut ring = read(&coordinators)?;
    let hint = || format!("{}: no key of {holder}; sexton keys adds one", coordinators.display());
    anyhow::ensure!(ring.holders().any(|h| h == holder), hint());
    let same =
        own.exists() && read(&own)?.to_file().expose_secret() == ring.only(holder).to_file().expose_secret();
    if !same {
        replace(&own, &ring.only(holder).to_file())?;
        return Ok(Rotated { holder: holder.clone(), step: None, hand_out: vec![own] });
    }
    let step = ring.rotate(holder, &mut rand::rng()).with_context(hint)?;
    replace(&coordinators, &ring.to_file())?;
    replace(&own, &ring.only(holder).to_file())?;
    let step = match step {
        Rotation::HandedOut => 1,
        Rotation::Signs => 2,
        Rotation::Retired => 3,
    };
    Ok(Rotated { holder: holder.clone(), step: Some(step), hand_out: vec![coordinators, own] })
}

fn coordinators(folder: &Path) -> std::path::PathBuf {
    folder.join("mac/coordinator.toml")
}

fn file_of(folder: &Path, holder: &Holder) -> std::path::PathBuf {
    folder.join("mac").join(format!("{holder}.toml"))
}

fn read(file: &Path) -> anyhow::Result<Keyring> {
    Ok(Keyring::parse(&file.display().to_string(), secret::read(file)?.expose_secret())?)
}

fn instance(holder: &Holder) -> Option<Instance> {
    match holder {
        Holder::Instance(instance) => Some(instance.clone()),
        Holder::Scheduler => None,
    }
}

/// The ring of all keys, with one for each of `instances` and the scheduler, and who is new in it.
fn complete(
    folder: &Path,
    instances: &[Instance],
    rng: &mut impl rand::CryptoRng,
) -> anyhow::Result<(Keyring, Vec<Holder>)> {
    let all = coordinators(folder);
    let mut ring = if all.exists() { read(&all)? } else { Keyring::default() };
    let mut added = Vec::new();
    for holder in instances.iter().cloned().map(Holder::Instance).chain([Holder::Scheduler]) {
        // A call that was cut short may have written the holder's file only.
        let own = file_of(folder, &holder);
        let known = own.exists() && ring.adopt(&holder, &read(&own)?);
        if ring.add_missing(&holder, rng) || known {
            added.push(holder.clone());
        }
        if !own.exists() {
            write_new(&own, &ring.only(&holder).to_file())?;
        }
    }
    if !added.is_empty() {
        replace(&all, &ring.to_file())?;
    }
    Ok((ring, added))
}

/// The beacon's key pair.
fn beacon(folder: &Path, rng: &mut impl rand::CryptoRng) -> anyhow::Result<()> {
    let (private, public) = (folder.join("beacon.secret.toml"), folder.join("beacon.public.toml"));
    if !private.exists() {
        write_new(&private, &BeaconSigner::generate("beacon-1", rng).to_file())?;
    }
    if !public.exists() {
        let signer =
            BeaconSigner::parse(&private.display().to_string(), secret::read(&private)?.expose_secret())?;
        std::fs::write(&public, signer.verifier().to_file())
            .with_context(|| format!("writing {}", public.display()))?;
    }
    Ok(())
}

/// The virtual host: the one that is asked for, and no other than the folder's.
fn vhost_of(folder: &Path, wanted: Option<&str>) -> anyhow::Result<String> {
    let file = folder.join("broker-definitions.json");
    if !file.exists() {
        return Ok(wanted.unwrap_or(VHOST).to_owned());
    }
    let there: serde_json::Value = serde_json::from_str(secret::read(&file)?.expose_secret())
        .with_context(|| format!("reading {}", file.display()))?;
    let there = there
        .pointer("/vhosts/0/name")
        .and_then(serde_json::Value::as_str)
        .with_context(|| format!("{}: expected one virtual host", file.display()))?;
    anyhow::ensure!(
        wanted.is_none_or(|wanted| wanted == there),
        "--vhost {}: {} is for the virtual host {there}",
        wanted.unwrap_or_default(),
        folder.display()
    );
    Ok(there.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn instances(names: &[&str]) -> Vec<Instance> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    /// Every file below `folder`, with what is in it.
    fn files(folder: &Path) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for inner in ["", "mac", "broker"] {
            for entry in std::fs::read_dir(folder.join(inner)).unwrap().map(Result::unwrap) {
                if entry.path().is_file() {
                    let name = format!("{inner}/{}", entry.file_name().display());
                    found.insert(name, std::fs::read_to_string(entry.path()).unwrap());
                }
            }
        }
        found
    }

    #[test]
    fn adding_an_instance_touches_no_key() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("keys");
        make(&folder, &instances(&["dns.main", "ipam.main"]), Some("lab")).unwrap();
        let before = files(&folder);
        let said = make(&folder, &instances(&["dns.main", "dns.internal"]), None).unwrap().to_string();
        assert!(said.contains("new keys for dns.internal."), "{said}");
        let after = files(&folder);
        let changed: Vec<_> =
            after.iter().filter(|(f, text)| before.get(*f) != Some(text)).map(|(f, _)| f).collect();
        let expected = [
            "/broker-definitions.json",
            "broker/dns.internal",
            "mac/coordinator.toml",
            "mac/dns.internal.toml",
        ];
        assert_eq!(changed, expected);
        let ring = read(&coordinators(&folder)).unwrap();
        for name in ["dns.main", "ipam.main", "dns.internal", "scheduler"] {
            let holder = name.parse().unwrap();
            let own = &after[&format!("mac/{name}.toml")];
            assert_eq!(ring.only(&holder).to_file().expose_secret(), own, "{name}");
        }
        let definitions: serde_json::Value =
            serde_json::from_str(&after["/broker-definitions.json"]).unwrap();
        assert_eq!(definitions.pointer("/vhosts/0/name").unwrap(), "lab");
        let users: Vec<_> = definitions["users"].as_array().unwrap().iter().map(|u| &u["name"]).collect();
        assert!(
            ["ipam.main", "dns.internal"].iter().all(|name| users.contains(&&serde_json::json!(name))),
            "{users:?}"
        );
        for file in ["mac/coordinator.toml", "broker-definitions.json", "mac/dns.internal.toml"] {
            let mode = std::fs::metadata(folder.join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn what_was_cut_short_is_completed() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("keys");
        make(&folder, &instances(&["dns.main"]), None).unwrap();
        let own = file_of(&folder, &"ipam.main".parse().unwrap());
        let alone = Keyring::generate(["ipam.main".parse().unwrap()], &mut rand::rng()).to_file();
        write_new(&own, &alone).unwrap();
        make(&folder, &instances(&["ipam.main"]), None).unwrap();
        let ring = read(&coordinators(&folder)).unwrap();
        let known = ring.only(&"ipam.main".parse().unwrap()).to_file();
        assert_eq!(known.expose_secret(), alone.expose_secret());
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let base = tempfile::tempdir().unwrap();
        std::fs::write(base.path().join("diary"), "today").unwrap();
        let refused = make(base.path(), &instances(&["dns.main"]), None).unwrap_err();
        assert!(refused.to_string().contains("expected a new folder"), "{refused}");
        let folder = base.path().join("keys");
        make(&folder, &instances(&["dns.main"]), Some("lab")).unwrap();
        let refused = make(&folder, &instances(&["dns.main"]), Some("other")).unwrap_err();
        assert!(refused.to_string().contains("virtual host lab"), "{refused}");
        let refused = rotate(&folder, &"dns.other".parse().unwrap()).unwrap_err();
        assert!(refused.to_string().contains("no key of dns.other"), "{refused}");
    }

    #[test]
    fn a_rotation_takes_three_steps_in_both_files() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("keys");
        make(&folder, &instances(&["dns.main", "ipam.main"]), None).unwrap();
        let holder: Holder = "dns.main".parse().unwrap();
        let first = files(&folder);
        for (step, keys) in [("step 1 of 3", 2), ("step 2 of 3", 2), ("step 3 of 3", 1)] {
            let said = rotate(&folder, &holder).unwrap().to_string();
            assert!(said.contains(step), "{said}");
            let own = read(&file_of(&folder, &holder)).unwrap().to_file();
            let known = read(&coordinators(&folder)).unwrap().only(&holder).to_file();
            assert_eq!(own.expose_secret(), known.expose_secret());
            assert_eq!(own.expose_secret().matches("[[keys]]").count(), keys);
        }
        let last = files(&folder);
        assert_ne!(first["mac/dns.main.toml"], last["mac/dns.main.toml"]);
        assert_eq!(first["mac/ipam.main.toml"], last["mac/ipam.main.toml"]);
        // Cut short between the two files: the step is completed, not repeated.
        std::fs::write(file_of(&folder, &holder), &first["mac/dns.main.toml"]).unwrap();
        assert!(rotate(&folder, &holder).unwrap().to_string().contains("No step was taken"));
        assert_eq!(files(&folder), last);
    }
}
