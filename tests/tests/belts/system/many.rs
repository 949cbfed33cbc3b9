//! PostgreSQL and RabbitMQ, which all tests share: a system has a database and a virtual host of its own there, which are
//! gone when it is, however its test ended. `scripts/test` starts both, and says in variables where they are.
use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use sexton_bus::rabbit::{Rabbit, RabbitOptions};
use sexton_bus::{Bus, Topology};

/// Users are not part of a virtual host: the tests of the bus have the same ones, with the same password.
const PASSWORD: &str = "only-for-tests";
/// Of which everybody may do everything. That the rights which are deployed keep an intruder from most of what is tried
/// here is shown by the tests of the bus; a belt has to hold without them.
const EVERYTHING: &str = ".*";
/// Each row of each table, as text. The client does each of the statements that the first one makes.
const ROWS: &str = "SELECT format('SELECT one_row::text FROM %I one_row', relname) FROM pg_class \
     WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace \\gexec\n";

fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: scripts/test starts the servers and sets it"))
}

/// A name that nobody else has.
fn unique() -> String {
    format!("sexton_belts_{}", uuid::Uuid::new_v4().simple())
}

/// Run it to its success; what it complained of otherwise.
fn done(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let complaint = || format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.status.success().then_some(()).ok_or_else(complaint)
}

/// A fresh database; dropped with this.
pub struct Database {
    admin: String,
    name: String,
}

impl Database {
    pub fn new() -> Self {
        let (admin, name) = (variable("SEXTON_TEST_PG"), unique());
        let make = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'");
        done(psql(&admin).args(["-c", &make])).unwrap();
        Self { admin, name }
    }

    /// Where it is, for its owner.
    pub fn url(&self) -> String {
        let (server, _) = self.admin.rsplit_once('/').unwrap();
        format!("{server}/{}", self.name)
    }

    /// A client of it, which has yet to be told what to do.
    pub fn psql(&self) -> Command {
        psql(&self.url())
    }

    /// All rows of all tables, as text: bytes are in hexadecimal.
    pub fn rows(&self) -> Vec<u8> {
        let mut psql = self.psql();
        psql.args(["-At", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = psql.spawn().unwrap();
        process.stdin.take().unwrap().write_all(ROWS.as_bytes()).unwrap();
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "psql reads no rows");
        output.stdout
    }

    /// What somebody else does to it.
    pub fn execute(&self, sql: &str) {
        done(self.psql().args(["-c", sql])).unwrap();
    }
}

fn psql(url: &str) -> Command {
    let mut psql = Command::new("psql");
    psql.args(["-qX", "-v", "ON_ERROR_STOP=1", "-d", url]);
    psql
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        // A test that fails must not panic once more.
        if let Err(why) = done(psql(&self.admin).args(["-c", &drop])) {
            eprintln!("the database is left behind: {why}");
        }
    }
}

/// A fresh virtual host, and everybody logged in there; deleted with this.
pub struct VirtualHost {
    management: String,
    name: String,
    logins: BTreeMap<String, Rabbit>,
}

impl VirtualHost {
    /// With the very definitions that are deployed, but for the rights.
    pub async fn new(topology: &Topology) -> Self {
        let (amqp, management) = (variable("SEXTON_TEST_AMQP"), variable("SEXTON_TEST_RABBIT_MGMT"));
        let host = amqp.rsplit('@').next().unwrap().split('/').next().unwrap();
        let mut this = Self { management, name: unique(), logins: BTreeMap::new() };
        let passwords: BTreeMap<String, String> =
            topology.users.iter().map(|user| (user.name.clone(), PASSWORD.to_owned())).collect();
        let mut definitions = topology.definitions(&this.name, &passwords);
        for of_user in definitions["permissions"].as_array_mut().unwrap() {
            for to_do in ["configure", "write", "read"] {
                of_user[to_do] = EVERYTHING.into();
            }
        }
        let (json, body) = ("content-type: application/json", definitions.to_string());
        this.manage(&["-X", "POST", "-H", json, "-d", &body], "definitions").unwrap();
        for user in &topology.users {
            let url = format!("amqp://{}:{PASSWORD}@{host}/{}", user.name, this.name);
            let login = Rabbit::connect(RabbitOptions::new(url)).await.unwrap();
            this.logins.insert(user.name.clone(), login);
        }
        this
    }

    /// The connections of this user: the broker lets nobody publish under another name than their own.
    pub fn as_user(&self, user: &str) -> Arc<dyn Bus> {
        Arc::new(self.logins.get(user).unwrap_or_else(|| panic!("no {user} is logged in")).clone())
    }

    /// Have the management plugin do something, as an administrator.
    fn manage(&self, what: &[&str], path: &str) -> Result<(), String> {
        let url = format!("{}/api/{path}", self.management.trim_end_matches('/'));
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail-with-body", "--max-time", "60", "-u", "guest:guest"]);
        done(curl.args(what).arg(url))
    }
}

impl Drop for VirtualHost {
    fn drop(&mut self) {
        for login in self.logins.values() {
            login.close();
        }
        if let Err(why) = self.manage(&["-X", "DELETE"], &format!("vhosts/{}", self.name)) {
            eprintln!("the virtual host is left behind: {why}");
        }
    }
}
