//! What a look at the job table costs: however much is stored, it touches what it looks for.
use std::collections::BTreeMap;

use serde_json::Value;
use sexton_ledger::DueReader;
use sexton_ledger::postgres::{PgDueReader, PgLedger};
use sexton_model::Scope;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::conformance::stage;
use crate::database::Database;

const FILL: &str = "INSERT INTO jobs (id, deletion_id, resource, state, locks, queued, held, wants, rank, due_at, cursor, phase, \
     touched, attempts, unstarted, quiet_after, started) \
     SELECT n * 8, n, 'vm/f' || n, 0, false, true, false, 'hypervisor.h' || n % 10, 2, \
     (extract(epoch FROM now()) * 1000000)::bigint + CASE WHEN n % 1001 = 0 THEN -60000000 ELSE 86400000000 + n END, \
     0, 0, false, 0, 0, 0, false FROM generate_series(1, 1001000) n";

/// Records and resources of all that is due, and of some of what is not.
const RECORDS: [&str; 3] = [
    "INSERT INTO plans (digest, body) VALUES (decode(repeat('00', 32), 'hex'), '{}')",
    "INSERT INTO resources (id, kind, scope, presence, protected, body, audit_seq, audit_head) \
     SELECT 'vm/f' || n, 'vm', 'tenants/t' || n % 10, 0, false, '{\"priority\": 5}', 1, decode(repeat('00', 32), 'hex') \
     FROM generate_series(1, 1001000) n WHERE n % 1001 = 0 OR n % 50 = 0",
    "INSERT INTO deletions (id, resource, plan, kind, scope, live, status, audit_seq, audit_head, created_at) \
     SELECT n, 'vm/f' || n, decode(repeat('00', 32), 'hex'), 'vm', 'tenants/t' || n % 10, true, 0, 1, \
     decode(repeat('00', 32), 'hex'), 0 FROM generate_series(1, 1001000) n WHERE n % 1001 = 0 OR n % 50 = 0",
];

/// A tenant with 80 records and resources in three scopes, and one with all the others. So the planner believes of every scope
/// that it has much.
const TENANTS: [&str; 3] = [
    RECORDS[0],
    "INSERT INTO resources (id, kind, scope, presence, protected, body, audit_seq, audit_head) \
     SELECT 'vm/f' || n, 'vm', CASE WHEN n % 250 = 0 THEN 'tenants/t7/s' || n % 3 ELSE 'big' END, 0, false, '{\"priority\": 5}', 1, \
     decode(repeat('00', 32), 'hex') FROM generate_series(1, 20000) n",
    "INSERT INTO deletions (id, resource, plan, kind, scope, live, status, audit_seq, audit_head, created_at) \
     SELECT n, 'vm/f' || n, decode(repeat('00', 32), 'hex'), 'vm', CASE WHEN n % 250 = 0 THEN 'tenants/t7/s' || n % 3 ELSE 'big' END, true, 0, 1, \
     decode(repeat('00', 32), 'hex'), 0 FROM generate_series(1, 20000) n",
];

/// In one line 40 restores; 200 orders out, of which 50 are overdue; 20 that were blocked between two steps; 500 held.
const MOVING: [&str; 4] = [
    "INSERT INTO jobs (id, deletion_id, resource, state, locks, queued, held, wants, rank, due_at, cursor, phase, \
     touched, attempts, unstarted, quiet_after, started) \
     SELECT n * 8 + 5, n, 'vm/f' || n, 0, false, true, false, 'hypervisor.h3', 0, n, 0, 0, false, 0, 0, 0, false \
     FROM generate_series(1001, 40040, 1001) n",
    "INSERT INTO jobs (id, deletion_id, resource, state, locks, queued, held, rank, due_at, cursor, phase, touched, \
     attempts, unstarted, quiet_after, started, fence_epoch, fence_number, deadline, out_at, wake_at) \
     SELECT n * 8, n, 'vm/f' || n, 3, true, false, false, 1, 0, 0, 0, false, 0, 0, 0, false, 1, n, 0, 'hypervisor.h1', \
     (extract(epoch FROM now()) * 1000000)::bigint + CASE WHEN n % 4 = 0 THEN -60000000 ELSE 86400000000 END \
     FROM generate_series(2000001, 2000200) n",
    "INSERT INTO jobs (id, deletion_id, resource, state, locks, queued, held, rank, due_at, cursor, phase, touched, \
     attempts, unstarted, quiet_after, started, reason) \
     SELECT n * 8, n, 'vm/f' || n, 2, true, false, false, 1, 0, 0, 0, false, 0, 0, 0, false, '{\"by\": \"hold\"}' \
     FROM generate_series(2000201, 2000220) n",
    "INSERT INTO jobs (id, deletion_id, resource, state, locks, queued, held, rank, due_at, cursor, phase, touched, \
     attempts, unstarted, quiet_after, started, reason) \
     SELECT n * 8, n, 'vm/f' || n, 1, false, false, true, 2, 0, 0, 0, false, 0, 0, 0, false, '{\"by\": \"hold\"}' \
     FROM generate_series(2000221, 2000720) n",
];

