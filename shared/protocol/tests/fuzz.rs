//! Hostile messages, key files, receipts and files of the archive.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![recursion_limit = "256"]
use std::fmt::Debug;

use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::{Value, json};
use sexton_model::Timestamp;
use sexton_model::archive::Document;
use sexton_model::audit::{GENESIS, hex};
use sexton_model::receipt::{Receipt, SignedReceipt};
use sexton_protocol::{
    BeaconSigner, BeaconVerifier, Broadcast, Direction, Happened, Holder, Keyring, Message, Order, Pack,
    Pulse, Rejected, Report, StageDue, archive, receipt,
};
use sexton_testkit::archived;
use sexton_testkit::fuzz::{Form, Fuzz, each_wrong_field_is_named};

const SECRET: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// One event as it stands in a pack.
fn event(kind: &str, data: Value) -> Value {
    json!({
        "specversion": "1.0", "id": format!("{kind}-1:77"), "source": "/coordinator",
        "type": format!("dev.sexton.{kind}.v1"), "time": "2026-12-01T00:00:00.123456Z",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "data": data,
    })
}

fn order() -> Value {
    json!({
        "job": 137, "deletion": "d-17", "resource": "vm/web01", "kind": { "stage": "soft" }, "step": 3,
        "instance": "hypervisor.main", "action": "stop", "mode": "perform", "nature": "reversible",
        "identity": { "uuid": "2f1c", "cluster": "8d0e" }, "attributes": { "hosts": ["kvm01"], "weight": 0.1 },
        "targets": { "domain": "web01", "disks": [{ "path": "a.img", "size": 1 }] }, "manifest": { "on": true },
        "params": { "grace_s": 30 }, "fence": { "epoch": 1, "number": 77 }, "revision": 7,
        "issued_at": 1_796_083_200_000_000_i64, "deadline": 1_796_083_230_000_000_i64, "longest_call_ms": 10_000,
        "long": true, "attempt": 0,
    })
}

/// Whatever is taken is read again as it was written.
fn decode<T: Message + PartialEq + Debug>(body: &[u8]) -> Result<(), String> {
    let pack = Pack::<T>::decode(body).map_err(|error| error.to_string())?;
    match pack.encode() {
        Ok(again) => assert_eq!(Pack::<T>::decode(&again.body).unwrap(), pack),
        // Some numbers are shorter in other words than in those that are written here.
        Err(error) => assert!(body.len() > T::PACK_MAX_BYTES / 8, "it cannot be written again: {error}"),
    }
    Ok(())
}

/// A channel's target: its messages one by one, and all in one pack.
fn channel<T: Message + PartialEq + Debug>(name: &'static str, events: &[Value]) {
    let mut target = Fuzz::new(name, Form::Json).seed(json!(events).to_string());
    for event in events {
        let one = json!([event]).to_string();
        each_wrong_field_is_named(one.as_bytes(), &["data"], decode::<T>);
        target = target.seed(one);
    }
    target.run(decode::<T>);
}

#[test]
fn orders() {
    let mut least = order();
    for optional in ["attributes", "targets", "manifest", "params", "long"] {
        least.as_object_mut().unwrap().remove(optional);
    }
    least["kind"] = json!("restore");
    channel::<Order>("orders", &[event("order", order()), event("order", least)]);
}

#[test]
fn reports() {
    let about = |outcome: Value| json!({ "job": 137, "fence": { "epoch": 1, "number": 77 }, "instance": "dns.main", "outcome": outcome });
    let done =
        json!({ "result": "done", "presence": "absent", "evidence": "gone", "finding": { "seen": [1] } });
    let retry = json!({ "result": "retry", "class": "spared", "reason": "busy" });
    let refused = json!({ "result": "refused", "reason": "another uuid" });
    let mut progress = about(Value::Null);
    progress.as_object_mut().unwrap().remove("outcome");
    for (field, number) in [("nonce", u64::MAX), ("done", 3), ("total", 9)] {
        progress[field] = json!(number);
    }
    let outcomes = [done, retry, refused].map(|outcome| event("outcome", about(outcome)));
    channel::<Report>("reports", &[&outcomes[..], &[event("progress", progress)]].concat());
}

#[test]
fn broadcasts() {
    let beacon = json!({ "epoch": 1, "revision": 7, "read_at": 1_796_083_200_000_000_i64 });
    let extension = json!({
        "job": 137, "fence": { "epoch": 1, "number": 77 }, "nonce": 5, "deadline": 1_796_083_230_000_000_i64,
    });
    channel::<Broadcast>("broadcasts", &[event("beacon", beacon), event("extension", extension)]);
}

