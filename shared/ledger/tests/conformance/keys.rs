//! Keys of requests: one change for each, whoever dies when.
use std::collections::BTreeSet;

use sexton_ledger::{Approval, Held, Intent, Ledger, LedgerError, Note, Options, Revocation};
use sexton_model::access::{DAY_S, Extent, NewToken, Registrar, Role, token_hash};
use sexton_model::belts::budget::Written;
use sexton_model::belts::ceiling::{Ceiling, NewCeiling};
use sexton_model::belts::census::{Census, Listed, Rules, Sentinel};
use sexton_model::belts::one_shot::{NewOneShot, Passable};
use sexton_model::belts::resource_hold::{NewHold, Which};
use sexton_model::belts::{PauseSelector, Policy};
use sexton_model::decide::Event;
use sexton_model::deletion::RecordStatus;
use sexton_model::job::Stage;
use sexton_model::request_key::{
    ANSWER_MAX_BYTES, Attempt, KEYS_MAX, KeptAnswer, Keyed, RequestKey, SWEPT_MAX,
};
use sexton_model::{Actor, ResourceId};

use super::Fixture;
use super::stage::{Stagehand, actor, job_id, options, resource};

/// The answer of attempts that go on for a while is lost, and so are they.
const DEAD: &str = "UPDATE request_keys SET held_until = 0 WHERE answer IS NULL";
const EVENTS: &str = "SELECT (SELECT count(*) FROM audit) + (SELECT count(*) FROM ledger_audit)";

fn keyed(key: &str, request: u8) -> Keyed {
    Keyed { actor: actor("platform"), key: key.parse().unwrap(), request: [request; 32] }
}

