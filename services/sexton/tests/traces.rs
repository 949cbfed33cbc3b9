//! One trace follows a deletion: a collector of spans is given to a running process and asked what it got.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod collector;
mod site;
mod waiting;

use collector::{Collector, Seen};
use site::Site;
use waiting::until;

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn child<'a>(spans: &'a [Seen], parent: &Seen, name: &str) -> Option<&'a Seen> {
    spans.iter().find(|span| span.parent == parent.id && span.name.starts_with(name))
}

/// Request, order, step, and the decision that the step's answer led to; each below the one before.
fn chain(spans: &[Seen]) -> Option<[&Seen; 4]> {
    let request = spans.iter().find(|span| span.name == "request delete")?;
    spans.iter().filter(|span| span.parent == request.id && span.name.starts_with("order ")).find_map(
        |order| {
            let step = child(spans, order, "inspect ").filter(|step| step.said("sexton.outcome", "done"))?;
            let settled = child(spans, step, "decide outcome")?;
            Some([request, order, step, settled])
        },
    )
}

#[test]
fn one_trace_follows_a_deletion_from_the_request_to_the_settlement() {
    let collector = Collector::start();
    let site = Site::start(2, &format!("[telemetry]\notlp = \"http://{}\"\n", collector.address));
    let deletion = site.delete("vm/vm0001", Some(CALLER));
    site.delete("vm/vm0002", None);
    let of = |spans: Vec<Seen>| -> Vec<Seen> {
        let request =
            spans.iter().find(|s| s.name == "request delete" && s.said("sexton.deletion", &deletion));
        let trace = request.map(|request| request.trace.clone());
        spans.into_iter().filter(|span| Some(&span.trace) == trace.as_ref()).collect()
    };
    until("a whole step was traced", || chain(&of(collector.spans())).is_some());

    let spans = of(collector.spans());
    let [request, order, step, settled] = chain(&spans).unwrap();
    assert!(spans.iter().all(|span| span.service == "sexton"));
    assert!(request.parent.is_empty(), "the request begins the trace");
    assert_eq!(request.links, [("0af7651916cd43dd8448eb211c80319c".into(), "b7ad6b7169203331".into())]);
    assert!(step.said("sexton.deletion", &deletion) && settled.said("sexton.deletion", &deletion));
    // An order is linked to the decision that gave it.
    let [(trace, cause)] = order.links.as_slice() else { panic!("{order:?}") };
    assert_eq!(*trace, order.trace);
    assert!(spans.iter().any(|span| span.id == *cause && span.name.starts_with("decide ")), "{order:?}");
    // The other deletion has a trace of its own, and nothing is traced that belongs to neither.
    let traces: std::collections::BTreeSet<_> =
        collector.spans().into_iter().map(|span| span.trace).collect();
    assert_eq!(traces.len(), 2, "{traces:?}");
}

#[test]
fn a_share_of_nothing_traces_nothing() {
    let collector = Collector::start();
    let site =
        Site::start(1, &format!("[telemetry]\notlp = \"http://{}\"\ntraced = 0.0\n", collector.address));
    site.delete("vm/vm0001", Some(CALLER));
    until("the machine was announced", || {
        let (_, shown) = site::get(site.api, "/v1/deletions/vm/vm0001").unwrap();
        shown.contains("\"job\":\"announce\",\"state\":\"done\"") || shown.contains("\"state\":\"done\"")
    });
    drop(site);
    assert!(collector.spans().is_empty(), "{:?}", collector.spans());
}
