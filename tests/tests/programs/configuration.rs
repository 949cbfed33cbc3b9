//! A mistake in the configuration is told at once, and not after two minutes of waiting for what cannot come up.
use std::time::Duration;

use crate::installed::{ALL, CONSUMER, COORDINATOR, Installed, SCHEDULER};

/// To start and to read a file, on a busy machine. Whoever waits for a server waits longer.
const AT_ONCE: Duration = Duration::from_secs(30);

#[test]
fn a_mistake_names_file_section_and_key() {
    let installed = Installed::new();
    installed.secret("wrong.url", "postgres://sexton:hunter2@127.0.0.1:port/sexton");
    let address = "expected host and port";
    let [coordinator, scheduler, consumer]: [&[&str]; 3] = [&[COORDINATOR], &[SCHEDULER], &[CONSUMER]];
    for (programs, heading, keys, parts) in [
        (ALL, "[brokr]", "", vec!["[brokr] is unknown", "known are"]),
        (
            ALL,
            "[broker]",
            "address = \"rabbit:port\"\nvhost = \"sexton\"",
            vec!["[broker]", "address", address],
        ),
        (
            ALL,
            "[broker]",
            "address = \"amqp://sexton:hunter2@rabbit/sexton\"\nvhost = \"sexton\"",
            vec!["[broker]", "address", address],
        ),
        (ALL, "[broker]", "vhost = \"sexton\"", vec!["[broker]", "missing field `address`"]),
        (ALL, "[keys]", "", vec!["[keys]", "missing field `folder`"]),
        (ALL, "[keys]", "folder = \"nowhere\"", vec!["[keys]: folder: reading the secret ", "nowhere/mac/"]),
        (ALL, "[health]", "listen = \"0.0.0.0:1\"", vec!["[health]: listen = 0.0.0.0:1", "open = true"]),
        (
            ALL,
            "[health]",
            "lissten = \"127.0.0.1:1\"",
            vec!["[health]: unknown field `lissten`: expected listen, open, "],
        ),
        (
            ALL,
            "[telemetry]",
            "log = 7",
            vec!["[telemetry]: invalid type: integer `7`, expected a string", "`log`"],
        ),
        (coordinator, "[ledger]", "", vec!["[ledger]", "missing field `postgres_url_file`"]),
        (
            coordinator,
            "[ledger]",
            "postgres_url_file = \"no.url\"",
            vec!["[ledger]: postgres_url_file: reading the secret ", "no.url"],
        ),
        (
            coordinator,
            "[ledger]",
            "postgres_url_file = \"wrong.url\"",
            vec!["[ledger]: postgres_url_file: ", "the database's address"],
        ),
        (
            coordinator,
            "[archive]",
            "folder = \".\"\nafter_days = 1\npostgres_url_file = \"no.url\"",
            vec!["[archive]: postgres_url_file: reading the secret ", "no.url"],
        ),
        (
            coordinator,
            "[archive]",
            "folder = \".\"\nafter_days = 1",
            vec!["[archive]: postgres_url_file is missing"],
        ),
        (
            coordinator,
            "[api]",
            "listen = \"127.0.0.1:0\"\ntoken_file = \"no.token\"",
            vec!["[api]: token_file: reading the secret ", "no.token"],
        ),
        (
            scheduler,
            "[scheduler]",
            "postgres_url_file = \"scheduler.url\"\nevery_ms = 49",
            vec!["[scheduler]: every_ms = 49: expected 50 to 60000"],
        ),
        (
            scheduler,
            "[scheduler]",
            "postgres_url_file = \"no.url\"",
            vec!["[scheduler]: postgres_url_file: reading the secret ", "no.url"],
        ),
        (
            scheduler,
            "[scheduler]",
            "postgres_url_file = \"wrong.url\"",
            vec!["[scheduler]: postgres_url_file: ", "the database's address"],
        ),
        (consumer, "[consumers.\"dns.main\"]", "driver = \"fax\"", vec!["dns.main", "fax", "sandbox"]),
        (consumer, "[workers.\"dns.main\"]", "concurrency = 0", vec!["dns.main", "concurrency", "1 to 256"]),
    ] {
        installed.configure(&[(heading, keys)]);
        for program in programs {
            let mut running = installed.start(program, &[]);
            let ended = running.ended_within(AT_ONCE);
            let said = running.said();
            assert!(
                ended.is_some_and(|how| !how.success()),
                "{program}: {heading} {keys}: {ended:?}: {said}"
            );
            for part in parts.iter().copied().chain(["sexton.toml"]) {
                assert!(said.contains(part), "{program}: {heading} {keys}: expected {part:?} in: {said}");
            }
            assert!(!said.contains("hunter2"), "{program}: {heading} {keys}: {said}");
        }
    }
}
