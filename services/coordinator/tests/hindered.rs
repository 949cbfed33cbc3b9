//! A coordinator under review orders nothing and says so, and can be reached by whoever ends the review.
#![expect(clippy::unwrap_used, reason = "a test says what it expected by failing")]
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use sexton_bus::Bus;
use sexton_bus::local::Local;
use sexton_coordinator::watch::Condition;
use sexton_coordinator::{Engine, Hindrance, Options, Witness};
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Ledger, Limits};
use sexton_model::time::Day;
use sexton_protocol::{BeaconSigner, Holder, Keyring};
use sexton_service::{Config, Health};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

async fn get(from: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(from).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {from}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn engine(folder: &Path, bus: Arc<dyn Bus>) -> Arc<Engine> {
    let options = sexton_ledger::Options { day: Day::Calendar, limits: Limits::default() };
    let ledger = SqliteLedger::open(&folder.join("sexton.db"), options).await.unwrap();
    let ledger: Arc<dyn Ledger> = Arc::new(ledger);
    let witness = Arc::new(Witness::open(&folder.join("witness"), ledger.as_ref(), false).await.unwrap());
    let mut rng = rand::rng();
    Arc::new(Engine::new(Options {
        ledger,
        bus,
        keyring: Arc::new(Keyring::generate([Holder::Scheduler], &mut rng)),
        signer: Arc::new(BeaconSigner::generate("beacon", &mut rng)),
        unpacked: Vec::new(),
        witness,
    }))
}

#[tokio::test]
async fn under_review_it_is_ready_and_says_what_is_hindered() {
    let folder = tempfile::tempdir().unwrap();
    let bus: Arc<dyn Bus> = Arc::new(Local::new());
    let engine = engine(folder.path(), bus.clone()).await;
    let text = "[health]\nlisten = \"127.0.0.1:0\"\n";
    let config = Config::parse(Path::new("sexton.toml"), text, &["health"]).unwrap();
    let stop = CancellationToken::new();
    let health = Health::start(&config, "coordinator", stop.clone()).await.unwrap();
    health.watch(Arc::new(Condition::new(engine.clone(), bus)));
    let address = health.address().unwrap();
    engine.checkpoint().await.unwrap();
    let reviewed = |text: &str| text.contains("sexton_coordinator_hindered{reason=\"review\"} 1");
    assert!(get(address, "/metrics").await.contains("sexton_coordinator_hindered{reason=\"review\"} 0"));

    let mut later = engine.ledger.known();
    later.mark.number += 1;
    let review = engine.ledger.confront(&later).await.unwrap().unwrap();
    engine.checkpoint().await.unwrap();
    assert_eq!(engine.hindrances(), [Hindrance::Review]);
    let ready = get(address, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    assert!(reviewed(&get(address, "/metrics").await));

    let by = "ops".parse().unwrap();
    assert!(engine.ledger.accept_review(review.epoch, &by, "compared").await.unwrap());
    engine.checkpoint().await.unwrap();
    assert_eq!(engine.hindrances(), []);
    assert!(!reviewed(&get(address, "/metrics").await));
    stop.cancel();
}
