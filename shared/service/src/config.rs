//! The configuration file, `sexton.toml`: one file for all processes, each of which reads its own sections.
mod sections;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::de::DeserializeOwned;

use crate::secret;
pub use sections::{Broker, Keys};

/// Largest configuration file, in bytes.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// Every section that any process reads.
pub const SECTIONS: &[&str] = &[
    "ledger",
    "broker",
    "keys",
    "api",
    "plans",
    "credit",
    "policy",
    "windows",
    "budgets",
    "census",
    "protect",
    "alarms",
    "canaries",
    "audit",
    "archive",
    "scheduler",
    "telemetry",
    "health",
    "consumers",
    "workers",
];

/// Why the configuration cannot be used. Names file, key and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file.
    #[error("there is no configuration file {file}: say where it is with --config FILE or SEXTON_CONFIG")]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// The file cannot be read.
    #[error("{file}: cannot be read")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is larger than any configuration.
    #[error("{file}: larger than {FILE_MAX_BYTES} bytes")]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// It holds a secret, and everybody may read it.
    #[error(
        "{file}: {key} is a secret, and everybody may read this file; expected mode 0600 or 0640, or the secret in a \
         file of its own"
    )]
    Exposed {
        /// The file.
        file: PathBuf,
        /// The key with the secret.
        key: String,
    },
    /// It is not TOML.
    #[error("{file}: {reason}")]
    NotToml {
        /// The file.
        file: PathBuf,
        /// In which line, and what the parser says; never the line itself, which may hold a secret.
        reason: String,
    },
    /// A section is not what it should be.
    #[error("{file}: [{section}]: {reason}")]
    Section {
        /// The file.
        file: PathBuf,
        /// The section.
        section: String,
        /// What is wrong, naming the key.
        reason: String,
    },
    /// A section nobody reads: a typing error that would otherwise be a silent default.
    #[error("{file}: [{section}] is unknown; known are {}", .known.join(", "))]
    Unknown {
        /// The file.
        file: PathBuf,
        /// The section.
        section: String,
        /// What there is.
        known: Vec<String>,
    },
}

/// A driver's part of the configuration: what the file's place and the part's heading say of it.
pub trait DriverPart: DeserializeOwned {
    /// Whether that driver wants the key `instance`; its heading says it, so the file need not.
    fn knows_its_instance(driver: &str) -> bool {
        driver == "sandbox"
    }

    /// Its files and folders.
    fn paths(&mut self) -> Vec<&mut PathBuf>;

    /// Its programs: a bare name is looked up in the search path, anything else is a file.
    fn programs(&mut self) -> Vec<&mut PathBuf> {
        Vec::new()
    }
}

/// A configuration file that was read.
#[derive(Clone)]
pub struct Config {
    file: PathBuf,
    table: toml::Table,
}

/// Without its content, which may hold secrets.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("file", &self.file).finish_non_exhaustive()
    }
}

/// Keys whose values are secrets.
const SECRET_KEYS: [&str; 2] = ["password", "key_secret"];
/// A table of variables for a program, such as the keys to a store: whoever adds one need not say that it is secret.
const VARIABLES: &str = "environment";
/// An address that may say who logs in.
const REPOSITORY: &str = "repository";

/// The first secret that stands in the table itself.
fn secret_in(table: &toml::Table) -> Option<&str> {
    table.iter().find_map(|(key, value)| match value {
        toml::Value::Table(variables) if key == VARIABLES => (!variables.is_empty()).then_some(key.as_str()),
        toml::Value::Table(inner) => secret_in(inner),
        toml::Value::String(address) if key == REPOSITORY => has_login(address).then_some(key.as_str()),
        _ => SECRET_KEYS.contains(&key.as_str()).then_some(key.as_str()),
    })
}

/// Whether the address of a repository, as restic writes it, holds a login, such as `rest:https://USER:PASSWORD@HOST/`.
/// Over SFTP it names a user at the most, whose key lies elsewhere.
fn has_login(repository: &str) -> bool {
    let Some((scheme, rest)) = repository.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    scheme != "sftp" && authority.contains('@')
}

/// The parser's own rendering quotes the line, and the line may hold a secret.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(String::new(), |before| format!("line {}: ", before.matches('\n').count() + 1));
    format!("{line}{}", error.message())
}

