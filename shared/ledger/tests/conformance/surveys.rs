//! Surveys: asked of what has no record, heard once by whoever hears it, bounded, and of no weight for anything else.
use serde_json::json;
use sexton_ledger::{Begun, NewRun, NotDone};
use sexton_model::canary::{Came, Probe};
use sexton_model::decide::Event;
use sexton_model::deletion::{Deletion, Record};
use sexton_model::job::Stage;
use sexton_model::plan::Plan;
use sexton_model::step::{Outcome, Presence};
use sexton_model::survey::{
    About, Answer, CannotSurvey, KEPT_MAX, KEPT_US, MINUTELY_MAX, NewSurvey, OPEN_MAX, Survey, looks,
};
use sexton_model::{DeletionId, Fence, ResourceId};

use super::Fixture;
use super::stage::{DAY, Stagehand, actor, instance};

/// Longer than any of this takes.
const LONG_MS: u64 = 3_600_000;

impl Stagehand {
    /// What asks for a survey of a resource that is registered.
    pub async fn asked(&self, id: &ResourceId, within_ms: u64) -> NewSurvey {
        let resource = self.ledger.resource(id).await.unwrap().unwrap().resource;
        let wanted = self.wanted(id).await;
        let record = Record {
            resource: resource.clone(),
            due: wanted.due,
            gone_by: None,
            requested_by: actor("ann"),
            reason: "a look".into(),
            created_at: self.now().await,
        };
        let d = Deletion::draw_up(DeletionId(0), record, self.plan.clone(), DAY).unwrap();
        let about = About { resource, due: wanted.due, plan: Plan::clone(&self.plan) };
        NewSurvey { by: actor("ann"), about, within_ms, looks: looks(&d, &[]).unwrap() }
    }

    async fn survey(&self, name: &str, within_ms: u64) -> Survey {
        let id = self.register(name).await;
        let new = self.asked(&id, within_ms).await;
        begun(self.ledger.begin_survey(new).await.unwrap())
    }

    async fn heard(&self, survey: &Survey, came: &Came) -> Option<Survey> {
        let look = &survey.looks[0];
        self.ledger.hear_survey(&look.instance, look.fence, came).await.unwrap()
    }
}

