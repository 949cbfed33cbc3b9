//! Authentic messages: what an intruder on the broker, or one consumer in another's name, cannot do.
use sexton_bus::Queue;
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{JobKind, JobState, Stage};
use sexton_model::step::{Mode, Outcome, Presence};
use sexton_model::{DeletionId, Fence, Instance, JobId};
use sexton_protocol::{
    Direction, Event, Holder, Keyring, Message, Order, OutcomeReport, Pack, Packed, Pulse, Report, Seal,
    StageDue,
};
use sexton_testkit::order::{Asked, order};

use super::gate::Point;
use super::system::{System, backup, monitoring, on_many_machines, web01};

on_many_machines! {
    an_order_that_no_coordinator_gave_is_not_carried_out,
    an_answer_that_was_not_given_by_who_was_asked_counts_for_nothing,
    a_success_with_nothing_seen_to_be_gone_does_not_count,
    an_answer_to_an_order_that_stands_in_no_trail_opens_a_review,
    nobody_else_keeps_an_instance_alive,
    only_the_scheduler_says_what_is_due,
    an_order_older_than_the_last_is_dropped,
}

/// One way to pretend: what it is, the broker user, the proof, and what the rejection says.
struct Forgery {
    name: &'static str,
    user: String,
    seal: Seal,
    says: &'static str,
}

/// Ways to pretend that `body` comes from who holds `holder`'s key, in `direction`.
fn forgeries(
    system: &System,
    holder: &Holder,
    user: &str,
    direction: Direction,
    body: &[u8],
) -> Vec<Forgery> {
    let own = system.keyring.sign(holder, direction, body).unwrap();
    let strangers = Keyring::generate([holder.clone()], &mut rand::rng());
    let stranger = strangers.sign(holder, direction, body).unwrap();
    let other = if direction == Direction::Order { Direction::Outcome } else { Direction::Order };
    let with = |name, seal, says| Forgery { name, user: user.to_owned(), seal, says };
    vec![
        with("no proof", Seal { mac: String::new(), ..own.clone() }, "proof"),
        with("an unknown key", Seal { key_id: "nobodys".into(), ..stranger.clone() }, "key"),
        with("another key by this name", Seal { key_id: own.key_id, ..stranger }, "proof"),
        with("another direction", system.keyring.sign(holder, other, body).unwrap(), "proof"),
    ]
}

fn packed<T: Message + Clone>(system_now: sexton_model::Timestamp, data: T) -> Packed {
    Pack::one(Event::new("/forger", system_now, data)).encode().unwrap()
}

impl System {
    async fn now(&self) -> sexton_model::Timestamp {
        self.ledger.facts().await.unwrap().now
    }

    /// An order that would be carried out if it were authentic: to remove the target of `vm/web01`.
    pub async fn good_order(&self, deletion: DeletionId) -> Order {
        let actions = sexton_monitoring::actions().actions;
        let name = "remove_target".parse().unwrap();
        let instance = monitoring();
        let asked = Asked { instance: &instance, name: &name, action: &actions[&name], mode: Mode::Perform };
        let about = sexton_testkit::consumer::Template {
            resource: web01(),
            identity: sexton_testkit::bench::identity(super::system::U1),
            attributes: serde_json::Value::Null,
            targets: self.view(deletion).await.targets.get(&instance).cloned(),
            params: Default::default(),
        };
        let beacon = self.ledger.beacon().await.unwrap();
        let order = order(&asked, about, 1_000_000, beacon.read_at);
        let fence = Fence { epoch: beacon.epoch, ..order.fence };
        Order {
            fence,
            revision: beacon.revision,
            deletion,
            job: JobId::of(deletion, order.kind.slot()),
            ..order
        }
    }

    /// Seal an order as a coordinator would, and put it into the queue.
    pub async fn give(&self, order: Order) {
        let packed = packed(self.now().await, order);
        let seal =
            self.keyring.sign(&Holder::Instance(monitoring()), Direction::Order, &packed.body).unwrap();
        self.send("coordinator", Queue::Orders(monitoring()), packed, seal).await;
    }
}

