//! A coordinator under review, or without a witness, orders nothing and says so, and can be reached by whoever ends the
//! review.
#![expect(clippy::unwrap_used, reason = "a test says what it expected by failing")]
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use sexton_bus::local::Local;
use sexton_bus::{Bus, Queue};
use sexton_coordinator::api::{Api, router};
use sexton_coordinator::watch::Condition;
use sexton_coordinator::{Engine, Hindrance, Now, Options, Plans, Witness};
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Alive, Intent, Ledger, Limits, NewDeletion};
use sexton_model::JobId;
use sexton_model::belts::Policy;
use sexton_model::decide::Event;
use sexton_model::deletion::{Due, Zone};
use sexton_model::job::Stage;
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

const INSPECTS: &str = include_str!("looks/dns.toml");
const PLAN: &str = include_str!("looks/vm.toml");

async fn engine(folder: &Path, bus: Arc<dyn Bus>, now: Now) -> Arc<Engine> {
    let options = sexton_ledger::Options {
        day: Day::Rehearsal { length_ms: 1000 },
        limits: Limits::default(),
        policy: Policy::default(),
    };
    let ledger = SqliteLedger::open(&folder.join("sexton.db"), options).await.unwrap();
    let ledger: Arc<dyn Ledger> = Arc::new(ledger);
    let witness = Witness::open_at(&folder.join("witness"), ledger.as_ref(), false, now).await.unwrap();
    let mut rng = rand::rng();
    Arc::new(Engine::new(Options {
        ledger,
        bus,
        keyring: Arc::new(Keyring::generate([Holder::Scheduler, "dns.main".parse().unwrap()], &mut rng)),
        signer: Arc::new(BeaconSigner::generate("beacon", &mut rng)),
        unpacked: Vec::new(),
        witness: Arc::new(witness),
    }))
}

/// Where its health and its metrics are read.
async fn health(engine: &Arc<Engine>, bus: Arc<dyn Bus>, stop: &CancellationToken) -> Arc<Health> {
    let text = "[health]\nlisten = \"127.0.0.1:0\"\n";
    let config = Config::parse(Path::new("sexton.toml"), text, &["health"]).unwrap();
    let health = Health::start(&config, "coordinator", stop.clone()).await.unwrap();
    health.watch(Arc::new(Condition::new(engine.clone(), bus)));
    health
}

#[tokio::test]
async fn under_review_it_is_ready_and_says_what_is_hindered() {
    let folder = tempfile::tempdir().unwrap();
    let bus: Arc<dyn Bus> = Arc::new(Local::new());
    let engine = engine(folder.path(), bus.clone(), Arc::new(Instant::now)).await;
    let stop = CancellationToken::new();
    let health = health(&engine, bus, &stop).await;
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

#[tokio::test]
async fn open_alarms_are_counted_by_kind() {
    let folder = tempfile::tempdir().unwrap();
    let bus: Arc<dyn Bus> = Arc::new(Local::new());
    let engine = engine(folder.path(), bus.clone(), Arc::new(Instant::now)).await;
    let stop = CancellationToken::new();
    let health = health(&engine, bus, &stop).await;
    engine.checkpoint().await.unwrap();
    let mut later = engine.ledger.known();
    later.mark.number += 1;
    engine.ledger.confront(&later).await.unwrap().unwrap();
    engine.alarm().await.unwrap();
    let metrics = get(health.address().unwrap(), "/metrics").await;
    for line in ["sexton_alarms{kind=\"review\"} 1", "sexton_alarms{kind=\"frozen_batch\"} 0"] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    stop.cancel();
}

/// A record of `name`, due at once, and the event that claims its first job.
async fn due(engine: &Engine, plans: &Plans, name: &str) -> Intent {
    let now = engine.ledger.facts().await.unwrap().now;
    let resource = serde_json::from_value(json!({
        "id": format!("vm/{name}"), "scope": "lab", "identity": {"uuid": name}, "criticality": "reproducible",
        "rebuilt": {"on": now.utc().date_naive(), "evidence": "a test"},
    }))
    .unwrap();
    engine.ledger.register(vec![resource], &"ops".parse().unwrap(), true).await.unwrap();
    let new = NewDeletion {
        resource: format!("vm/{name}").parse().unwrap(),
        due: Due { date: now.utc().date_naive(), zone: Zone("UTC".parse().unwrap()), moment: Some(now) },
        gone_by: None,
        by: "ops".parse().unwrap(),
        reason: "contract ended".into(),
        plan: plans.of_kind(&"vm".parse().unwrap()).unwrap().clone(),
    };
    let deletion = engine.ledger.create(vec![new]).await.unwrap().remove(0).unwrap();
    Intent { deletion, event: Event::Claim { job: JobId::of(deletion, Stage::Announce.index()) } }
}

#[tokio::test]
async fn without_a_witness_it_orders_nothing_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let bus: Arc<dyn Bus> = Arc::new(Local::new());
    let (began, passed_s) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let clock = passed_s.clone();
    let now: Now = Arc::new(move || began + Duration::from_secs(clock.load(Ordering::SeqCst)));
    let engine = engine(folder.path(), bus.clone(), now).await;
    let plans = Plans::of(&[("dns.toml", INSPECTS)], &[("vm.toml", PLAN)], true).unwrap();
    let alive = Alive { instance: "dns.main".parse().unwrap(), copy: "one".into(), hands: 8, answered: 0 };
    engine.ledger.pulse(vec![alive]).await.unwrap();
    let stop = CancellationToken::new();
    let health = health(&engine, bus.clone(), &stop).await;
    let address = health.address().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api_address = listener.local_addr().unwrap();
    let api = Api { engine: engine.clone(), plans: Arc::new(plans.clone()), token: None };
    let server =
        axum::serve(listener, router(Arc::new(api))).with_graceful_shutdown(stop.clone().cancelled_owned());
    tokio::spawn(async move { server.await });
    let metric = |text: &str, value: u8| {
        text.contains(&format!("sexton_coordinator_hindered{{reason=\"witness\"}} {value}"))
    };
    let orders = Queue::Orders("dns.main".parse().unwrap());
    let ordered = async |name: &str| {
        let claim = due(&engine, &plans, name).await;
        assert!(engine.run(vec![claim]).await.unwrap().remove(0).unwrap().dispatch.is_some());
        bus.depth(&orders).await.unwrap()
    };

    passed_s.store(60, Ordering::SeqCst);
    assert_eq!(ordered("web01").await, 1);
    assert_eq!(engine.hindrances(), []);
    assert!(metric(&get(address, "/metrics").await, 0));

    passed_s.store(61, Ordering::SeqCst);
    assert_eq!(ordered("web02").await, 1, "an order was published that would be forgotten");
    assert_eq!(engine.counters.unpublished.load(Ordering::Relaxed), 1);
    assert_eq!(engine.hindrances(), [Hindrance::Witness { stale: Duration::from_secs(61) }]);
    assert!(metric(&get(address, "/metrics").await, 1));
    let ready = get(address, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let said = get(api_address, "/v1/health").await;
    assert!(said.contains("\"witness_stale_s\":61"), "{said}");

    engine.checkpoint().await.unwrap();
    assert_eq!(engine.hindrances(), []);
    assert_eq!(ordered("web03").await, 2);
    assert!(metric(&get(address, "/metrics").await, 0));
    assert!(!get(api_address, "/v1/health").await.contains("witness_stale_s"));
    stop.cancel();
}