/// What grows with what is stored.
const GROWS: [&str; 4] = ["jobs", "deletions", "resources", "admissions"];

/// A look: what its parameters are, through which indexes it may read jobs, and how many rows of them, of deletions and
/// of resources it may read.
struct Look {
    parameters: [&'static str; 6],
    through: &'static [&'static str],
    most: [f64; 3],
}

const NOW: &str = "(extract(epoch FROM now()) * 1000000)::bigint";

/// How much a look at the data above costs, by what it is for. Some more are read on the way from line to line.
fn looks() -> BTreeMap<&'static str, Look> {
    let queue: &[&str] = &["the_queue"];
    BTreeMap::from([
        (
            "a line of stages",
            Look {
                parameters: ["'hypervisor.h3'", "4096", "", "", "", ""],
                through: queue,
                most: [110.0, 0.0, 0.0],
            },
        ),
        (
            "a line of restores",
            Look {
                parameters: ["'hypervisor.h3'", "4096", "512", "", "", ""],
                through: queue,
                most: [50.0, 0.0, 50.0],
            },
        ),
        (
            "leases and back-offs",
            Look { parameters: ["512", "", "", "", "", ""], through: &["the_lock"], most: [220.0, 0.0, 0.0] },
        ),
        (
            "what is held",
            Look {
                parameters: ["0", "128", "", "", "", ""],
                through: &["jobs_held"],
                most: [128.0, 0.0, 0.0],
            },
        ),
        (
            "what is stuck",
            Look {
                parameters: ["0", "128", "60000000", "60000000", "", ""],
                through: &["the_lock"],
                most: [220.0, 0.0, 0.0],
            },
        ),
        (
            "what is admitted together",
            Look {
                parameters: [
                    "'{8008}'::bigint[]",
                    NOW,
                    "10000",
                    "'{0}'::bigint[]",
                    "'{0, 2, 3}'::bigint[]",
                    NOW,
                ],
                through: &["the_queue", "jobs_pkey"],
                most: [1100.0, 1100.0, 0.0],
            },
        ),
    ])
}

/// A million wait, a thousand are due: looking what is due touches the thousand. So does whatever else coordinators
/// look for, at every batch and every tick.
#[tokio::test]
async fn what_is_looked_for_is_found_without_touching_what_is_not() {
    let database = Database::new().await;
    drop(database.open(stage::options()).await.unwrap());
    let mut db = database.raw().await;
    // The planner goes by the settings of a connection.
    let mut looking = PgLedger::connection(&database.url()).await.unwrap();
    sqlx::query(FILL).execute(&mut db).await.unwrap();
    check(&due(&mut looking).await, "before anything was analysed");
    sqlx::query("ANALYZE jobs").execute(&mut db).await.unwrap();
    check(&due(&mut looking).await, "after ANALYZE");
    let reader = PgDueReader::open(&database.url()).await.unwrap();
    assert_eq!(reader.due(4096).await.unwrap().len(), 1000);
    for sql in RECORDS.into_iter().chain(MOVING) {
        sqlx::query(sql).execute(&mut db).await.unwrap();
    }
    let looks = looks();
    for when in ["before they were analysed", "after ANALYZE"] {
        for (what, sql) in PgLedger::finders() {
            let look = looks.get(what).expect(what);
            let plan = explain(&mut looking, sql, &look.parameters).await;
            check_look(look, &plan, &format!("{what}, {when}"));
        }
        sqlx::query("ANALYZE jobs, deletions, resources, admissions").execute(&mut db).await.unwrap();
    }
}

