//! What can be done to a file of signed checkpoints, and what is said about it without asking anybody.
use sexton_protocol::BeaconSigner;
use sexton_testkit::fuzz::{Form, Fuzz};

use super::*;

fn head(chain: &str, seq: i64) -> Head {
    Head { chain: chain.to_owned(), seq, hash: [u8::try_from(seq).unwrap(); 32] }
}

fn signer() -> BeaconSigner {
    BeaconSigner::generate("k", &mut rand::rng())
}

/// Four lines about one ledger, signed with this key.
fn file(signer: &BeaconSigner, ledger: &str) -> Vec<String> {
    let mut sequence = Sequence::default();
    (1..=4)
        .map(|n| {
            let heads = vec![head("pauses", n), head(&format!("vm/{n}"), 1)];
            let signed =
                signer.sign_checkpoint(&sequence.next(ledger.into(), 1, Timestamp(n), heads)).unwrap();
            sequence.see(&signed.body).unwrap();
            serde_json::to_string(&signed).unwrap() + "\n"
        })
        .collect()
}

fn found(lines: &[&str], verifier: &BeaconVerifier) -> (Report, Vec<Head>) {
    let (report, newest) = offline(lines.concat().as_bytes(), verifier).unwrap();
    (report, newest.into_heads().collect())
}

/// The lines that are bad, and why.
fn bad(lines: &[&str], verifier: &BeaconVerifier) -> Vec<(u64, String)> {
    found(lines, verifier).0.bad.into_iter().map(|bad| (bad.line, bad.why)).collect()
}

#[test]
fn a_file_that_holds() {
    let signer = signer();
    let lines = file(&signer, "here");
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let (report, newest) = found(&lines, &signer.verifier());
    assert!(report.holds(), "{report:?}");
    assert_eq!((report.checkpoints, report.last, report.chains), (4, 4, 5));
    assert_eq!(report.ledger.as_deref(), Some("here"));
    assert_eq!(newest.first(), Some(&head("pauses", 4)));
    let (report, _) = found(&[], &signer.verifier());
    assert!(report.holds() && report.last == 0);
}

#[test]
fn each_way_of_tampering_is_named() {
    let (signer, other) = (signer(), BeaconSigner::generate("other", &mut rand::rng()));
    let verifier = signer.verifier();
    let lines = file(&signer, "here");
    let [one, two, three, four] = lines.iter().map(String::as_str).collect::<Vec<_>>()[..] else { panic!() };

    let removed = bad(&[one, three, four], &verifier);
    assert_eq!(removed.len(), 1, "{removed:?}");
    assert!(removed[0].0 == 2 && removed[0].1.contains("number 3, expected 2"), "{removed:?}");
    assert!(bad(&[two, three], &verifier)[0].1.contains("number 2, expected 1"), "the first is removed");
    let swapped = bad(&[one, three, two, four], &verifier);
    assert_eq!(swapped.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3, 4], "{swapped:?}");
    let changed = two.replace("vm/2", "vm/x");
    let altered = bad(&[one, &changed, three, four], &verifier);
    assert!(altered[0].0 == 2 && altered[0].1.contains("altered"), "{altered:?}");
    assert!(altered[1].0 == 3 && altered[1].1.contains("after another number 2"), "{altered:?}");
    assert_eq!(altered.len(), 2);
    let torn = bad(&[one, two, &three[..three.len() - 1]], &verifier);
    assert!(torn.len() == 1 && torn[0].0 == 3 && torn[0].1.contains("cut short"), "{torn:?}");
    let rubbish = bad(&[one, "x\n", two], &verifier);
    assert!(rubbish.len() == 1 && rubbish[0].1.contains("no signed checkpoint"), "{rubbish:?}");
    let long = "x".repeat(LINE_MAX_BYTES + 1);
    assert!(bad(&[one, &long], &verifier)[0].1.contains("longer than"));

    // Signed by somebody else, under another id or under the same one.
    let foreign = bad(&lines.iter().map(String::as_str).collect::<Vec<_>>(), &other.verifier());
    assert!(foreign.len() == 4 && foreign[0].1.contains("\"k\" is not one that may vouch"), "{foreign:?}");
    let same_id = bad(&[one], &self::signer().verifier());
    assert!(same_id[0].1.contains("made with another key"), "{same_id:?}");
    // Two files put together.
    let elsewhere = file(&signer, "there");
    let mixed = bad(&[one, &elsewhere[1]], &verifier);
    assert!(mixed.len() == 1 && mixed[0].1.contains("after another number 1"), "{mixed:?}");
}

/// What is not authentic is not compared with anything, and what contradicts itself is told.
#[test]
fn only_what_is_signed_counts() {
    let signer = signer();
    let lines = file(&signer, "here");
    let forged = lines[1].replace("vm/2", "vm/x");
    let (_, newest) = found(&[&lines[0], &forged], &signer.verifier());
    assert_eq!(newest, [head("pauses", 1), head("vm/1", 1)]);
    let mut sequence = Sequence::default();
    let mut text = String::new();
    for seq in [5, 4] {
        let next = sequence.next("here".into(), 1, Timestamp(1), vec![head("vm/a", seq)]);
        let signed = signer.sign_checkpoint(&next).unwrap();
        sequence.see(&signed.body).unwrap();
        text += &(serde_json::to_string(&signed).unwrap() + "\n");
    }
    let shrunk = bad(&[&text], &signer.verifier());
    assert!(shrunk.len() == 1 && shrunk[0].1.contains("vm/a ended at event 5 before"), "{shrunk:?}");
}

#[test]
fn what_is_stored_is_the_same_another_or_missing() {
    let signed = hex(&[7; 32]);
    let head = Head { chain: "d-1".into(), seq: 3, hash: [7; 32] };
    assert_eq!(differs((&head, Some(signed.clone()))), None);
    for stored in [Some(hex(&[8; 32])), None] {
        let found = Rewritten { chain: "d-1".into(), seq: 3, signed: signed.clone(), stored: stored.clone() };
        assert_eq!(differs((&head, stored)), Some(found));
    }
}

/// Whatever a file holds, what counts of it is what was signed.
#[test]
fn fuzz_checkpoint_files() {
    let secret = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let signer = BeaconSigner::parse("k", &format!("[[keys]]\nid = \"k\"\nsecret = \"{secret}\"\n")).unwrap();
    let (lines, verifier) = (file(&signer, "here"), signer.verifier());
    let signed: Vec<Head> = found(&lines.iter().map(String::as_str).collect::<Vec<_>>(), &verifier).1;
    Fuzz::new("checkpoint-files", Form::JsonLines).seed(lines.concat()).slow(8).run(|bytes| {
        let (report, newest) = offline(bytes, &verifier).unwrap();
        assert!(report.bad.len() as u64 <= 4 * report.checkpoints, "{report:?}");
        for head in newest.into_heads() {
            let genuine = signed.iter().any(|one| one.chain == head.chain && one.seq >= head.seq);
            assert!(genuine, "{head:?} was never signed");
        }
        let said: String = table(&report).chars().take(1000).collect();
        if report.holds() { Ok(()) } else { Err(said) }
    });
}
