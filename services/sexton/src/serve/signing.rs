//! The key that `sexton serve` signs the audit trail with. All others are drawn at each start; what this one signed has
//! to be verified years later, so it is made once, and kept.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use secrecy::ExposeSecret;
use sexton_protocol::{BeaconSigner, BeaconVerifier};
use sexton_service::secret;

/// The key of the job table in this file, `FILE.audit.secret.toml`, and all that have ever signed for it,
/// `FILE.audit.public.toml`. A key that is missing is made, and joins those: what a lost one has signed can be verified
/// still.
///
/// # Errors
/// If one of the files cannot be read, written or parsed.
pub fn keys(sqlite: &Path) -> anyhow::Result<(Arc<BeaconSigner>, BeaconVerifier)> {
    let (private, public) = (beside(sqlite, ".audit.secret.toml"), beside(sqlite, ".audit.public.toml"));
    let there = |file: &Path| file.try_exists().with_context(|| format!("looking for {}", file.display()));
    if !there(&private)? {
        // Its id is drawn, too, so that keys are told apart by it.
        let id = format!("audit-{}", uuid::Uuid::new_v4().simple());
        tracing::warn!(file = %private.display(), key = id, "a new key to sign the audit trail with");
        secret::write_new(&private, &BeaconSigner::generate(id, &mut rand::rng()).to_file())?;
    }
    let signer =
        BeaconSigner::parse(&private.display().to_string(), secret::read(&private)?.expose_secret())?;
    let mut known = BeaconVerifier::default();
    if there(&public)? {
        let text =
            std::fs::read_to_string(&public).with_context(|| format!("reading {}", public.display()))?;
        known = BeaconVerifier::parse(&public.display().to_string(), &text)?;
    }
    // Also after a start that was cut short.
    if !known.key_ids().any(|id| id == signer.key_id()) {
        known = known.and(signer.verifier());
        replace(&public, &known.to_file()).with_context(|| format!("writing {}", public.display()))?;
    }
    Ok((Arc::new(signer), known))
}

/// As a whole: older keys must not be lost half-way.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let aside = beside(file, ".new");
    std::fs::write(&aside, text)?;
    std::fs::File::open(&aside)?.sync_all()?;
    std::fs::rename(&aside, file)
}

fn beside(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_none_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let sqlite = folder.path().join("sexton.db");
        let (first, _) = keys(&sqlite).unwrap();
        let ids = |known: &BeaconVerifier| known.key_ids().map(str::to_owned).collect::<Vec<_>>();
        let (second, known) = keys(&sqlite).unwrap();
        assert_eq!(first.key_id(), second.key_id());
        assert_eq!(ids(&known), [first.key_id()]);
        std::fs::remove_file(beside(&sqlite, ".audit.public.toml")).unwrap();
        assert_eq!(ids(&keys(&sqlite).unwrap().1), [first.key_id()]);
        std::fs::remove_file(beside(&sqlite, ".audit.secret.toml")).unwrap();
        let (third, known) = keys(&sqlite).unwrap();
        assert_ne!(third.key_id(), first.key_id());
        let mut both = vec![first.key_id(), third.key_id()];
        both.sort_unstable();
        assert_eq!(ids(&known), both);
    }
}
