//! The API of a system, and whoever asks it.
use std::sync::Arc;

use sexton_api::Client;
use sexton_coordinator::api::{Api, serve};
use sexton_coordinator::{Engine, Plans, Witness};
use sexton_model::access::{Extent, NewToken, Role, SECRET_BYTES, token_hash, token_text};
use sexton_model::{Actor, Scope};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::job_table::JobTable;
use super::plan::{PLAN, announcing_plans, plans};
use super::{System, ops};

impl System {
    /// The coordinator serves its API from now on, by HTTP and for this machine alone. Whoever asks it is [`ops`], and makes no
    /// record: it knows no plan.
    pub async fn client(&mut self) -> Client {
        let url = self.listen(self.engine.clone(), Plans::default()).await;
        Client::new(&url, None, ops()).unwrap()
    }

    /// The same, where resources are registered as well: it knows the plan. Where it is.
    pub async fn serve_inventory(&mut self) -> String {
        self.listen(self.engine.clone(), plans(PLAN)).await
    }

    /// The same with the plan that has a notice.
    pub async fn serve_announcing(&mut self) -> String {
        self.listen(self.engine.clone(), announcing_plans()).await
    }

    /// Another coordinator serves the same beside it. On many machines it has opened the job table itself, as a process of its
    /// own does, and knows nothing but what stands there; a file has one coordinator, whose API is at another address, too,
    /// then. Where it is.
    pub async fn serve_beside(&mut self) -> String {
        let standing = self.standing.as_ref().unwrap();
        let engine = match &standing.job_table {
            JobTable::File(_) => self.engine.clone(),
            JobTable::Database(_) => {
                let ledger = standing.job_table.open(self.options.clone()).await;
                let witness = standing.folder.path().join("witness.beside");
                let witness = Arc::new(Witness::open(&witness, ledger.as_ref(), true).await.unwrap());
                Arc::new(self.engine_on(ledger, witness))
            }
        };
        self.listen(engine, plans(PLAN)).await
    }

    async fn listen(&mut self, engine: Arc<Engine>, plans: Plans) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let api = Api { engine, plans: Arc::new(plans), token: None };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let running = tokio::spawn(async move { serve(listener, Arc::new(api), stopped).await.unwrap() });
        self.serving.push((stop, running));
        url
    }

    /// Whoever asks the API at `url` with a token of this name, role and scope.
    pub async fn asking(&self, url: &str, (name, role, scope): (&str, Role, &str)) -> Client {
        let secret = self.token(name, role, Some(scope)).await;
        Client::new(url, Some(secret.into()), None::<Actor>).unwrap()
    }

    /// The secret of a new token of this name and role, in this scope; everywhere without one.
    pub async fn token(&self, name: &str, role: Role, scope: Option<&str>) -> String {
        let secret = token_text(&rand::random::<[u8; SECRET_BYTES]>());
        let scoped = |scope: &str| Extent::Scopes([scope.parse::<Scope>().unwrap()].into());
        let (name, extent) = (name.parse().unwrap(), scope.map_or(Extent::Everywhere, scoped));
        let new = NewToken { name, role, extent, good_for_s: 3600, by: ops() };
        self.ledger.issue_token(new, token_hash(&secret)).await.unwrap().unwrap();
        secret
    }
}
