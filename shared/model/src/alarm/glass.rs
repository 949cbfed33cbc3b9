//! Somebody let what they want to delete pass a belt, with nobody else.
use crate::alarm::{Alarm, AlarmKind, Subject};
use crate::belts::one_shot::OneShot;

/// That the glass was broken. It holds for as long as it was given, taken back or not: else whoever breaks it could take it back as
/// soon as the stage has begun, and before anybody has looked. `undone`: what can still be undone of its deletion, if anything.
pub(super) fn broken(one: &OneShot, undone: Option<&str>) -> Alarm {
    let OneShot { id, deletion, stage, by, until, .. } = one;
    let (since, ask) = match &one.taken_back {
        None => (
            format!("{stage} of {deletion} may begin until {until}"),
            format!("ask {by} whether it is meant; sexton override --take-back {id} if not"),
        ),
        Some(back) => (
            format!(
                "{} took it back at {}, and {stage} of {deletion} may have begun by then",
                back.by, back.at
            ),
            format!("ask {by} what it was for; sexton show {deletion} says what has begun"),
        ),
    };
    let todo = match undone {
        Some(undone) => format!("{ask}; what can be undone: {undone}"),
        None => ask,
    };
    Alarm::new(AlarmKind::BrokenGlass, None, Subject::Override { id: *id }, format!("{one}; {since}"), todo)
}
