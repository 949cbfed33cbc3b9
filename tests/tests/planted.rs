//! The planted faults still fit: each changes what it says it changes, exactly once, and names a test that is there, or is one
//! of those that `tests/README.md` tells of. `scripts/planted` finds them.
use std::process::Command;

#[test]
fn each_planted_fault_still_fits() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/planted");
    let checked = Command::new(script).arg("--check").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    assert!(checked.status.success(), "{out}{err}");
    assert!(out.contains("simulator.toml"), "{out}");
}