impl Config {
    /// Read a file. `known` are the sections that any process reads.
    ///
    /// # Errors
    /// If it cannot be read, is no TOML, has a section that nobody reads, or holds a secret that everybody may read.
    pub fn load(file: &Path, known: &[&str]) -> Result<Self, ConfigError> {
        let unreadable = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => ConfigError::Missing { file: file.to_owned() },
            _ => ConfigError::Unreadable { file: file.to_owned(), source },
        };
        if std::fs::metadata(file).map_err(unreadable)?.len() > FILE_MAX_BYTES {
            return Err(ConfigError::TooLarge { file: file.to_owned() });
        }
        let text = std::fs::read_to_string(file).map_err(unreadable)?;
        let config = Self::parse(file, &text, known)?;
        let mode = std::fs::metadata(file).map_err(unreadable)?.permissions().mode();
        match secret_in(&config.table) {
            Some(key) if mode & 0o007 != 0 => {
                Err(ConfigError::Exposed { file: file.to_owned(), key: key.to_owned() })
            }
            Some(_) | None => Ok(config),
        }
    }

    /// As [`Self::load`], of a text; paths in it are relative to the folder of `file`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(file: &Path, text: &str, known: &[&str]) -> Result<Self, ConfigError> {
        let table: toml::Table = toml::from_str(text)
            .map_err(|e| ConfigError::NotToml { file: file.to_owned(), reason: syntax(text, &e) })?;
        if let Some(section) = table.keys().find(|section| !known.contains(&section.as_str())) {
            return Err(ConfigError::Unknown {
                file: file.to_owned(),
                section: section.clone(),
                known: known.iter().map(|k| (*k).to_owned()).collect(),
            });
        }
        Ok(Self { file: file.to_owned(), table })
    }

    /// That a section, or a part such as `consumers."dns.main"`, is not what it should be, for a reason that names the
    /// key and says what was expected.
    pub fn mistake(&self, section: &str, reason: impl Into<String>) -> ConfigError {
        ConfigError::Section { file: self.file.clone(), section: section.to_owned(), reason: reason.into() }
    }

    /// The secret in the file that this key of a section says.
    ///
    /// # Errors
    /// Naming section and key, and what is wrong with the file.
    pub fn secret(&self, section: &str, key: &str, file: &Path) -> Result<SecretString, ConfigError> {
        secret::read(&self.path(file)).map_err(|why| self.mistake(section, format!("{key}: {why:#}")))
    }

    /// Whether there is such a section: for what is off unless it is configured.
    pub fn has(&self, section: &str) -> bool {
        self.table.contains_key(section)
    }

    /// One section; a missing one is empty, so that a missing key is named.
    ///
    /// # Errors
    /// Naming the key and what was expected.
    pub fn section<T: DeserializeOwned>(&self, section: &str) -> Result<T, ConfigError> {
        let empty = toml::Value::Table(toml::Table::new());
        let value = self.table.get(section).cloned().unwrap_or(empty);
        self.typed(section, value)
    }

    /// The part `name` of a section of parts, such as `[consumers."dns.main"]`.
    ///
    /// # Errors
    /// As [`Self::section`]; also if there is no such part.
    pub fn part<T: DeserializeOwned>(&self, section: &str, name: &str) -> Result<T, ConfigError> {
        let whole = format!("{section}.\"{name}\"");
        let value = self.table.get(section).and_then(|s| s.get(name)).cloned().ok_or_else(|| {
            let reason = "expected this section: it says how the instance is reached".to_owned();
            ConfigError::Section { file: self.file.clone(), section: whole.clone(), reason }
        })?;
        self.typed(&whole, value)
    }

    /// Names of the parts of a section.
    pub fn parts(&self, section: &str) -> Vec<String> {
        let table = self.table.get(section).and_then(toml::Value::as_table);
        table.map(|t| t.keys().cloned().collect()).unwrap_or_default()
    }

    /// The part of a consumer, `[consumers."INSTANCE"]`, for its driver: with every path in it relative to the
    /// file's folder. It may name its instance once more, as its heading does.
    ///
    /// # Errors
    /// As [`Self::part`]; also if it names another instance.
    pub fn consumer<T: DriverPart>(&self, instance: &str) -> Result<T, ConfigError> {
        let whole = format!("consumers.\"{instance}\"");
        let mut table: toml::Table = self.part("consumers", instance)?;
        if let Some(named) = table.remove("instance")
            && named.as_str() != Some(instance)
        {
            let reason =
                format!("instance = {named}: expected \"{instance}\", as in the heading, or no such key");
            return Err(ConfigError::Section { file: self.file.clone(), section: whole, reason });
        }
        if table.get("driver").and_then(toml::Value::as_str).is_some_and(T::knows_its_instance) {
            table.insert("instance".to_owned(), instance.into());
        }
        let mut part: T = self.typed(&whole, table.into())?;
        for path in part.paths() {
            *path = self.path(path);
        }
        for program in part.programs() {
            if program.components().count() > 1 {
                *program = self.path(program);
            }
        }
        Ok(part)
    }

    /// A path of the configuration: relative ones are relative to the file's folder.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.file.parent().unwrap_or(Path::new(".")).join(path)
    }

    fn typed<T: DeserializeOwned>(&self, section: &str, value: toml::Value) -> Result<T, ConfigError> {
        value.clone().try_into().map_err(|e: toml::de::Error| {
            let reason = e.to_string().trim().to_owned();
            let reason = match culprit::<T>(&value, &reason) {
                Some(key) => format!("{key}: {reason}"),
                None => reason,
            };
            ConfigError::Section { file: self.file.clone(), section: section.to_owned(), reason }
        })
    }
}

