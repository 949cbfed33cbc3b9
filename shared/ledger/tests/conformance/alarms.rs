//! Alarms: found by the page, raised and ended once, told once by whoever claims it; digests kept once a day.
use sexton_ledger::{
    AlarmFilter, AlarmSeen, DeletionFilter, Found, HELD_READ, HeldJobs, Intent, NewDeletion, Noted,
    WATCHED_MAX, WatchedFrom, WatchedRecord, telling_of_alarm,
};
use sexton_model::alarm::{Alarm, AlarmKind, Phase, Subject, Telling};
use sexton_model::belts::PauseSelector;
use sexton_model::decide::Event;
use sexton_model::digest::KEPT_DAYS;
use sexton_model::job::{JobKind, Stage, StateName};
use sexton_model::resource::Resource;
use sexton_model::step::{Mode, Outcome};
use sexton_model::{DeletionId, Timestamp};

use super::Fixture;
use super::stage::{Stagehand, actor, job_id, options, resource, right_answer};

fn alarm(id: i64) -> Alarm {
    let resource = format!("vm/web{id:02}").parse().unwrap();
    let subject = Subject::Deletion { deletion: DeletionId(id), resource };
    let scope = Some("tenants/acme".parse().unwrap());
    Alarm::new(AlarmKind::Parked, scope, subject, format!("d-{id} is parked"), "look")
}

impl Stagehand {
    async fn note_as(&self, owner: &str, since: Timestamp, ids: &[i64]) -> Noted {
        let hold = ids.iter().copied().map(alarm).collect();
        self.ledger.note_alarms(Found { owner: owner.into(), since, hold, ..Found::default() }).await.unwrap()
    }

    async fn note(&self, ids: &[i64]) -> Noted {
        self.note_as("", self.now().await, ids).await
    }

    async fn open(&self) -> Vec<i64> {
        let filter = AlarmFilter { ended: false, before: None, limit: 1000 };
        let page = self.ledger.alarms(filter).await.unwrap();
        page.items.into_iter().map(|view| view.standing.id).collect()
    }

    async fn telling(&self, alarm: i64, route: &str) -> Telling {
        let told = self.ledger.alarm(alarm).await.unwrap().unwrap().told;
        told.into_iter().find(|(name, _)| name == route).map(|(_, telling)| telling).unwrap_or_default()
    }

    async fn watched(&self) -> Vec<WatchedRecord> {
        let (mut all, mut from) = (Vec::new(), None);
        loop {
            let page = self.ledger.watched(from).await.unwrap();
            assert!(page.records.len() <= WATCHED_MAX);
            all.extend(page.records);
            from = page.next;
            if from.is_none() {
                return all;
            }
        }
    }
}

fn ids(of: &[sexton_model::alarm::Standing]) -> Vec<i64> {
    of.iter().map(|standing| standing.id).collect()
}

pub async fn an_alarm_is_raised_once_and_ends(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let noted = on.note(&[1, 2]).await;
    assert_eq!((ids(&noted.raised), noted.ended), (vec![1, 2], vec![]));
    assert_eq!(on.note(&[1, 2]).await, Noted::default(), "it holds already");
    let noted = on.note(&[2, 3]).await;
    assert_eq!((ids(&noted.raised), ids(&noted.ended)), (vec![3], vec![1]));
    assert_eq!(on.open().await, [3, 2], "newest first");
    let ended = on.ledger.alarm(1).await.unwrap().unwrap().standing;
    assert!(ended.ended_at.is_some_and(|at| at >= ended.raised_at), "{ended:?}");
    // What holds again is another one.
    assert_eq!(ids(&on.note(&[1, 2, 3]).await.raised), [4]);
    // They are there after a restart, and in pages.
    drop(on);
    let on = Stagehand::with(fixture, options()).await;
    assert_eq!(on.open().await, [4, 3, 2]);
    let all = AlarmFilter { ended: true, before: None, limit: 3 };
    let page = on.ledger.alarms(all).await.unwrap();
    assert_eq!((page.items.len(), page.next.as_deref()), (3, Some("2")));
    let rest = on.ledger.alarms(AlarmFilter { before: Some(2), ..all }).await.unwrap();
    assert_eq!((rest.items[0].standing.id, rest.items.len(), rest.next), (1, 1, None));
}

