//! A consumer that is down costs its own jobs time, and no other's.
use std::path::Path;

use axum::serve;
use sexton_api::{Client, DeletionInfo, HealthInfo};
use sexton_coordinator::Plans;
use sexton_coordinator::api::{Api, router};
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Limits, Options as LedgerOptions};
use sexton_model::belts::Policy;
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{JobKind, Stage};
use sexton_model::resource::Resource;
use sexton_model::time::Day;
use sexton_service::Config;

use super::*;
use crate::serve::consumers;
use crate::waiting::wait_for;

mod outages;

const PLAN: &str = r#"
kind = "vm"
version = 1
criticality = "irreplaceable"
rehearsal = true
[stages.announce]
offset_days = -1
steps = [{ do = "monitoring.inspect" }]
[stages.soft]
offset_days = 0
steps = []
[stages.hard]
offset_days = 1
steps = [{ do = "monitoring.remove_target" }]
[stages.purge]
offset_days = 2
steps = []
[stages.recycle]
offset_days = 3
steps = []
"#;
const UP: [&str; 3] = ["web01", "web02", "web03"];
const DOWN: [&str; 2] = ["db01", "db02"];

/// A coordinator with its API, and two instances with what they look after.
struct Site {
    embedded: Embedded,
    client: Client,
    folder: tempfile::TempDir,
    shutdown: CancellationToken,
}

fn instance(name: &str) -> Instance {
    name.parse().unwrap()
}

fn record_of(folder: &Path, at: &Instance, n: u8, name: &str) -> Resource {
    let address = format!("198.18.0.{n}:9100");
    let resource: Resource = serde_json::from_value(serde_json::json!({
        "id": format!("vm/{name}"), "scope": "lab", "identity": {"uuid": name}, "criticality": "irreplaceable",
        "instances": {"monitoring": at.name.as_str()},
        "attributes": {"monitoring": {"address": address}},
    }))
    .unwrap();
    let (id, identity) = (&resource.id, &resource.identity);
    sexton_monitoring::sandbox::create(folder, at, id, identity, &address).unwrap();
    resource
}

impl Site {
    async fn start() -> Self {
        let instances = [instance("monitoring.main"), instance("monitoring.other")];
        Self::with(&instances, &[("monitoring.toml", sexton_monitoring::ACTIONS)], &[("vm.toml", PLAN)]).await
    }

    async fn with(instances: &[Instance], actions: &[(&str, &str)], plans: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { down_after_ms: 1_000, ..Limits::default() };
        let options =
            LedgerOptions { day: Day::Rehearsal { length_ms: 50 }, limits, policy: Policy::default() };
        let file = folder.path().join("sexton.db");
        let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(&file, options).await.unwrap());
        let witness = Witness::open(&crate::serve::beside(&file), ledger.as_ref(), false).await.unwrap();
        let both = (ledger, Arc::new(witness));
        let plans = Plans::of(actions, plans, true).unwrap();
        let shutdown = CancellationToken::new();
        let every = Duration::from_millis(100);
        let embedded = Embedded::start(both, Kept::default(), instances, Vec::new(), every, shutdown.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let api = Api { engine: embedded.engine.clone(), plans: Arc::new(plans), token: None };
        let stop = shutdown.clone();
        let server = serve(listener, router(Arc::new(api))).with_graceful_shutdown(stop.cancelled_owned());
        tokio::spawn(async move { server.await });
        let client = Client::new(&url, None, "test".parse::<sexton_model::Actor>().unwrap()).unwrap();
        Self { embedded, client, folder, shutdown }
    }

    fn consumer(&self, name: &str) -> JoinHandle<()> {
        self.consumer_with(name, "driver = \"sandbox\"\nroot = \"platform\"\n")
    }

    fn consumer_with(&self, name: &str, keys: &str) -> JoinHandle<()> {
        let text = format!("[consumers.{name:?}]\n{keys}");
        let file = self.folder.path().join("sexton.toml");
        let config = Config::parse(&file, &text, &["consumers"]).unwrap();
        let (actions, driver) = consumers::build(&instance(name), &config).unwrap();
        let options = Options { pulse_ms: 100, ..Options::default() };
        self.embedded.spawn_consumer(&instance(name), actions, driver, options, Arc::default())
    }

