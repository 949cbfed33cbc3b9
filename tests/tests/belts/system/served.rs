//! The API of a system, and whoever asks it.
use std::sync::Arc;

use sexton_api::Client;
use sexton_coordinator::Plans;
use sexton_coordinator::api::{Api, serve};
use sexton_model::access::{Extent, NewToken, Role, SECRET_BYTES, token_hash, token_text};
use sexton_model::{Actor, Scope};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::plan::{PLAN, plans};
use super::{System, ops};

impl System {
    /// The coordinator serves its API from now on, by HTTP and for this machine alone. Whoever asks it is [`ops`], and makes no
    /// record: it knows no plan.
    pub async fn client(&mut self) -> Client {
        let url = self.listen(Plans::default()).await;
        Client::new(&url, None, ops()).unwrap()
    }

    /// The same, where resources are registered as well: it knows the plan. Where it is.
    pub async fn serve_inventory(&mut self) -> String {
        self.listen(plans(PLAN)).await
    }

    async fn listen(&mut self, plans: Plans) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let api = Api { engine: self.engine.clone(), plans: Arc::new(plans), token: None };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let running = tokio::spawn(async move { serve(listener, Arc::new(api), stopped).await.unwrap() });
        self.serving.push((stop, running));
        url
    }

    /// Whoever asks the API at `url` with a token of this name, role and scope.
    pub async fn asking(&self, url: &str, (name, role, scope): (&str, Role, &str)) -> Client {
        let secret = token_text(&rand::random::<[u8; SECRET_BYTES]>());
        let scope: Scope = scope.parse().unwrap();
        let (name, extent) = (name.parse().unwrap(), Extent::Scopes([scope].into()));
        let new = NewToken { name, role, extent, good_for_s: 3600, by: ops() };
        self.ledger.issue_token(new, token_hash(&secret)).await.unwrap().unwrap();
        Client::new(url, Some(secret.into()), None::<Actor>).unwrap()
    }
}
