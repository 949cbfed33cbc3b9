//! Surveys that many coordinators begin and hear at once.
use std::sync::Arc;

use sexton_ledger::postgres::PgLedger;
use sexton_ledger::{Begun, Canaries, Ledger, NewRun, NotDone, Surveys};
use sexton_model::canary::Probe;
use sexton_model::decide::Event;
use sexton_model::job::Stage;
use sexton_model::survey::{CannotSurvey, MINUTELY_MAX};
use tokio::sync::Barrier;

use crate::conformance::saw;
use crate::conformance::stage::{actor, instance, job_id};
use crate::database::Database;
use crate::races::handles;

/// Longer than any of this takes.
const LONG_MS: u64 = 3_600_000;

/// All ask for the same at one instant, and all hear its answer: it is begun once, and heard once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_at_one_instant_one_begins_and_one_hears() {
    let database = Database::new().await;
    let (ledgers, hand) = handles(&database, 8).await;
    for round in 0..10 {
        let id = hand.register(&format!("vm{round}")).await;
        let new = hand.asked(&id, LONG_MS).await;
        let barrier = Arc::new(Barrier::new(ledgers.len()));
        let begin = |ledger: &Arc<PgLedger>| {
            let (ledger, barrier, new) = (ledger.clone(), barrier.clone(), new.clone());
            tokio::spawn(async move {
                barrier.wait().await;
                ledger.begin_survey(new).await.unwrap().unwrap()
            })
        };
        let (mut begun, mut survey) = (0, None);
        for task in ledgers.iter().map(begin).collect::<Vec<_>>() {
            let one = match task.await.unwrap() {
                Begun::Now(one) => {
                    begun += 1;
                    one
                }
                Begun::Before(one) => one,
            };
            assert_eq!(survey.get_or_insert(one.clone()).id, one.id, "in round {round}");
        }
        let look = survey.unwrap().looks.remove(0);
        let hear = |ledger: &Arc<PgLedger>| {
            let (ledger, barrier, look) = (ledger.clone(), barrier.clone(), look.clone());
            tokio::spawn(async move {
                barrier.wait().await;
                let heard = ledger.hear_survey(&look.instance, look.fence, &saw()).await.unwrap();
                usize::from(heard.is_some())
            })
        };
        let mut heard = 0;
        for task in ledgers.iter().map(hear).collect::<Vec<_>>() {
            heard += task.await.unwrap();
        }
        assert_eq!((begun, heard), (1, 1), "in round {round}");
    }
}

/// A record is made and its first order given while a survey is begun: either the survey sees it and is refused, or all
/// of its orders have lower numbers.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_survey_goes_before_a_record() {
    let database = Database::new().await;
    let (ledgers, hand) = handles(&database, 2).await;
    for round in 0..40 {
        let id = hand.register(&format!("vm{round}")).await;
        let (new, wanted) = (hand.asked(&id, LONG_MS).await, hand.wanted(&id).await);
        let barrier = Arc::new(Barrier::new(2));
        let (surveyor, at) = (ledgers[0].clone(), barrier.clone());
        let begins = tokio::spawn(async move {
            at.wait().await;
            surveyor.begin_survey(new).await.unwrap()
        });
        barrier.wait().await;
        let deletion = ledgers[1].create(vec![wanted]).await.unwrap().remove(0).unwrap();
        let claim = Event::Claim { job: job_id(deletion, Stage::Announce) };
        let order = hand.one(deletion, claim).await.unwrap().dispatch.unwrap();
        match begins.await.unwrap() {
            Ok(Begun::Now(survey)) => {
                assert!(survey.looks[0].fence < order.spec.fence, "in round {round}: {survey:?}");
                let look = &survey.looks[0];
                ledgers[1].hear_survey(&look.instance, look.fence, &saw()).await.unwrap().unwrap();
            }
            Ok(Begun::Before(survey)) => panic!("{survey:?}"),
            Err(why) => assert!(why.to_string().contains("live deletion record"), "{why}"),
        }
    }
}

/// Each asks about a resource of its own, at one instant, when only one more may be begun.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_at_one_instant_no_more_are_begun_than_may_be() {
    let database = Database::new().await;
    let (ledgers, hand) = handles(&database, 8).await;
    for n in 1..MINUTELY_MAX {
        let id = hand.register(&format!("before{n}")).await;
        let new = hand.asked(&id, LONG_MS).await;
        hand.ledger.begin_survey(new).await.unwrap().unwrap();
    }
    let barrier = Arc::new(Barrier::new(ledgers.len()));
    let mut tasks = Vec::new();
    for (n, ledger) in ledgers.iter().enumerate() {
        let id = hand.register(&format!("vm{n}")).await;
        let (ledger, barrier, new) = (ledger.clone(), barrier.clone(), hand.asked(&id, LONG_MS).await);
        tasks.push(tokio::spawn(async move {
            barrier.wait().await;
            ledger.begin_survey(new).await.unwrap()
        }));
    }
    let mut begun = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => begun += 1,
            Err(why) => assert_eq!(why, NotDone::Survey(CannotSurvey::TooOften)),
        }
    }
    assert_eq!(begun, 1);
}

/// Canaries are begun that look at a resource while a survey of it is: either the survey sees them and is refused, or all
/// of its orders have lower numbers.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_survey_goes_before_canaries() {
    let database = Database::new().await;
    let (ledgers, hand) = handles(&database, 2).await;
    let mut refused = 0;
    for round in 0..40 {
        let id = hand.register(&format!("vm{round}")).await;
        let new = hand.asked(&id, LONG_MS).await;
        let barrier = Arc::new(Barrier::new(2));
        let (surveyor, at) = (ledgers[0].clone(), barrier.clone());
        let begins = tokio::spawn(async move {
            at.wait().await;
            surveyor.begin_survey(new).await.unwrap()
        });
        let right = Probe::RightIdentity { instance: instance("hypervisor.main"), resource: id };
        let run = NewRun { asked_by: Some(actor("ops")), within_ms: LONG_MS, probes: vec![(right, None)] };
        barrier.wait().await;
        let canary = ledgers[1].begin_canaries(run).await.unwrap().unwrap().remove(0);
        match begins.await.unwrap() {
            Ok(Begun::Now(survey)) => {
                let look = &survey.looks[0];
                assert!(look.fence < canary.fence, "in round {round}: {survey:?}");
                ledgers[1].hear_survey(&look.instance, look.fence, &saw()).await.unwrap().unwrap();
            }
            Ok(Begun::Before(survey)) => panic!("{survey:?}"),
            Err(NotDone::Survey(CannotSurvey::Busy(_))) => refused += 1,
            Err(why) => panic!("{why}"),
        }
        ledgers[1].hear_canary(canary.id, &saw()).await.unwrap().unwrap();
    }
    println!("the canaries went first {refused} times of 40");
}