fn answer() -> KeptAnswer {
    KeptAnswer { status: 201, body: r#"{"pause":1}"#.to_owned() }
}

/// The attempt that holds the key now, and what one before it has noted.
async fn held(ledger: &dyn Ledger, keyed: Keyed) -> (Attempt, Option<Note>) {
    match ledger.hold_key(keyed).await.unwrap() {
        Held::By(attempt, note) => (attempt, note),
        other => panic!("{other:?}"),
    }
}

async fn pause(ledger: &dyn Ledger) -> Result<(), LedgerError> {
    ledger.pause(PauseSelector::default(), &actor("ops"), "a test").await.map(drop)
}

async fn pauses(ledger: &dyn Ledger) -> usize {
    ledger.pauses().await.unwrap().len()
}

pub async fn a_key_is_held_answered_and_forgotten(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let ledger = &*on.ledger;
    let (first, note) = held(ledger, keyed("k", 1)).await;
    assert_eq!((first.number, note), (1, None));
    assert!(first.first_sent <= on.now().await);
    assert_eq!(ledger.hold_key(keyed("k", 1)).await.unwrap(), Held::Busy);
    assert_eq!(ledger.hold_key(keyed("k", 2)).await.unwrap(), Held::Other);
    // Somebody else's key of that name is another one.
    let elses = Keyed { actor: actor("else"), ..keyed("k", 2) };
    held(ledger, elses).await;
    // Its answer is not to be kept: the next attempt may begin at once.
    ledger.let_go(&first).await.unwrap();
    let (second, note) = held(ledger, keyed("k", 1)).await;
    assert_eq!((second.number, note), (2, None));
    assert_eq!(second.first_sent, first.first_sent);
    assert!(!ledger.keep_answer(&first, answer()).await.unwrap(), "it was overtaken");
    ledger.let_go(&first).await.unwrap();
    assert_eq!(ledger.hold_key(keyed("k", 1)).await.unwrap(), Held::Busy, "nor does it let go of another's");
    let long = KeptAnswer { status: 200, body: "x".repeat(ANSWER_MAX_BYTES + 1) };
    assert!(matches!(ledger.keep_answer(&second, long).await, Err(LedgerError::TooMany { .. })));
    assert!(ledger.keep_answer(&second, answer()).await.unwrap());
    let other = KeptAnswer { status: 404, body: "{}".to_owned() };
    assert!(!ledger.keep_answer(&second, other).await.unwrap(), "it is answered once");
    assert_eq!(ledger.hold_key(keyed("k", 1)).await.unwrap(), Held::Answered(answer()));
    assert_eq!(ledger.hold_key(keyed("k", 2)).await.unwrap(), Held::Other);
    assert!(matches!(pause(&*ledger.under(second)).await, Err(LedgerError::Overtaken)), "it was answered");
    assert_eq!(pauses(ledger).await, 0);
    // Nothing is old enough.
    assert_eq!(ledger.forget_keys().await.unwrap(), 0);
    assert_eq!(fixture.count("SELECT count(*) FROM request_keys").await, 2);
    // Not swept yet, and forgotten all the same.
    fixture.execute("UPDATE request_keys SET first_sent = 0").await;
    let (anew, note) = held(ledger, keyed("k", 2)).await;
    assert_eq!((anew.number, note), (3, None));
    assert_eq!(fixture.count("SELECT CAST(sum(keys) AS BIGINT) FROM request_actors").await, 2);
    // Whoever is at work on it is not forgotten.
    fixture.execute("UPDATE request_keys SET first_sent = 0").await;
    fixture.execute("UPDATE request_keys SET held_until = 0 WHERE actor = 'else'").await;
    assert_eq!(ledger.forget_keys().await.unwrap(), 1);
    assert_eq!(ledger.hold_key(keyed("k", 2)).await.unwrap(), Held::Busy);
    fixture.execute(DEAD).await;
    assert_eq!(ledger.forget_keys().await.unwrap(), 1);
    assert_eq!(fixture.count("SELECT count(*) FROM request_actors").await, 0);
    assert_eq!(held(ledger, keyed("k", 1)).await.0.number, 1);
}

/// Without holding it, and of the same request only.
pub async fn what_was_sent_before_is_known(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let ledger = &*on.ledger;
    let before = async |request: u8| ledger.sent_before(&keyed("k", request)).await.unwrap();
    assert!(!before(1).await);
    let (first, _) = held(ledger, keyed("k", 1)).await;
    assert!(before(1).await && !before(2).await, "it is worked on");
    let elses = Keyed { actor: actor("else"), ..keyed("k", 1) };
    assert!(!ledger.sent_before(&elses).await.unwrap());
    ledger.let_go(&first).await.unwrap();
    assert!(!before(1).await, "nothing came of it");
    let (second, _) = held(ledger, keyed("k", 1)).await;
    assert_eq!(second.number, 2, "nothing was held by looking");
    pause(&*ledger.under(second)).await.unwrap();
    fixture.execute(DEAD).await;
    assert!(before(1).await && !before(2).await, "it has changed something");
    let (third, note) = held(ledger, keyed("k", 1)).await;
    assert!(note.is_some());
    assert!(ledger.keep_answer(&third, answer()).await.unwrap());
    assert!(before(1).await && !before(2).await, "it was answered");
    fixture.execute("UPDATE request_keys SET first_sent = 0").await;
    assert!(!before(1).await, "it is forgotten");
}

pub async fn keys_are_bounded_and_swept_in_pieces(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let ledger = &*on.ledger;
    for number in 0..=SWEPT_MAX {
        let key = RequestKey::of_random(u128::from(number));
        held(ledger, Keyed { key, ..keyed("k", 1) }).await;
    }
    fixture.execute("UPDATE request_keys SET first_sent = 0, held_until = 0").await;
    assert_eq!(ledger.forget_keys().await.unwrap(), u64::from(SWEPT_MAX));
    assert_eq!(fixture.count("SELECT CAST(sum(keys) AS BIGINT) FROM request_actors").await, 1);
    assert_eq!(ledger.forget_keys().await.unwrap(), 1);
    assert_eq!(ledger.forget_keys().await.unwrap(), 0);
    held(ledger, keyed("k", 1)).await;
    assert_eq!(KEYS_MAX, 50_000);
    fixture.execute("UPDATE request_actors SET keys = 49999").await;
    held(ledger, keyed("last", 1)).await;
    assert_eq!(ledger.hold_key(keyed("one-more", 1)).await.unwrap(), Held::TooMany);
    assert_eq!(fixture.count("SELECT count(*) FROM request_keys").await, 2, "nothing of it is left");
    assert_eq!(ledger.hold_key(keyed("k", 1)).await.unwrap(), Held::Busy, "those that are kept are kept");
    held(ledger, Keyed { actor: actor("else"), ..keyed("k", 1) }).await;
}

pub async fn of_many_at_one_instant_one_changes(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    for round in 1..=10 {
        let ask = |_| {
            let (ledger, keyed) = (on.ledger.clone(), keyed(&format!("k{round}"), 1));
            tokio::spawn(async move {
                match ledger.hold_key(keyed).await.unwrap() {
                    Held::By(attempt, None) => {
                        pause(&*ledger.under(attempt.clone())).await.unwrap();
                        assert!(ledger.keep_answer(&attempt, answer()).await.unwrap());
                        true
                    }
                    Held::Busy => false,
                    Held::Answered(found) => {
                        assert_eq!(found, answer());
                        false
                    }
                    other => panic!("{other:?}"),
                }
            })
        };
        let asked: Vec<_> = (0..6).map(ask).collect();
        let mut worked = 0;
        for one in asked {
            worked += usize::from(one.await.unwrap());
        }
        assert_eq!(worked, 1);
        assert_eq!(pauses(&*on.ledger).await, round);
    }
}

/// Whoever was taken for dead and is not, and whoever goes on for it, at the same instant.
pub async fn an_attempt_that_was_overtaken_changes_nothing(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let ledger = &*on.ledger;
    for round in 1..=10 {
        let keyed = keyed(&format!("k{round}"), 1);
        let (first, _) = held(ledger, keyed.clone()).await;
        fixture.execute(DEAD).await;
        let (second, note) = held(ledger, keyed.clone()).await;
        assert_eq!(note, None);
        let (slow, next) = (ledger.under(first.clone()), ledger.under(second.clone()));
        let (slow, next) = tokio::join!(pause(&*slow), pause(&*next));
        assert!(matches!(slow, Err(LedgerError::Overtaken)), "{slow:?}");
        next.unwrap();
        assert_eq!(pauses(ledger).await, round);
        // Nor does it twice what it may do once.
        assert!(matches!(pause(&*ledger.under(second)).await, Err(LedgerError::Overtaken)));
        assert_eq!(pauses(ledger).await, round);
    }
    // What changes nothing is not hindered, nor is anybody else.
    let (first, _) = held(ledger, keyed("k", 1)).await;
    let under = ledger.under(first);
    assert_eq!(pauses(&*under).await, 10);
    pause(ledger).await.unwrap();
    assert_eq!(ledger.verify_chains(None, 10).await.unwrap().broken, []);
}

/// What is done before the answer is lost, and asked for again.
struct Lost<'a> {
    fixture: &'a dyn Fixture,
    on: Stagehand,
    keys: BTreeSet<String>,
}

