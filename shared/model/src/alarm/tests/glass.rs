//! Who has broken the glass.
use super::*;
use crate::belts::one_shot::TakenBack;

/// Else whoever breaks it could take it back as soon as the stage has begun, and before anybody has looked.
#[test]
fn broken_glass_alarms_though_it_was_taken_back() {
    let back = TakenBack { by: "eva".parse().unwrap(), at: Timestamp(3) };
    let taken_back = OneShot { taken_back: Some(back), ..one_shot(1, true, 11) };
    let alarms = |now: i64| {
        let mut holding = Holding::default();
        let facts = Facts { one_shots: vec![taken_back.clone()], ..Facts::default() };
        facts.alarms(Timestamp(now), &mut holding);
        holding.finish()
    };
    let [alarm] = &alarms(10)[..] else { panic!("one") };
    assert_eq!(alarm.key(), "broken_glass/override/1", "the same one as before");
    assert!(alarm.text.contains("eva took it back at ") && alarm.text.contains(": fire; "), "{alarm:?}");
    assert!(alarm.text.ends_with("hard of d-1 may have begun by then"), "{alarm:?}");
    assert!(alarm.todo.contains("sexton show d-1") && !alarm.todo.contains("--take-back"), "{alarm:?}");
    assert_eq!(alarms(11), [], "as long as it would have been good");
}