pub async fn what_was_seen_earlier_changes_nothing(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let early = on.now().await;
    on.until(early).await;
    let late = on.now().await;
    on.note_as("", late, &[1]).await;
    // Somebody who looked before that was slow.
    assert_eq!(on.note_as("", early, &[]).await, Noted::default());
    assert_eq!(on.note_as("", early, &[1, 2]).await, Noted::default());
    assert_eq!(on.open().await, [1]);
    // Each process knows of itself alone.
    assert_eq!(ids(&on.note_as("c1", early, &[7]).await.raised), [2]);
    on.note_as("c2", early, &[]).await;
    on.note(&[1]).await;
    assert_eq!(on.open().await, [2, 1]);
    assert_eq!(ids(&on.note_as("c1", early, &[]).await.ended), [2]);
}

/// Of what is over nobody is believed for a day who has told it and is gone: whoever looks at the job table ends it.
pub async fn what_is_over_is_ended_though_whoever_told_it_is_gone(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let hold: Vec<Alarm> = [1, 2].map(|id| Alarm { kind: AlarmKind::NoReceipt, ..alarm(id) }).to_vec();
    let found = Found { owner: "gone".into(), since: on.now().await, hold, ..Found::default() };
    assert_eq!(ids(&on.ledger.note_alarms(found).await.unwrap().raised), [1, 2]);
    let look = async |owner: &str| {
        let over = [1].into();
        let found = Found { owner: owner.into(), since: on.now().await, over, ..Found::default() };
        ids(&on.ledger.note_alarms(found).await.unwrap().ended)
    };
    assert_eq!(look("").await, Vec::<i64>::new(), "it may say so by itself");
    // Ten minutes in which it has said nothing.
    fixture.execute("UPDATE alarms SET seen_at = seen_at - 600000000").await;
    assert_eq!(look("another").await, Vec::<i64>::new(), "of itself alone");
    assert_eq!(look("").await, [1], "and the other one has its day");
    assert_eq!(on.open().await, [2]);
}

pub async fn one_looks_at_a_time(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (one, other) = tokio::join!(on.ledger.begin_alarm_round(60_000), on.ledger.begin_alarm_round(60_000));
    let begun = [one.unwrap(), other.unwrap()];
    assert_eq!(begun.iter().flatten().count(), 1, "{begun:?}");
    assert_eq!(on.ledger.begin_alarm_round(60_000).await.unwrap(), None);
    let at = begun.into_iter().flatten().next().unwrap();
    on.until(at.plus_ms(1)).await;
    assert!(on.ledger.begin_alarm_round(1).await.unwrap().is_some_and(|next| next > at));
}

pub async fn an_alarm_is_told_once_by_each_route(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    on.note(&[1]).await;
    let what = telling_of_alarm(1);
    let claim = |route: &'static str, seen| on.ledger.claim_telling(&what, route, seen, 60_000);
    // Two coordinators have seen that nobody was told.
    let (one, other) = tokio::join!(claim("webhook", 0), claim("webhook", 0));
    assert_eq!([one.unwrap(), other.unwrap()].iter().filter(|won| **won).count(), 1);
    assert!(claim("mail", 0).await.unwrap(), "each route by itself");
    let telling = on.telling(1, "webhook").await;
    assert_eq!((telling.tries, telling.told), (1, None));
    assert!(telling.lease_until.is_some());
    assert!(!claim("webhook", 1).await.unwrap(), "whoever has it may take its time");
    assert!(on.ledger.note_telling(&what, "webhook", 1, Ok(Phase::Raised)).await.unwrap());
    let telling = on.telling(1, "webhook").await;
    assert_eq!((telling.lease_until, telling.told.map(|(phase, _)| phase)), (None, Some(Phase::Raised)));
    assert!(!claim("webhook", 0).await.unwrap(), "whoever saw it untold is late");
    assert_eq!(on.telling(1, "mail").await.told, None);
}

