//! How fast a pack of 16 orders is encoded, sealed, verified and decoded on one core.
//! `cargo run --release -p sexton-protocol --example protocol_throughput`
use std::time::{Duration, Instant};

use sexton_model::Timestamp;
use sexton_protocol::{Direction, Event, Holder, Keyring, Order, Pack};

const ORDER: &str = r#"{"job":137,"deletion":"d-17","resource":"vm/web01","kind":{"stage":"soft"},"step":3,
"instance":"hypervisor.main","action":"stop","mode":"perform","nature":"reversible",
"identity":{"uuid":"2f1c9a52-7b1e-4f6a-9c07-0d6d6a3f1b11","cluster":"8d0e"},
"attributes":{"hosts":["kvm01","kvm02"],"addresses":["192.0.2.17","2001:db8::17"]},
"targets":{"domain":"web01","disks":["pool/web01.img"]},"manifest":{"on":true,"autostart":true},
"params":{"grace_s":30},"fence":{"epoch":1,"number":77},"revision":7,"issued_at":1796083200000000,
"deadline":1796083230000000,"longest_call_ms":10000,"long":false,"attempt":0}"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let order: Order = serde_json::from_str(ORDER)?;
    let holder: Holder = order.instance.clone().into();
    let ring = Keyring::generate([holder.clone()], &mut rand::rng());
    let time = Timestamp(1_796_083_200_000_000);
    let pack = Pack { events: vec![Event::new("/coordinator", time, order); 16] };
    let (mut encoding, mut decoding, mut packs, mut bytes) = (Duration::ZERO, Duration::ZERO, 0u32, 0);
    while encoding + decoding < Duration::from_secs(3) {
        let began = Instant::now();
        let packed = pack.encode()?;
        let seal = ring.sign(&holder, Direction::Order, &packed.body)?;
        encoding += began.elapsed();
        let began = Instant::now();
        ring.verify(&holder, Direction::Order, &packed.body, Some(&seal.key_id), Some(&seal.mac))?;
        let decoded = Pack::<Order>::decode(&packed.body)?;
        decoding += began.elapsed();
        assert_eq!(decoded.events.len(), 16);
        bytes = packed.body.len();
        packs += 1;
    }
    let both = (encoding + decoding) / packs;
    println!(
        "16 orders, {bytes} bytes: encode+MAC {:?}, verify+decode {:?}, together {both:?}: {:.0} orders/s",
        encoding / packs,
        decoding / packs,
        16.0 / both.as_secs_f64()
    );
    Ok(())
}
