use super::*;
use crate::belts::census::listing::tests::listing;

const HOUR_MS: u64 = 3_600_000;

fn take(scope: &str, every_hours: u8) -> Take {
    Take { kind: "vm".parse().unwrap(), scope: scope.parse().unwrap(), every_hours, within_secs: 20 }
}

fn at(ms: u64) -> Timestamp {
    Timestamp(0).plus_ms(ms)
}

/// Of `tenants`.
fn latest(believed_ms: Option<u64>, refused_ms: Option<u64>) -> Latest {
    let refused = refused_ms.map(|ms| attempt("no answer").refusal(None, at(ms)));
    let (kind, scope) = ("vm".parse().unwrap(), "tenants".parse().unwrap());
    Latest { kind, scope, believed_at: believed_ms.map(at), refused }
}

fn attempt(why: &str) -> Attempt {
    let (kind, scope) = ("vm".parse().unwrap(), "tenants".parse().unwrap());
    Attempt { kind, scope, seen: Seen::default(), why: why.to_owned() }
}

#[track_caller]
fn due(last: &[Latest], now_ms: u64, is: bool) {
    let found = to_take(&[take("tenants", 24)], last, &[], Day::Calendar, at(now_ms));
    let seen = Seen::of(last.first());
    let expected = if is { vec![(take("tenants", 24), seen)] } else { Vec::new() };
    assert_eq!(found, expected, "{last:?} at {now_ms}");
}

#[test]
fn one_is_due_a_day_after_the_last_that_was_believed() {
    due(&[], 0, true);
    let last = [latest(Some(HOUR_MS), None)];
    due(&last, HOUR_MS, false);
    due(&last, 25 * HOUR_MS - 1, false);
    due(&last, 25 * HOUR_MS, true);
    // Of another kind, or another scope, is another.
    let image = Latest { kind: "image".parse().unwrap(), ..latest(Some(HOUR_MS), None) };
    let found = to_take(&[take("tenants", 24)], &[image], &[], Day::Calendar, at(HOUR_MS));
    assert_eq!(found, [(take("tenants", 24), Seen::default())]);
    let several = [take("tenants", 24), take("lab", 24)];
    let found = to_take(&several, &last, &[], Day::Calendar, at(2 * HOUR_MS));
    assert_eq!(found, [(take("lab", 24), Seen::default())]);
    let often = to_take(&[take("tenants", 6)], &last, &[], Day::Calendar, at(7 * HOUR_MS));
    assert_eq!(often.len(), 1, "as often as it says");
}

#[test]
fn one_that_came_to_nothing_is_not_tried_again_for_an_hour() {
    for believed in [None, Some(0)] {
        let refused = 30 * HOUR_MS;
        let last = [latest(believed, Some(refused))];
        due(&last, refused, false);
        due(&last, refused + HOUR_MS - 1, false);
        due(&last, refused + HOUR_MS, true);
    }
    // What was refused before the last that was believed is over.
    due(&[latest(Some(HOUR_MS), Some(HOUR_MS - 1))], 25 * HOUR_MS, true);
}

#[test]
fn what_others_hand_in_and_is_refused_puts_none_off() {
    let tried = latest(Some(0), Some(30 * HOUR_MS));
    let of_others = |ms: u64, before: Option<&Latest>| {
        let by = "platform".parse().unwrap();
        let refused = Refusal { not_taken: false, by, ..attempt("cut").noted(at(ms)) }.after(before);
        Latest { refused: Some(refused), ..latest(Some(0), None) }
    };
    due(&[of_others(30 * HOUR_MS, None)], 30 * HOUR_MS + 1, true);
    // And it does not hide that one was tried just now.
    let [first, last] = [31 * HOUR_MS - 2, 31 * HOUR_MS - 1];
    let both = of_others(last, Some(&of_others(first, Some(&tried))));
    due(std::slice::from_ref(&both), 31 * HOUR_MS - 1, false);
    due(&[both], 31 * HOUR_MS, true);
}

#[test]
fn one_that_is_being_taken_is_not_asked_for_twice() {
    let kept = [listing(&["a"])];
    assert_eq!(to_take(&[take("tenants", 24)], &[], &kept, Day::Calendar, at(0)), []);
    let other = to_take(&[take("lab", 24)], &[], &kept, Day::Calendar, at(0));
    assert_eq!(other.len(), 1, "of another scope");
}

#[test]
fn one_that_was_left_over_is_taken_anew_a_minute_after_its_time() {
    let left = listing(&["a"]);
    let later = |ms: u64| left.answer_by.plus_ms(ms);
    let due = |now: Timestamp| {
        to_take(&[take("tenants", 24)], &[], std::slice::from_ref(&left), Day::Calendar, now).len()
    };
    assert_eq!([due(left.begun_at), due(later(0)), due(later(59_999))], [0, 0, 0], "it may be judged yet");
    assert_eq!([due(later(60_000)), due(later(86_400_000))], [1, 1], "whoever took it has died");
}

