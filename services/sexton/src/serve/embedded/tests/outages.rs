//! A subsystem that is away, behind a consumer that is not, costs its own jobs time, and no other's.
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use sexton_model::job::StateName;

use super::*;

/// Attempts of each step: the outage is longer.
const ATTEMPTS: usize = 2;

/// An accounting system with one record, of the resource that it is called by.
struct Accounting {
    uuid: &'static str,
    books: Mutex<Books>,
}

struct Books {
    away: bool,
    /// How often it was asked while it was away.
    asked_in_vain: usize,
    active: bool,
}

async fn answer(State(server): State<Arc<Accounting>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let mut books = server.books.lock().unwrap();
    if books.away {
        books.asked_in_vain += 1;
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if method != Method::GET {
        let change: Value = serde_json::from_slice(&body).unwrap();
        books.active = change["active"] == true;
        return StatusCode::NO_CONTENT.into_response();
    }
    if uri.path() == "/api/instance" {
        return Json(json!({ "id": "books" })).into_response();
    }
    let record = json!({ "uuid": server.uuid, "record": 7, "active": books.active, "tariff": "gold" });
    Json(record).into_response()
}

impl Accounting {
    /// One for the resource `uuid`, and its consumer.
    async fn start(site: &Site, name: &str, uuid: &'static str) -> Arc<Self> {
        let books = Books { away: false, asked_in_vain: 0, active: true };
        let accounting = Arc::new(Self { uuid, books: Mutex::new(books) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(answer).with_state(accounting.clone());
        tokio::spawn(async move { serve(listener, router).await });
        let definition = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/hooks/accounting.toml");
        let keys = format!(
            "driver = \"hook\"\nsubsystem = \"accounting\"\ndefinition = {definition:?}\nbase_url = {url:?}\n\
             place = \"books\"\n"
        );
        drop(site.consumer_with(&format!("accounting.{name}"), &keys));
        accounting
    }

    fn set_away(&self, away: bool) {
        self.books.lock().unwrap().away = away;
    }

    fn asked_in_vain(&self) -> usize {
        self.books.lock().unwrap().asked_in_vain
    }

    fn is_active(&self) -> bool {
        self.books.lock().unwrap().active
    }
}

/// A kind of which the accounting is stopped, and whose hard stage is so many days after that.
fn plan(kind: &str, hard: u32) -> String {
    let step = |action: &str| {
        format!(
            "{{ do = \"accounting.{action}\", max_attempts = {ATTEMPTS}, deadline_ms = 5000, longest_call_ms = 1000 }}"
        )
    };
    let stage = |name: &str, offset_days: i64, steps: &str| {
        format!("[stages.{name}]\noffset_days = {offset_days}\nsteps = [{steps}]\n")
    };
    let hard = i64::from(hard);
    [
        format!("kind = {kind:?}\nversion = 1\ncriticality = \"irreplaceable\"\nrehearsal = true\n"),
        stage("announce", -1, &step("inspect")),
        stage("soft", 0, &step("stop")),
        stage("hard", hard, ""),
        stage("purge", hard + 1, ""),
        stage("recycle", hard + 2, ""),
    ]
    .concat()
}

fn resource(id: &str, uuid: &str, accounting: &str) -> Resource {
    serde_json::from_value(json!({
        "id": id, "scope": "lab", "identity": {"uuid": uuid}, "criticality": "irreplaceable",
        "instances": {"accounting": accounting}, "attributes": {},
    }))
    .unwrap()
}

impl Site {
    /// Wait until a record has come so far.
    async fn until_record(&self, id: &str, what: &str, seen: impl Fn(&DeletionInfo) -> bool) -> DeletionInfo {
        wait_for(async || {
            let info = self.client.deletion(id).await.unwrap();
            if seen(&info) { Ok(info) } else { Err(format!("{id}: {what}: {:#?}", info.jobs)) }
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subsystem_that_is_away_costs_its_own_jobs_time_and_no_others() {
    let instances = ["accounting.kept", "accounting.gone", "monitoring.main"].map(instance);
    let accounting = include_str!("../../../../../../deploy/subsystems/accounting.toml");
    let actions = [("accounting.toml", accounting), ("monitoring.toml", sexton_monitoring::ACTIONS)];
    // The one is cancelled long before its hard stage, the other is deleted.
    let (image, machine) = (plan("image", 20_000), plan("machine", 1));
    let plans = [("vm.toml", PLAN), ("image.toml", image.as_str()), ("machine.toml", machine.as_str())];
    let site = Site::with(&instances, &actions, &plans).await;
    let kept = Accounting::start(&site, "kept", "k1").await;
    let gone = Accounting::start(&site, "gone", "g1").await;
    drop(site.consumer("monitoring.main"));

    site.delete_this(resource("image/kept01", "k1", "kept")).await;
    let stopped = |info: &DeletionInfo| {
        info.jobs.iter().any(|j| j.job == JobKind::Stage(Stage::Soft) && j.state == StateName::Done)
    };
    let info = site.until_record("image/kept01", "is stopped", stopped).await;
    assert!(!kept.is_active());

    // Both are away: to a restore, and to a deletion.
    kept.set_away(true);
    gone.set_away(true);
    site.client.cancel(info.id, "wanted back").await.unwrap();
    site.delete_this(resource("machine/gone01", "g1", "gone")).await;
    // Nobody else waits for them.
    site.delete("monitoring.main", 20, "web01").await;
    site.gone(&["web01"]).await;
    wait_for(async || {
        let asked = (kept.asked_in_vain(), gone.asked_in_vain());
        let enough = asked.0.min(asked.1) > ATTEMPTS + 1;
        if enough { Ok(()) } else { Err(format!("both are asked again and again: {asked:?}")) }
    })
    .await;
    for id in ["image/kept01", "machine/gone01"] {
        let info = site.client.deletion(id).await.unwrap();
        assert!(info.status.live(), "{info:#?}");
        assert!(info.jobs.iter().all(|job| job.state != StateName::Parked), "{:#?}", info.jobs);
    }

    // Back: both come to their ends, and nobody has done anything for it.
    kept.set_away(false);
    gone.set_away(false);
    let over = |status| move |info: &DeletionInfo| info.status == status;
    site.until_record("image/kept01", "is restored", over(RecordStatus::Cancelled)).await;
    site.until_record("machine/gone01", "is gone", over(RecordStatus::Recycled)).await;
    assert!(kept.is_active() && !gone.is_active());
    site.shutdown.cancel();
    site.embedded.stopped().await.unwrap();
}