/// A page of what a small tenant has, in three scopes below its own: with a row of each it looks once for the next one, of each
/// it reads a page, and then the page itself.
#[tokio::test]
async fn a_page_of_ones_own_reads_nothing_of_others() {
    let database = Database::new().await;
    drop(database.open(stage::options()).await.unwrap());
    let mut db = database.raw().await;
    let mut looking = PgLedger::connection(&database.url()).await.unwrap();
    for sql in TENANTS {
        sqlx::query(sql).execute(&mut db).await.unwrap();
    }
    let own: [Scope; 1] = ["tenants/t7".parse().unwrap()];
    for when in ["before they were analysed", "after ANALYZE"] {
        for (what, sql) in PgLedger::listings(&own, 10) {
            let parameters: &[&str] = match what {
                "deletions" => &["'{tenants/t7}'", "9223372036854775807", "11", "11"],
                _ => &["'{tenants/t7}'", "''", "11", "11", "11"],
            };
            let plan = explain(&mut looking, &sql, parameters).await;
            let when = format!("{what}, {when}");
            assert_eq!(plan[0]["Plan"]["Actual Rows"].as_f64(), Some(11.0), "{when}: {plan:#}");
            let mut scans = Vec::new();
            collect(&plan[0]["Plan"], &mut scans);
            let mut read = 0.0;
            for scan in scans {
                through_an_index(scan, &[], &when);
                read += rows_read(scan);
            }
            // Three scopes, eleven of each, the eleven again with the record of each.
            assert!(read <= 3.0 + 33.0 + 11.0 + 11.0 + 10.0, "{when}: {read} rows were read\n{plan:#}");
        }
        sqlx::query("ANALYZE deletions, resources").execute(&mut db).await.unwrap();
    }
}

async fn due(db: &mut PgConnection) -> Value {
    explain(db, PgDueReader::statement(), &["4096"]).await
}

async fn explain(db: &mut PgConnection, sql: &str, parameters: &[&str]) -> Value {
    let mut sql = format!("EXPLAIN (ANALYZE, FORMAT JSON) {sql}");
    for (number, value) in (1..).zip(parameters) {
        sql = sql.replace(&format!("${number}"), value);
    }
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(db).await.unwrap()
}

fn check(plan: &Value, when: &str) {
    let mut scans = Vec::new();
    collect(&plan[0]["Plan"], &mut scans);
    assert!(!scans.is_empty());
    let mut read = 0.0;
    for scan in scans {
        through_an_index(scan, &["the_queue"], when);
        read += rows_read(scan);
    }
    println!("{when}: {read} rows read for 1000 due, in {} ms", plan[0]["Execution Time"]);
    assert!(read <= 1000.0 + 50.0, "{when}: {read} rows were read");
}

fn check_look(look: &Look, plan: &Value, what: &str) {
    let mut scans = Vec::new();
    collect(&plan[0]["Plan"], &mut scans);
    let mut read: BTreeMap<&str, f64> = BTreeMap::new();
    for scan in scans {
        let table = scan["Relation Name"].as_str().unwrap();
        through_an_index(scan, if table == "jobs" { look.through } else { &[] }, what);
        *read.entry(table).or_default() += rows_read(scan);
    }
    println!("{what}: {read:?} rows read, in {} ms", plan[0]["Execution Time"]);
    assert!(
        read.get("jobs").is_some_and(|rows| *rows > 0.0),
        "{what} found nothing: this test is about nothing"
    );
    for (table, most) in GROWS.into_iter().zip(look.most) {
        let rows = read.get(table).copied().unwrap_or_default();
        assert!(rows <= most, "{what}: {rows} rows of {table} were read\n{plan:#}");
    }
}

/// That it goes through an index, and through one of these if any are named.
fn through_an_index(scan: &Value, named: &[&str], what: &str) {
    let kind = scan["Node Type"].as_str().unwrap();
    let table = &scan["Relation Name"];
    assert!(kind == "Index Scan" || kind == "Index Only Scan", "{what}: {kind} on {table}");
    let index = scan["Index Name"].as_str().unwrap();
    assert!(named.is_empty() || named.contains(&index), "{what}: through {index} on {table}");
}

fn rows_read(scan: &Value) -> f64 {
    let rows = |of: &str| scan[of].as_f64().unwrap_or(0.0);
    (rows("Actual Rows") + rows("Rows Removed by Filter")) * rows("Actual Loops")
}

/// All scans of what grows.
fn collect<'p>(node: &'p Value, scans: &mut Vec<&'p Value>) {
    if GROWS.iter().any(|table| node["Relation Name"] == *table) {
        scans.push(node);
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        collect(child, scans);
    }
}
