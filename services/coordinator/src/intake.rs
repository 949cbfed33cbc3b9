//! What an arriving message means: authenticated first, decoded then, and turned into intents for the ledger.
//! Pure: whoever calls it publishes the rejection.
use sexton_bus::Delivery;
use sexton_ledger::{Alive, Intent};
use sexton_model::canary::Came;
use sexton_model::decide::Event;
use sexton_model::{Fence, Instance, JobId};
use sexton_protocol::{
    Check, DecodeError, Holder, Keyring, Message, Pack, Pulse, Rejected, Report, StageDue,
};
use sexton_service::trace::SpanRef;

use crate::engine::Heard;

/// Why a message is not accepted; goes to `sexton.rejected` in these words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// Its proof is missing or wrong.
    #[error("not authentic: {0}")]
    Auth(String),
    /// The broker does not vouch for who sent it.
    #[error("sent by broker user {user:?}, but under the key of {holder}")]
    User {
        /// Whom the broker vouches for.
        user: Option<String>,
        /// Whose key it was.
        holder: String,
    },
    /// It speaks for somebody else.
    #[error("speaks for {claimed}, but under the key of {holder}")]
    Impostor {
        /// For whom it speaks.
        claimed: Instance,
        /// Whose key it was.
        holder: String,
    },
    /// It is malformed, oversized or unknown.
    #[error("not understood: {0}")]
    Form(String),
}

fn sender<'k, M: Message>(keyring: &'k Keyring, delivery: &Delivery) -> Result<&'k Holder, NotAccepted> {
    let (bytes, max) = (delivery.body.len(), M::PACK_MAX_BYTES);
    if bytes > max {
        // Not even looked at: proving it would take as long as it is large.
        return Err(NotAccepted::Form(DecodeError::TooLarge { bytes, max }.to_string()));
    }
    let holder = keyring
        .verify_any(M::DIRECTION, &delivery.body, delivery.key_id.as_deref(), delivery.mac.as_deref())
        .map_err(|e| NotAccepted::Auth(e.to_string()))?;
    let name = holder.to_string();
    if delivery.user_id.as_deref() != Some(name.as_str()) {
        return Err(NotAccepted::User { user: delivery.user_id.clone(), holder: name });
    }
    Ok(holder)
}

fn same(claimed: &Instance, holder: &Holder) -> Result<(), NotAccepted> {
    match holder {
        Holder::Instance(instance) if instance == claimed => Ok(()),
        Holder::Instance(_) | Holder::Scheduler => {
            Err(NotAccepted::Impostor { claimed: claimed.clone(), holder: holder.to_string() })
        }
    }
}

/// What a pack of outcomes and progress reports means, each with the consumer's span that led to it.
///
/// # Errors
/// Why nothing of it is accepted.
pub fn reports(
    keyring: &Keyring,
    delivery: &Delivery,
) -> Result<Vec<(Intent, Option<SpanRef>)>, NotAccepted> {
    let holder = sender::<Report>(keyring, delivery)?;
    let pack = Pack::<Report>::decode(&delivery.body).map_err(|e| NotAccepted::Form(e.to_string()))?;
    pack.events
        .into_iter()
        .map(|event| {
            let cause = event.traceparent.as_deref().and_then(SpanRef::parse);
            report(event.data, holder).map(|intent| (intent, cause))
        })
        .collect()
}

fn report(report: Report, holder: &Holder) -> Result<Intent, NotAccepted> {
    match report {
        Report::Outcome(report) => {
            same(&report.instance, holder)?;
            let (job, fence, from) = (report.job, report.fence, report.instance);
            let outcome = report.outcome.bounded();
            Ok(Intent { deletion: job.deletion(), event: Event::Outcome { job, from, fence, outcome } })
        }
        Report::Progress(report) => {
            same(&report.instance, holder)?;
            let (job, fence, from) = (report.job, report.fence, report.instance);
            let performer = report.nonce;
            Ok(Intent { deletion: job.deletion(), event: Event::Progress { job, from, fence, performer } })
        }
    }
}

/// Which jobs the scheduler found due.
///
/// # Errors
/// Why it is not accepted.
pub fn stage_due(keyring: &Keyring, delivery: &Delivery) -> Result<Vec<JobId>, NotAccepted> {
    let holder = sender::<StageDue>(keyring, delivery)?;
    if *holder != Holder::Scheduler {
        return Err(NotAccepted::Auth(format!("{holder} is not the scheduler")));
    }
    let pack = Pack::<StageDue>::decode(&delivery.body).map_err(|e| NotAccepted::Form(e.to_string()))?;
    Ok(pack.events.into_iter().flat_map(|event| event.data.jobs).collect())
}

/// Which copies are alive.
///
/// # Errors
/// Why it is not accepted.
pub fn pulse(keyring: &Keyring, delivery: &Delivery) -> Result<Vec<Alive>, NotAccepted> {
    let holder = sender::<Pulse>(keyring, delivery)?;
    let pack = Pack::<Pulse>::decode(&delivery.body).map_err(|e| NotAccepted::Form(e.to_string()))?;
    pack.events
        .into_iter()
        .map(|event| {
            let Pulse { instance, consumer: copy, concurrency: hands, answered, .. } = event.data;
            same(&instance, holder).map(|()| Alive { instance, copy, hands, answered })
        })
        .collect()
}