#[test]
fn a_rehearsal_has_shorter_hours_but_for_a_few_seconds() {
    let last = [latest(Some(0), None)];
    let due_at = |length_ms: u64, now_ms: u64| {
        let day = Day::Rehearsal { length_ms };
        !to_take(&[take("tenants", 24)], &last, &[], day, at(now_ms)).is_empty()
    };
    assert_eq!([due_at(60_000, 59_999), due_at(60_000, 60_000)], [false, true]);
    assert_eq!([due_at(1, LEAST_MS - 1), due_at(1, LEAST_MS)], [false, true]);
}

#[test]
fn without_a_complete_one_for_two_intervals_it_is_a_lack() {
    let of = |last: &[Latest], now_ms: u64| missed(&[take("tenants", 24)], last, Day::Calendar, at(now_ms));
    assert_eq!(of(&[latest(Some(0), None)], 48 * HOUR_MS), []);
    let [untried] = of(&[latest(Some(0), None)], 48 * HOUR_MS + 1).try_into().unwrap();
    assert!(!untried.alarms && untried.to_string().ends_with("the last one was at 1970-01-01T00:00:00.000Z"));
    let [silent] = of(&[latest(Some(0), Some(30 * HOUR_MS))], 48 * HOUR_MS + 1).try_into().unwrap();
    assert!(silent.alarms, "it was tried since");
    let refused = |now_ms: u64| {
        let [refused] = of(&[latest(None, Some(5))], now_ms).try_into().unwrap();
        refused
    };
    let text = "no complete census of vm in tenants, which [census] take has every 24 h: there was never one; the last \
                attempt (1970-01-01T00:00:00.005Z): no answer";
    assert_eq!(
        (refused(6).alarms, refused(6).to_string().as_str()),
        (false, text),
        "it may be the first start"
    );
    assert_eq!([24 * HOUR_MS + 4, 24 * HOUR_MS + 5].map(|now_ms| refused(now_ms).alarms), [false, true]);
    let again = attempt("no answer").refusal(Some(&latest(None, Some(5))), at(23 * HOUR_MS));
    let again = attempt("no answer")
        .refusal(Some(&Latest { refused: Some(again), ..latest(None, None) }), at(24 * HOUR_MS));
    assert_eq!(again.failing_since, Some(at(5)), "however often it is tried");
    let [lasts] =
        of(&[Latest { refused: Some(again), ..latest(None, None) }], 24 * HOUR_MS + 5).try_into().unwrap();
    assert!(lasts.alarms);
    let judged = Refusal { not_taken: false, ..attempt("too few").noted(at(5)) };
    let [judged] = of(&[Latest { refused: Some(judged), ..latest(None, None) }], 6).try_into().unwrap();
    assert!(judged.alarms, "there was one, and it was not believed");
    let [untried] = of(&[], 0).try_into().unwrap();
    assert!(!untried.alarms && untried.to_string().ends_with("there was never one"), "{untried}");
    assert_eq!(missed(&[], &[], Day::Calendar, at(0)), [], "where nobody configures one, none is missed");
}

#[test]
fn one_that_was_not_believed_stands_though_nothing_is_listed_after_it() {
    let judged = |not_taken: bool| {
        let refused = Refusal { not_taken, ..attempt("too few").refusal(None, at(5)) };
        Latest { refused: Some(refused), ..latest(None, None) }
    };
    assert!(attempt("no answer").refusal(None, at(6)).not_taken);
    assert!(attempt("no answer").refusal(Some(&judged(true)), at(6)).not_taken);
    let standing = judged(false).refused.unwrap();
    let stands = attempt("no answer").refusal(Some(&judged(false)), at(6));
    assert_eq!(stands, Refusal { tried_at: Some(at(6)), ..standing }, "as it was");
    let stands = Latest { refused: Some(stands), ..latest(None, None) };
    assert_eq!(Seen::of(Some(&stands)).refused_at, Some(at(6)), "whoever looked before is too late");
    assert!(attempt("no answer").noted(at(6)).not_taken, "the audit trail has what happened");
    let since = Latest { believed_at: Some(at(6)), ..judged(false) };
    assert!(attempt("no answer").refusal(Some(&since), at(7)).not_taken, "one was believed since");
}

#[test]
fn what_passes_by_itself_is_no_attempt() {
    let (kind, scope): (Kind, Scope) = ("vm".parse().unwrap(), "tenants".parse().unwrap());
    let busy = NotTaken::Busy { kind: kind.clone(), scope, until: at(1) };
    for why in [busy, NotTaken::Paused("a test".into()), NotTaken::Review, NotTaken::Overtaken] {
        assert!(passes(&why), "{why}");
    }
    assert!(!passes(&NotTaken::NobodyLists(kind)) && !passes(&NotTaken::Gone));
}
