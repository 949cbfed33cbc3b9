//! The two sections that most processes read.
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{Config, ConfigError};

/// The section `[broker]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// Host and port, such as `127.0.0.1:5672`; the protocol's own port if it names none.
    #[serde(deserialize_with = "host_and_port")]
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

/// Whoever connects would find a wrong one, too, but could not say where it stands. It is not shown: a login may be in it.
fn host_and_port<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let address = String::deserialize(from)?;
    let (host, port) = address.split_once(':').map_or((&*address, None), |(host, port)| (host, Some(port)));
    // The client would take an IPv6 address for this machine.
    let is_name = !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || "-._".contains(c));
    let is_port = port.is_none_or(|port| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|number| number > 0)
    });
    if is_name && is_port {
        return Ok(address);
    }
    let expected =
        "expected host and port, such as 127.0.0.1:5672, and nothing else; over IPv6, the host's name";
    Err(D::Error::custom(expected))
}

/// The section `[keys]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The folder that `sexton keys` made.
    pub folder: PathBuf,
}

impl Keys {
    /// A secret file of the folder, and what is in it.
    ///
    /// # Errors
    /// Naming section and key, and what is wrong with the file.
    pub fn secret(&self, config: &Config, name: &str) -> Result<(PathBuf, SecretString), ConfigError> {
        let file = self.folder.join(name);
        let secret = config.secret("keys", "folder", &file)?;
        Ok((config.path(&file), secret))
    }

    /// That something else is wrong with what lies in the folder.
    pub fn mistake(&self, config: &Config, why: impl std::fmt::Display) -> ConfigError {
        config.mistake("keys", format!("folder: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn broker(address: &str) -> Result<Broker, String> {
        let text = format!("[broker]\naddress = \"{address}\"\nvhost = \"sexton\"\n");
        let config = Config::parse(Path::new("sexton.toml"), &text, &["broker"]).unwrap();
        config.section("broker").map_err(|e| e.to_string())
    }

    #[test]
    fn an_address_that_leads_nowhere_is_found_when_it_is_read() {
        for address in ["127.0.0.1:5672", "rabbit", "rabbit-1.example.org:5671", "rabbit_1:65535"] {
            assert_eq!(broker(address).unwrap().address, address);
        }
        for address in [
            "",
            ":5672",
            "rabbit:",
            "rabbit:port",
            "rabbit:+80",
            "rabbit:0",
            "rabbit:65536",
            "rabbit:5672/sexton",
            "amqp://rabbit:5672",
            "sexton:hunter2@rabbit:5672",
            "rabbit 1:5672",
            "[::1]:5672",
            "::1",
        ] {
            let said = broker(address).unwrap_err();
            for part in ["sexton.toml: [broker]: ", "address", "expected host and port"] {
                assert!(said.contains(part), "{address:?}: expected {part:?} in: {said}");
            }
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn a_key_that_cannot_be_read_is_named_with_section_and_key() {
        let config =
            Config::parse(Path::new("sexton.toml"), "[keys]\nfolder = \"gone\"\n", &["keys"]).unwrap();
        let keys: Keys = config.section("keys").unwrap();
        let said = keys.secret(&config, "mac/dns.main.toml").map(drop).unwrap_err().to_string();
        let expected = "sexton.toml: [keys]: folder: reading the secret gone/mac/dns.main.toml: ";
        assert!(said.starts_with(expected), "{said}");
    }
}
