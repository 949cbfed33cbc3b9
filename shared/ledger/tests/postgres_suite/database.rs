//! A database of one's own on a real server, for one test.
use std::sync::{Arc, Mutex, Weak};

use sexton_ledger::postgres::PgLedger;
use sexton_ledger::{LedgerError, Options};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};

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
        let ledger = Arc::new(PgLedger::open(&self.url(), options).await?);
        *self.opened.lock().unwrap() = Arc::downgrade(&ledger);
        Ok(ledger)
    }

    /// The handle that was opened last, if it is still there.
    pub fn opened(&self) -> Option<Arc<PgLedger>> {
        self.opened.lock().unwrap().upgrade()
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
