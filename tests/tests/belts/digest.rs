//! The daily digest: told once a day by each route, with all that an administrator has to see in it.
use chrono::{Days, NaiveTime};
use sexton_coordinator::alarms::{Alarmer, Options, gather};
use sexton_ledger::{ALARMS_PAGE, Found};
use sexton_model::access::Extent;
use sexton_model::alarm::{Alarm, AlarmKind, Moment, Notice, Rules, Severity, Subject, hold};
use sexton_model::belts::PauseSelector;
use sexton_model::belts::census::{Census, Misplaced};
use sexton_model::digest::{Coming, Daily, Digest, Listed, Material, Outstanding, compose};
use sexton_model::job::{Stage, StateName};
use sexton_model::time::Day;
use sexton_model::{DeletionId, ResourceId, Timestamp};

use super::budgets::{counting, frozen, policy};
use super::on_call::OnCall;
use super::system::{System, on_many_machines, ops, until, web01};

on_many_machines! {
    the_digest_is_told_once_a_day_over_restarts_and_coordinators,
    the_digest_says_what_comes_what_stands_out_and_what_stands_still,
    the_digest_says_which_batches_wait_and_what_others_have_deleted,
    the_worst_alarm_is_in_the_digest_however_many_were_raised_since,
}

/// From midnight on it is time, whenever this runs.
const AT_ONCE: Daily = Daily { at: NaiveTime::MIN, zone: chrono_tz::UTC };