impl Lost<'_> {
    /// Do it under a key of its own, and die; the next attempt finds what was noted, and changes nothing.
    async fn twice(
        &mut self,
        key: &str,
        change: impl AsyncFn(&dyn Ledger) -> Result<bool, LedgerError>,
    ) -> Note {
        assert!(self.keys.insert(key.to_owned()));
        let ledger = self.on.ledger.clone();
        let (first, note) = held(&*ledger, keyed(key, 1)).await;
        assert_eq!(note, None, "{key}");
        assert!(change(&*ledger.under(first)).await.unwrap(), "{key}");
        let events = self.fixture.count(EVENTS).await;
        self.fixture.execute(DEAD).await;
        let (second, note) = held(&*ledger, keyed(key, 1)).await;
        let again = change(&*ledger.under(second)).await;
        assert!(matches!(again, Ok(false) | Err(LedgerError::Overtaken)), "{key}: {again:?}");
        assert_eq!(self.fixture.count(EVENTS).await, events, "{key}");
        note.unwrap_or_else(|| panic!("{key}: nothing is noted"))
    }
}

fn policy() -> Options {
    let written: Written = toml::from_str("a_day = 1").unwrap();
    let sentinel =
        Sentinel { scope: "tenants/acme".parse().unwrap(), resource: "vm/sentinel".parse().unwrap() };
    let policy = Policy {
        budgets: Some(written.budgets().unwrap()),
        census: Rules { sentinels: vec![sentinel], ..Rules::default() },
        ..Policy::default()
    };
    Options { policy, ..options() }
}