#[test]
fn pulses() {
    let pulse = json!({
        "instance": "dns.main", "consumer": "host-1", "version": "0.1.0", "concurrency": 16, "answered": 5,
        "at": 1_796_083_200_000_000_i64,
    });
    channel::<Pulse>("pulses", &[event("pulse", pulse)]);
}

#[test]
fn wake_ups() {
    channel::<StageDue>("wake-ups", &[event("stage-due", json!({ "jobs": [136, 137, 144] }))]);
}

#[test]
fn rejections() {
    let rejected = json!({
        "reason": "not authentic", "check": "unauthenticated", "queue": "sexton.orders.dns.main",
        "message_id": "order-1:77+1", "user": "dns.main", "body_base64": "W10=",
    });
    channel::<Rejected>("rejections", &[event("rejected", rejected)]);
}

#[test]
fn happenings() {
    let happened = json!({
        "deletion": "d-17", "resource": "vm/web01", "what": "stage.done", "at": 1_796_083_200_000_000_i64,
        "sequence": 4, "job": 137, "text": "soft",
    });
    channel::<Happened>("happenings", &[event("happened", happened)]);
}

/// What came with a body.
#[derive(Deserialize)]
struct Sent {
    key_id: Option<String>,
    mac: Option<String>,
    body: String,
}

/// Nothing is authentic but what was sealed, whatever stands in the headers.
#[test]
fn proofs() {
    let body = json!([event("order", order())]).to_string();
    let file = format!("[[keys]]\nid = \"k\"\nholder = \"dns.main\"\nsecret = \"{SECRET}\"\n");
    let ring = Keyring::parse("keys.toml", &file).unwrap();
    let signer = signer();
    let verifier = signer.verifier();
    let dns: Holder = "dns.main".parse().unwrap();
    let sealed = ring.sign(&dns, Direction::Order, body.as_bytes()).unwrap();
    let signed = signer.sign(Direction::Beacon, body.as_bytes());
    let sent = |seal: &sexton_protocol::Seal| {
        json!({ "key_id": seal.key_id, "mac": seal.mac, "body": body }).to_string()
    };
    Fuzz::new("proofs", Form::Json).seed(sent(&sealed)).seed(sent(&signed)).slow(2).run(|bytes| {
        let said: Sent = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let (key, mac, bytes) = (said.key_id.as_deref(), said.mac.as_deref(), said.body.as_bytes());
        let one = ring.verify(&dns, Direction::Order, bytes, key, mac);
        assert_eq!(ring.verify_any(Direction::Order, bytes, key, mac).is_ok(), one.is_ok());
        assert!(ring.verify_any(Direction::Outcome, bytes, key, mac).is_err());
        let other = verifier.verify(Direction::Beacon, bytes, key, mac);
        one.or(other).map_err(|error| error.to_string())?;
        assert_eq!(said.body, body, "something else is authentic");
        Ok(())
    });
}

/// Always the same: an input is told again by its number.
fn signer() -> BeaconSigner {
    let file = format!("[[keys]]\nid = \"s\"\nsecret = \"{SECRET}\"\n");
    BeaconSigner::parse("signer.toml", &file).unwrap()
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| error.to_string())
}

#[test]
fn key_files() {
    let two = format!(
        "# keys\n[[keys]]\nid = \"dns-1\"\nholder = \"dns.main\"\nsecret = \"{SECRET}\"\n\n[[keys]]\nid = \"s\"\n\
         instance = \"scheduler\"\nsecret = \"{SECRET}\"\nsign = false\n"
    );
    Fuzz::new("key-files", Form::Toml).seed(two).run(|bytes| {
        let ring = Keyring::parse("keys.toml", text(bytes)?).map_err(|error| error.to_string())?;
        if ring.holders().next().is_none() {
            // A file without keys says nothing that could be read again.
            return Ok(());
        }
        let file = ring.to_file();
        let again = Keyring::parse("keys.toml", file.expose_secret()).unwrap().to_file();
        assert_eq!(again.expose_secret(), file.expose_secret());
        Ok(())
    });
    let public = signer().verifier().to_file();
    Fuzz::new("signing-keys", Form::Toml)
        .seed(signer().to_file().expose_secret().as_bytes())
        .seed(format!("{public}{}", public.replace("\"s\"", "\"t\"")))
        .slow(2)
        .run(|bytes| {
            let text = text(bytes)?;
            let signer = BeaconSigner::parse("signer.toml", text).map_err(|error| error.to_string());
            let verifier = BeaconVerifier::parse("public.toml", text).map_err(|error| error.to_string());
            if let Ok(verifier) = &verifier
                && verifier.key_ids().next().is_some()
            {
                let file = verifier.to_file();
                assert_eq!(BeaconVerifier::parse("again", &file).unwrap().to_file(), file);
            }
            if let Ok(signer) = &signer {
                let file = signer.to_file();
                let again = BeaconSigner::parse("again", file.expose_secret()).unwrap().to_file();
                assert_eq!(again.expose_secret(), file.expose_secret());
            }
            signer.map(drop).or(verifier.map(drop))
        });
}