pub async fn what_could_not_be_told_is_told_again(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    on.note(&[1]).await;
    let what = telling_of_alarm(1);
    let claim = |seen, lease_ms| on.ledger.claim_telling(&what, "webhook", seen, lease_ms);
    let note = |tries, told| on.ledger.note_telling(&what, "webhook", tries, told);
    assert!(claim(0, 60_000).await.unwrap());
    assert!(note(1, Err("no answer".to_owned())).await.unwrap());
    let telling = on.telling(1, "webhook").await;
    assert_eq!((telling.failures, telling.error.as_deref(), telling.told), (1, Some("no answer"), None));
    // Whoever takes it next dies, and its lease runs out.
    assert!(claim(1, 1).await.unwrap());
    let lease = on.telling(1, "webhook").await.lease_until.unwrap();
    on.until(lease).await;
    assert!(claim(2, 60_000).await.unwrap());
    assert!(!note(2, Ok(Phase::Raised)).await.unwrap(), "it is somebody else's by now");
    assert!(note(3, Ok(Phase::Raised)).await.unwrap());
    let telling = on.telling(1, "webhook").await;
    assert_eq!((telling.failures, telling.error.clone()), (0, None), "{telling:?}");
    // Its end is to be told, too.
    on.note(&[]).await;
    assert_eq!(on.open().await, Vec::<i64>::new());
    let views = on.ledger.alarms_to_tell(0).await.unwrap();
    assert!(views.len() == 1 && views[0].standing.ended_at.is_some(), "{views:?}");
    assert_eq!(on.ledger.alarms_to_tell(1).await.unwrap().len(), 0);
}

pub async fn an_acknowledgement_is_written_down(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    on.note(&[1]).await;
    let seen = |id| {
        let ledger = on.ledger.clone();
        async move { ledger.acknowledge_alarm(id, &actor("eva"), "on it").await.unwrap() }
    };
    let events = "SELECT count(*) FROM ledger_audit WHERE body LIKE '%\"alarm_acknowledged\"%'";
    assert_eq!(seen(2).await, AlarmSeen::Unknown);
    let AlarmSeen::Done(standing) = seen(1).await else { panic!("it is open") };
    let acknowledged = standing.acknowledged.unwrap();
    assert_eq!((acknowledged.by, acknowledged.reason.as_str()), (actor("eva"), "on it"));
    assert_eq!(fixture.count(events).await, 1);
    // It still holds, in other words: it stays open, and seen.
    let worse = Alarm { text: "worse".into(), ..alarm(1) };
    let found = Found { since: on.now().await, hold: vec![worse], ..Found::default() };
    assert_eq!(on.ledger.note_alarms(found).await.unwrap(), Noted::default());
    let standing = on.ledger.alarm(1).await.unwrap().unwrap().standing;
    assert_eq!((standing.alarm.text.as_str(), standing.acknowledged.is_some()), ("worse", true));
    on.note(&[]).await;
    assert_eq!(seen(1).await, AlarmSeen::Ended);
    assert_eq!(fixture.count(events).await, 1);
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}

pub async fn what_ended_long_ago_is_forgotten_and_its_number_is_not_given_again(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    on.note(&[1, 2]).await;
    let what = telling_of_alarm(1);
    assert!(on.ledger.claim_telling(&what, "mail", 0, 1).await.unwrap());
    on.note(&[]).await;
    fixture.execute("UPDATE alarms SET ended_at = 1").await;
    on.note(&[]).await;
    assert_eq!(fixture.count("SELECT count(*) FROM alarms").await, 1, "the last one stays");
    assert_eq!(on.ledger.tellings(&what).await.unwrap(), []);
    assert_eq!(ids(&on.note(&[3]).await.raised), [3]);
}