/// Which orders consumers have rejected, and at which check.
///
/// # Errors
/// Why it says nothing. It is only counted: rejected in its turn, it would come back here.
pub fn rejections(keyring: &Keyring, delivery: &Delivery) -> Result<Vec<Heard>, NotAccepted> {
    let from = match sender::<Rejected>(keyring, delivery)? {
        Holder::Instance(from) => from,
        Holder::Scheduler => return Err(NotAccepted::Auth("the scheduler rejects nothing".to_owned())),
    };
    let pack = Pack::<Rejected>::decode(&delivery.body).map_err(|e| NotAccepted::Form(e.to_string()))?;
    let heard = |rejected: Rejected| {
        let fence = order_of(rejected.message_id.as_deref()?)?;
        let reason = rejected.reason;
        let came = match rejected.check {
            Some(Check::Unauthenticated) => Came::NotBelieved(reason),
            Some(Check::Malformed | Check::Expired | Check::Stale) => Came::Dropped(reason),
            Some(Check::Oversized) | None => Came::Rejected(reason),
        };
        Some(Heard { from: from.clone(), fence, came })
    };
    Ok(pack.events.into_iter().filter_map(|event| heard(event.data)).collect())
}

/// The number of the first order in a message of this id, or of the order of this id.
fn order_of(id: &str) -> Option<Fence> {
    let (epoch, number) = id.strip_prefix("order-")?.split('+').next()?.split_once(':')?;
    Some(Fence { epoch: epoch.parse().ok()?, number: number.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use sexton_bus::local::Local;
    use sexton_bus::{Bus as _, Outgoing, Queue, Target};
    use sexton_model::step::{Outcome, Presence};
    use sexton_model::{DeletionId, Timestamp};
    use sexton_protocol::{Event as Envelope, OutcomeReport};

    use super::*;

    const NOW: Timestamp = Timestamp(1_796_083_200_000_000);

    /// As it arrives, sealed under its holder's key and published by its user.
    async fn delivered<M: Message>(keyring: &Keyring, holder: &Holder, queue: Queue, message: M) -> Delivery {
        let packed = Pack::one(Envelope::new("/test", NOW, message)).encode().unwrap();
        let seal = keyring.sign(holder, M::DIRECTION, &packed.body).unwrap();
        let bus = Local::new();
        let sent = Outgoing {
            target: Target::Queue(queue.clone()),
            body: packed.body,
            key_id: seal.key_id,
            mac: seal.mac,
            message_id: packed.message_id,
            ttl: None,
        };
        bus.as_user(&holder.to_string()).publish(vec![sent]).await.remove(0).unwrap();
        bus.consume(&queue, 1).await.unwrap().next().await.unwrap()
    }

    /// That it is taken as it came, and refused once the broker vouches for nobody.
    fn needs_a_user<T>(
        mut delivery: Delivery,
        holder: &Holder,
        read: impl Fn(&Delivery) -> Result<Vec<T>, NotAccepted>,
    ) {
        assert_eq!(read(&delivery).map(|read| read.len()), Ok(1), "{holder}");
        delivery.user_id = None;
        let refused = NotAccepted::User { user: None, holder: holder.to_string() };
        assert_eq!(read(&delivery).map(|read| read.len()), Err(refused), "{holder}");
    }

    #[tokio::test]
    async fn what_no_broker_user_vouches_for_is_not_accepted() {
        let instance: Instance = "dns.main".parse().unwrap();
        let (dns, scheduler) = (Holder::Instance(instance.clone()), Holder::Scheduler);
        let keyring = Keyring::generate([dns.clone(), scheduler.clone()], &mut rand::rng());
        let (job, fence) = (JobId::of(DeletionId(1), 0), Fence { epoch: 1, number: 1 });
        let outcome = Outcome::done(Presence::Absent, "seen");
        let answer = Report::from(OutcomeReport { job, fence, instance: instance.clone(), outcome });
        let answer = delivered(&keyring, &dns, Queue::Outcomes, answer).await;
        needs_a_user(answer, &dns, |delivery| reports(&keyring, delivery));

        let (consumer, version) = ("c1".to_owned(), "1".to_owned());
        let alive = Pulse { instance, consumer, version, concurrency: 1, answered: 0, at: NOW };
        let alive = delivered(&keyring, &dns, Queue::Pulses, alive).await;
        needs_a_user(alive, &dns, |delivery| pulse(&keyring, delivery));

        let due = delivered(&keyring, &scheduler, Queue::StageDue, StageDue { jobs: vec![job] }).await;
        needs_a_user(due, &scheduler, |delivery| stage_due(&keyring, delivery));

        let (id, queue) = (Some("order-1:1"), "sexton.orders.dns.main");
        let rejected = Rejected::new("stale", queue, id, None, b"");
        let rejected = delivered(&keyring, &dns, Queue::Rejected, rejected).await;
        needs_a_user(rejected, &dns, |delivery| rejections(&keyring, delivery));
    }

    #[test]
    fn an_order_is_known_by_the_id_of_its_message() {
        let fence = Some(Fence { epoch: 3, number: 17 });
        for (id, found) in [
            ("order-3:17", fence),
            ("order-3:17+1", fence),
            ("outcome-3:17", None),
            ("order-3", None),
            ("order-3:x", None),
            ("order-99999999999:1", None),
        ] {
            assert_eq!(order_of(id), found, "{id}");
        }
    }
}
