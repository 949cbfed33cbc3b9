//! Health, metrics and traces of processes that find each other through a broker: what a probe, Prometheus and a
//! collector of traces get to see of them, also while broker and database are gone.
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::collector::{Collector, Seen};
use crate::installation::Installation;
use crate::surveyed::plan_shows_what_a_record_pins;
use crate::waiting::wait_until;
use crate::{date, make_searchable};

const INSTANCES: [&str; 8] = [
    "hypervisor.main",
    "ipam.main",
    "dns.main",
    "backup.main",
    "monitoring.main",
    "notifier.main",
    "accounting.main",
    "config.main",
];
/// Two consumers are watched; the others are there because a machine has parts in all subsystems.
const CONSUMERS: [&str; 2] = ["dns.main", "backup.main"];
/// Longest answer of a probe: it asks for a job table and a broker that may both be silent.
const PROBE: Duration = Duration::from_secs(10);
/// Longest wait for anything, in seconds.
const PATIENCE_S: u64 = 60;
/// Announce is due after four days then, which take ten seconds.
const IN_FOUR_DAYS: u64 = 9;

/// Where each watched process shows how it is.
struct Watched(BTreeMap<&'static str, SocketAddr>);

impl Watched {
    fn new() -> Self {
        // Bound all at once, so that no two are the same.
        let processes = ["coordinator", "scheduler"].into_iter().chain(CONSUMERS);
        let bound: Vec<_> = processes.map(|p| (p, TcpListener::bind("127.0.0.1:0").unwrap())).collect();
        Self(bound.iter().map(|(process, port)| (*process, port.local_addr().unwrap())).collect())
    }

    fn configuration(&self) -> String {
        self.0.iter().map(|(process, at)| format!("[health.{process:?}]\nlisten = \"{at}\"\n")).collect()
    }

    /// Status and text; nothing if nobody answers.
    fn get(&self, process: &str, path: &str) -> Option<(u16, String)> {
        let at = self.0[process];
        let mut stream = TcpStream::connect(at).ok()?;
        stream.set_read_timeout(Some(PROBE)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    fn until_all_are_ready(&self) {
        for process in self.0.keys() {
            let ready = || self.get(process, "/readyz").is_some_and(|(status, _)| status == 200);
            wait_until(&format!("{process} is ready"), PATIENCE_S, ready);
        }
    }

    /// Until it is not ready for a reason with this text; it lives all the same.
    fn until_hindered(&self, process: &str, text: &str) {
        let mut said = None;
        let hindered = || {
            said = self.get(process, "/readyz");
            said.as_ref().is_some_and(|(status, why)| *status == 503 && why.contains(text))
        };
        wait_until(&format!("{process} is not ready: {text}"), PATIENCE_S, hindered);
        assert_eq!(self.get(process, "/healthz"), Some((200, "alive\n".into())), "{process}: {said:?}");
    }

    /// The first value of a metric whose labels contain all of `labels`.
    fn value(&self, process: &str, name: &str, labels: &[&str]) -> Option<f64> {
        let (_, text) = self.get(process, "/metrics")?;
        text.lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])))
            .find(|line| labels.iter().all(|label| line.contains(label)))
            .and_then(|line| line.rsplit(' ').next())
            .and_then(|value| value.parse().ok())
    }
}

#[test]
fn each_process_shows_how_it_is_and_one_trace_goes_through_all_of_them() {
    let began = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    make_searchable(folder.path());
    let (watched, collector) = (Watched::new(), Collector::start());
    let platform = folder.path().join("dev/platform");
    let mut sections = format!("[telemetry]\notlp = \"http://{}\"\n", collector.address);
    sections += &watched.configuration();
    for instance in INSTANCES {
        sections += &format!("[consumers.{instance:?}]\ndriver = \"sandbox\"\nroot = {platform:?}\n");
    }
    // Spans leave within a fraction of a second rather than after five.
    let installation = Installation::start(folder.path(), &sections, &[("OTEL_BSP_SCHEDULE_DELAY", "200")]);
    let made = installation.make_sandbox(&platform, 3);
    let inventory = folder.path().join("inventory.jsonl");
    let lines: Vec<String> = made.iter().map(Value::to_string).collect();
    std::fs::write(&inventory, lines.join("\n")).unwrap();
    assert_eq!(installation.sexton(&["import", inventory.to_str().unwrap()])["imported"], 3);
    watched.until_all_are_ready();
    println!("{:>4} s: everything is ready", began.elapsed().as_secs());

    // Announce is due at once.
    installation.sexton(&["delete", "vm/vm0001", "--on", &date(5), "--reason", "a test"]);
    wait_until("one trace goes through all processes", PATIENCE_S, || is_whole(&collector.spans()));
    shows_what_it_counted(&watched);
    println!("{:>4} s: the trace is whole", began.elapsed().as_secs());
    // Only now: what is looked at for it is counted, too.
    plan_shows_what_a_record_pins(&installation, "vm/vm0002");
    println!("{:>4} s: what is shown before a record is what it pins", began.elapsed().as_secs());
    wakes_up_whoever_comes(&watched, &installation, "vm/vm0003");
    println!("{:>4} s: the scheduler's wake-ups are taken", began.elapsed().as_secs());

    for server in ["rabbitmq", "postgres"] {
        installation.kill_server(server);
    }
    watched.until_hindered("coordinator", "the job table does not answer");
    watched.until_hindered("coordinator", "the broker cannot be reached");
    watched.until_hindered("scheduler", "what is due was last read");
    for consumer in CONSUMERS {
        watched.until_hindered(consumer, &format!("{consumer}: the broker cannot be reached"));
        watched.until_hindered(consumer, &format!("{consumer}: no beacon for"));
    }
    println!("{:>4} s: all of them say what they miss", began.elapsed().as_secs());
    for server in ["postgres", "rabbitmq"] {
        installation.start_server(server);
    }
    watched.until_all_are_ready();
    for process in ["coordinator", "dns.main", "backup.main"] {
        assert!(watched.value(process, "sexton_broker_reconnects_total", &[]) >= Some(1.0), "{process}");
    }
    println!("{:>4} s: all of them are ready again", began.elapsed().as_secs());
    installation.stop();
    println!("{:>4} s: stopped", began.elapsed().as_secs());
}