pub async fn a_digest_is_kept_once_a_day_and_told_once(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let day: chrono::NaiveDate = "2026-12-01".parse().unwrap();
    let keep = |day, body: &'static str| on.ledger.keep_digest(day, body);
    let (one, other) = tokio::join!(keep(day, "one"), keep(day, "one"));
    assert_eq!([one.unwrap(), other.unwrap()].iter().filter(|kept| **kept).count(), 1);
    assert!(!keep(day, "two").await.unwrap());
    assert_eq!(on.ledger.digest(day).await.unwrap().as_deref(), Some("one"));
    let what = sexton_ledger::telling_of_digest(day);
    let claim = || on.ledger.claim_telling(&what, "mail", 0, 60_000);
    let (one, other) = tokio::join!(claim(), claim());
    assert_eq!([one.unwrap(), other.unwrap()].iter().filter(|won| **won).count(), 1);
    on.ledger.note_telling(&what, "mail", 1, Ok(Phase::Raised)).await.unwrap();
    drop(on);
    let on = Stagehand::with(fixture, options()).await;
    assert!(!on.ledger.claim_telling(&what, "mail", 0, 60_000).await.unwrap(), "nor after a restart");
    // Those of more than four weeks are there, and older ones are not.
    let last = day.checked_add_days(chrono::Days::new(KEPT_DAYS)).unwrap();
    assert!(on.ledger.keep_digest(last, "later").await.unwrap());
    assert!(on.ledger.digest(day).await.unwrap().is_some());
    assert!(on.ledger.keep_digest(last.succ_opt().unwrap(), "later").await.unwrap());
    assert_eq!(on.ledger.digest(day).await.unwrap(), None);
    assert_eq!(on.ledger.tellings(&what).await.unwrap(), []);
}

pub async fn what_may_alarm_is_found_by_the_page(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    on.doomed("web00").await;
    let credential: Resource = serde_json::from_value(serde_json::json!({
        "id": "vm/key", "scope": "tenants/acme", "identity": {"uuid": "k"}, "criticality": "credential",
    }))
    .unwrap();
    let mut all: Vec<Resource> = (0..WATCHED_MAX).map(|n| resource(&format!("dated{n:03}"), "u")).collect();
    all.push(credential);
    on.ledger.register(all.clone(), &actor("ops"), true).await.unwrap();
    let mut wanted: Vec<NewDeletion> = Vec::new();
    for resource in &all {
        let mut one = on.wanted(&resource.id).await;
        one.gone_by = resource.id.to_string().contains("dated").then_some(one.due.date);
        wanted.push(one);
    }
    let made: Vec<DeletionId> =
        on.ledger.create(wanted).await.unwrap().into_iter().map(Result::unwrap).collect();
    let parked = on.doomed("web01").await;
    let before = on.now().await;
    let order = on.claim(parked, Stage::Announce).await.unwrap().dispatch.unwrap();
    on.answer(&order, Outcome::refused("another uuid")).await.unwrap();
    assert_eq!(on.state(parked, Stage::Announce).await, StateName::Parked);

    let found = on.watched().await;
    let expected: Vec<DeletionId> = made.iter().copied().chain([parked]).collect();
    assert_eq!(found.iter().map(|one| one.deletion.id).collect::<Vec<_>>(), expected);
    let last = found.last().unwrap();
    assert!(last.parked_at.is_some_and(|at| at >= before), "{:?}", last.parked_at);
    assert!(found[..found.len() - 1].iter().all(|one| one.parked_at.is_none()));

    // It was tried again and parked again: since then. What came back does not alarm.
    let first = last.parked_at;
    on.until(on.now().await).await;
    let again = on.one(parked, Event::Retry { by: actor("ops") }).await.unwrap().dispatch.unwrap();
    assert!(on.watched().await.iter().all(|one| one.deletion.id != parked), "it is under way");
    on.answer(&again, Outcome::refused("another uuid")).await.unwrap();
    assert!(on.watched().await.last().unwrap().parked_at > first);
    let cancel = Event::Cancel { by: actor("ops"), reason: "kept".into() };
    on.one(made[0], cancel).await.unwrap();
    assert!(on.watched().await.iter().all(|one| one.deletion.id != made[0]), "it is over");
}

