//! The cases in which the broker matters: the real SDK on the in-process bus.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sexton_bus::local::Local;
use sexton_bus::{Bus, Outgoing, Queue, Target};
use sexton_consumer::{Clock, Consumer, Metrics, Options, SystemClock};
use sexton_model::Timestamp;
use sexton_model::beacon::Beacon;
use sexton_protocol::{
    BeaconSigner, Broadcast, Direction, Event, Keyring, Message, Order, Pack, Rejected, Seal,
};
use tokio_util::sync::CancellationToken;

use super::bench::Bench;

/// How often a beacon is said: as a coordinator does it, but quicker.
const AGAIN: Duration = Duration::from_millis(20);

/// What an impostor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forgery {
    Tampered,
    WrongKey,
}

/// Whether a forged order ends in the rejected queue, without an answer and without an effect.
pub(super) async fn rejected(bench: &Bench<'_>, forgery: Forgery) -> Result<(), String> {
    let manifest = bench.capture().await?;
    let instance = bench.fixture.instance();
    let holder = instance.clone().into();
    let mut rng = rand::rng();
    let keyring = Arc::new(Keyring::generate([instance.clone().into()], &mut rng));
    let signer = BeaconSigner::generate("kit", &mut rng);
    let local = Local::new();
    let clock = Arc::new(SystemClock::default());

    let mut order = bench.order(bench.mode(), manifest.as_ref());
    order.deadline = clock.now().plus_ms(60_000);
    let packed = Pack::one(Event::new("/kit", order.issued_at, order)).encode().map_err(|e| e.to_string())?;
    let impostors = Keyring::generate([instance.clone().into()], &mut rng);
    let ring = if forgery == Forgery::WrongKey { &impostors } else { &*keyring };
    let seal = ring.sign(&holder, Order::DIRECTION, &packed.body).map_err(|e| e.to_string())?;
    let own = keyring.sign(&holder, Direction::Order, b"").map_err(|e| e.to_string())?;
    // An impostor uses the right key's name, of course.
    let seal = Seal { key_id: own.key_id, ..seal };
    let body = match forgery {
        Forgery::Tampered => altered(&packed.body),
        Forgery::WrongKey => packed.body,
    };

    let consumer = Consumer {
        instance: instance.clone(),
        driver: bench.world.driver(),
        actions: bench.fixture.actions(),
        bus: local.as_user(&instance.to_string()),
        keyring,
        verifier: signer.verifier(),
        clock,
        metrics: Arc::new(Metrics::default()),
        version: "kit".into(),
        options: Options::default(),
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(consumer.run(stop.clone()));
    let forged = Outgoing {
        target: Target::Queue(Queue::Orders(instance)),
        body,
        key_id: seal.key_id,
        mac: seal.mac,
        message_id: packed.message_id,
        ttl: None,
    };
    let mut shown = local.consume(&Queue::Rejected, 1).await.map_err(|e| e.to_string())?;
    for result in local.publish(vec![forged]).await {
        result.map_err(|e| e.to_string())?;
    }
    let delivery = loop {
        // Its consumer takes no orders before it has heard one, and hears none that was said before it listened.
        local.publish(vec![beacon(&signer, SystemClock::default().now())?]).await;
        if let Ok(shown) = tokio::time::timeout(AGAIN, shown.next()).await {
            break shown.ok_or("the bus was closed")?;
        }
    };
    stop.cancel();
    running.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    let said = Pack::<Rejected>::decode(&delivery.body).map_err(|e| e.to_string())?;
    let reason = said.events.first().map_or("", |event| event.data.reason.as_str());
    if !reason.contains("proof") {
        return Err(format!("rejected for another reason: {reason}"));
    }
    match local.depth(&Queue::Outcomes).await {
        Ok(0) => bench.unchanged("a forged order").await,
        other => Err(format!("a forged order was answered: {other:?} messages")),
    }
}

fn beacon(signer: &BeaconSigner, read_at: Timestamp) -> Result<Outgoing, String> {
    let beacon = Broadcast::Beacon(Beacon { epoch: 1, revision: 0, read_at });
    let packed = Pack::one(Event::new("/kit", read_at, beacon)).encode().map_err(|e| e.to_string())?;
    let seal = signer.sign(Direction::Beacon, &packed.body);
    Ok(Outgoing {
        target: Target::Beacon,
        body: packed.body,
        key_id: seal.key_id,
        mac: seal.mac,
        message_id: packed.message_id,
        ttl: None,
    })
}

/// The same body for another record: one digit differs.
fn altered(body: &Bytes) -> Bytes {
    String::from_utf8_lossy(body).replace("d-17", "d-18").into()
}
