//! The configuration file, `sexton.toml`: one file for all processes, each of which reads its own sections.
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Largest configuration file, in bytes.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// Every section that any process reads.
pub const SECTIONS: &[&str] =
    &["ledger", "broker", "keys", "api", "plans", "credit", "scheduler", "telemetry", "consumers", "workers"];

/// The section `[broker]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// Host and port, such as `127.0.0.1:5672`.
    pub address: String,
    /// The virtual host.
    pub vhost: String,
    /// Whether the connection is encrypted.
    #[serde(default)]
    pub tls: bool,
}

impl Broker {
    /// The address for one user, password included.
    pub fn url(&self, user: &str, password: &SecretString) -> SecretString {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        let vhost = self.vhost.replace('/', "%2f");
        format!("{scheme}://{user}:{}@{}/{vhost}", password.expose_secret(), self.address).into()
    }
}

/// The section `[keys]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The folder that `sexton keys` made.
    pub folder: PathBuf,
}

/// Why the configuration cannot be used. Names file, key and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
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
    /// It is not TOML.
    #[error("{file}: {reason}")]
    NotToml {
        /// The file.
        file: PathBuf,
        /// What the parser says, with line and column.
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

/// A configuration file that was read.
#[derive(Debug, Clone)]
pub struct Config {
    file: PathBuf,
    table: toml::Table,
}

impl Config {
    /// Read a file. `known` are the sections that any process reads.
    ///
    /// # Errors
    /// If it cannot be read, is no TOML, or has a section that nobody reads.
    pub fn load(file: &Path, known: &[&str]) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { file: file.to_owned(), source };
        if std::fs::metadata(file).map_err(unreadable)?.len() > FILE_MAX_BYTES {
            return Err(ConfigError::TooLarge { file: file.to_owned() });
        }
        let text = std::fs::read_to_string(file).map_err(unreadable)?;
        Self::parse(file, &text, known)
    }

    /// As [`Self::load`], of a text; paths in it are relative to the folder of `file`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(file: &Path, text: &str, known: &[&str]) -> Result<Self, ConfigError> {
        let table: toml::Table = toml::from_str(text)
            .map_err(|e| ConfigError::NotToml { file: file.to_owned(), reason: e.to_string() })?;
        if let Some(section) = table.keys().find(|section| !known.contains(&section.as_str())) {
            return Err(ConfigError::Unknown {
                file: file.to_owned(),
                section: section.clone(),
                known: known.iter().map(|k| (*k).to_owned()).collect(),
            });
        }
        Ok(Self { file: file.to_owned(), table })
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

    /// A path of the configuration: relative ones are relative to the file's folder. Paths in a driver's own part
    /// go to the driver as they are: write them absolute.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.file.parent().unwrap_or(Path::new(".")).join(path)
    }

    fn typed<T: DeserializeOwned>(&self, section: &str, value: toml::Value) -> Result<T, ConfigError> {
        value.try_into().map_err(|e: toml::de::Error| ConfigError::Section {
            file: self.file.clone(),
            section: section.to_owned(),
            reason: e.to_string().trim().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
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
}