    async fn delete(&self, at: &str, n: u8, name: &str) {
        self.delete_this(record_of(&self.folder.path().join("platform"), &instance(at), n, name)).await;
    }

    async fn delete_this(&self, resource: Resource) {
        let register =
            sexton_api::Register { resources: vec![resource.clone()], whole: true, dry_run: false };
        assert_eq!(self.client.register(&register).await.unwrap().results, [None]);
        let today = self.client.health().await.unwrap().now.utc().date_naive();
        let (resource, reason) = (resource.id, "test".to_owned());
        let wanted = sexton_api::Delete { resource, on: today, zone: None, gone_by: None, reason };
        self.client.delete(&wanted).await.unwrap();
    }

    async fn show(&self, name: &str) -> DeletionInfo {
        self.client.deletion(&format!("vm/{name}")).await.unwrap()
    }

    async fn gone(&self, names: &[&str]) {
        for name in names {
            wait_for(async || {
                let info = self.show(name).await;
                let gone = info.status == RecordStatus::Recycled;
                if gone { Ok(()) } else { Err(format!("{name} is gone: {:#?}", info.jobs)) }
            })
            .await;
        }
    }

    /// Look at the health until an instance is as wanted.
    async fn until(&self, what: &str, seen: impl Fn(&HealthInfo) -> bool) -> HealthInfo {
        wait_for(async || {
            let health = self.client.health().await.unwrap();
            if seen(&health) { Ok(health) } else { Err(format!("{what}: {health:#?}")) }
        })
        .await
    }

    fn is_there(&self, at: &str, name: &str) -> bool {
        let at = instance(at);
        let root = self.folder.path().join("platform");
        let id = format!("vm/{name}").parse().unwrap();
        let left = sexton_monitoring::sandbox::describe(&root, &at, &id).unwrap();
        !left["target"].is_null()
    }
}

fn down(health: &HealthInfo, name: &str) -> bool {
    health.instances.iter().any(|i| i.instance == instance(name) && i.down)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_is_down_costs_its_own_jobs_time_and_no_others() {
    let site = Site::start().await;
    let health = site.client.health().await.unwrap();
    assert!(health.instances.iter().all(|i| i.pulse_at.is_none() && i.down), "{health:?}");
    // Never heard of: said, and for whom one waits.
    for (n, name) in (10..).zip(DOWN) {
        site.delete("monitoring.other", n, name).await;
    }
    site.until("two jobs wait", |h| h.instances.iter().any(|i| i.waiting == 2)).await;
    let why = |info: &DeletionInfo| info.jobs[0].why.clone();
    let shown = why(&site.show("db01").await);
    assert_eq!(shown, "waits for a consumer of monitoring.other, of which no pulse was ever heard");
    let said = crate::show::health(&site.client.health().await.unwrap());
    assert!(said.contains("NO PULSE ever from monitoring.other: 2 jobs wait"), "{said}");

    // Heard of, and gone again before anything was asked of it.
    drop(site.consumer("monitoring.main"));
    for (n, name) in (20..).zip(UP) {
        site.delete("monitoring.main", n, name).await;
    }
    site.gone(&UP).await;
    for name in DOWN {
        let info = site.show(name).await;
        assert_eq!(info.status, RecordStatus::Live);
        assert!(site.is_there("monitoring.other", name), "nothing was done for {name}");
    }
    for name in UP {
        assert!(!site.is_there("monitoring.main", name), "{name} is gone");
    }

    // Back: its own jobs come to their end.
    let other = site.consumer("monitoring.other");
    site.gone(&DOWN).await;
    // Gone for good: the pulse is remembered.
    other.abort();
    site.until("monitoring.other is down", |h| down(h, "monitoring.other")).await;
    site.delete("monitoring.other", 30, "late01").await;
    site.until("one job waits", |h| h.instances.iter().any(|i| i.waiting == 1)).await;
    let shown = why(&site.show("late01").await);
    assert!(
        shown.starts_with("waits for a consumer of monitoring.other, of which no pulse was heard since 2"),
        "{shown}"
    );
    assert!(!down(&site.client.health().await.unwrap(), "monitoring.main"));
    let job = &site.show("late01").await.jobs[0];
    assert_eq!(job.job, JobKind::Stage(Stage::Announce));
    site.shutdown.cancel();
    site.embedded.stopped().await.unwrap();
}