/// It is never time: no clock here shows a leap second.
fn never() -> Daily {
    Daily { at: NaiveTime::from_hms_nano_opt(23, 59, 59, 1_999_999_999).unwrap(), ..AT_ONCE }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_digest_is_told_once_a_day_over_restarts_and_coordinators() {
    let on_call = OnCall::new().await;
    let options = || Options { daily: AT_ONCE, ..on_call.options() };
    let system = System::start_telling(policy("none = true"), options()).await;
    let days = |told: &[Notice]| {
        let day = |notice: &Notice| match notice {
            Notice::Digest { digest, .. } => Some(digest.day),
            Notice::Alarm { .. } => None,
        };
        told.iter().filter_map(day).collect::<Vec<_>>()
    };
    until("both routes are told", async || on_call.digests().iter().all(|told| !told.is_empty())).await;
    let system = system.restarted().await;
    let another = Alarmer::new(Options { name: "another".into(), ..options() });
    for _ in 0..20 {
        let (one, two) = tokio::join!(another.tick(&*system.ledger, &[]), system.engine.alarm());
        one.and(two).unwrap();
    }
    // Midnight may pass meanwhile: each day once.
    for told in on_call.digests() {
        let days = days(&told);
        let mut once = days.clone();
        once.dedup();
        assert!(days == once && days.len() <= 2, "{days:?}");
    }
}

/// What another coordinator tells, for which it is time now: both routes the same.
async fn told_by_another(system: &System, on_call: &OnCall) -> Notice {
    let another = Alarmer::new(Options { name: "another".into(), daily: AT_ONCE, ..on_call.options() });
    until("both routes are told", async || {
        another.tick(&*system.ledger, &[]).await.is_ok()
            && on_call.digests().iter().all(|told| !told.is_empty())
    })
    .await;
    let [by_webhook, by_command] = on_call.digests().map(|mut told| told.remove(0));
    assert_eq!(by_webhook, by_command);
    by_webhook
}

/// The digest of a week ago said that one announcement was to come. Now five are, in three days, beside one elsewhere; and
/// three records stand still, each for a reason of its own.
#[tokio::test(flavor = "multi_thread")]
async fn the_digest_says_what_comes_what_stands_out_and_what_stands_still() {
    let on_call = OnCall::new().await;
    // Its own coordinator tells nobody, so that there is one digest, made when all of that is there.
    let untold = Options { daily: never(), ..Options::default() };
    let mut system = System::start_telling(policy("none = true"), untold).await;
    let now = system.ledger.facts().await.unwrap().now;
    let (in_three_days, today) = (now.plus_ms(3 * 86_400_000), now.utc().date_naive());
    system.recreate();
    let parked = system.delete().await;
    let named = |name: &str| -> ResourceId { name.parse().unwrap() };
    for id in ["vm/web02", "vm/web03", "vm/web04", "vm/web05", "vm/web06"].map(named) {
        system.register_named(&id, false).await;
        system.delete_named(id, in_three_days).await;
    }
    let elsewhere = named("vm/db01");
    system.register_in("tenants/other", &elsewhere, false).await;
    system.delete_named(elsewhere, in_three_days).await;
    let late = named("vm/late");
    system.register_named(&late, false).await;
    system.hold(&late).await;
    let late = system.delete_by(late, now, today.pred_opt()).await;
    let key = named("vm/key");
    system.register_credential(&key).await;
    system.hold(&key).await;
    let three_days_ago = Timestamp(now.0 - 3 * 86_400_000_000);
    let key = system.delete_named(key, three_days_ago).await;
    system.until_job(parked, Stage::Announce, |state| state.name() == StateName::Parked).await;
    for id in [late, key] {
        system.until_job(id, Stage::Announce, |state| state.name() == StateName::Held).await;
    }
    let covers = PauseSelector { scope: Some("tenants/other".parse().unwrap()), ..PauseSelector::default() };
    system.ledger.pause(covers, &ops(), "they are moving").await.unwrap();
    // Midnight may pass before it is made: then another day is the one of a week ago.
    for day in [today - Days::new(7), today - Days::new(6)] {
        let at = Moment { now, day: Day::Calendar, rules: Rules::default() };
        let of_then = compose(Material::default(), (day, chrono_tz::UTC), &at);
        let (scope, stage) = ("tenants/acme".parse().unwrap(), Stage::Announce);
        let coming = Listed { items: vec![Coming { scope, stage, count: 1 }], more: 0 };
        let body = serde_json::to_string(&Digest { coming, ..of_then }).unwrap();
        assert!(system.ledger.keep_digest(day, &body).await.unwrap());
    }

    let told = told_by_another(&system, &on_call).await;
    let Notice::Digest { digest, text, .. } = &told else { panic!("{told:?}") };

    // What is held is due as well.
    for stage in Stage::ALL {
        let count = |scope: &str| {
            let line =
                digest.coming.items.iter().find(|line| line.scope.as_str() == scope && line.stage == stage);
            line.map(|line| line.count)
        };
        assert_eq!((count("tenants/acme"), count("tenants/other")), (Some(7), Some(1)), "{stage}: {text}");
        assert_eq!(digest.coming_stages.get(&stage), Some(&8), "{stage}: {text}");
    }
    assert_eq!(digest.compared_weeks, 1);
    let out = Outstanding {
        scope: Some("tenants/acme".parse().unwrap()),
        stage: Stage::Announce,
        count: 7,
        average_tenths: 10,
    };
    let all = &digest.stands_out.items;
    assert!(all.contains(&out), "{text}");
    let mut scopes = all.iter().filter_map(|one| one.scope.as_ref());
    assert!(scopes.all(|scope| scope.as_str() == "tenants/acme"), "one is not many: {text}");

    let [still] = digest.parked.items.as_slice() else { panic!("{text}") };
    assert_eq!((still.deletion, &still.resource), (parked, &web01()));
    assert!(still.why.starts_with("monitoring.inspect refused: "), "{text}");
    let comes_back = |undo: &str| undo.starts_with("everything: nothing was changed yet");
    assert!(comes_back(&still.undo), "{text}");
    for (listed, id) in [(&digest.credentials, key), (&digest.gone_by, late)] {
        let [overdue] = listed.items.as_slice() else { panic!("{text}") };
        assert_eq!(overdue.deletion, id);
        assert!(overdue.why.contains("evidence") && comes_back(&overdue.undo), "{text}");
    }
    let held: Vec<_> = digest.held.items.iter().map(|still| still.deletion).collect();
    assert!(held.len() == 2 && held.contains(&late) && held.contains(&key), "{text}");
    assert!(digest.held.items.iter().all(|still| still.why.contains("evidence")), "{text}");
    assert!(digest.held.items.iter().all(|still| comes_back(&still.undo)), "{text}");
    let [pause] = digest.pauses.items.as_slice() else { panic!("{text}") };
    assert_eq!(pause.reason, "they are moving");
    for part in [
        "tenants/acme: 7 announce, 7 soft, 7 hard, 7 purge, 7 recycle",
        "Stands out against 1 of the last weeks:",
        "tenants/acme: 7 announce, where a week has 1.0",
        "Parked, the longest first:",
        "Credentials that should be gone:",
        "Dates that were missed:",
        "Paused, the longest first:",
        "Held (2 by hold), the longest first:",
    ] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
}

/// Of three machines two are to go on the same day, where one may; somebody else has removed the third, and one is said to be where it
/// is not registered.
#[tokio::test(flavor = "multi_thread")]
async fn the_digest_says_which_batches_wait_and_what_others_have_deleted() {
    let on_call = OnCall::new().await;
    // As above: one digest, made when all of that is there.
    let untold = Options { daily: never(), ..Options::default() };
    let counted = counting(policy("a_day = 1\nstages = [\"announce\"]"), web01());
    let system = System::start_telling(counted, untold).await;
    let [other, gone] = ["vm/web02", "vm/web03"].map(|id| id.parse::<ResourceId>().unwrap());
    for id in [&other, &gone] {
        system.register_named(id, false).await;
    }
    let all = [web01(), other.clone(), gone.clone()];
    system.hand_in(&all, 3).await.unwrap();
    assert_eq!(system.hand_in(&all[..2], 2).await.unwrap().paused, None, "one is not many");
    let moved: ResourceId = "vm/db01".parse().unwrap();
    system.register_in("tenants/other", &moved, false).await;
    let around = system.census(&[moved.clone(), web01(), other.clone()], 3).await;
    let around = Census { scope: "tenants".parse().unwrap(), ..around };
    assert!(!system.ledger.take_census(around, &ops()).await.unwrap().unwrap().has_paused());
    for id in system.delete_both([web01(), other]).await {
        system.until_job(id, Stage::Announce, frozen).await;
    }

    let told = told_by_another(&system, &on_call).await;
    let Notice::Digest { digest, text, .. } = &told else { panic!("{told:?}") };
    let [batch] = digest.batches.items.as_slice() else { panic!("{text}") };
    let said = (batch.scope.as_str(), batch.stage, batch.waiting, batch.needs_approval);
    assert_eq!(said, ("tenants/acme", Stage::Announce, 2, true), "{text}");
    let [foreign] = digest.foreign.items.as_slice() else { panic!("{text}") };
    let said = (foreign.scope.as_str(), foreign.count, foreign.named.as_slice());
    assert_eq!(said, ("tenants/acme", 1, std::slice::from_ref(&gone)), "{text}");
    let [elsewhere] = digest.misplaced.items.as_slice() else { panic!("{text}") };
    let [listed_in, registered_in] = ["tenants/acme", "tenants/other"].map(|scope| scope.parse().unwrap());
    let named = [Misplaced { id: moved, listed_in, registered_in }];
    assert_eq!((elsewhere.count, elsewhere.named.as_slice()), (1, &named[..]), "{text}");
    for part in [
        "needs approval since ",
        ": 2 of vm in tenants/acme before announce: ",
        "1 of vm in tenants/acme, found by census ",
        "vm/db01 (listed in tenants/acme, registered in tenants/other)",
    ] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
}

/// More are open than are read at once, and the worst of them is the oldest.
#[tokio::test(flavor = "multi_thread")]
async fn the_worst_alarm_is_in_the_digest_however_many_were_raised_since() {
    let system = System::not_started().await;
    let parked = |n: i64| {
        let subject = Subject::Deletion { deletion: DeletionId(n), resource: web01() };
        let scope = Some("tenants/acme".parse().unwrap());
        Alarm::new(AlarmKind::Parked, scope, subject, "it is parked", "look")
    };
    let since = system.ledger.facts().await.unwrap().now;
    let many: Vec<Alarm> = (1..=i64::from(ALARMS_PAGE)).map(parked).collect();
    for (owner, hold) in [("one", vec![hold::orders_stopped("one", 60)]), ("another", many)] {
        let found = Found { owner: owner.into(), since, hold, ..Found::default() };
        system.ledger.note_alarms(found).await.unwrap();
    }
    let (day, rules) = (since.utc().date_naive(), Rules::default());
    let made = gather::digest(&*system.ledger, (day, AT_ONCE), rules, &[], &Extent::Everywhere).await;
    let digest = made.unwrap();
    let first = &digest.alarms.items[0];
    assert_eq!((first.kind, first.severity), (AlarmKind::OrdersStopped, Severity::Critical), "{digest}");
    let all = digest.alarms.items.len() as u64 + digest.alarms.more;
    assert_eq!(all, u64::from(ALARMS_PAGE) + 1, "and all are counted");
}