pub async fn one_that_cannot_be_read_keeps_no_other_from_alarming(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    for name in ["web01", "web02"] {
        let resource = on.register(name).await;
        let mut wanted = on.wanted(&resource).await;
        wanted.gone_by = Some(wanted.due.date);
        on.ledger.create(vec![wanted]).await.unwrap().remove(0).unwrap();
    }
    assert_eq!(on.watched().await.len(), 2);
    fixture.execute("INSERT INTO holds (deletion_id, id, body) VALUES (1, 1, 'spoilt')").await;
    let found = on.watched().await;
    assert_eq!(found.iter().map(|one| one.deletion.id.0).collect::<Vec<_>>(), [2]);
    fixture.execute("DELETE FROM holds").await;
    assert_eq!(on.watched().await.len(), 2);
}

pub async fn what_is_ahead_and_what_is_held_is_counted(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (held, under_way) = (on.doomed("web01").await, on.doomed("web02").await);
    on.doomed("web03").await;
    let hold = Event::PlaceHold { by: actor("legal"), reason: "kept as evidence".into() };
    on.one(held, hold).await.unwrap();
    on.claim(held, Stage::Announce).await.unwrap();
    on.claim(under_way, Stage::Announce).await.unwrap();
    // One day is five milliseconds: by now all of them are overdue, and so due today.
    let ahead = on.ledger.ahead(7, None).await.unwrap();
    let count = |begun| {
        let of = ahead.iter().filter(|one| one.begun == begun);
        of.inspect(|one| assert_eq!((one.stage, one.day), (Stage::Announce, 0)))
            .map(|one| one.count)
            .sum::<u64>()
    };
    assert_eq!((count(false), count(true)), (2, 1), "{ahead:?}");
    assert_eq!(ahead[0].offsets, [-1, 0, 1, 2, 3]);
    assert_eq!(ahead[0].scope.as_str(), "tenants/acme");
    // What is outside is left out where it is counted: it is cut behind that.
    let within = async |scopes: &[&str]| {
        let scopes = scopes.iter().map(|scope| scope.parse().unwrap()).collect();
        on.ledger.ahead(7, Some(scopes)).await.unwrap()
    };
    assert_eq!(within(&["tenants/other", "tenants"][..]).await, ahead);
    assert_eq!(within(&["tenants/acme"][..]).await, ahead);
    for outside in [&["tenants/other", "tenants/ac", "tenants/acme/prod"][..], &[]] {
        assert_eq!(within(outside).await, [], "{outside:?}");
    }

    let jobs = on.ledger.held(None).await.unwrap();
    let [still] = jobs.longest.as_slice() else { panic!("{jobs:?}") };
    assert_eq!((still.deletion, still.job), (held, JobKind::Stage(Stage::Announce)));
    assert!(still.why.contains("kept as evidence") && still.since.is_some(), "{still:?}");
    assert_eq!(jobs.by.iter().map(|by| (by.by.as_str(), by.count)).collect::<Vec<_>>(), [("hold", 1)]);
}

