//! Secrets come from files, are never logged, and must not be readable by everybody.
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use secrecy::SecretString;

/// Read a secret file, without its last line end.
///
/// # Errors
/// If it cannot be read, is empty, or others than its owner and group may read it.
pub fn read(file: &Path) -> anyhow::Result<SecretString> {
    let metadata =
        std::fs::metadata(file).with_context(|| format!("reading the secret {}", file.display()))?;
    anyhow::ensure!(
        metadata.permissions().mode() & 0o007 == 0,
        "{}: everybody may read this secret; expected mode 0600 or 0640",
        file.display()
    );
    anyhow::ensure!(metadata.len() <= 1 << 20, "{}: too large for a secret", file.display());
    let text =
        std::fs::read_to_string(file).with_context(|| format!("reading the secret {}", file.display()))?;
    let text = text.trim_end_matches(['\n', '\r']);
    anyhow::ensure!(!text.is_empty(), "{}: the secret is empty", file.display());
    Ok(SecretString::from(text.to_owned()))
}

/// Write a secret so that only its owner can read it. Refuses to replace one.
///
/// # Errors
/// If it exists or the file system refuses.
pub fn write_new(file: &Path, secret: &SecretString) -> anyhow::Result<()> {
    use secrecy::ExposeSecret;
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let doing = || format!("writing the secret {}", file.display());
    let mut out = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .with_context(doing)?;
    out.write_all(secret.expose_secret().as_bytes()).with_context(doing)?;
    out.sync_all().with_context(doing)
}