fn a_receipt() -> Value {
    let seen = |presence: &str| {
        json!({
            "is": "seen", "presence": presence, "evidence": "present until 2027-01-01", "at": 5,
            "fence": { "epoch": 1, "number": 9 }, "event": 3,
        })
    };
    let waived = json!({
        "is": "waived", "claim": "may_remain", "by": "ops", "evidence": "looked", "at": 6, "shown": "unknown",
    });
    let step = |name: &str, nature: &str, proof: Value| json!({ "stage": "purge", "step": name, "instance": "backup.main", "action": "delete", "nature": nature, "proof": proof });
    let remains = |step: &str, until: Value, evidence: &str| json!({ "step": step, "instance": "backup.main", "until": until, "evidence": evidence });
    let mut may_remain = remains("b", Value::Null, "looked");
    may_remain.as_object_mut().unwrap().remove("until");
    json!({
        "format": 1, "ledger": "l", "deletion": "d-17",
        "resource": {
            "id": "vm/web01", "scope": "tenants/acme", "identity": { "uuid": "u" }, "criticality": "irreplaceable",
        },
        "requested_by": "ops", "reason": "no longer needed", "created_at": 0, "purged_at": 7, "complete": false,
        "remains": [remains("a", json!("2027-01-01"), "present until 2027-01-01"), may_remain],
        "steps": [
            step("a", "destructive", seen("absent")), step("b", "destructive", waived),
            json!({ "stage": "hard", "step": "inventory.remove", "nature": "destructive", "proof": { "is": "decided", "at": 4, "event": 2 } }),
        ],
        "targets": { "backup.main": { "snapshots": [] } },
        "rests_on": { "chain": "d-17", "seq": 3, "hash": hex(&GENESIS) },
    })
}

#[test]
fn receipts() {
    Fuzz::new("receipt-bodies", Form::Json).seed(a_receipt().to_string()).run(|bytes| {
        let receipt: Receipt = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let again = serde_json::to_string(&receipt).unwrap();
        assert_eq!(serde_json::from_str::<Receipt>(&again).unwrap(), receipt);
        let _ = receipt.sentence();
        receipt.check().map_err(|error| error.to_string())
    });
    let (signer, body) = (signer(), a_receipt().to_string());
    let seal = signer.sign(Direction::Receipt, body.as_bytes());
    let signed = json!({ "body": body, "key_id": seal.key_id, "signature": seal.mac }).to_string();
    let keys = signer.verifier();
    Fuzz::new("receipts", Form::Json).seed(signed).slow(2).run(|bytes| {
        let signed: SignedReceipt = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let opened = receipt::open(&signed, &keys).map_err(|error| error.to_string())?;
        opened.signed.map_err(|error| error.to_string())?;
        assert_eq!(signed.body, body, "something else is authentic");
        opened.sound.map_err(|error| error.to_string())
    });
}

/// What is shown of a file: it is, whether or not its signature holds.
#[test]
fn files_of_the_archive() {
    let signer = signer();
    let keys = signer.verifier();
    let good = archive::seal(&archived::document(), &signer).unwrap();
    Fuzz::new("archive", Form::Json).seed(good).slow(4).run(|bytes| {
        let opened = archive::open(bytes, &keys).map_err(|error| error.to_string())?;
        let document = opened.document;
        let text = serde_json::to_string(&document).unwrap();
        assert_eq!(serde_json::from_str::<Document>(&text).unwrap(), document);
        let _ = (document.file_name(), document.entry(Timestamp::MAX, GENESIS));
        let deletion = document.read().map_err(|error| error.to_string())?;
        let _ = (deletion.undo_list(), deletion.may_remain(), deletion.quiet_after());
        for job in &deletion.jobs {
            let _ = (deletion.step_at(job), deletion.wants(job));
        }
        for waiver in &deletion.waivers {
            let _ = deletion.step_of(waiver);
        }
        document.trail().map_err(|error| error.to_string())?;
        if opened.signed.is_ok() {
            assert_eq!(document, archived::document(), "something else is authentic");
        }
        Ok(())
    });
}
