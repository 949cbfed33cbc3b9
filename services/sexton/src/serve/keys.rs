//! Making the keys of an installation on many machines.
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use rand::distr::{Alphanumeric, SampleString};
use secrecy::SecretString;
use sexton_bus::Topology;
use sexton_model::Instance;
use sexton_protocol::{BeaconSigner, Holder, Keyring};
use sexton_service::secret::write_new;

/// Length of a broker password, in characters of 62: more than 256 bits.
const PASSWORD_CHARS: usize = 48;

/// Make `folder` with: `mac/HOLDER.toml` for each process, `mac/coordinator.toml` with all of them,
/// `beacon.secret.toml` for the coordinators, `beacon.public.toml` for everybody, `broker/USER` with each
/// user's password, and `broker-definitions.json` to be loaded by RabbitMQ.
///
/// # Errors
/// If the folder exists, or the file system refuses.
pub fn make(folder: &Path, instances: &[Instance], vhost: &str) -> anyhow::Result<()> {
    let doing = || format!("making {}", folder.display());
    std::fs::create_dir(folder).with_context(doing)?;
    for inner in ["mac", "broker"] {
        std::fs::create_dir(folder.join(inner)).with_context(doing)?;
    }
    let mut rng = rand::rng();
    let holders: Vec<Holder> =
        instances.iter().cloned().map(Holder::Instance).chain([Holder::Scheduler]).collect();
    let keyring = Keyring::generate(holders.iter().cloned(), &mut rng);
    for holder in &holders {
        write_new(&folder.join("mac").join(format!("{holder}.toml")), &keyring.only(holder).to_file())?;
    }
    write_new(&folder.join("mac/coordinator.toml"), &keyring.to_file())?;
    let signer = BeaconSigner::generate("beacon-1", &mut rng);
    write_new(&folder.join("beacon.secret.toml"), &signer.to_file())?;
    std::fs::write(folder.join("beacon.public.toml"), signer.verifier().to_file()).with_context(doing)?;
    let topology = Topology::for_instances(instances);
    let mut passwords = BTreeMap::new();
    for user in &topology.users {
        let password = Alphanumeric.sample_string(&mut rng, PASSWORD_CHARS);
        write_new(&folder.join("broker").join(&user.name), &SecretString::from(password.clone()))?;
        passwords.insert(user.name.clone(), password);
    }
    let definitions = topology.definitions(vhost, &passwords);
    let definitions = SecretString::from(serde_json::to_string_pretty(&definitions)?);
    write_new(&folder.join("broker-definitions.json"), &definitions)?;
    println!(
        "made {} for {} instances; give each process only its own files",
        folder.display(),
        instances.len()
    );
    Ok(())
}
