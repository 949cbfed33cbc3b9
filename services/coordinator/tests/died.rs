//! A loop that dies ends the coordinator, and its end is an error: a supervisor that restarts on failure sees one. One that
//! waits for somebody who does not answer keeps none from ending that is told to.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use sexton_bus::local::Local;
use sexton_bus::{Acker, Bus, BusError, Delivery, Outgoing, PublishError, Queue, Subscription};
use sexton_coordinator::api::{self, Api};
use sexton_coordinator::{Ended, Engine, Options, Witness};
use sexton_ledger::Limits;
use sexton_ledger::sqlite::{Moment, Pass, SqliteLedger, Surroundings};
use sexton_model::Timestamp;
use sexton_model::belts::Policy;
use sexton_model::time::Day;
use sexton_protocol::{BeaconSigner, Keyring};
use sexton_testkit::bus::{Double, Instead};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The bus of a process whose pulses have a defect in them.
struct Defective(Local);

#[async_trait]
impl Instead for Defective {
    fn behind(&self) -> &dyn Bus {
        &self.0
    }

    async fn consume(&self, queue: &Queue, prefetch: u16) -> Result<Box<dyn Subscription>, BusError> {
        let from = self.0.consume(queue, prefetch).await?;
        Ok(if *queue == Queue::Pulses { Box::new(Defect(from)) } else { from })
    }
}

struct Defect(Box<dyn Subscription>);

#[async_trait]
impl Subscription for Defect {
    async fn next(&mut self) -> Option<Delivery> {
        self.0.next().await
    }

    async fn next_batch(&mut self, _max: usize, _linger: Duration) -> Vec<Delivery> {
        panic!("the defect");
    }

    fn acker(&self) -> Acker {
        self.0.acker()
    }
}

/// The bus of a broker that takes messages and says nothing any more.
struct Silent {
    bus: Local,
    /// Somebody waits for it.
    asked: Arc<Notify>,
}

#[async_trait]
impl Instead for Silent {
    fn behind(&self) -> &dyn Bus {
        &self.bus
    }

    async fn publish(&self, _messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        self.asked.notify_one();
        std::future::pending().await
    }
}

/// A bus in which threads stand still, as on a file system that does not answer.
struct Still {
    bus: Local,
    /// Somebody stands in it.
    asked: Arc<Notify>,
    held: Mutex<Receiver<()>>,
}

#[async_trait]
impl Instead for Still {
    fn behind(&self) -> &dyn Bus {
        &self.bus
    }

    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        self.asked.notify_one();
        self.held.lock().unwrap().recv().unwrap_err();
        messages.iter().map(|_| Err(PublishError::Closed)).collect()
    }
}

/// Long enough on a busy machine, and shorter than for ever.
const SOON: Duration = Duration::from_secs(30);

/// A machine whose disk breaks when it is told to.
#[derive(Default)]
struct Breaking(AtomicBool);

impl Surroundings for Breaking {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }

    fn steady_ms(&self) -> u64 {
        0
    }

    fn pass(&self, _: Moment) -> Pass {
        Box::pin(std::future::ready(()))
    }

    fn before_sync(&self) -> std::io::Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(std::io::Error::other("the disk is gone")) } else { Ok(()) }
    }
}

async fn engine(folder: &Path, bus: Arc<dyn Bus>) -> Arc<Engine> {
    engine_on(folder, bus, Arc::default()).await
}

async fn engine_on(folder: &Path, bus: Arc<dyn Bus>, machine: Arc<Breaking>) -> Arc<Engine> {
    let options =
        sexton_ledger::Options { day: Day::Calendar, limits: Limits::default(), policy: Policy::default() };
    let ledger = SqliteLedger::open_in(folder.join("sexton.db"), options, machine).await.unwrap();
    let witness = Witness::open(&folder.join("witness"), &ledger, false).await.unwrap();
    let mut rng = rand::rng();
    Arc::new(Engine::new(Options {
        ledger: Arc::new(ledger),
        bus,
        keyring: Arc::new(Keyring::generate([], &mut rng)),
        signer: Arc::new(BeaconSigner::generate("beacon", &mut rng)),
        unpacked: Vec::new(),
        witness: Arc::new(witness),
    }))
}

