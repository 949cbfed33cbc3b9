//! Orders that nobody who may has given, or that are none.
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use sexton_bus::{Bus, Queue, Target};
use sexton_protocol::message::REJECTED_BODY_MAX_BYTES;
use sexton_protocol::{Check, Event, Keyring, Message, Order, Pack, Rejected, Report};

use crate::site::{Site, in_time, instance, is_done};
use crate::swelling::SWOLLEN;

#[tokio::test]
async fn what_is_not_accepted_is_shown_and_counted_and_stops_nothing() {
    in_time(async {
        let site = Site::new().await;
        let mut rejected = site.local.consume(&Queue::Rejected, 1).await.unwrap();
        let (stop, running) = site.start(0).await;
        site.beacon().await;
        let own = |body: &[u8]| site.keyring.sign(&instance().into(), Order::DIRECTION, body).unwrap();
        let pack =
            |order: Order| Pack::one(Event::new("/coordinator", order.issued_at, order)).encode().unwrap();
        let good = pack(site.order(1000));
        let changed = |from: &str, to: &str| {
            let text = String::from_utf8(good.body.to_vec()).unwrap();
            assert!(text.contains(from), "{text}");
            bytes::Bytes::from(text.replacen(from, to, 1))
        };
        let strangers = Keyring::generate([instance().into()], &mut rand::rng());
        let foreign = strangers.sign(&instance().into(), Order::DIRECTION, &good.body).unwrap();
        let forged = sexton_protocol::Seal { key_id: own(b"").key_id, mac: foreign.mac.clone() };
        let unsealed = sexton_protocol::Seal { key_id: String::new(), mac: String::new() };
        let answer = site.keyring.sign(&instance().into(), Report::DIRECTION, &good.body).unwrap();
        let nested = bytes::Bytes::from("[".repeat(10_000));
        let field = changed("\"attempt\":0", "\"attempt\":0,\"force\":true");
        let unknown = changed("dev.sexton.order.v1", "dev.sexton.surprise.v1");
        let later = changed("dev.sexton.order.v1", "dev.sexton.order.v2");
        let cases = [
            ("malformed", "", bytes::Bytes::from_static(b"delete everything"), None),
            ("malformed", "", nested, None),
            ("malformed", "force", field, None),
            ("malformed", "type", unknown, None),
            ("malformed", "expected dev.sexton.order.v1, found \"dev.sexton.order.v2\"", later, None),
            ("unauthenticated", "key", good.body.clone(), Some(unsealed)),
            ("unauthenticated", "key", good.body.clone(), Some(foreign)),
            ("unauthenticated", "does not fit", good.body.clone(), Some(forged)),
            ("unauthenticated", "does not fit", good.body.clone(), Some(answer)),
            // Its proof would not fit either: so many bytes are not even proved.
            ("oversized", "1048577 bytes", good.body.clone(), None),
        ];
        let mut counted = BTreeMap::new();
        for (class, part, body, seal) in cases {
            let seal = seal.unwrap_or_else(|| own(&body));
            let message_id = if class == "oversized" { SWOLLEN.to_owned() } else { good.message_id.clone() };
            let packed = sexton_protocol::Packed { body, message_id, ..good.clone() };
            site.publish(Target::Queue(Queue::Orders(instance())), packed, seal).await;
            let delivery = rejected.next().await.unwrap();
            rejected.ack(vec![delivery.tag]).await;
            let shown = Pack::<Rejected>::decode(&delivery.body).unwrap().events.remove(0).data;
            assert!(shown.reason.contains(part), "{class}: {shown:?}");
            assert_eq!(shown.queue, "sexton.orders.backup.main");
            assert_eq!(shown.check.map(Check::word), Some(class), "{shown:?}");
            assert!(
                shown.body_base64.len() <= REJECTED_BODY_MAX_BYTES.div_ceil(3) * 4,
                "{class}: kept whole"
            );
            *counted.entry(class).or_insert(0) += 1;
            assert_eq!(site.metrics.counts().rejected, counted);
        }
        assert_eq!(site.archive.performed.load(Ordering::SeqCst), 0);
        site.give(vec![site.order(1000)]).await;
        assert!(is_done(&site.outcome().await));
        site.end(stop, running).await;
    })
    .await;
}
