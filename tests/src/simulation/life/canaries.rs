//! Somebody who has a consumer's key answers in its name what must not be believed.
use sexton_bus::{Outgoing, Queue, Target};
use sexton_model::belts::census::listing::ACTION;
use sexton_model::canary::DELETION;
use sexton_model::step::{Outcome, Presence};
use sexton_protocol::{Direction, Event, Holder, Order, OutcomeReport, Pack, Report};

use crate::simulation::check::canaries;
use crate::simulation::world::World;

impl World {
    /// Answer the last forged order that was sent; whether there is one.
    pub(super) async fn answer_canary(&mut self) -> bool {
        let Some(order) = self.last_forged() else { return false };
        let instance = order.instance;
        let outcome = Outcome::done(Presence::Present, "whatever you say");
        let report =
            OutcomeReport { job: order.job, fence: order.fence, instance: instance.clone(), outcome };
        let said = Event::new(format!("/consumer/{instance}"), self.time.now(), Report::Outcome(report));
        let packed = Pack::one(said).encode().unwrap();
        let holder = Holder::Instance(instance.clone());
        let seal = self.keyring.sign(&holder, Direction::Outcome, &packed.body).unwrap();
        let message = Outgoing {
            target: Target::Queue(Queue::Outcomes),
            body: packed.body,
            key_id: seal.key_id,
            mac: seal.mac,
            message_id: packed.message_id,
            ttl: None,
        };
        self.bus.as_user(&instance.to_string()).publish(vec![message]).await;
        self.checker.canaries.answered(instance);
        true
    }

    /// The one with the highest number. It is about nothing that is there.
    fn last_forged(&self) -> Option<Order> {
        let orders = self.traffic.orders.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let forged = |order: &&Order| {
            let of_a_census = order.action.as_str() == ACTION;
            order.deletion == DELETION && order.resource != canaries::resource() && !of_a_census
        };
        orders.values().rev().find(forged).cloned()
    }
}