#[tokio::test]
async fn a_loop_that_dies_ends_it_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let bus: Arc<dyn Bus> = Arc::new(Double(Defective(Local::new())));
    let engine = engine(folder.path(), bus.clone()).await;
    let stop = CancellationToken::new();
    let running = sexton_coordinator::run(engine, bus, stop.clone());
    let ended = tokio::time::timeout(SOON, running).await.unwrap();
    assert!(matches!(ended, Err(Ended::Died(_))), "{ended:?}");
    assert!(stop.is_cancelled());
}

#[tokio::test]
async fn a_job_table_that_is_lost_ends_it_with_an_error() {
    let (folder, machine) = (tempfile::tempdir().unwrap(), Arc::<Breaking>::default());
    let bus: Arc<dyn Bus> = Arc::new(Local::new());
    let engine = engine_on(folder.path(), bus.clone(), machine.clone()).await;
    machine.0.store(true, Ordering::Relaxed);
    let stop = CancellationToken::new();
    let running = sexton_coordinator::run(engine, bus, stop.clone());
    let ended = tokio::time::timeout(SOON, running).await.unwrap();
    let Err(Ended::Lost(why)) = ended else { panic!("{ended:?}") };
    assert!(why.to_string().contains("the disk is gone"), "{why}");
    assert!(stop.is_cancelled());
}

#[tokio::test]
async fn a_loop_that_waits_for_ever_keeps_nobody_from_ending_who_is_told_to() {
    let (folder, asked) = (tempfile::tempdir().unwrap(), Arc::new(Notify::new()));
    let bus: Arc<dyn Bus> = Arc::new(Double(Silent { bus: Local::new(), asked: asked.clone() }));
    let engine = engine(folder.path(), bus.clone()).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(sexton_coordinator::run(engine, bus, stop.clone()));
    asked.notified().await;
    stop.cancel();
    let ended = tokio::time::timeout(SOON, running).await.unwrap().unwrap();
    assert!(ended.is_ok(), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_loop_whose_thread_stands_still_keeps_nobody_from_ending_who_is_told_to() {
    let (free, held) = channel();
    let (folder, asked) = (tempfile::tempdir().unwrap(), Arc::new(Notify::new()));
    let still = Still { bus: Local::new(), asked: asked.clone(), held: Mutex::new(held) };
    let bus: Arc<dyn Bus> = Arc::new(Double(still));
    let engine = engine(folder.path(), bus.clone()).await;
    let stop = CancellationToken::new();
    let running = sexton_coordinator::run(engine, bus, stop.clone());
    let stopping = async {
        asked.notified().await;
        stop.cancel();
    };
    let both = async { tokio::join!(running, stopping) };
    // Not in a task of its own: the thread that stands still may have taken that.
    let (ended, ()) = tokio::time::timeout(SOON, both).await.unwrap();
    assert!(ended.is_ok(), "{ended:?}");
    // The runtime would wait for it.
    drop(free);
}

#[tokio::test]
async fn half_a_request_keeps_nobody_from_ending_who_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path(), Arc::new(Local::new())).await;
    let api = Arc::new(Api { engine, plans: Arc::default(), token: None });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(api::serve(listener, api, stop.clone()));
    let whole = b"GET /livez HTTP/1.1\r\nhost: sexton\r\n\r\n";
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    connection.write_all(whole).await.unwrap();
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let mut other = tokio::net::TcpStream::connect(address).await.unwrap();
    other.write_all(&whole[..20]).await.unwrap();
    // So that half of it was read when it is told to stop.
    let mut third = tokio::net::TcpStream::connect(address).await.unwrap();
    third.write_all(whole).await.unwrap();
    third.read_exact(&mut answer).await.unwrap();
    stop.cancel();
    let ended = tokio::time::timeout(SOON, serving).await.unwrap().unwrap();
    assert!(ended.is_ok(), "{ended:?}");
}
