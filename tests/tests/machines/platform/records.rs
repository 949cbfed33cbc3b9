//! Accounting and configuration management, which have no named server: a small HTTP server with the API that
//! the delivered hooks speak. It also serves what Prometheus measures.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::facts::{Facts, NOBODY};
use crate::machine::Machine;

/// What the server calls itself.
const PLACE: &str = "e2e";
/// Things of a machine here.
pub const RECORD: &str = "accounting: record";
pub const CERTIFICATE: &str = "config: certificate";
const NODE: &str = "config: node";

/// Path → object.
type Objects = Arc<Mutex<BTreeMap<String, Value>>>;

pub struct Records {
    pub address: SocketAddr,
    /// Where the consumers ask.
    asked_at: SocketAddr,
    objects: Objects,
    _runtime: tokio::runtime::Runtime,
}

impl Records {
    pub fn set_up(machines: &[Machine]) -> Self {
        let objects = Objects::default();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().fallback(answer).with_state(Arc::clone(&objects));
        runtime.spawn(async move { axum::serve(listener, router).await });
        let this = Self { address, asked_at: address, objects, _runtime: runtime };
        this.add(machines);
        this
    }

    /// It knows these machines, too.
    pub fn add(&self, machines: &[Machine]) {
        let mut objects = self.objects.lock().unwrap();
        for Machine { number, name, uuid, .. } in machines {
            let record =
                json!({ "uuid": uuid, "record": number, "active": number % 7 != 0, "tariff": "gold" });
            objects.insert(format!("/api/records/{name}"), record);
            let node =
                json!({ "uuid": uuid, "enrolled": number % 6 != 0, "certificate": { "serial": number } });
            objects.insert(format!("/api/nodes/{name}"), node);
            objects.insert(format!("/api/certificates/{number}"), json!({ "uuid": uuid, "state": "valid" }));
        }
    }

    /// The consumers reach it at another address.
    pub fn put_behind(&mut self, proxy: SocketAddr) {
        self.asked_at = proxy;
    }

    pub fn configuration(&self) -> String {
        let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy/hooks");
        let of = |subsystem: &str| {
            format!(
                "[consumers.\"{subsystem}.main\"]\ndriver = \"hook\"\nsubsystem = \"{subsystem}\"\n\
                 definition = {:?}\nbase_url = \"http://{}\"\nplace = \"{PLACE}\"\n",
                hooks.join(format!("{subsystem}.toml")),
                self.asked_at
            )
        };
        of("accounting") + &of("config")
    }

    /// How the names of any machine's things begin.
    pub fn things() -> Vec<String> {
        [RECORD, CERTIFICATE, NODE].map(str::to_owned).into()
    }

    pub fn look(&self, machines: &[Machine]) -> Facts {
        let mut facts = Facts::default();
        for (path, object) in self.objects.lock().unwrap().iter() {
            let machine = machines.iter().find(|m| object["uuid"] == m.uuid.to_string());
            let thing = match path.split('/').nth(2) {
                Some("records") => RECORD,
                Some("nodes") => NODE,
                _ => CERTIFICATE,
            };
            facts.add(machine.map_or(NOBODY, |m| &m.name), thing, object.to_string());
        }
        facts
    }
}

/// Whether a thing of a machine is one of these.
pub fn is_its(thing: &str) -> bool {
    [RECORD, CERTIFICATE, NODE].contains(&thing)
}

/// What stays of a machine that is gone: what it owes is still on the account, and its certificate is listed as revoked.
pub fn retire(expected: &mut Facts, machine: &str) {
    expected.retain(machine, |thing| thing != NODE);
    let with = |text: &str, key: &str, value: Value| {
        let mut object: Value = serde_json::from_str(text).unwrap();
        object[key] = value;
        object.to_string()
    };
    expected.change(machine, RECORD, |text| with(text, "active", json!(false)));
    expected.change(machine, CERTIFICATE, |text| with(text, "state", json!("revoked")));
}

async fn answer(
    State(objects): State<Objects>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path();
    if path == "/api/instance" {
        return Json(json!({ "id": PLACE })).into_response();
    }
    if path.starts_with("/metrics/") {
        return "machine_works 1\n".into_response();
    }
    let mut objects = objects.lock().unwrap();
    let Some(object) = objects.get_mut(path) else {
        let kind = path.split('/').nth(2).unwrap_or_default().trim_end_matches('s').to_owned();
        return (StatusCode::NOT_FOUND, Json(json!({ "error": format!("no such {kind}") }))).into_response();
    };
    // As such a server should: changed is only what the caller means.
    let condition = headers.get("if-match").and_then(|value| value.to_str().ok());
    let condition = condition.or_else(|| uri.query().and_then(|query| query.strip_prefix("uuid=")));
    if condition.is_some_and(|uuid| object["uuid"] != uuid) {
        return StatusCode::PRECONDITION_FAILED.into_response();
    }
    match method {
        Method::GET => return Json(object.clone()).into_response(),
        Method::DELETE => drop(objects.remove(path)),
        _ => match serde_json::from_slice::<Value>(&body) {
            Ok(Value::Object(new)) => object.as_object_mut().unwrap().extend(new),
            Ok(_) | Err(_) => return StatusCode::BAD_REQUEST.into_response(),
        },
    }
    StatusCode::NO_CONTENT.into_response()
}