/// Request, order, step, and the decision that the step's answer led to, each below the one before: for both consumers
/// in the trace of the one deletion.
fn is_whole(spans: &[Seen]) -> bool {
    let Some(request) = spans.iter().find(|span| span.name == "request delete") else { return false };
    assert_eq!(request.service, "sexton-coordinator");
    let steps: Vec<_> = ["sexton-dns", "sexton-backup"]
        .into_iter()
        .filter_map(|service| settled_step(spans, request, service))
        .collect();
    for step in &steps {
        assert_eq!(step.trace, request.trace, "{step:?}");
    }
    steps.len() == 2
}

/// An inspection by that consumer's process whose answer the coordinator has settled.
fn settled_step<'a>(spans: &'a [Seen], request: &Seen, service: &str) -> Option<&'a Seen> {
    spans.iter().find(|step| {
        let child = |name: &str| {
            spans.iter().any(|span| {
                span.parent == step.id && span.service == "sexton-coordinator" && span.name.starts_with(name)
            })
        };
        let order = spans.iter().find(|order| {
            let given = order.links.iter().any(|(trace, _)| *trace == request.trace);
            order.id == step.parent
                && order.parent == request.id
                && order.service == "sexton-coordinator"
                && given
        });
        step.service == service
            && step.name.starts_with("inspect ")
            && step.said("sexton.outcome", "done")
            && order.is_some()
            && child("decide outcome")
    })
}

/// A coordinator finds what is due by itself, and mostly first. While there is none, the scheduler says it again and
/// again; the next coordinator takes what it said.
fn wakes_up_whoever_comes(watched: &Watched, installation: &Installation, resource: &str) {
    installation.sexton(&["delete", resource, "--on", &date(IN_FOUR_DAYS), "--reason", "a test"]);
    installation.kill("coordinator");
    let published = || watched.value("scheduler", "sexton_wakeups_published_total", &[]);
    let before = published();
    assert!(before.is_some(), "the scheduler does not show what it has published");
    wait_until("a wake-up is published", PATIENCE_S, || published() > before);
    assert!(watched.value("scheduler", "sexton_due_found", &[]) >= Some(1.0));
    installation.start_again("coordinator", "");
    watched.until_all_are_ready();
    let begun = || installation.record(resource).is_some_and(|record| !record.targets.is_empty());
    wait_until("it has begun", PATIENCE_S, begun);
    assert_eq!(watched.value("coordinator", "sexton_messages_rejected_total", &[]), Some(0.0));
}

/// Each process shows its own figures, and nobody else's.
fn shows_what_it_counted(watched: &Watched) {
    for consumer in CONSUMERS {
        let own = format!("consumer=\"{consumer}\"");
        let inspected = [own.as_str(), "action=\"inspect\"", "mode=\"inspect\"", "result=\"done\""];
        assert_eq!(watched.value(consumer, "sexton_steps_total", &inspected), Some(1.0), "{consumer}");
        assert!(watched.value(consumer, "sexton_beacon_age_seconds", &[&own]).unwrap() < 5.0);
        assert_eq!(watched.value(consumer, "sexton_decisions_total", &[]), None, "{consumer}");
        assert!(watched.value("coordinator", "sexton_pulse_age_seconds", &[&own]).unwrap() < 10.0);
    }
    assert!(watched.value("coordinator", "sexton_orders_given_total", &[]).unwrap() >= 2.0);
    assert_eq!(watched.value("coordinator", "sexton_coordinator_hindered", &["review"]), Some(0.0));
    assert_eq!(watched.value("coordinator", "sexton_steps_total", &[]), None);
    assert_eq!(watched.value("coordinator", "sexton_messages_rejected_total", &[]), Some(0.0));
    assert!(watched.value("scheduler", "sexton_looked_at_seconds", &[]).unwrap() > 1e9);
    assert_eq!(watched.value("scheduler", "sexton_jobs", &[]), None);
}