/// In another scope more is held, and for longer, than one call reads.
pub async fn what_is_held_in_another_scope_takes_nobodys_place(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    on.ledger.pause(PauseSelector::default(), &actor("ops"), "stop").await.unwrap();
    let of = |n: usize| resource(&format!("vm{n:04}"), &format!("uuid-{n}"));
    let small = Resource { scope: "tenants/small".parse().unwrap(), ..of(HELD_READ) };
    let resources: Vec<Resource> = (0..HELD_READ).map(of).chain([small.clone()]).collect();
    let wanted = on.wanted(&small.id).await;
    let wanted: Vec<NewDeletion> =
        resources.iter().map(|one| NewDeletion { resource: one.id.clone(), ..wanted.clone() }).collect();
    let registered = on.ledger.register(resources, &actor("ops"), true).await.unwrap();
    assert!(registered.iter().all(Result::is_ok));
    let made = on.ledger.create(wanted).await.unwrap();
    let ids: Vec<DeletionId> = made.into_iter().map(Result::unwrap).collect();
    let claim =
        |id: &DeletionId| Intent { deletion: *id, event: Event::Claim { job: job_id(*id, Stage::Announce) } };
    let claimed = on.ledger.run(ids.iter().map(claim).collect()).await.unwrap();
    assert!(claimed.iter().all(|one| one.as_ref().unwrap().dispatch.is_none()), "it is paused");

    let last = *ids.last().unwrap();
    let count = |jobs: &HeldJobs| jobs.by.iter().map(|by| by.count).sum::<u64>();
    let all = on.ledger.held(None).await.unwrap();
    assert_eq!((all.longest.len(), count(&all)), (HELD_READ, 1 + HELD_READ as u64));
    assert!(all.longest.iter().all(|still| still.deletion != last), "it is not of the longest");
    let within = async |scope: &str| on.ledger.held(Some(vec![scope.parse().unwrap()])).await.unwrap();
    let own = within("tenants/small").await;
    assert_eq!(own.longest.iter().map(|still| still.deletion).collect::<Vec<_>>(), [last]);
    assert_eq!(
        own.by.iter().map(|by| (by.scope.as_str(), by.count)).collect::<Vec<_>>(),
        [("tenants/small", 1)]
    );
    let below = within("tenants").await;
    assert_eq!((count(&below), &below.longest), (count(&all), &all.longest));
    for nobodys in [within("tenants/sm").await, on.ledger.held(Some(Vec::new())).await.unwrap()] {
        assert!(nobodys.longest.is_empty() && nobodys.by.is_empty(), "{nobodys:?}");
    }
}

/// Whoever looks for what is held finds what a belt has stopped between two steps, though that has its lock, beside what has not
/// begun; and nothing that goes on.
pub async fn what_is_stopped_between_two_steps_is_held_too(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (midway, before) = (on.doomed("web01").await, on.doomed("web02").await);
    let under_way = on.doomed("web03").await;
    let hold = |why: &str| Event::PlaceHold { by: actor("legal"), reason: why.into() };
    on.one(before, hold("before it begins")).await.unwrap();
    assert!(on.claim(before, Stage::Announce).await.unwrap().dispatch.is_none());
    let order = on.claim(midway, Stage::Announce).await.unwrap().dispatch.unwrap();
    on.claim(under_way, Stage::Announce).await.unwrap();

    let listed = async || -> Vec<DeletionId> {
        let mut all: Vec<DeletionId> = Vec::new();
        // Each set of filters has a text of its own.
        let (scope, kind) = ("tenants/acme".parse().ok(), "vm".parse().ok());
        for (scope, kind) in [(None, None), (scope, None), (None, kind)] {
            let filter =
                DeletionFilter { state: Some(StateName::Held), scope, kind, limit: 9, ..Default::default() };
            let found = on.ledger.deletions(&filter).await.unwrap().items;
            let ids: Vec<DeletionId> = found.iter().map(|row| row.id).collect();
            assert!(all.is_empty() || all == ids, "{all:?} {ids:?}");
            all = ids;
        }
        all
    };
    let held = async || {
        let jobs = on.ledger.held(None).await.unwrap();
        let mut ids: Vec<DeletionId> = jobs.longest.iter().map(|still| still.deletion).collect();
        ids.sort_unstable();
        (ids, jobs.by.iter().map(|by| (by.by.clone(), by.count)).collect::<Vec<_>>())
    };
    let by_holds = |count: u64| vec![("hold".to_owned(), count)];
    assert_eq!((listed().await, held().await), (vec![before], (vec![before], by_holds(1))));

    let placed = on.one(midway, hold("between two steps")).await.unwrap();
    assert!(on.answer(&order, right_answer(&order)).await.unwrap().dispatch.is_none());
    assert_eq!(on.state(midway, Stage::Announce).await, StateName::Ready);
    assert_eq!((listed().await, held().await), (vec![before, midway], (vec![midway, before], by_holds(2))));
    let longest = on.ledger.held(None).await.unwrap().longest;
    let still = longest.iter().find(|still| still.deletion == midway).unwrap();
    assert_eq!(still.job, JobKind::Stage(Stage::Announce));
    assert!(still.why.contains("between two steps") && still.since.is_some(), "{still:?}");

    on.one(midway, Event::ReleaseHold { hold: placed.audit_seq, by: actor("legal") }).await.unwrap();
    assert_eq!((listed().await, held().await), (vec![before], (vec![before], by_holds(1))));
}

