//! What a coordinator keeps outside of the job table of what it has answered, by HTTP.
use serde_json::json;
use sexton_model::checkpoint::Checkpoint;

use super::access::{Asked, NONE, reason};
use super::system::{TRUSTED, on_many_machines};

on_many_machines! {
    what_was_answered_is_known_outside_of_the_job_table,
}

/// I15: whoever starts where a coordinator was killed right after an answer finds out if the job table has lost what was answered, also
/// if it is no record's decision.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_known_outside_of_the_job_table() {
    let asked = Asked::new().await;
    let file = asked.system.folder().join("witness.recent");
    let witnessed =
        || serde_json::from_slice::<Checkpoint>(&std::fs::read(&file).unwrap()).unwrap().mark.number;
    let token = json!({ "name": "gone", "role": "approver", "everywhere": true });
    let observe = json!({ "everywhere": true, "to": "observe", "reason": "a test" });
    let moved = json!({ "priority": 7 });
    for (method, path, body) in [
        ("POST", "/v1/tokens", token),
        ("DELETE", "/v1/tokens/gone", NONE),
        ("POST", "/v1/ceilings", observe),
        ("PUT", "/v1/resources/vm/web01/priority", moved),
        ("POST", "/v1/resources/vm/web01/holds", reason()),
    ] {
        let before = witnessed();
        let answer = asked.ask(0, TRUSTED, method, path, &body).await;
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
        assert!(witnessed() > before, "{method} {path}: nobody would miss it");
    }
}
