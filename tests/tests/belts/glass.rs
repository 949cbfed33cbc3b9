//! Breaking the glass: for an emergency whoever asked for a deletion lets a stage of it pass a belt alone. It takes the role admin,
//! and is written down as what it is; so is who may not.
use serde_json::{Value, json};
use sexton_ledger::rules::{LedgerEvent, text};
use sexton_model::access::Role;
use sexton_model::audit::{GENESIS, link};
use sexton_model::belts::one_shot::OneShot;
use sexton_model::job::{JobKind, JobState, Stage};
use sexton_model::{DeletionId, ResourceId, Timestamp};

use super::access::deletion;
use super::hours::{by_hours, closed};
use super::system::{System, ask, bearer, on_many_machines, web01};

on_many_machines! {
    who_breaks_the_glass_and_who_may_not_is_written_down,
}

/// That hard of it pass the hours.
fn past_the_hours(deletion: DeletionId, break_glass: bool) -> Value {
    json!({
        "deletion": deletion, "stage": "hard", "belt": "window", "reason": "nobody else is awake",
        "break_glass": break_glass,
    })
}

/// Whether the chain of pauses and overrides has this very event: each is hashed with its number and with all before it.
async fn is_in_the_chain(system: &System, event: &LedgerEvent) -> bool {
    let body = text(event).unwrap();
    let grown = system.ledger.grown(None).await.unwrap();
    let head = grown.heads.iter().find(|head| head.chain == "pauses").unwrap();
    let events = (1..=head.seq).map(|seq| ("pauses".to_owned(), seq)).collect();
    let mut before = GENESIS;
    for (seq, hash) in (1..).zip(system.ledger.event_hashes(events).await.unwrap()) {
        let hash = hash.unwrap();
        if link(&before, seq, body.as_bytes()) == hash {
            return true;
        }
        before = hash;
    }
    false
}

/// Ops has asked for one deletion, and Ann for another.
#[tokio::test(flavor = "multi_thread")]
async fn who_breaks_the_glass_and_who_may_not_is_written_down() {
    let mut system = System::start_in_calendar_days(closed()).await;
    let urls = [system.serve_inventory().await, system.serve_beside().await];
    let mut who = Vec::new();
    for (name, role) in
        [("ops", Role::Admin), ("ann", Role::Approver), ("olga", Role::Operator), ("boss", Role::Admin)]
    {
        who.push(bearer(&system.token(name, role, None).await));
    }
    let [ops, ann, olga, boss] = <[String; 4]>::try_from(who).unwrap();
    let give = async |nth: usize, who: &str, body: &Value| {
        ask(&urls[nth % urls.len()], who, "POST", "/v1/overrides", body).await
    };
    let other: ResourceId = "vm/web02".parse().unwrap();
    system.register_named(&other, false).await;
    let made = ask(&urls[0], &ann, "POST", "/v1/deletions", &deletion("vm/web02")).await;
    assert_eq!(made.status, 201, "{made:?}");
    let hers: DeletionId = serde_json::from_value(made.body["deletion"].clone()).unwrap();
    let now = system.ledger.facts().await.unwrap().now;
    let id = system.delete_named(web01(), Timestamp(now.0 - 2 * 86_400_000_000)).await;
    let held = system.until_job(id, Stage::Hard, by_hours).await;

    let alone = "breaking the glass needs the role admin, and ann is approver";
    let at_all = "letting a deletion pass a belt needs the role approver, and olga is operator";
    let own = format!("ops requested {id}: somebody else has to override the window");
    let not_needed = format!("somebody else than who requested {id} asks, so it is not needed");
    for (nth, (who, body, status, why)) in [
        (&ann, past_the_hours(hers, true), 403, alone),
        (&olga, past_the_hours(id, true), 403, at_all),
        (&ops, past_the_hours(id, false), 403, own.as_str()),
        (&boss, past_the_hours(id, true), 422, not_needed.as_str()),
    ]
    .into_iter()
    .enumerate()
    {
        let refused = give(nth, who, &body).await;
        assert!(refused.status == status && refused.detail().contains(why), "{refused:?}");
    }
    assert_eq!(system.ledger.one_shots().await.unwrap(), []);
    system.two_beacons().await;
    assert_eq!(system.job(id, JobKind::Stage(Stage::Hard)).await, held);

    let given = give(1, &ops, &past_the_hours(id, true)).await;
    assert_eq!(given.status, 201, "{given:?}");
    let given: OneShot = serde_json::from_value(given.body).unwrap();
    let body = serde_json::to_value(&given).unwrap();
    let (what, by) = ("glass_broken".to_owned(), "ops".to_owned());
    let event = LedgerEvent { at: given.since, what, by, body };
    assert!(is_in_the_chain(&system, &event).await, "{event:?}");
    let as_any = LedgerEvent { what: "overridden".to_owned(), ..event };
    assert!(!is_in_the_chain(&system, &as_any).await, "{as_any:?}");
    system.until_job(id, Stage::Hard, |state| *state == JobState::Done).await;
    system.until_answered(id, "ops broke the glass of the window (1): nobody else is awake").await;
    // Once, and for one stage.
    system.until_job(id, Stage::Purge, by_hours).await;

    // What was not stated as it has to be is no refusal of who may what.
    let events = system.ledger.access_events(0, 1000).await.unwrap();
    let refused = events.iter().map(|(_, event)| event).filter(|event| event.what == "refused");
    let refused: Vec<(&str, &str)> =
        refused.map(|event| (event.by.as_str(), event.body["why"].as_str().unwrap())).collect();
    assert!(
        matches!(refused.as_slice(), [("ann", a), ("olga", b), ("ops", c)]
            if *a == alone && *b == at_all && c.contains(&own)),
        "{refused:#?}"
    );
    assert_eq!(system.ledger.verify_chains(None, 1000).await.unwrap().broken, []);
}
