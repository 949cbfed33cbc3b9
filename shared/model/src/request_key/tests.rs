use super::*;

const FIRST: Hash = [1; 32];
const OTHER: Hash = [2; 32];
const SENT: Timestamp = Timestamp(1_000_000);

fn at(after_us: i64) -> Timestamp {
    Timestamp(SENT.0 + after_us)
}

fn held() -> Standing {
    Standing { request: FIRST, attempt: 3, first_sent: SENT, held_until: at(HELD_US), answer: None }
}

fn answer() -> KeptAnswer {
    KeptAnswer { status: 201, body: "{}".to_owned() }
}

fn answered() -> Standing {
    Standing { answer: Some(answer()), ..held() }
}

#[test]
fn what_becomes_of_a_request() {
    let again = Verdict::Again { attempt: 4 };
    let anew = Verdict::First { attempt: 4 };
    for (standing, request, now, expected) in [
        (None, FIRST, at(0), Verdict::First { attempt: 1 }),
        // Held: nobody else may, whether or not it is the same.
        (Some(held()), FIRST, at(1), Verdict::Busy),
        (Some(held()), FIRST, at(HELD_US - 1), Verdict::Busy),
        (Some(held()), OTHER, at(1), Verdict::Other),
        // Its attempt is over.
        (Some(held()), FIRST, at(HELD_US), again.clone()),
        (Some(held()), OTHER, at(HELD_US), Verdict::Other),
        (Some(held()), FIRST, at(KEPT_US - 1), again),
        // Answered: at once, and for seven days.
        (Some(answered()), FIRST, at(1), Verdict::Answered(answer())),
        (Some(answered()), OTHER, at(1), Verdict::Other),
        (Some(answered()), FIRST, at(KEPT_US - 1), Verdict::Answered(answer())),
        (Some(answered()), OTHER, at(KEPT_US - 1), Verdict::Other),
        // Forgotten. An attempt of before can still not be mistaken for the new one.
        (Some(answered()), FIRST, at(KEPT_US), anew.clone()),
        (Some(answered()), OTHER, at(KEPT_US), anew.clone()),
        (Some(held()), OTHER, at(KEPT_US), anew),
    ] {
        let asked = format!("{standing:?} {now}");
        assert_eq!(judge(standing, &request, now), expected, "{asked}");
    }
    // Whoever is at work is not forgotten, however long ago it was first sent.
    let late = Standing { held_until: at(KEPT_US + HELD_US), ..held() };
    assert_eq!(judge(Some(late.clone()), &FIRST, at(KEPT_US)), Verdict::Busy);
    assert_eq!(judge(Some(late), &OTHER, at(KEPT_US)), Verdict::Other);
}

/// What is let through unlooked at must not be done anew.
#[test]
fn what_was_sent_before_begins_nothing() {
    for (verdict, without, noted) in [
        (Verdict::First { attempt: 1 }, false, false),
        (Verdict::Again { attempt: 2 }, false, true),
        (Verdict::Answered(answer()), true, true),
        (Verdict::Busy, true, true),
        (Verdict::Other, false, false),
    ] {
        assert_eq!(
            (verdict.begins_nothing(false), verdict.begins_nothing(true)),
            (without, noted),
            "{verdict:?}"
        );
    }
}

#[test]
fn which_answers_are_given_again() {
    for status in [200, 201, 204, 299, 400, 404, 405, 409, 410, 413, 422] {
        assert!(is_remembered(status), "{status}");
    }
    for status in [100, 199, 300, 302, 401, 403, 408, 425, 429, 500, 503, 504, 599] {
        assert!(!is_remembered(status), "{status}");
    }
}

#[test]
fn keys_are_bounded() {
    let longest = "k".repeat(KEY_MAX);
    for good in ["a", "!", "~", "5b1f6a52-8a3c-4a53-9a3b-0c2f1f6f1a01", "import/2026-11#3", &longest] {
        assert_eq!(good.parse::<RequestKey>().unwrap().as_str(), good);
    }
    let too_long = "k".repeat(KEY_MAX + 1);
    for bad in ["", " ", "a b", "a\n", "ä", "\u{7f}", "a\0", &too_long] {
        assert_eq!(bad.parse::<RequestKey>(), Err(InvalidKey), "{bad:?}");
    }
}

#[test]
fn requests_under_one_key_have_keys_of_their_own() {
    let key: RequestKey = "k".repeat(KEY_MAX).parse().unwrap();
    assert_eq!(key.nth(0), key);
    assert_eq!(key.nth(1), key);
    let keys: std::collections::BTreeSet<_> = (1..=100).map(|number| key.nth(number)).collect();
    assert_eq!(keys.len(), 100);
    for number in 1..=100 {
        assert_eq!(key.nth(number), key.nth(number));
        assert!(key.nth(number).as_str().parse::<RequestKey>().is_ok());
    }
    assert_ne!(key.nth(2), "other".parse::<RequestKey>().unwrap().nth(2));
}

#[test]
fn a_request_is_all_of_its_bytes() {
    let hash = request_hash(&[b"POST", b"/v1/pauses", b"{}"]);
    assert_eq!(hash, request_hash(&[b"POST", b"/v1/pauses", b"{}"]));
    for other in [
        [&b"PUT"[..], b"/v1/pauses", b"{}"],
        [b"POST", b"/v1/pauses/", b"{}"],
        [b"POST", b"/v1/pauses", b"{} "],
        // The same bytes, cut elsewhere.
        [b"POST/", b"v1/pauses", b"{}"],
        [b"POST", b"/v1/pauses{", b"}"],
    ] {
        assert_ne!(hash, request_hash(&other), "{other:?}");
    }
}
