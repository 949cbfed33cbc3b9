//! What is looked at and told at announce, whatever happens later.
use super::*;

const LOOK: &str = "{ do = \"hypervisor.inspect\" }, ";
const LOOKS: &str = "nature = \"inspect\"\nearliest = \"announce\"\ndeadline_ms = 1000\nlongest_call_ms = 1000\n\
                     about = \"look\"\n";

/// Whoever can look has to, before anything is destroyed there: what was not pinned is compared with nothing.
#[test]
fn what_nobody_has_looked_at_is_not_destroyed() {
    assert!(GOOD.contains(LOOK));
    let unseen = GOOD.replacen(LOOK, "", 1);
    let expected = "step hypervisor.undefine destroys what nobody has looked at and pinned: expected \
                    hypervisor.inspect at announce";
    assert_eq!(problems(&unseen), [(13, expected.to_owned())]);
    // Also in a rehearsal: what is tried there is to go everywhere else.
    let rehearsal = unseen.replacen("version = 1", "version = 1\nrehearsal = true", 1);
    let refused = Plan::parse("vm.toml", &rehearsal, &catalogue(), true).unwrap_err();
    assert!(refused.to_string().ends_with(expected), "{refused}");
}

/// Of several actions that look any will do; who has none has nothing to pin.
#[test]
fn who_cannot_look_need_not() {
    let tidy =
        IPAM.replace("ipam", "tidy").replace("hard", "purge").replace("releases = [\"address\"]\n", "");
    let plan = GOOD.replacen("{ do = \"receipt\" }", "{ do = \"tidy.release\" }, { do = \"receipt\" }", 1);
    let (mut blind, mut looking) = (catalogue(), catalogue());
    blind.add("tidy.toml", &tidy).unwrap();
    assert_eq!(problems_by(&blind, &plan), []);
    looking.add("tidy.toml", &format!("{tidy}[actions.see]\n{LOOKS}[actions.watch]\n{LOOKS}")).unwrap();
    let found = problems_by(&looking, &plan);
    let [(19, reason)] = &found[..] else { panic!("{found:?}") };
    assert!(reason.ends_with("expected tidy.see or tidy.watch at announce"), "{reason}");
    let seen = plan.replacen(LOOK, &format!("{LOOK}{{ do = \"tidy.watch\" }}, "), 1);
    assert_eq!(problems_by(&looking, &seen), []);
}

/// A waiver of a step lets pass what depends on it, and nobody would have been told.
#[test]
fn a_notice_depends_on_nothing() {
    let after = TELL.replace(" }", ", after = [\"hypervisor.inspect\"] }");
    let found = problems(&GOOD.replacen(TELL, &after, 1));
    let [(6, reason)] = &found[..] else { panic!("{found:?}") };
    let expected = "step hypervisor.tell: after = hypervisor.inspect: people are told all the same";
    assert!(reason.starts_with(expected), "{reason}");
    // What tells people later on may.
    let stop = "{ do = \"hypervisor.stop\" }";
    let again = "{ do = \"hypervisor.tell\", name = \"again\", after = [\"hypervisor.stop\"] }";
    assert_eq!(problems(&GOOD.replacen(stop, &format!("{stop}, {again}"), 1)), []);
}
