//! What `sexton plan` shows is the same on both footings: which stages when, which steps, and what every belt says of them.
use serde_json::Value;
use sexton_api::{Client, PreviewRequest};
use sexton_model::belts::PauseSelector;
use sexton_model::belts::ceiling::{Ceiling, NewCeiling};
use sexton_model::job::Stage;
use sexton_model::time::start_of;
use sexton_model::{Actor, ResourceId};

use super::budgets::policy;
use super::system::footing::Footing;
use super::system::{System, on_many_machines, ops, web01};

on_many_machines! {
    what_a_deletion_would_do_is_said_in_the_same_words,
}

/// What would be on that date, where another one is due then, a pause holds purge, and nothing goes beyond hard.
async fn shown(mut system: System, on: chrono::NaiveDate) -> Value {
    let other: ResourceId = "vm/web02".parse().unwrap();
    system.register_named(&other, false).await;
    system.delete_named(other, start_of(on, chrono_tz::UTC)).await;
    let (scope, to) = (Some("tenants/acme".parse().unwrap()), Some(Ceiling::Hard));
    let lower = NewCeiling { scope, to, by: ops(), reason: "no further".into() };
    system.ledger.set_ceiling(lower, None).await.unwrap().unwrap();
    let purge = PauseSelector { stage: Some(Stage::Purge), ..PauseSelector::default() };
    system.ledger.pause(purge, &ops(), "the storage is slow").await.unwrap();
    let url = system.serve_inventory().await;
    let client = Client::new(&url, None, "anybody".parse::<Actor>().unwrap()).unwrap();
    let asked = PreviewRequest { resource: web01(), on, zone: None, gone_by: None };
    serde_json::to_value(client.preview(&asked).await.unwrap()).unwrap()
}

fn what_a_deletion_would_do_is_said_in_the_same_words() {
    let compared = async {
        let on = chrono::Utc::now().date_naive() + chrono::Days::new(30);
        let system = async || System::start_in_calendar_days(policy("a_day = 1")).await;
        let embedded = shown(Footing::Embedded.make(system()).await, on).await;
        let many = shown(Footing::Many.make(system()).await, on).await;
        let text = embedded.to_string();
        assert!(text.contains("2 would begin where 1 may in a day") && text.contains("silence"), "{text}");
        assert_eq!(embedded, many);
    };
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(compared);
}
