//! What is made of answers, and of none, without a server.
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType, TSigner};
use proptest::prelude::*;
use sexton_consumer::driver::Obstacle;
use sexton_testkit::fuzz::{Form, Fuzz};
use tokio::net::TcpListener;

use super::wire::{Budget, Session, believe, current_in};
use crate::record::{RecordKind, canonical};

const NOW_SECONDS: u64 = 1_790_000_000;

fn name(text: &str) -> Name {
    canonical(text).unwrap()
}

fn signer() -> TSigner {
    TSigner::new(vec![7; 32], TsigAlgorithm::HmacSha256, name("ddns"), 300).unwrap()
}

fn answer(code: ResponseCode, authoritative: bool) -> Message {
    let mut answer = Message::response(1, OpCode::Query);
    answer.metadata.response_code = code;
    answer.metadata.authoritative = authoritative;
    answer
}

fn soa(zone: &str) -> Record {
    let zone = name(zone);
    Record::from_rdata(zone.clone(), 60, RData::SOA(SOA::new(zone.clone(), zone, 7, 1, 1, 1, 1)))
}

fn look(answer: &Message) -> Result<bool, Obstacle> {
    current_in(&name("lab.test"), &name("web01.lab.test"), RecordKind::A, answer).map(|c| c.rdata.is_empty())
}

#[test]
fn absence_needs_authority_and_the_very_zone() {
    for code in [ResponseCode::NoError, ResponseCode::NXDomain] {
        let mut good = answer(code, true);
        good.add_authority(soa("lab.test"));
        assert_eq!(look(&good), Ok(true));
        let mut without_authority = answer(code, false);
        without_authority.add_authority(soa("lab.test"));
        assert!(matches!(look(&without_authority), Err(Obstacle::Unclear(_))));
        assert!(matches!(look(&answer(code, true)), Err(Obstacle::Unclear(_))), "no SOA");
        let mut of_a_child = answer(code, true);
        of_a_child.add_authority(soa("web01.lab.test"));
        assert!(matches!(look(&of_a_child), Err(Obstacle::Unclear(_))), "another zone's SOA");
    }
    assert!(matches!(look(&answer(ResponseCode::FormErr, true)), Err(Obstacle::Unclear(_))));
    assert!(matches!(look(&answer(ResponseCode::ServFail, true)), Err(Obstacle::Busy(_))), "not loaded");
    assert!(matches!(look(&answer(ResponseCode::Refused, false)), Err(Obstacle::Refuse(_))));
    let mut of_another_name = answer(ResponseCode::NoError, true);
    of_another_name.add_authority(soa("lab.test"));
    of_another_name.add_answer(Record::from_rdata(
        name("web02.lab.test"),
        60,
        RData::A(A::new(192, 0, 2, 1)),
    ));
    assert!(matches!(look(&of_another_name), Err(Obstacle::Unclear(_))));
}

/// What a question and an update to this server come to.
async fn asked_and_changed(server: SocketAddr) -> [Option<Obstacle>; 2] {
    let (signer, zone) = (signer(), name("lab.test"));
    let budget = Budget::new(Duration::from_secs(10), Duration::from_millis(200));
    let asked = match Session::open(server, &signer, budget).await {
        Ok(mut session) => session.authority(&zone).await.err(),
        Err(away) => Some(away),
    };
    let data = [RData::A(A::new(192, 0, 2, 1))];
    let changed = match Session::open(server, &signer, budget).await {
        Ok(mut session) => session.delete(&zone, &name("web01.lab.test"), &data, true).await.err(),
        Err(away) => Some(away),
    };
    [asked, changed]
}

