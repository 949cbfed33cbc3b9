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

/// A secret that the configuration names by a file, `KEY_file`, or holds itself, as `KEY`. A file is better: the
/// configuration is read by more people.
///
/// # Errors
/// If both are given, or the file cannot be read.
pub fn either(
    key: &str,
    inline: Option<SecretString>,
    file: Option<&Path>,
) -> anyhow::Result<Option<SecretString>> {
    match (inline, file) {
        (Some(_), Some(_)) => anyhow::bail!("{key} and {key}_file: expected one of them"),
        (None, Some(file)) => Ok(Some(read(file).with_context(|| format!("{key}_file"))?)),
        (inline, None) => Ok(inline),
    }
}

/// Replace a secret as a whole, or write a new one: whoever reads it finds the old one or the new one. Who could
/// read the old one can read the new one.
///
/// # Errors
/// If the file system refuses; the old one is there still.
pub fn replace(file: &Path, secret: &SecretString) -> anyhow::Result<()> {
    let doing = || format!("writing the secret {}", file.display());
    let mut name = file.file_name().with_context(doing)?.to_owned();
    name.push(".new");
    let aside = file.with_file_name(name);
    // Left over by one that was killed: nobody ever used it.
    let _ = std::fs::remove_file(&aside);
    write_new(&aside, secret)?;
    if let Ok(old) = std::fs::metadata(file) {
        std::fs::set_permissions(&aside, old.permissions()).with_context(doing)?;
    }
    std::fs::rename(&aside, file).with_context(doing)
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
