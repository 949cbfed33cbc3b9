//! A virtual host on a real broker for each test, made from the very definitions that are deployed.
//!
//! - `SEXTON_TEST_AMQP`: the address of a broker, for an administrator, such as `amqp://guest:guest@host:5672`
//! - `SEXTON_TEST_RABBIT_MGMT`: the address of its management plugin, such as `http://host:15672`
//!
//! The users are shared by all tests, as users are not part of a virtual host; they all have one password.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use sexton_bus::rabbit::{Rabbit, RabbitOptions};

use crate::suite::{Setup, topology};

const PASSWORD: &str = "only-for-tests";

/// The broker and one virtual host of it.
pub struct Keeper {
    /// `host:port` of the AMQP listener.
    pub host: String,
    management: String,
    pub vhost: String,
    http: reqwest::Client,
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: start a broker with `scripts/components/rabbitmq up DIR` and pass its address"
        )
    })
}

pub async fn begin() -> (Keeper, Setup) {
    let keeper = Keeper::new(&variable("SEXTON_TEST_AMQP"), &variable("SEXTON_TEST_RABBIT_MGMT")).await;
    let setup = keeper.setup().await;
    (keeper, setup)
}

impl Keeper {
    pub async fn from_environment() -> Self {
        Self::new(&variable("SEXTON_TEST_AMQP"), &variable("SEXTON_TEST_RABBIT_MGMT")).await
    }

    pub async fn new(amqp: &str, management: &str) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let vhost = format!("sexton-test-{}-{}-{count}", since.as_micros(), std::process::id());
        let host = amqp.rsplit('@').next().unwrap().split('/').next().unwrap().to_owned();
        // Requests bring their own login.
        let address = management.trim_start_matches("http://").rsplit('@').next().unwrap();
        let management = format!("http://{}", address.trim_end_matches('/'));
        let http = reqwest::Client::new();
        let keeper = Self { host, management, vhost, http };
        let passwords: BTreeMap<String, String> =
            topology().users.into_iter().map(|user| (user.name, PASSWORD.to_owned())).collect();
        let definitions = topology().definitions(&keeper.vhost, &passwords);
        keeper.call(reqwest::Method::POST, "definitions", Some(definitions.to_string())).await;
        let guest = r#"{"configure":".*","write":".*","read":".*"}"#.to_owned();
        let path = format!("permissions/{}/guest", keeper.vhost);
        keeper.call(reqwest::Method::PUT, &path, Some(guest)).await;
        keeper
    }

    /// Ask the management plugin for something, as an administrator.
    pub async fn call(&self, method: reqwest::Method, path: &str, body: Option<String>) {
        let url = format!("{}/api/{path}", self.management);
        let mut request = self.http.request(method, &url).basic_auth("guest", Some("guest"));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        assert!(status.is_success(), "{url}: {status} {}", answer.text().await.unwrap());
    }

    pub fn url(&self, user: &str) -> String {
        format!("amqp://{user}:{PASSWORD}@{}/{}", self.host, self.vhost)
    }

    /// The address for the administrator, who may do everything.
    pub fn administrator(&self) -> String {
        format!("amqp://guest:guest@{}/{}", self.host, self.vhost)
    }

    pub fn options(&self, user: &str) -> RabbitOptions {
        RabbitOptions::new(self.url(user))
    }

    pub async fn connect(&self, user: &str) -> Rabbit {
        Rabbit::connect(self.options(user)).await.unwrap()
    }

    pub async fn setup(&self) -> Setup {
        Setup {
            coordinator: Arc::new(self.connect("coordinator").await),
            scheduler: Arc::new(self.connect("scheduler").await),
            hypervisor: Arc::new(self.connect("hypervisor.main").await),
        }
    }

    pub async fn end(self) {
        self.call(reqwest::Method::DELETE, &format!("vhosts/{}", self.vhost), None).await;
    }
}
