//! What is refused is written down although whoever has asked for it is gone; and nothing goes on for them when the service has
//! ended.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use sexton_bus::local::Local;
use sexton_coordinator::api::{self, Api};
use sexton_coordinator::{Engine, Options, Plans, Witness};
use sexton_ledger::sqlite::{Moment, Pass, SqliteLedger, Surroundings};
use sexton_ledger::{Ledger, Limits};
use sexton_model::Timestamp;
use sexton_model::belts::Policy;
use sexton_model::resource::Resource;
use sexton_model::time::Day;
use sexton_protocol::{BeaconSigner, Keyring};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const INSPECTS: &str = include_str!("looks/dns.toml");
const PLAN: &str = include_str!("looks/vm.toml");

/// Long enough on a busy machine, and shorter than for ever.
const SOON: Duration = Duration::from_secs(30);

const REPLAYED: &str = "idempotent-replayed: true";

/// A machine on which somebody waits whose change is committed, and who does not know it yet.
#[derive(Default)]
struct Stopping {
    /// So many commits from now on somebody waits; nobody does if it is 0.
    commits: AtomicU32,
    waits: Arc<Notify>,
    goes_on: Arc<Notify>,
}

impl Surroundings for Stopping {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }

    fn steady_ms(&self) -> u64 {
        0
    }

    fn pass(&self, moment: Moment) -> Pass {
        let one_less = |commits: u32| commits.checked_sub(1);
        let stops = matches!(moment, Moment::Committed(_))
            && self.commits.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) == Ok(1);
        let (waits, goes_on) = (self.waits.clone(), self.goes_on.clone());
        Box::pin(async move {
            if stops {
                waits.notify_one();
                goes_on.notified().await;
            }
        })
    }
}

fn resource(name: &str, uuid: &str) -> Value {
    json!({
        "id": format!("vm/{name}"), "scope": "lab", "identity": { "uuid": uuid }, "criticality": "reproducible",
    })
}

/// An API in which `vm/web01` is registered.
struct Served {
    machine: Arc<Stopping>,
    ledger: Arc<dyn Ledger>,
    api: Weak<Api>,
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
    _folder: tempfile::TempDir,
}

impl Served {
    async fn new() -> Self {
        let (folder, machine) = (tempfile::tempdir().unwrap(), Arc::<Stopping>::default());
        let (day, limits, policy) = (Day::Calendar, Limits::default(), Policy::default());
        let options = sexton_ledger::Options { day, limits, policy };
        let file = folder.path().join("sexton.db");
        let ledger = SqliteLedger::open_in(file, options, machine.clone()).await.unwrap();
        let ledger: Arc<dyn Ledger> = Arc::new(ledger);
        let there: Resource = serde_json::from_value(resource("web01", "u1")).unwrap();
        assert_eq!(ledger.register(vec![there], &"ops".parse().unwrap(), true).await.unwrap(), [Ok(())]);
        let witness = Witness::open(&folder.path().join("witness"), ledger.as_ref(), false).await.unwrap();
        let mut rng = rand::rng();
        let engine = Arc::new(Engine::new(Options {
            ledger: ledger.clone(),
            bus: Arc::new(Local::new()),
            keyring: Arc::new(Keyring::generate([], &mut rng)),
            signer: Arc::new(BeaconSigner::generate("beacon", &mut rng)),
            unpacked: Vec::new(),
            witness: Arc::new(witness),
        }));
        let plans = Plans::of(&[("dns.toml", INSPECTS)], &[("vm.toml", PLAN)], true).unwrap();
        let served = Arc::new(Api { engine, plans: Arc::new(plans), token: None });
        let (api, stop) = (Arc::downgrade(&served), CancellationToken::new());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(api::serve(listener, served, stop.clone()));
        Self { machine, ledger, api, address, stop, serving, _folder: folder }
    }

    /// Register another machine, and `vm/web01` with an identity that it has not.
    async fn register(&self, headers: &str, name: &str) -> TcpStream {
        let body =
            json!({ "resources": [resource(name, name), resource("web01", "another")], "whole": false });
        let (body, host) = (body.to_string(), self.address);
        let head = format!(
            "POST /v1/resources HTTP/1.1\r\nhost: {host}\r\nsexton-actor: root\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all([head, body].concat().as_bytes()).await.unwrap();
        stream
    }

    /// The same, and hang up once it is decided, which is so many commits later, and before anybody is told.
    async fn register_and_hang_up(&self, headers: &str, name: &str, commits: u32) {
        self.machine.commits.store(commits, Ordering::SeqCst);
        let mut stream = self.register(headers, name).await;
        tokio::time::timeout(SOON, self.machine.waits.notified()).await.unwrap();
        stream.shutdown().await.unwrap();
        // The connection ends on the other side, too, and with it what is worked on there.
        let mut answer = Vec::new();
        tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().ok();
        assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    }

    /// How many refusals are written down.
    async fn refusals(&self) -> usize {
        let events = self.ledger.access_events(0, 100).await.unwrap();
        events.iter().filter(|(_, event)| event.what == "refused" && event.by == "root").count()
    }
}

/// Look until it is so.
async fn until(what: &str, so: impl AsyncFn() -> bool) {
    let looking = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, looking).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[tokio::test]
async fn what_is_refused_to_somebody_who_has_hung_up_is_written_down() {
    let served = Served::new().await;
    served.register_and_hang_up("", "new", 1).await;
    assert_eq!(served.refusals().await, 0);
    served.machine.goes_on.notify_one();
    until("it is written down", async || served.refusals().await == 1).await;
}

#[tokio::test]
async fn what_is_refused_under_a_key_is_written_down_also_if_its_caller_has_hung_up() {
    let served = Served::new().await;
    let key = "idempotency-key: k\r\n";
    // The first commit is that the key is held.
    served.register_and_hang_up(key, "new", 2).await;
    assert_eq!(served.refusals().await, 0);
    served.machine.goes_on.notify_one();
    until("it is written down", async || served.refusals().await == 1).await;
    // Whoever has not heard it asks again, and is answered what is kept.
    let again = async || {
        let mut stream = served.register(&format!("{key}connection: close\r\n"), "new").await;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    until("its answer is kept", async || again().await.contains(REPLAYED)).await;
    let answer = again().await;
    assert!(answer.contains(REPLAYED) && answer.contains("another identity"), "{answer}");
    assert_eq!(served.refusals().await, 1, "it was refused once");
}

#[tokio::test]
async fn nothing_goes_on_for_who_has_hung_up_when_the_service_has_ended() {
    let served = Served::new().await;
    served.register_and_hang_up("", "new", 1).await;
    served.stop.cancel();
    let (api, serving) = (served.api, served.serving);
    let ended = tokio::time::timeout(SOON, serving).await.unwrap().unwrap();
    assert!(ended.is_ok(), "{ended:?}");
    until("nobody works on it", async || api.strong_count() == 0).await;
}
