//! The operator's program as people use it who have a token of their own, or nothing but the public keys: on separate processes,
//! whichever coordinator they ask.
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::installation::Installation;
use crate::waiting::wait_until;

/// Longest wait for anything, in seconds.
const PATIENCE_S: u64 = 60;
/// Both coordinators.
const BOTH: [usize; 2] = [0, 1];

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// A token that one coordinator has issued is what its bearer is at both, and nothing at either once the first one has revoked it.
pub fn a_token_is_good_at_both_coordinators(installation: &Installation, folder: &Path) {
    let new = ["token", "new", "ci", "--role", "requester", "--everywhere"];
    let issued = installation.sexton(&[&["--idempotency-key", "tonight"][..], &new].concat());
    let file = folder.join("ci.token");
    let mut made = std::fs::File::options();
    let mut made = made.write(true).create_new(true).mode(0o600).open(&file).unwrap();
    made.write_all(issued["secret"].as_str().unwrap().as_bytes()).unwrap();
    let ci = |nth: usize, arguments: &[&str]| installation.try_sexton_with_token(nth, &file, arguments);
    for nth in BOTH {
        let known = || {
            let found: Option<Value> = serde_json::from_slice(&ci(nth, &["whoami"]).stdout).ok();
            found.is_some_and(|me| me["name"] == "ci" && me["role"] == "requester")
        };
        wait_until(&format!("coordinator {nth} knows who shows the token"), PATIENCE_S, known);
        let refused = ci(nth, &["pause", "--reason", "no more"]);
        let why = said(&refused);
        assert!(!refused.status.success() && why.contains("pausing needs the role operator"), "{why}");
    }
    // The same request at the other one: the token is there, and its secret was shown once.
    let again = [&["--idempotency-key", "tonight"][..], &new].concat();
    let again = installation.try_sexton_at(1, &again);
    let why = said(&again);
    assert!(!again.status.success() && why.contains("its secret was in that answer alone"), "{why}");

    installation.sexton(&["token", "revoke", "ci"]);
    for nth in BOTH {
        let refused = ci(nth, &["whoami"]);
        let why = said(&refused);
        assert!(!refused.status.success() && why.contains("the token ci was revoked"), "{why}");
    }
    let events = said(&installation.try_sexton_at(1, &["audit", "--access"]));
    assert_eq!(events.matches("POST /v1/pauses").count(), 2, "each refusal is written down: {events}");
}

/// The receipt of a machine that is gone is verified with the public keys, and no word of it may be another one.
pub fn a_receipt_is_verified_by_the_keys_alone(installation: &Installation, resource: &str, folder: &Path) {
    let receipt = || installation.try_sexton(&["receipt", resource]);
    wait_until("its receipt is signed", PATIENCE_S, || receipt().status.success());
    let (file, keys) = (folder.join("receipt.json"), installation.folder().join("keys/beacon.public.toml"));
    let verify = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let (file, keys) = (file.display().to_string(), keys.display().to_string());
        installation.try_sexton(&["verify", "--receipt", &file, "--key", &keys])
    };
    let text = String::from_utf8(receipt().stdout).unwrap();
    let verified = verify(&text);
    assert!(verified.status.success(), "{}", said(&verified));
    let found: Value = serde_json::from_slice(&verified.stdout).unwrap();
    let good = json!("verified");
    assert_eq!((&found["signature"], &found["contents"]), (&good, &good), "{found}");
    let changed = text.replacen(resource, "vm/another", 1);
    assert_ne!(changed, text, "it does not name {resource}");
    let refused = verify(&changed);
    assert!(!refused.status.success() && said(&refused).contains("NOT VERIFIED"), "{}", said(&refused));
}
