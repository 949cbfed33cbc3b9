//! Who may say what.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use secrecy::ExposeSecret;
use sexton_protocol::{AuthError, BeaconSigner, BeaconVerifier, Direction, Holder, Keyring};

const SECRET: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

fn dns() -> Holder {
    "dns.main".parse().unwrap()
}

fn check(
    ring: &Keyring,
    direction: Direction,
    body: &[u8],
    key: Option<&str>,
    mac: Option<&str>,
) -> Result<(), AuthError> {
    ring.verify(&dns(), direction, body, key, mac)
}

#[test]
fn only_the_very_body_in_the_very_direction_under_the_very_key_is_accepted() {
    let ipam: Holder = "ipam.main".parse().unwrap();
    let ring = Keyring::generate([dns(), ipam.clone(), Holder::Scheduler], &mut rand::rng());
    for direction in Direction::ALL {
        let seal = ring.sign(&dns(), direction, b"body").unwrap();
        let (key, mac) = (Some(seal.key_id.as_str()), Some(seal.mac.as_str()));
        assert_eq!(check(&ring, direction, b"body", key, mac), Ok(()));
        assert_eq!(ring.verify_any(direction, b"body", key, mac), Ok(&dns()));
        assert_eq!(check(&ring, direction, b"bodY", key, mac), Err(AuthError::Mismatch));
        for other in Direction::ALL.into_iter().filter(|d| *d != direction) {
            assert_eq!(check(&ring, other, b"body", key, mac), Err(AuthError::Mismatch));
        }
        assert!(matches!(
            ring.verify(&ipam, direction, b"body", key, mac),
            Err(AuthError::UnknownKey { .. })
        ));
        assert_eq!(check(&ring, direction, b"body", None, mac), Err(AuthError::MissingKey));
        assert_eq!(check(&ring, direction, b"body", key, None), Err(AuthError::MissingProof));
        for garbage in ["", "%%%", "AAAA", &"A".repeat(10_000), &seal.mac[1..]] {
            let found = check(&ring, direction, b"body", key, Some(garbage));
            assert_eq!(found, Err(AuthError::Malformed { expected: 32 }), "{garbage:.20}");
        }
        let forged = ring.sign(&ipam, direction, b"body").unwrap();
        assert_eq!(check(&ring, direction, b"body", key, Some(&forged.mac)), Err(AuthError::Mismatch));
    }
}

#[test]
fn keys_rotate() {
    let file = |sign: bool| {
        format!(
            "[[keys]]\nid = \"old\"\nholder = \"dns.main\"\nsecret = \"{SECRET}\"\n\
             [[keys]]\nid = \"new\"\nholder = \"dns.main\"\nsecret = \"{}\"\nsign = {sign}\n",
            SECRET.replace('M', "N")
        )
    };
    let handed_out = Keyring::parse("k", &file(false)).unwrap();
    let in_use = Keyring::parse("k", &file(true)).unwrap();
    let old = handed_out.sign(&dns(), Direction::Order, b"x").unwrap();
    let new = in_use.sign(&dns(), Direction::Order, b"x").unwrap();
    assert_eq!((old.key_id.as_str(), new.key_id.as_str()), ("old", "new"));
    for seal in [old, new] {
        let accepted = check(&handed_out, Direction::Order, b"x", Some(&seal.key_id), Some(&seal.mac));
        assert_eq!(accepted, Ok(()));
    }
}

#[test]
fn a_key_file_is_strict_and_never_quoted() {
    let entry = |id: &str, holder: &str, secret: &str| {
        format!("[[keys]]\nid = \"{id}\"\nholder = \"{holder}\"\nsecret = \"{secret}\"\n")
    };
    for (text, says) in [
        (entry("a", "dns.main", "c2hvcnQ="), "32 to 64 bytes"),
        (entry("a", "dns.main", "%%% not base64"), "base64"),
        (entry("", "dns.main", SECRET), "id"),
        (entry("a", "dns", SECRET), "an instance such as dns.main"),
        // Swapped.
        (entry("a", SECRET, "dns.main"), "base64"),
        (entry("a", SECRET, SECRET), "an instance such as dns.main"),
        (entry(SECRET, "dns.main", "a"), "looks like a secret"),
        (entry("a", "dns.main", SECRET) + &entry("a", "scheduler", SECRET), "twice"),
        (entry("a", "dns.main", SECRET) + "sing = true\n", "sing"),
        (format!("[[keys]]\nid = \"a\"\nholder = \"dns.main\"\nsecret = [\"{SECRET}\"]\n"), "line"),
        // At the very beginning of a line, and behind a character of several bytes.
        (entry("a", "dns.main", SECRET) + "\n= 1\n", "line 6"),
        (entry("ä", "dns.main", SECRET) + "ä\u{1}ä", "line 5"),
    ] {
        let error = Keyring::parse("keys.toml", &text).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("keys.toml"), "{error}");
        assert!(!error.contains(SECRET), "{error}");
    }
    let ring = Keyring::parse("k", &entry("a", "dns.main", SECRET)).unwrap();
    assert!(!format!("{ring:?}").contains("MDEy"));
    let again = Keyring::parse("k", ring.to_file().expose_secret()).unwrap();
    assert_eq!(
        again.sign(&dns(), Direction::Order, b"x").unwrap(),
        ring.sign(&dns(), Direction::Order, b"x").unwrap()
    );
    assert_eq!(ring.only(&Holder::Scheduler).holders().count(), 0);
}

#[test]
fn everyone_can_check_a_beacon_and_nobody_else_can_make_one() {
    let signer = BeaconSigner::generate("one", &mut rand::rng());
    let again = BeaconSigner::parse("k", signer.to_file().expose_secret()).unwrap();
    let verifier = BeaconVerifier::parse("k", &signer.verifier().to_file()).unwrap();
    let seal = again.sign(Direction::Beacon, b"x");
    let (key, mac) = (Some(seal.key_id.as_str()), Some(seal.mac.as_str()));
    assert_eq!(verifier.verify(Direction::Beacon, b"x", key, mac), Ok(()));
    assert_eq!(verifier.verify(Direction::Beacon, b"y", key, mac), Err(AuthError::Mismatch));
    assert_eq!(verifier.verify(Direction::Event, b"x", key, mac), Err(AuthError::Mismatch));
    assert_eq!(verifier.verify(Direction::Beacon, b"x", None, mac), Err(AuthError::MissingKey));
    assert_eq!(verifier.verify(Direction::Beacon, b"x", key, None), Err(AuthError::MissingProof));
    let malformed = Err(AuthError::Malformed { expected: 64 });
    assert_eq!(verifier.verify(Direction::Beacon, b"x", key, Some("?")), malformed);
    let impostor = BeaconSigner::generate("one", &mut rand::rng()).sign(Direction::Beacon, b"x");
    assert_eq!(verifier.verify(Direction::Beacon, b"x", key, Some(&impostor.mac)), Err(AuthError::Mismatch));
    let other = BeaconSigner::generate("two", &mut rand::rng()).sign(Direction::Beacon, b"x");
    assert!(matches!(
        verifier.verify(Direction::Beacon, b"x", Some(&other.key_id), Some(&other.mac)),
        Err(AuthError::UnknownKey { .. })
    ));
    assert!(!format!("{signer:?}").contains("secret"));
}