/// From the first failure on, in whatever state its announcement is, until everybody was told.
pub async fn a_notice_that_is_not_delivered_is_watched(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (told, untold) = (on.doomed("web01").await, on.doomed("web02").await);
    let telling = |name: &str, mode: Mode| name == "notifier.announce" && mode == Mode::Perform;
    on.play_to(told, telling).await.unwrap();
    let order = on.play_to(untold, telling).await.unwrap();
    assert!(on.watched().await.is_empty(), "nothing has failed");
    let watched = async || on.watched().await.iter().map(|one| one.deletion.id).collect::<Vec<_>>();
    on.answer(&order, Outcome::failed("the box is full")).await.unwrap();
    assert_eq!(on.state(untold, Stage::Announce).await, StateName::Waiting);
    assert_eq!(watched().await, [untold]);
    let order = on.wake(untold, JobKind::Stage(Stage::Announce)).await.dispatch.unwrap();
    assert_eq!(on.state(untold, Stage::Announce).await, StateName::Running);
    assert_eq!(watched().await, [untold], "nobody is told that it is over");
    on.answer(&order, right_answer(&order)).await.unwrap();
    assert!(watched().await.is_empty());
}

/// From the cancel on, while the last order of its stage is out and while it is restored, until it is back.
pub async fn what_comes_back_is_watched_until_it_has(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    on.doomed("web01").await;
    let id = on.doomed("web02").await;
    let order = on.play_to(id, |name, mode| (name, mode) == ("dns.withdraw", Mode::Perform)).await.unwrap();
    let watched = async || on.watched().await.iter().map(|one| one.deletion.id).collect::<Vec<_>>();
    assert!(watched().await.is_empty(), "nobody has cancelled");
    on.one(id, Event::Cancel { by: actor("ops"), reason: "wanted".into() }).await.unwrap();
    assert_eq!(on.state(id, Stage::Soft).await, StateName::Cancelling);
    assert_eq!(watched().await, [id], "its order is out yet");
    let decided = on.answer(&order, right_answer(&order)).await.unwrap();
    assert_eq!(on.state(id, Stage::Soft).await, StateName::Cancelled);
    assert_eq!(watched().await, [id], "its restore has begun");
    // Behind the first page one goes by what that has found.
    for (restoring, expected) in [(vec![id], 1), (Vec::new(), 0)] {
        let from = WatchedFrom { after: DeletionId(0), restoring };
        assert_eq!(on.ledger.watched(Some(from)).await.unwrap().records.len(), expected);
    }
    on.play_restore(id, decided.dispatch).await;
    assert!(watched().await.is_empty(), "it is back");
}