fn ops() -> Actor {
    actor("ops")
}

fn web01() -> ResourceId {
    "vm/web01".parse().unwrap()
}

pub async fn each_change_is_noted_with_itself(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy()).await;
    on.register("sentinel").await;
    let mut lost = Lost { fixture, on, keys: BTreeSet::new() };
    inventory(&mut lost).await;
    records(&mut lost).await;
    in_force(&mut lost).await;
    by_people(&mut lost).await;
    assert_eq!(lost.on.ledger.verify_chains(None, 20).await.unwrap().broken, []);
}

async fn inventory(lost: &mut Lost<'_>) {
    let new = || vec![resource("web01", "u1"), resource("sentinel", "another one")];
    let note = lost
        .twice("register", async |l| Ok(l.register(new(), &ops(), false).await?.iter().any(Result::is_ok)))
        .await;
    let Note::Registered(results) = note else { panic!("{note:?}") };
    assert!(results[0].is_none() && results[1].as_ref().is_some_and(|why| why.contains("another identity")));
    let note = lost.twice("priority", async |l| Ok(l.prioritize(&web01(), 7, &ops()).await?.is_ok())).await;
    assert_eq!(note, Note::Prioritized);
    let hold = || NewHold { resource: web01(), origin: ops(), reason: "a test".into(), by: ops() };
    let note = lost.twice("hold", async |l| Ok(l.hold_resource(hold()).await?.is_ok())).await;
    assert_eq!(note, Note::Held(lost.on.ledger.resource(&web01()).await.unwrap().unwrap().holds[0].clone()));
    let release = async |l: &dyn Ledger| {
        let released = l.release_resource(&web01(), Which::Origin(ops()), &ops()).await?;
        Ok(released.is_ok_and(|holds| !holds.is_empty()))
    };
    let note = lost.twice("release", release).await;
    assert!(matches!(note, Note::Released(holds) if holds.len() == 1));
}

async fn records(lost: &mut Lost<'_>) {
    let wanted = lost.on.wanted(&web01()).await;
    let create = async |l: &dyn Ledger| Ok(l.create(vec![wanted.clone()]).await?.remove(0).is_ok());
    let note = lost.twice("create", create).await;
    let id = lost.on.ledger.deletion_of(&web01()).await.unwrap().unwrap();
    assert_eq!(note, Note::Created(id));
    let place = || Intent { deletion: id, event: Event::PlaceHold { by: ops(), reason: "a test".into() } };
    let note = lost.twice("decide", async |l| Ok(l.run(vec![place()]).await?.remove(0).is_ok())).await;
    assert_eq!(note, Note::Decided(RecordStatus::Live));
    assert_eq!(lost.on.ledger.deletion(id).await.unwrap().unwrap().deletion.holds.len(), 1);
    let shot = NewOneShot {
        deletion: id,
        stage: Stage::Announce,
        belt: Passable::Ceiling,
        by: actor("boss"),
        reason: "a test".into(),
        break_glass: false,
    };
    // It takes something that stops it.
    lost.on.ceiling(None, Some(Ceiling::Observe)).await.unwrap();
    let give = async |l: &dyn Ledger| Ok(l.give_one_shot(shot.clone()).await?.is_ok());
    let Note::Overridden(given) = lost.twice("override", give).await else { panic!("no override") };
    let back = lost.twice("take-back", async |l| l.take_back_one_shot(given.id, &ops()).await).await;
    assert_eq!(back, Note::TakenBack);
    for ceiling in Ceiling::ALL.into_iter().skip(1) {
        lost.on.ceiling(None, Some(ceiling)).await.unwrap();
    }
    let ids = [lost.on.doomed("web02").await, lost.on.doomed("web03").await];
    let batch = lost.on.ledger.admit(ids.map(|id| job_id(id, Stage::Announce)).to_vec()).await.unwrap();
    let batch = batch.frozen[0].batch;
    let digest = lost.on.ledger.batch(batch).await.unwrap().unwrap().digest();
    let approval = || Approval { batch, digest: digest.clone(), by: actor("boss"), reason: "a test".into() };
    let note = lost.twice("approve", async |l| Ok(l.approve(approval()).await?.is_ok())).await;
    assert!(matches!(note, Note::Approved(members) if members >= 2), "{note:?}");
}

