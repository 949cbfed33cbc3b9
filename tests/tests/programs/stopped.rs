//! A process that waits, for a server or for its tables, ends when it is told to, as one does that works: soon, and without an
//! error, so that whoever supervises it takes it for a stop that was wanted.
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::installed::{CONSUMER, COORDINATOR, Installed, Running, SCHEDULER};

/// To be ended after a signal, on a busy machine: far less than what a server is waited for.
const SOON: Duration = Duration::from_secs(10);
/// To start, and to ask for a server.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A server that takes connections and never answers: whoever has connected is known to wait for it.
struct Silent(TcpListener);

impl Silent {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn address(&self) -> String {
        self.0.local_addr().unwrap().to_string()
    }

    /// Until somebody asks.
    fn asked(&self, running: &Running) -> TcpStream {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.0.accept() {
                Ok((stream, _)) => return stream,
                Err(why) => assert!(Instant::now() < until, "nobody asks: {why}: {}", running.said()),
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// A fresh database; dropped with this.
struct Database {
    admin: String,
    name: String,
}

impl Database {
    fn new() -> Self {
        let admin = std::env::var("SEXTON_TEST_PG").unwrap_or_else(|_| {
            panic!("SEXTON_TEST_PG is not set: scripts/test starts the servers and sets it")
        });
        let name = format!("sexton_programs_{}", uuid::Uuid::new_v4().simple());
        let this = Self { admin, name };
        assert!(this.execute(&format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'",
            this.name
        )));
        this
    }

    fn url(&self) -> String {
        let (server, _) = self.admin.rsplit_once('/').unwrap();
        format!("{server}/{}", self.name)
    }

    fn execute(&self, sql: &str) -> bool {
        Self::tell(&self.admin, sql)
    }

    /// What somebody does within it.
    fn change(&self, sql: &str) {
        assert!(Self::tell(&self.url(), sql), "{sql}");
    }

    fn tell(url: &str, sql: &str) -> bool {
        let mut psql = Command::new("psql");
        psql.args(["-qX", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]).status().is_ok_and(|s| s.success())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A test that fails must not panic once more.
        if !self.execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name)) {
            eprintln!("the database {} is left behind", self.name);
        }
    }
}

#[track_caller]
fn ends_when_told_to(mut running: Running) {
    running.tell_to_stop();
    let ended = running.ended_within(SOON);
    assert!(ended.is_some_and(|how| how.success()), "{ended:?}: {}", running.said());
}

#[test]
fn one_whose_database_is_away_ends_when_it_is_told_to() {
    let (installed, database) = (Installed::new(), Silent::new());
    installed.point_to(&format!("postgres://sexton@{}/sexton", database.address()));
    installed.configure(&[]);
    for program in [COORDINATOR, SCHEDULER] {
        let running = installed.start(program, &[]);
        let _waits = database.asked(&running);
        ends_when_told_to(running);
    }
}

/// Programs and a database, and this broker.
fn migrated(broker: &Silent) -> (Installed, Database) {
    let (installed, database) = (Installed::new(), Database::new());
    installed.point_to(&database.url());
    let address = format!("address = \"{}\"\nvhost = \"sexton\"", broker.address());
    installed.configure(&[("[broker]", &address)]);
    migrate(&installed);
    (installed, database)
}

fn migrate(installed: &Installed) {
    let mut migrating = installed.start(COORDINATOR, &["migrate"]);
    assert!(migrating.ended_within(PATIENCE).is_some_and(|how| how.success()), "{}", migrating.said());
}

/// Until it says that, and goes on.
#[track_caller]
fn says(running: &mut Running, text: &str) {
    let until = Instant::now() + PATIENCE;
    while !running.said().contains(text) {
        let ended = running.ended_within(LOOK_EVERY);
        assert!(ended.is_none() && Instant::now() < until, "{ended:?}: {}", running.said());
    }
}

#[test]
fn one_whose_broker_is_away_ends_when_it_is_told_to() {
    let broker = Silent::new();
    let (installed, _database) = migrated(&broker);
    for program in [COORDINATOR, SCHEDULER, CONSUMER] {
        let running = installed.start(program, &[]);
        let _waits = broker.asked(&running);
        ends_when_told_to(running);
    }
}

/// What the client of the broker gives up, the coordinator does not: it waits as deploy/README.md says.
#[test]
fn a_coordinator_waits_for_its_broker_for_longer_than_one_attempt() {
    let broker = Silent::new();
    let (installed, _database) = migrated(&broker);
    let mut running = installed.start(COORDINATOR, &[]);
    says(&mut running, "reaching the broker");
    ends_when_told_to(running);
}

/// Tables of an earlier version are no reason to end: it says what is missing, and goes on once somebody has migrated.
#[test]
fn a_coordinator_waits_until_its_tables_are_migrated() {
    let broker = Silent::new();
    let (installed, database) = migrated(&broker);
    // As the migrations before the 27th left them.
    database.change("DROP TABLE strangers; DELETE FROM _sqlx_migrations WHERE version = 27");
    let mut waiting = installed.start(COORDINATOR, &[]);
    let missing =
        "migration 27 (strangers) is missing: let the owner of the tables run `sexton-coordinator migrate`";
    says(&mut waiting, missing);
    migrate(&installed);
    let _goes_on = broker.asked(&waiting);
    assert!(waiting.said().contains(missing), "what another one says is not said over it");
    ends_when_told_to(waiting);
}
