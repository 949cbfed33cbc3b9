//! The job table on PostgreSQL, for many machines.
//!
//! Contract: as [`Ledger`](crate::Ledger) says. Any number of processes may use one database. Invariants:
//! - One locking order, which ARCHITECTURE.md tells whole: gate → resources → claims → deletions, with others between, each
//!   ascending by id, in statements of their own. A deletion's lock covers its jobs, holds, waivers, targets and manifests; nothing writes them without it.
//! - What is decided on is read after the last lock, with one statement per table however long the batch is.
//! - The gate is an advisory lock: shared by every batch, taken alone by a pause.
//! - Every update's row count is checked; a batch that collides is tried again one by one.
//!
//! Why no `SKIP LOCKED`: the finders give hints without locks, and an intent must be answered, not skipped.
//! Why READ COMMITTED: with locks taken first, each later statement sees what the locks protect; a stricter
//! level would see the state before the wait for the lock, and fail instead.
mod access;
mod admit;
mod alarms;
mod archive;
mod attest;
mod behind;
mod below;
mod canary;
mod census;
mod chain;
mod claims;
mod codes;
mod create;
mod drill;
mod due;
mod error;
mod exclusive;
mod find;
mod groups;
mod healthy;
mod jobs;
mod keys;
mod ledger;
mod lifting;
mod listing;
mod load;
mod memory;
mod one_shots;
mod open;
mod pause;
mod receipts;
mod records;
mod rehearsal;
mod resource_holds;
mod resources;
mod restores;
mod review;
mod roles;
mod run;
mod strangers;
mod survey;
mod verify;
mod views;
mod watched;
mod write;

use std::sync::Arc;

use sexton_model::Scope;
use sexton_model::checkpoint::Mark;
use sexton_model::request_key::Attempt;
use sexton_model::time::Day;
use sqlx::{ConnectOptions as _, PgConnection, PgPool};

pub use archive::PgArchive;
pub use due::PgDueReader;
pub use open::check_address;

use crate::known::Known;
use crate::policy::CurrentPolicy;
use crate::round::Round;
use crate::{DeletionFilter, LedgerError, Options, ResourceFilter};
use error::doing;

/// Several statements that are to see one moment.
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The job table in a PostgreSQL database.
#[derive(Clone)]
pub struct PgLedger {
    pool: PgPool,
    options: Arc<Options>,
    policy: CurrentPolicy,
    known: Arc<Known>,
    memory: Arc<memory::Memory>,
    held: Arc<Round>,
    stuck: Arc<Round>,
    /// Whose one change this handle is for, if it is.
    attempt: Option<Attempt>,
}

impl PgLedger {
    /// Bring the tables up to date, found the ledger if it is new, and make the roles: for the owner of the tables.
    /// Returns what was done, a line each. Doing it again does nothing.
    ///
    /// # Errors
    /// [`LedgerError::Unfit`] if commits are not durable, or if the ledger was created with another day;
    /// [`LedgerError::Store`] if the database cannot be reached or migrated.
    pub async fn migrate(url: &str, day: Day) -> Result<Vec<String>, LedgerError> {
        open::migrate(url, day).await
    }

    /// The statements that find what is to be done, each with what it is for: for tests of their plans.
    pub fn finders() -> [(&'static str, &'static str); 6] {
        find::FINDERS
    }

    /// The statements that list what is of these scopes and below them, of which it takes at most `limit`, each with what it
    /// lists: for tests of their plans.
    #[doc(hidden)]
    pub fn listings(scopes: &[Scope], limit: u32) -> [(&'static str, String); 2] {
        let scopes = Some(scopes.to_vec());
        let deletions = DeletionFilter { scopes: scopes.clone(), limit, ..DeletionFilter::default() };
        let resources = ResourceFilter { scopes, limit, ..ResourceFilter::default() };
        [
            ("deletions", views::listing(&deletions, limit).sql().as_str().to_owned()),
            ("resources", resources::listing(&resources, limit).sql().as_str().to_owned()),
        ]
    }

    /// A connection with the settings that all connections for work have: for tests of these plans, which depend on them.
    ///
    /// # Errors
    /// If the database cannot be reached.
    #[doc(hidden)]
    pub async fn connection(url: &str) -> Result<PgConnection, LedgerError> {
        open::connection(url)?.connect().await.map_err(doing("connecting to the database"))
    }

    /// Connect and check that the ledger may be used. The rights of the role `sexton_coordinator` are enough.
    ///
    /// # Errors
    /// [`LedgerError::Unfit`] if commits are not durable, if the tables are not those of this version (see
    /// [`Self::migrate`]), or if the ledger was created with another day; [`LedgerError::Store`] if the database
    /// cannot be reached.
    pub async fn open(url: &str, options: Options) -> Result<Self, LedgerError> {
        let (pool, standing) = open::open(url, options.day, open::CONNECTIONS_MAX).await?;
        claims::fill(&pool, &options.policy).await?;
        // Fences of its own this process has not committed yet.
        let known = Known::new(standing.ledger, Mark { fence: 0, ..standing.mark });
        Ok(Self {
            pool,
            policy: CurrentPolicy::new(options.policy.clone()),
            options: Arc::new(options),
            known: Arc::new(known),
            memory: Arc::new(memory::Memory::new()),
            held: Arc::default(),
            stuck: Arc::default(),
            attempt: None,
        })
    }

    /// Compare what this process remembers with the database, and say what differs. It never should; this reads all
    /// that is remembered, so it is for tests and for whoever doubts it.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn compare(&self) -> Result<Result<(), String>, LedgerError> {
        let mut tx = self.pool.begin_with(SNAPSHOT).await.map_err(doing("comparing"))?;
        self.memory.compare(&mut tx).await
    }

    /// Give all connections back.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