#[track_caller]
fn begun(answer: Result<Begun, NotDone>) -> Survey {
    match answer {
        Ok(Begun::Now(survey)) => *survey,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(answer: Result<Begun, NotDone>) -> CannotSurvey {
    match answer {
        Err(NotDone::Survey(why)) => why,
        other => panic!("{other:?}"),
    }
}

pub fn saw() -> Came {
    let finding = Some(json!({ "volumes": [{ "path": "/a" }] }));
    Came::Answered(Outcome::Done { presence: Presence::Present, evidence: "seen".into(), finding })
}

/// Rows of tables that a survey must not touch, one number for all of them.
const ELSEWHERE: &str = "SELECT (SELECT count(*) FROM audit) + (SELECT count(*) FROM ledger_audit) * 1000 \
     + (SELECT count(*) FROM deletions) * 1000000 + (SELECT count(*) FROM jobs) * 100000000 \
     + (SELECT count(*) FROM targets) * 10000000000";

pub async fn a_survey_is_begun_once_and_each_answer_counts_once(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.register("web01").await;
    let before = fixture.count(ELSEWHERE).await;
    let new = on.asked(&id, LONG_MS).await;
    let survey = begun(on.ledger.begin_survey(new.clone()).await.unwrap());
    assert_eq!((survey.looks.len(), survey.looks[0].fence.number), (1, survey.id));
    let orders = on.ledger.survey_orders().await.unwrap();
    assert_eq!(orders, vec![survey.id..survey.id + 1; 1]);
    assert_eq!(on.ledger.survey(survey.id).await.unwrap(), Some(survey.clone()));
    // Whoever asks for the same is told of it; who asks for something else about it waits.
    let again = on.ledger.begin_survey(NewSurvey { by: actor("bob"), ..new.clone() }).await.unwrap();
    assert_eq!(again, Ok(Begun::Before(Box::new(survey.clone()))));
    let mut other = new.clone();
    other.about.plan.version += 1;
    assert_eq!(refused(on.ledger.begin_survey(other).await.unwrap()), CannotSurvey::Busy(id.clone()));

    let look = &survey.looks[0];
    let next = Fence { number: look.fence.number + 1, ..look.fence };
    let stale = Fence { epoch: look.fence.epoch + 1, ..look.fence };
    for (from, fence) in [("dns.main", look.fence), ("hypervisor.main", next), ("hypervisor.main", stale)] {
        assert_eq!(
            on.ledger.hear_survey(&instance(from), fence, &saw()).await.unwrap(),
            None,
            "{from} {fence}"
        );
    }
    assert_eq!(on.ledger.survey(survey.id).await.unwrap(), Some(survey.clone()), "nothing was changed");
    let locked = on.heard(&survey, &Came::Answered(Outcome::spared("locked"))).await.unwrap();
    assert_eq!(locked.looks[0].answer, Some(Answer::NotNow { reason: "locked".into() }));
    let seen = on.heard(&survey, &saw()).await.unwrap();
    assert!(matches!(seen.looks[0].answer, Some(Answer::Seen { .. })), "{seen:?}");
    for late in [saw(), Came::Answered(Outcome::refused("after all"))] {
        assert_eq!(on.heard(&survey, &late).await, None);
    }
    assert_eq!(on.ledger.survey(survey.id).await.unwrap(), Some(seen.clone()));
    assert_eq!(on.ledger.survey_orders().await.unwrap(), []);
    assert_eq!(fixture.count(ELSEWHERE).await, before, "nothing else was written");

    // It is over, so there may be a new one, whose orders have higher numbers.
    let second = begun(on.ledger.begin_survey(new).await.unwrap());
    assert!(second.looks[0].fence > look.fence, "{second:?}");
    assert_eq!(on.ledger.survey(survey.id).await.unwrap(), Some(seen));
}

pub async fn what_has_a_record_is_not_surveyed_and_a_record_goes_before_a_survey(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let survey = on.survey("web01", LONG_MS).await;
    let id = survey.about.resource.id.clone();
    let new = on.asked(&id, LONG_MS).await;
    // A record made meanwhile orders under higher numbers, and what the survey hears changes nothing of it.
    let wanted = on.wanted(&id).await;
    let deletion = on.ledger.create(vec![wanted]).await.unwrap().remove(0).unwrap();
    let order = on.claim(deletion, Stage::Announce).await.unwrap().dispatch.unwrap();
    assert!(order.spec.fence > survey.looks[0].fence, "{:?}", order.spec);
    let view = on.view(deletion).await;
    assert!(on.heard(&survey, &saw()).await.is_some());
    let after = on.view(deletion).await;
    assert_eq!((after.deletion, after.targets), (view.deletion, view.targets));

    let live = NotDone::AlreadyLive { resource: id.clone(), deletion };
    assert_eq!(on.ledger.begin_survey(new.clone()).await.unwrap(), Err(live.clone()));
    // As long as it is live for anybody: also while it is taken back.
    on.one(deletion, Event::Cancel { by: actor("ops"), reason: "back".into() }).await.unwrap();
    let standing = on.view(deletion).await.deletion.status;
    let answer = on.ledger.begin_survey(new.clone()).await.unwrap();
    assert_eq!(answer.is_err(), standing.live(), "{standing:?}: {answer:?}");
    assert!(standing.live(), "an order is out");

    // What is over has left nothing that could be looked at.
    let other = on.doomed("web02").await;
    let over = on.asked(&"vm/web02".parse().unwrap(), LONG_MS).await;
    assert!(on.play_to(other, |_, _| false).await.is_none());
    assert!(!on.view(other).await.deletion.status.live());
    let recycled = NotDone::NotRegistered(over.about.resource.id.clone());
    assert_eq!(on.ledger.begin_survey(over).await.unwrap(), Err(recycled));

    let mut gone = new;
    gone.about.resource.id = "vm/nobody".parse().unwrap();
    let not_there = NotDone::NotRegistered(gone.about.resource.id.clone());
    assert_eq!(on.ledger.begin_survey(gone).await.unwrap(), Err(not_there));
}

pub async fn a_survey_that_nobody_answers_is_sent_again_and_ends(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let survey = on.survey("web01", 200).await;
    let long = on.survey("web02", LONG_MS).await;
    assert_eq!(on.ledger.surveys_to_send().await.unwrap(), [], "they were sent just now");
    on.until(survey.answer_by).await;
    assert_eq!(on.heard(&survey, &saw()).await, None, "it is too late");
    // Its time is over, so there may be a new one; and the other one is sent again, by one of those who ask.
    let again = on.asked(&survey.about.resource.id, LONG_MS).await;
    begun(on.ledger.begin_survey(again).await.unwrap());
    fixture.execute("UPDATE surveys SET sent_at = 0").await;
    let sent: Vec<_> = on.ledger.surveys_to_send().await.unwrap().into_iter().map(|one| one.id).collect();
    assert!(sent.contains(&long.id) && !sent.contains(&survey.id) && sent.len() == 2, "{sent:?}");
    assert_eq!(on.ledger.surveys_to_send().await.unwrap(), []);
    on.heard(&long, &saw()).await.unwrap();
    fixture.execute("UPDATE surveys SET sent_at = 0").await;
    let sent: Vec<_> = on.ledger.surveys_to_send().await.unwrap().into_iter().map(|one| one.id).collect();
    assert!(!sent.contains(&long.id) && sent.len() == 1, "what was answered is not asked again: {sent:?}");
}

pub async fn surveys_are_bounded_and_forgotten(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    const { assert!(OPEN_MAX >= MINUTELY_MAX) }
    let first = on.survey("vm0", LONG_MS).await;
    for n in 1..MINUTELY_MAX {
        on.survey(&format!("vm{n}"), LONG_MS).await;
    }
    let more = on.register("more").await;
    let new = on.asked(&more, LONG_MS).await;
    assert_eq!(refused(on.ledger.begin_survey(new.clone()).await.unwrap()), CannotSurvey::TooOften);
    // A minute later there may be more, until too many are open.
    fixture.execute("UPDATE surveys SET begun_at = begun_at - 61000000").await;
    for n in MINUTELY_MAX..OPEN_MAX {
        on.survey(&format!("vm{n}"), LONG_MS).await;
    }
    let too_many = CannotSurvey::TooMany { open: OPEN_MAX, most: OPEN_MAX };
    assert_eq!(refused(on.ledger.begin_survey(new.clone()).await.unwrap()), too_many);
    on.heard(&first, &saw()).await.unwrap();
    let last = begun(on.ledger.begin_survey(new).await.unwrap());

    // An hour later they are as good as gone, and then they are.
    assert_eq!(on.ledger.forget_surveys().await.unwrap(), 0);
    fixture.execute("UPDATE surveys SET begun_at = begun_at - 3601000000 WHERE resource <> 'vm/more'").await;
    assert_eq!(KEPT_US, 3_600_000_000);
    assert_eq!(on.ledger.survey(first.id).await.unwrap(), None);
    assert_eq!(on.ledger.forget_surveys().await.unwrap(), OPEN_MAX as u64);
    assert!(on.ledger.survey(last.id).await.unwrap().is_some());
    assert_eq!(fixture.count("SELECT count(*) FROM surveys").await, 1);

    // More than so many are not kept at all: those that are over go first.
    on.heard(&last, &saw()).await.unwrap();
    let mut latest = last.id;
    for n in 0..=KEPT_MAX {
        if n % 50 == 0 {
            fixture.execute("UPDATE surveys SET begun_at = begun_at - 61000000").await;
        }
        let survey = on.survey(&format!("over{n}"), LONG_MS).await;
        on.heard(&survey, &saw()).await.unwrap();
        latest = survey.id;
    }
    assert_eq!(fixture.count("SELECT count(*) FROM surveys").await, KEPT_MAX + 1, "and the last one");
    assert!(on.ledger.survey(latest).await.unwrap().is_some());
    assert_eq!(on.ledger.survey(last.id).await.unwrap(), None);
}

pub async fn nothing_is_surveyed_under_review(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let survey = on.survey("web01", LONG_MS).await;
    on.heard(&survey, &saw()).await.unwrap();
    let mut known = on.ledger.known();
    known.mark.revision += 1;
    assert!(on.ledger.confront(&known).await.unwrap().is_some(), "a pause was lost");
    let new = on.asked(&survey.about.resource.id, LONG_MS).await;
    assert_eq!(refused(on.ledger.begin_survey(new.clone()).await.unwrap()), CannotSurvey::Review);
    assert!(on.ledger.accept_review(2, &actor("ops"), "a test").await.unwrap());
    let after = begun(on.ledger.begin_survey(new).await.unwrap());
    assert_eq!(after.looks[0].fence.epoch, 2);
}

pub async fn what_canaries_look_at_is_not_surveyed_and_neither_hears_the_others_answers(
    fixture: &dyn Fixture,
) {
    let on = Stagehand::new(fixture).await;
    let survey = on.survey("web01", LONG_MS).await;
    let (id, look) = (survey.about.resource.id.clone(), survey.looks[0].clone());
    // Canaries that are begun meanwhile have higher numbers.
    let right = Probe::RightIdentity { instance: look.instance.clone(), resource: id.clone() };
    let run = NewRun { asked_by: Some(actor("ops")), within_ms: LONG_MS, probes: vec![(right, None)] };
    let canaries = on.ledger.begin_canaries(run).await.unwrap().unwrap();
    let canary = &canaries[0];
    assert!(look.fence < canary.fence, "{look:?} {canary:?}");
    assert_eq!(on.ledger.canary_of(look.fence).await.unwrap(), None);
    assert_eq!(on.ledger.hear_survey(&look.instance, canary.fence, &saw()).await.unwrap(), None);
    assert_eq!(on.ledger.survey(survey.id).await.unwrap(), Some(survey.clone()));
    assert!(on.heard(&survey, &saw()).await.is_some());
    assert_eq!(on.ledger.canaries().await.unwrap(), canaries, "it is as open as before");

    // Nothing more is asked of it before they are over.
    let new = on.asked(&id, LONG_MS).await;
    assert_eq!(refused(on.ledger.begin_survey(new.clone()).await.unwrap()), CannotSurvey::Busy(id));
    on.survey("web02", LONG_MS).await;
    on.ledger.hear_canary(canary.id, &saw()).await.unwrap().unwrap();
    let after = begun(on.ledger.begin_survey(new).await.unwrap());
    assert!(canary.fence < after.looks[0].fence, "{after:?}");
}