/// The key whose value is wrong, if the parser's reason names none: of a part that is told from others by its driver it
/// knows only what it expected, not where. Without that key, it stumbles over something else.
fn culprit<T: DeserializeOwned>(value: &toml::Value, reason: &str) -> Option<String> {
    let table = value.as_table()?;
    let says_which =
        ["missing field", "unknown field", "unknown variant"].iter().any(|s| reason.starts_with(s));
    if says_which || table.keys().any(|key| reason.contains(&format!("`{key}`"))) {
        return None;
    }
    let stumbles_elsewhere = |key: &&String| {
        let mut without = table.clone();
        without.remove(*key);
        match toml::Value::Table(without).try_into::<T>() {
            Ok(_) => true,
            Err(other) => other.to_string().trim() != reason,
        }
    };
    // Without its driver no part can be read at all, which says nothing about the others.
    let (driver, others): (Vec<_>, Vec<_>) = table.keys().partition(|key| *key == "driver");
    others.into_iter().chain(driver).find(stumbles_elsewhere).cloned()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Api {
        #[expect(dead_code, reason = "only parsed")]
        listen: std::net::SocketAddr,
    }

    fn error(text: &str) -> String {
        match Config::parse(Path::new("sexton.toml"), text, &["api"]) {
            Err(e) => e.to_string(),
            Ok(config) => config.section::<Api>("api").unwrap_err().to_string(),
        }
    }

    #[test]
    fn a_mistake_names_file_section_and_key() {
        assert_eq!(error("[appi]\n"), "sexton.toml: [appi] is unknown; known are api");
        assert!(error("[api]\n").contains("sexton.toml: [api]: missing field `listen`"));
        assert!(error("[api]\nlisten = 1\n").contains("listen"));
        assert!(error("[api]\nlisten = \"127.0.0.1:1\"\nport = 1\n").contains("unknown field `port`"));
        assert!(error("[api\n").contains("line 1"));
    }

    #[test]
    fn a_secret_is_in_no_error_and_in_no_debugging_output() {
        let said = error("[api]\nlisten = \"x\"\npassword = \"hunter2\" oops\n");
        assert!(said.contains("line 3") && !said.contains("hunter2"), "{said}");
        let said = error("password = \"hunter2\n");
        assert!(said.contains("line 1") && !said.contains("hunter2"), "{said}");
        let whole = Config::parse(Path::new("s"), "[api]\npassword = \"hunter2\"\n", &["api"]).unwrap();
        assert!(!format!("{whole:?}").contains("hunter2"));
    }

    #[test]
    fn a_file_with_a_secret_is_not_for_everybody() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sexton.toml");
        let load = |text: &str, mode: u32| {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            Config::load(&file, &["consumers"]).map(drop).map_err(|e| e.to_string())
        };
        let (secret, none) = ("[consumers.\"dns.main\"]\nkey_secret = \"hunter2\"\n", "[consumers]\n");
        for mode in [0o644, 0o604] {
            let said = load(secret, mode).unwrap_err();
            assert!(said.contains("key_secret") && said.contains("0600"), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
            assert_eq!(load(none, mode), Ok(()));
        }
        for mode in [0o600, 0o640] {
            assert_eq!(load(secret, mode), Ok(()));
        }
    }

    #[test]
    fn variables_and_an_address_with_a_login_are_secrets_too() {
        for (keys, secret) in [
            ("environment = { AWS_SECRET_ACCESS_KEY = \"hunter2\" }", Some("environment")),
            (
                "[consumers.\"backup.main\".environment]\nAWS_SECRET_ACCESS_KEY = \"hunter2\"",
                Some("environment"),
            ),
            ("environment = {}", None),
            ("repository = \"rest:https://sexton:hunter2@backup.example.org/\"", Some("repository")),
            ("repository = \"rest:https://hunter2@backup.example.org\"", Some("repository")),
            ("repository = \"rest:https://backup.example.org/with@in/it\"", None),
            ("repository = \"s3:https://s3.example.org/bucket\"", None),
            ("repository = \"sftp:sexton@backup.example.org:/srv/backup\"", None),
            ("repository = \"sftp://sexton@backup.example.org//srv/backup\"", None),
            ("repository = \"/srv//sexton@backup\"", None),
        ] {
            let table: toml::Table =
                toml::from_str(&format!("[consumers.\"backup.main\"]\n{keys}\n")).unwrap();
            assert_eq!(secret_in(&table), secret, "{keys}");
        }
    }

    /// They are copied as they lie here, readable by everybody.
    #[test]
    fn no_delivered_example_holds_a_secret() {
        for name in ["sexton.toml", "sexton-many.toml"] {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name);
            let table: toml::Table = toml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
            assert_eq!(secret_in(&table), None, "{name}");
        }
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(tag = "driver", rename_all = "snake_case")]
    enum Driver {
        Sandbox { root: PathBuf, instance: String },
        Real { key_file: Option<PathBuf>, program: PathBuf },
    }

    impl DriverPart for Driver {
        fn paths(&mut self) -> Vec<&mut PathBuf> {
            match self {
                Self::Sandbox { root, .. } => vec![root],
                Self::Real { key_file, .. } => key_file.iter_mut().collect(),
            }
        }

        fn programs(&mut self) -> Vec<&mut PathBuf> {
            match self {
                Self::Sandbox { .. } => Vec::new(),
                Self::Real { program, .. } => vec![program],
            }
        }
    }

    fn consumer(keys: &str) -> Result<Driver, String> {
        let text = format!("[consumers.\"dns.main\"]\n{keys}");
        let config = Config::parse(Path::new("/etc/sexton/sexton.toml"), &text, &["consumers"]).unwrap();
        config.consumer("dns.main").map_err(|e| e.to_string())
    }

    #[test]
    fn paths_of_a_driver_are_relative_to_the_file() {
        let sandbox = consumer("driver = \"sandbox\"\nroot = \"sandbox\"\n").unwrap();
        let instance = "dns.main".to_owned();
        assert_eq!(sandbox, Driver::Sandbox { root: "/etc/sexton/sandbox".into(), instance });
        for (key_file, program, found) in [
            ("keys/dns", "dig", (Some("/etc/sexton/keys/dns".into()), "dig".into())),
            ("../dns", "./dig", (Some("/etc/sexton/../dns".into()), "/etc/sexton/./dig".into())),
            ("/keys/dns", "/usr/bin/dig", (Some("/keys/dns".into()), "/usr/bin/dig".into())),
        ] {
            let text = format!("driver = \"real\"\nkey_file = \"{key_file}\"\nprogram = \"{program}\"");
            let (key_file, program) = found;
            assert_eq!(consumer(&text).unwrap(), Driver::Real { key_file, program });
        }
    }

    #[test]
    fn a_wrong_value_is_named_by_its_key() {
        for (text, key) in [
            ("driver = \"sandbox\"\nroot = 1", "root: "),
            ("driver = \"real\"\nprogram = \"x\"\nkey_file = true", "key_file: "),
            ("driver = \"fax\"", "fax"),
            ("root = \"x\"", "driver"),
            ("driver = \"sandbox\"", "root"),
        ] {
            let error = consumer(text).unwrap_err();
            assert!(error.contains("[consumers.\"dns.main\"]: ") && error.contains(key), "{error}");
        }
    }

    #[test]
    fn a_part_that_names_another_instance_is_refused() {
        for (named, expected) in
            [("\"dns.main\"", None), ("\"dns.other\"", Some("dns.other")), ("1", Some("1"))]
        {
            let text = format!("driver = \"sandbox\"\nroot = \"x\"\ninstance = {named}");
            match (consumer(&text), expected) {
                (Ok(_), None) => {}
                (Err(error), Some(part)) => {
                    assert!(error.contains("[consumers.\"dns.main\"]: instance = "), "{error}");
                    assert!(error.contains(part) && error.contains("as in the heading"), "{error}");
                }
                (found, _) => panic!("{named}: {found:?}"),
            }
        }
    }
}
