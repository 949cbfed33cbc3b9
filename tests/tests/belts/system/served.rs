//! The API of a system, and whoever asks it.
use std::sync::Arc;

use sexton_api::Client;
use sexton_coordinator::Plans;
use sexton_coordinator::api::{Api, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{System, ops};

impl System {
    /// The coordinator serves its API from now on, by HTTP and for this machine alone. Whoever asks it is [`ops`], and makes no
    /// record: it knows no plan.
    pub async fn client(&mut self) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let api = Api { engine: self.engine.clone(), plans: Arc::new(Plans::default()), token: None };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let running = tokio::spawn(async move { serve(listener, Arc::new(api), stopped).await.unwrap() });
        self.serving.push((stop, running));
        Client::new(&url, None, ops()).unwrap()
    }
}