async fn in_force(lost: &mut Lost<'_>) {
    let paused = lost.twice("pause", async |l| pause(l).await.map(|()| true)).await;
    let Note::Paused(pause, 0) = paused else { panic!("{paused:?}") };
    assert_eq!(lost.on.ledger.pauses().await.unwrap(), std::slice::from_ref(&pause));
    let note = lost.twice("resume", async |l| Ok(l.resume(pause.id, &ops(), None).await?.unwrap())).await;
    assert_eq!(note, Note::Resumed);
    let ceiling = || NewCeiling {
        scope: Some("tenants/acme".parse().unwrap()),
        to: Some(Ceiling::Observe),
        by: ops(),
        reason: "a test".into(),
    };
    let note = lost.twice("ceiling", async |l| Ok(l.set_ceiling(ceiling(), None).await?.is_ok())).await;
    assert_eq!(note, Note::CeilingSet);
    let names = ["sentinel", "web01", "web02", "web03"];
    let census = Census {
        kind: "vm".parse().unwrap(),
        scope: "tenants".parse().unwrap(),
        credential: "census-ro".into(),
        new_credential: false,
        fewer: true,
        more: true,
        taken_at: lost.on.now().await,
        total: names.len() as u64,
        listed: names
            .map(|name| Listed {
                id: format!("vm/{name}").parse().unwrap(),
                scope: "tenants/acme".parse().unwrap(),
                identity: None,
            })
            .to_vec(),
        unregistered: Vec::new(),
        itself: false,
    };
    // A census that is refused is written down, too: so this one is not asked for again.
    let ledger = lost.on.ledger.clone();
    let (attempt, _) = held(&*ledger, keyed("census", 1)).await;
    let counted = ledger.under(attempt).take_census(census, &ops()).await.unwrap().unwrap();
    lost.fixture.execute(DEAD).await;
    assert_eq!(held(&*ledger, keyed("census", 1)).await.1, Some(Note::CensusTaken(counted)));
}

async fn by_people(lost: &mut Lost<'_>) {
    let new = || NewToken {
        name: actor("ci"),
        role: Role::Operator,
        extent: Extent::Everywhere,
        good_for_s: DAY_S,
        by: actor("root"),
    };
    let secret = || token_hash("a secret");
    let note = lost.twice("issue", async |l| Ok(l.issue_token(new(), secret()).await?.is_ok())).await;
    assert_eq!(note, Note::TokenIssued(actor("ci")));
    let revoke = async |l: &dyn Ledger| {
        Ok(matches!(l.revoke_token(&actor("ci"), &actor("root")).await?, Revocation::Done(_)))
    };
    let note = lost.twice("revoke", revoke).await;
    assert!(matches!(note, Note::TokenRevoked(token) if token.revoked.is_some()));
    let mut known = lost.on.ledger.known();
    known.mark.revision += 1000;
    let review = lost.on.ledger.confront(&known).await.unwrap().unwrap();
    let note =
        lost.twice("accept", async |l| l.accept_review(review.epoch, &actor("boss"), "a test").await).await;
    assert_eq!(note, Note::Accepted);
}

/// What was refused is not noted, and may be asked for again.
pub async fn a_refusal_notes_nothing(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let ledger = &*on.ledger;
    let (attempt, _) = held(ledger, keyed("k", 1)).await;
    let under = ledger.under(attempt);
    assert!(under.prioritize(&web01(), 7, &ops()).await.unwrap().is_err(), "nobody knows it");
    let whole = vec![resource("web01", "u1"), resource("web01", "u2")];
    assert!(under.register(whole, &ops(), true).await.unwrap().iter().all(Result::is_err));
    let checked =
        under.check_resources(&Registrar::Trusted, vec![resource("web01", "u1")], &ops()).await.unwrap();
    assert_eq!(checked, [Ok(())], "a check is no change");
    assert!(!under.resume(99, &ops(), None).await.unwrap().unwrap());
    fixture.execute(DEAD).await;
    let (attempt, note) = held(ledger, keyed("k", 1)).await;
    assert_eq!(note, None);
    pause(&*ledger.under(attempt)).await.unwrap();
    assert_eq!(pauses(ledger).await, 1);
}
