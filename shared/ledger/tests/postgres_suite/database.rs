//! A database of one's own on a real server, for one test.
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use sexton_ledger::postgres::PgLedger;
use sexton_ledger::{Ledger as _, LedgerError, Options};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};

/// As many as one handle keeps.
const CONNECTIONS: usize = 16;

/// Longest time until the server has noticed that a connection is gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// A fresh database; dropped with this.
pub struct Database {
    admin: String,
    name: String,
    /// The handle that was opened last.
    opened: Mutex<Weak<PgLedger>>,
}

fn admin() -> String {
    std::env::var("SEXTON_TEST_PG").expect(
        "SEXTON_TEST_PG is not set: give the address of a PostgreSQL superuser, such as the PG_URL that \
         `scripts/components/postgres up DIR` prints",
    )
}

impl Database {
    pub async fn new() -> Self {
        let admin = admin();
        let name = format!("sexton_test_{}", uuid::Uuid::new_v4().simple());
        let mut db = PgConnection::connect(&admin).await.expect("SEXTON_TEST_PG cannot be reached");
        let make = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'");
        sqlx::query(AssertSqlSafe(make)).execute(&mut db).await.unwrap();
        Self { admin, name, opened: Mutex::default() }
    }

    pub fn url(&self) -> String {
        self.url_with(None)
    }

    /// The address under which `user` connects.
    pub fn url_with(&self, user: Option<&str>) -> String {
        let options: PgConnectOptions = self.admin.parse().unwrap();
        let mut url = options.database(&self.name).to_url_lossy();
        if let Some(user) = user {
            url.set_username(user).unwrap();
        }
        url.to_string()
    }

    pub async fn open(&self, options: Options) -> Result<Arc<PgLedger>, LedgerError> {
        PgLedger::migrate(&self.url(), options.day).await?;
        let ledger = Arc::new(PgLedger::open(&self.url(), options).await?);
        *self.opened.lock().unwrap() = Arc::downgrade(&ledger);
        Ok(ledger)
    }

    /// The handle that was opened last, if it is still there.
    pub fn opened(&self) -> Option<Arc<PgLedger>> {
        self.opened.lock().unwrap().upgrade()
    }

    fn copied(&self) -> String {
        format!("{}_copy", self.name)
    }

    async fn as_admin(&self, statements: &[String]) {
        let mut db = PgConnection::connect(&self.admin).await.unwrap();
        let leave =
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'", self.name);
        sqlx::query(AssertSqlSafe(leave)).execute(&mut db).await.unwrap();
        for sql in statements {
            sqlx::query(AssertSqlSafe(sql.clone())).execute(&mut db).await.expect(sql);
        }
    }

    /// Keep a copy of the database. Whoever is connected is thrown out, and has connected again afterwards.
    pub async fn copy(&self) {
        self.as_admin(&[format!("CREATE DATABASE {} TEMPLATE {}", self.copied(), self.name)]).await;
        self.connected_again().await;
    }

    /// A connection that was used a moment ago is trusted: one call fails for each that was ended meanwhile.
    async fn connected_again(&self) {
        let Some(ledger) = self.opened() else { return };
        for _ in 0..CONNECTIONS {
            let _ = ledger.facts().await;
        }
        ledger.facts().await.unwrap();
    }

    /// Put the copy in its place, as if a replica that lagged behind had taken over.
    pub async fn put_back(&self) {
        let (name, copy) = (&self.name, self.copied());
        let swap =
            [format!("DROP DATABASE {name} WITH (FORCE)"), format!("ALTER DATABASE {copy} RENAME TO {name}")];
        self.as_admin(&swap).await;
        self.connected_again().await;
    }

    /// How many transactions of this database were ever undone because each waited for another. The ledger tries those
    /// again, so nobody else hears of them. To be asked when every handle was dropped: a connection counts what it met
    /// when it ends, before the server stops listing it.
    pub async fn deadlocks(&self) -> i64 {
        let mut db = PgConnection::connect(&self.admin).await.unwrap();
        let others =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'";
        let begun = Instant::now();
        loop {
            let left: i64 = sqlx::query_scalar(others).bind(&self.name).fetch_one(&mut db).await.unwrap();
            if left == 0 {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{left} connections are still there: is a handle?");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let counted = "SELECT deadlocks FROM pg_stat_database WHERE datname = $1";
        sqlx::query_scalar(counted).bind(&self.name).fetch_one(&mut db).await.unwrap()
    }

    pub async fn raw(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (admin, name) = (self.admin.clone(), self.name.clone());
        // A test's own runtime is on its way out, so the farewell has one of its own.
        let farewell = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut db = PgConnection::connect(&admin).await.unwrap();
                let drop = format!("DROP DATABASE {name} WITH (FORCE)");
                sqlx::query(AssertSqlSafe(drop)).execute(&mut db).await.unwrap();
            });
        });
        farewell.join().unwrap();
    }
}