/// An outage costs time and no attempt, where nothing can have been changed.
#[tokio::test]
async fn a_server_that_is_away_is_told_from_a_change_that_was_not_answered() {
    // It takes connections, and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let [asked, changed] = asked_and_changed(server).await;
    assert!(matches!(asked, Some(Obstacle::Busy(_))), "{asked:?}");
    assert!(matches!(changed, Some(Obstacle::Unclear(_))), "{changed:?}");
    // It hangs up.
    let hangs_up = tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            drop(connection);
        }
    });
    let [asked, changed] = asked_and_changed(server).await;
    assert!(matches!(asked, Some(Obstacle::Busy(_))), "{asked:?}");
    assert!(matches!(changed, Some(Obstacle::Unclear(_))), "{changed:?}");
    // Nobody is there: nothing was sent.
    hangs_up.abort();
    let _ = hangs_up.await;
    for obstacle in asked_and_changed(server).await {
        assert!(matches!(obstacle, Some(Obstacle::Busy(_))), "{obstacle:?}");
    }
}

fn question() -> Message {
    let mut request = Message::query();
    request.metadata.recursion_desired = false;
    request.add_query(Query::query(name("web01.lab.test"), RecordType::A));
    request
}

/// The signed request, and an answer to it whose TSIG was made with the request's alone: a forgery.
fn forged() -> (Message, Vec<u8>) {
    let mut request = question();
    let mut forged = request.clone().into_response();
    forged.metadata.authoritative = true;
    forged.add_authority(soa("lab.test"));
    request.finalize(&signer(), NOW_SECONDS).unwrap();
    forged.finalize(&signer(), NOW_SECONDS).unwrap();
    (request, forged.to_vec().unwrap())
}

#[test]
fn an_answer_that_is_unsigned_or_forged_is_not_believed() {
    let (mut request, forged) = forged();
    request.take_signature();
    let mut verifier = request.finalize(&signer(), NOW_SECONDS).unwrap().unwrap();
    assert!(matches!(believe(&request, &forged, &mut verifier, "asking"), Err(Obstacle::Unclear(_))));
    let mut unsigned = question().into_response();
    unsigned.metadata.id = request.metadata.id;
    let bytes = unsigned.to_vec().unwrap();
    assert!(matches!(believe(&request, &bytes, &mut verifier, "asking"), Err(Obstacle::Unclear(_))));
    unsigned.metadata.response_code = ResponseCode::Refused;
    let bytes = unsigned.to_vec().unwrap();
    assert!(matches!(believe(&request, &bytes, &mut verifier, "asking"), Err(Obstacle::Refuse(_))));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_are_never_believed(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut request = question();
        let mut verifier = request.finalize(&signer(), NOW_SECONDS).unwrap().unwrap();
        prop_assert!(believe(&request, &bytes, &mut verifier, "asking").is_err());
    }

    #[test]
    fn damaged_answers_never_panic_and_are_never_believed(
        at in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<proptest::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let (mut request, mut bytes) = forged();
        for (index, byte) in at {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        request.take_signature();
        let mut verifier = request.finalize(&signer(), NOW_SECONDS).unwrap().unwrap();
        prop_assert!(believe(&request, &bytes, &mut verifier, "asking").is_err());
        if let Ok(message) = Message::from_vec(&bytes) {
            let _ = look(&message);
        }
    }
}

/// Nothing is believed that was not signed, and whatever is read of what parses has an end.
#[test]
fn fuzz_answers() {
    let (mut request, forged) = forged();
    request.take_signature();
    let mut full = answer(ResponseCode::NoError, true);
    full.add_answer(Record::from_rdata(name("web01.lab.test"), 60, RData::A(A::new(192, 0, 2, 1))));
    full.add_authority(soa("lab.test"));
    let target = Fuzz::new("dns", Form::Bytes).seed(full.to_vec().unwrap()).seed(forged).slow(2);
    target.run(|bytes| {
        let mut verifier = request.clone().finalize(&signer(), NOW_SECONDS).unwrap().unwrap();
        assert!(
            believe(&request, bytes, &mut verifier, "asking").is_err(),
            "an answer without a proof is believed"
        );
        let message = Message::from_vec(bytes).map_err(|error| error.to_string())?;
        look(&message).map(drop).map_err(|obstacle| obstacle.to_string())
    });
}