/// A record whose soft stage has an order out, which has stopped at the gate.
async fn with_an_order_out(system: &System) -> (DeletionId, JobId, Fence) {
    system.monitoring.close("silence", Point::Look);
    let id = system.delete().await;
    system.monitoring.reached().await;
    let job = system.job(id, JobKind::Stage(Stage::Soft)).await;
    (id, job.id, job.state.out().unwrap().fence)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_no_coordinator_gave_is_not_carried_out() {
    let system = System::start().await;
    let (id, ..) = with_an_order_out(&system).await;
    let before = system.world();
    let good = system.good_order(id).await;
    let packed = packed(system.now().await, good.clone());
    let holder = Holder::Instance(monitoring());
    let mut all = forgeries(&system, &holder, "backup.main", Direction::Order, &packed.body);
    let own = system.keyring.sign(&Holder::Instance(backup()), Direction::Order, &packed.body).unwrap();
    all.push(Forgery { name: "one's own key", user: "backup.main".into(), seal: own, says: "key" });
    for Forgery { name, user, seal, says } in all {
        println!("{name}");
        system.send(&user, Queue::Orders(monitoring()), packed.clone(), seal).await;
        system.until_rejected(says).await;
    }
    assert!(system.monitoring.changes().is_empty());
    assert_eq!(system.world(), before);
    // The very same order is carried out if it is authentic.
    system.give(good).await;
    super::system::until("it is carried out", async || system.world() != before).await;
    assert_eq!(system.monitoring.changes(), ["perform remove_target"]);
    system.monitoring.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_not_given_by_who_was_asked_counts_for_nothing() {
    let system = System::start().await;
    let (id, job, fence) = with_an_order_out(&system).await;
    let outcome = Outcome::Done {
        presence: Presence::Present,
        evidence: "so they say".into(),
        finding: Some(serde_json::json!({})),
    };
    let report = OutcomeReport { job, fence, instance: monitoring(), outcome };
    let packed = packed(system.now().await, Report::Outcome(report.clone()));
    let holder = Holder::Instance(monitoring());
    let mut all = forgeries(&system, &holder, "monitoring.main", Direction::Outcome, &packed.body);
    let right = system.keyring.sign(&holder, Direction::Outcome, &packed.body).unwrap();
    all.push(Forgery { name: "another user", user: "backup.main".into(), seal: right, says: "broker user" });
    let own = system.keyring.sign(&Holder::Instance(backup()), Direction::Outcome, &packed.body).unwrap();
    all.push(Forgery {
        name: "in another's name",
        user: "backup.main".into(),
        seal: own,
        says: "speaks for",
    });
    for Forgery { name, user, seal, says } in all {
        println!("{name}");
        system.send(&user, Queue::Outcomes, packed.clone(), seal).await;
        system.until_rejected(says).await;
    }
    let job = system.job(id, JobKind::Stage(Stage::Soft)).await;
    assert_eq!(job.state.out().map(|out| out.fence), Some(fence), "{job:?}");
    assert!(!system.view(id).await.audit.iter().any(|row| row.event.detail.contains("so they say")));

    // One who may speak, but was not asked; and an answer to an order that is no longer out.
    let unasked = OutcomeReport { instance: backup(), ..report.clone() };
    let stale = OutcomeReport { fence: Fence { number: fence.number - 1, ..fence }, ..report };
    for (report, from) in [(unasked, backup()), (stale, monitoring())] {
        system.answer(report, &from).await;
    }
    system.two_beacons().await;
    let job = system.job(id, JobKind::Stage(Stage::Soft)).await;
    assert!(matches!(job.state, JobState::Running(out) if out.fence == fence), "{job:?}");
    system.monitoring.open();
}

/// No consumer of ours says so; whoever holds the key of one may.
#[tokio::test(flavor = "multi_thread")]
async fn a_success_with_nothing_seen_to_be_gone_does_not_count() {
    let system = System::start().await;
    system.monitoring.close("remove_target", Point::Look);
    let id = system.delete().await;
    system.monitoring.reached().await;
    let hard = JobKind::Stage(Stage::Hard);
    let out = system.job(id, hard).await;
    assert_eq!((out.cursor, out.attempts), (2, 0), "{out:?}");
    let fence = out.state.out().unwrap().fence;
    let evidence = "so they say".to_owned();
    let outcome = Outcome::Done { presence: Presence::Unknown, evidence, finding: None };
    let report = OutcomeReport { job: out.id, fence, instance: monitoring(), outcome };
    system.answer(report, &monitoring()).await;
    system.until_answered(id, "so they say").await;
    let job = system.job(id, hard).await;
    assert_eq!((job.cursor, job.attempts), (2, 1), "{job:?}");
    // Seen to be gone it counts.
    system.monitoring.open();
    system.until_over(id, RecordStatus::Recycled).await;
}

/// An answer that comes late is about an order in the trail. One to an order that stands in none comes from a later
/// state of the job table than this one, whatever its number.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_an_order_that_stands_in_no_trail_opens_a_review() {
    let system = System::start().await;
    let (id, job, fence) = with_an_order_out(&system).await;
    let trail = system.view(id).await.audit;
    let given: Vec<Fence> = trail.into_iter().filter_map(|row| row.event.ordered).collect();
    let report = |fence| {
        let outcome = Outcome::failed("late");
        OutcomeReport { job, fence, instance: monitoring(), outcome }
    };
    let late = *given.iter().find(|given| **given != fence).unwrap();
    system.answer(report(late), &monitoring()).await;
    system.two_beacons().await;
    assert_eq!(system.ledger.review().await.unwrap(), None, "it was given");

    let numbers = (1..fence.number).map(|number| Fence { number, ..fence });
    let lost = numbers.into_iter().find(|number| !given.contains(number)).unwrap();
    system.answer(report(lost), &monitoring()).await;
    super::system::until("a review", async || system.ledger.review().await.unwrap().is_some()).await;
    let review = system.ledger.review().await.unwrap().unwrap();
    assert_eq!(review.epoch, 2);
    assert!(review.behind.to_string().ends_with(&format!("{id} order {lost}")), "{}", review.behind);
    system.monitoring.open();
}

impl System {
    /// Answer as `from` rightly may.
    async fn answer(&self, report: OutcomeReport, from: &Instance) {
        let packed = packed(self.now().await, Report::Outcome(report));
        let seal =
            self.keyring.sign(&Holder::Instance(from.clone()), Direction::Outcome, &packed.body).unwrap();
        self.send(&from.to_string(), Queue::Outcomes, packed, seal).await;
        super::system::until("it is taken", async || self.bus.depth(&Queue::Outcomes).await.unwrap() == 0)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_keeps_an_instance_alive() {
    let mut system = System::not_started().await;
    system.start_coordinator();
    let now = system.now().await;
    let pulse = Pulse {
        instance: monitoring(),
        consumer: "forged".into(),
        version: "1".into(),
        concurrency: 1,
        answered: 0,
        at: now,
    };
    let packed = packed(now, pulse);
    let holder = Holder::Instance(monitoring());
    let mut all = forgeries(&system, &holder, "monitoring.main", Direction::Pulse, &packed.body);
    let right = system.keyring.sign(&holder, Direction::Pulse, &packed.body).unwrap();
    all.push(Forgery {
        name: "another user",
        user: "backup.main".into(),
        seal: right.clone(),
        says: "broker user",
    });
    let own = system.keyring.sign(&Holder::Instance(backup()), Direction::Pulse, &packed.body).unwrap();
    all.push(Forgery {
        name: "in another's name",
        user: "backup.main".into(),
        seal: own,
        says: "speaks for",
    });
    for Forgery { name, user, seal, says } in all {
        println!("{name}");
        system.send(&user, Queue::Pulses, packed.clone(), seal).await;
        system.until_rejected(says).await;
    }
    assert_eq!(system.pulsed(&monitoring()).await, None);
    system.send("monitoring.main", Queue::Pulses, packed, right).await;
    super::system::until("the right one counts", async || system.pulsed(&monitoring()).await.is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_scheduler_says_what_is_due() {
    let system = System::start().await;
    let due = StageDue { jobs: vec![JobId::of(DeletionId(1), 0)] };
    let packed = packed(system.now().await, due);
    let mut all = forgeries(&system, &Holder::Scheduler, "scheduler", Direction::StageDue, &packed.body);
    let right = system.keyring.sign(&Holder::Scheduler, Direction::StageDue, &packed.body).unwrap();
    all.push(Forgery { name: "another user", user: "backup.main".into(), seal: right, says: "broker user" });
    let own = system.keyring.sign(&Holder::Instance(backup()), Direction::StageDue, &packed.body).unwrap();
    all.push(Forgery {
        name: "one's own key",
        user: "backup.main".into(),
        seal: own,
        says: "not the scheduler",
    });
    for Forgery { name, user, seal, says } in all {
        println!("{name}");
        system.send(&user, Queue::StageDue, packed.clone(), seal).await;
        system.until_rejected(says).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_older_than_the_last_is_dropped() {
    let system = System::start().await;
    let (id, _, fence) = with_an_order_out(&system).await;
    let mut old = system.good_order(id).await;
    old.fence = Fence { number: fence.number - 1, ..fence };
    let before = system.world();
    system.give(old).await;
    system.until_rejected("is older than").await;
    assert!(system.monitoring.changes().is_empty());
    assert_eq!(system.world(), before);
    system.monitoring.open();
}

impl System {
    /// Wake-ups for every stage, as the scheduler rightly sends them.
    pub async fn claim_everything_now(&self, deletion: DeletionId) {
        let jobs = Stage::ALL.map(|stage| JobId::of(deletion, JobKind::Stage(stage).slot())).to_vec();
        let packed = packed(self.now().await, StageDue { jobs });
        let seal = self.keyring.sign(&Holder::Scheduler, Direction::StageDue, &packed.body).unwrap();
        self.send("scheduler", Queue::StageDue, packed, seal).await;
        super::system::until("it is taken", async || self.bus.depth(&Queue::StageDue).await.unwrap() == 0)
            .await;
    }
}
