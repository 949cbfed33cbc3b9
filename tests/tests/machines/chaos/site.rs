//! Everything that can be broken.
use std::collections::BTreeMap;
use std::path::Path;

use sexton_bus::PublishError;

use super::broker::Broker;
use super::fault::Server;
use super::ground::Ground;
use super::network::{self, Network};
use super::notes::Notes;
use super::proxy::Proxy;
use super::services::Services;
use super::store::Store;
use crate::installation::Installation;

pub struct Site<'a> {
    pub installation: &'a Installation,
    pub services: Services<'a>,
    pub store: Store<'a>,
    pub broker: Broker,
    pub to_broker: Proxy,
    pub to_database: Proxy,
    /// That of one consumer, if there can be one.
    pub network: Option<Network>,
    /// The node of the broker that was killed last.
    pub dead_node: Option<String>,
    pub ground: &'a Ground,
    pub notes: &'a Notes,
}

impl Site<'_> {
    /// How many pieces of answers were lost, by who had answered.
    pub fn answers_lost(&self) -> BTreeMap<String, usize> {
        let servers = [(Server::Broker, &self.to_broker), (Server::Database, &self.to_database)];
        let subsystems = self.ground.proxies().iter().map(|(server, proxy)| (*server, proxy));
        let all = servers.into_iter().chain(subsystems);
        all.map(|(server, proxy)| (server.word().to_owned(), proxy.lost())).collect()
    }

    /// How often services have said until now that the broker refused a message, since its queue was full.
    pub fn refused(&self) -> usize {
        let said = PublishError::Full { to: String::new() }.to_string();
        let logs = std::fs::read_dir(self.installation.folder().join("log")).unwrap();
        let refused = logs.map(|log| {
            let log = std::fs::read(log.unwrap().path()).unwrap();
            String::from_utf8_lossy(&log).matches(&said).count()
        });
        refused.sum()
    }

    /// The consumer moves into that network, and reaches the broker at its other end.
    pub fn move_apart(&mut self, network: Network) {
        let folder = self.installation.folder();
        let broker = self.to_broker.listen(network.here);
        let config = std::fs::read_to_string(folder.join("sexton.toml")).unwrap();
        let told = format!("address = \"{}\"", self.to_broker.address);
        assert_eq!(config.matches(&told).count(), 1, "the broker's address: {config}");
        let config = config.replace(&told, &format!("address = \"{broker}\""));
        write_aside(&folder.join(format!("{}.toml", network::SERVICE)), &config);
        self.services.move_behind(network::SERVICE, network.prefix());
        self.network = Some(network);
    }
}

/// Whole or not at all: its service may be started at any moment.
fn write_aside(file: &Path, text: &str) {
    let new = file.with_extension("toml.new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}
