//! A little accounting and configuration server, whose faults a test chooses.
#![allow(dead_code, reason = "each test file uses a part of it")]
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// What goes wrong with the next change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is made, and the answer is a 500.
    ErrorAfterEffect,
    /// It is made, and the connection is cut instead of an answer.
    LostAnswer,
    /// It is not made, and the answer is a 204.
    NoEffect,
    /// It is not made, and the answer is this.
    Code(u16),
}

/// Everything the server knows: path → object; and what it was asked.
#[derive(Debug, Default)]
pub struct World {
    pub objects: BTreeMap<String, Value>,
    pub fault: Option<Fault>,
    /// What everything is answered with while the service itself is away.
    pub away: Option<u16>,
    pub id: String,
    /// What a missing object is answered with; `None` for a bare 404, as a proxy on the way would give.
    pub missing: Option<&'static str>,
    pub secrets: Vec<String>,
    pub changes: usize,
}

#[derive(Clone)]
pub struct Server {
    pub url: String,
    pub world: Arc<Mutex<World>>,
}

impl Server {
    pub async fn start(missing: &'static str) -> Self {
        let world = World { id: "lab".into(), missing: Some(missing), ..World::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { url, world: Arc::new(Mutex::new(world)) };
        let router = axum::Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }

    pub fn put(&self, path: &str, object: Value) {
        self.world.lock().unwrap().objects.insert(path.into(), object);
    }

    pub fn get(&self, path: &str) -> Value {
        self.world.lock().unwrap().objects.get(path).cloned().unwrap_or(Value::Null)
    }

    pub fn fault(&self, fault: Fault) {
        self.world.lock().unwrap().fault = Some(fault);
    }
}

async fn answer(
    State(server): State<Server>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut world = server.world.lock().unwrap();
    if let Some(code) = world.away {
        return StatusCode::from_u16(code).unwrap().into_response();
    }
    if let Some(secret) = headers.get("authorization") {
        world.secrets.push(secret.to_str().unwrap().to_owned());
    }
    if uri.path() == "/api/instance" {
        return Json(json!({ "id": world.id })).into_response();
    }
    let fault = if method == Method::GET { None } else { world.fault.take() };
    match fault {
        Some(Fault::NoEffect) => return StatusCode::NO_CONTENT.into_response(),
        Some(Fault::Code(code)) => return StatusCode::from_u16(code).unwrap().into_response(),
        Some(Fault::ErrorAfterEffect | Fault::LostAnswer) | None => {}
    }
    let answer = carry_out(&mut world, &method, uri.path(), &body);
    match fault {
        Some(Fault::ErrorAfterEffect) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        // Ends the connection's task, and with it the connection.
        Some(Fault::LostAnswer) => {
            drop(world);
            panic!("the answer is lost on purpose")
        }
        _ => answer,
    }
}

fn carry_out(world: &mut World, method: &Method, path: &str, body: &[u8]) -> Response {
    let Some(object) = world.objects.get_mut(path) else {
        return match world.missing {
            Some(text) => (StatusCode::NOT_FOUND, Json(json!({ "error": text }))).into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        };
    };
    if *method == Method::GET {
        return Json(object.clone()).into_response();
    }
    world.changes += 1;
    if *method == Method::DELETE {
        world.objects.remove(path);
    } else {
        let new: Value = serde_json::from_slice(body).unwrap();
        object.as_object_mut().unwrap().extend(new.as_object().unwrap().clone());
    }
    StatusCode::NO_CONTENT.into_response()
}
