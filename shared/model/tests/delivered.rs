//! The plan that is delivered for virtual machines, as it was designed: stages, dates, steps in their order, and which of
//! them can be undone. And that for images: who uses one is asked in each stage.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use sexton_model::catalogue::{Catalogue, Nature};
use sexton_model::job::Stage;
use sexton_model::plan::Plan;

use Nature::{Adds, Check, Destructive, Inspect, Reversible};

const SUBSYSTEMS: [&str; 8] = [
    include_str!("../../../deploy/subsystems/accounting.toml"),
    include_str!("../../../deploy/subsystems/backup.toml"),
    include_str!("../../../deploy/subsystems/config.toml"),
    include_str!("../../../deploy/subsystems/dns.toml"),
    include_str!("../../../deploy/subsystems/hypervisor.toml"),
    include_str!("../../../deploy/subsystems/ipam.toml"),
    include_str!("../../../deploy/subsystems/monitoring.toml"),
    include_str!("../../../deploy/subsystems/notifier.toml"),
];
const VM: &str = include_str!("../../../deploy/plans/vm.toml");
const IMAGE: &str = include_str!("../../../deploy/plans/image.toml");

/// A stage, its days after the due date, and its steps.
type Designed = (Stage, i32, &'static [(&'static str, Nature)]);

const DESIGNED: [Designed; 5] = [
    (
        Stage::Announce,
        -5,
        &[
            // First of all: it compares the identity.
            ("hypervisor.inspect", Inspect),
            ("dns.inspect", Inspect),
            ("ipam.inspect", Inspect),
            ("monitoring.inspect", Inspect),
            ("backup.inspect", Inspect),
            ("accounting.inspect", Inspect),
            ("config.inspect", Inspect),
            ("notifier.inspect", Inspect),
            ("notifier.announce", Reversible),
        ],
    ),
    (
        Stage::Soft,
        0,
        &[
            ("monitoring.silence", Reversible),
            ("hypervisor.stop", Reversible),
            ("backup.final", Adds),
            ("accounting.stop", Reversible),
            ("config.withdraw", Reversible),
        ],
    ),
    (
        Stage::Hard,
        3,
        &[
            ("hypervisor.check_off", Check),
            ("hypervisor.undefine", Destructive),
            ("dns.remove", Destructive),
            ("ipam.release", Destructive),
            ("monitoring.remove_target", Destructive),
            ("backup.remove_schedule", Destructive),
            ("config.revoke", Destructive),
            ("inventory.remove", Destructive),
        ],
    ),
    (
        Stage::Purge,
        8,
        &[
            ("hypervisor.delete_volumes", Destructive),
            ("backup.delete_archives", Destructive),
            ("monitoring.delete_history", Destructive),
            ("receipt", Check),
        ],
    ),
    (Stage::Recycle, 38, &[]),
];

fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::default();
    for (n, text) in SUBSYSTEMS.into_iter().enumerate() {
        catalogue.add(&format!("subsystem {n}"), text).unwrap();
    }
    catalogue
}

#[test]
fn the_plan_for_machines_is_the_one_that_was_designed() {
    let plan = Plan::parse("vm.toml", VM, &catalogue(), false).unwrap();
    for (stage, offset_days, steps) in DESIGNED {
        let planned = plan.stage(stage);
        assert_eq!(planned.offset_days, offset_days, "{stage}");
        // What is read again before a stage is not written in a plan.
        let written = planned.steps.iter().filter(|step| !step.name.contains('@'));
        let written: Vec<_> = written.map(|step| (step.name.as_str(), step.nature)).collect();
        assert_eq!(written, steps, "{stage}");
    }
}

/// What is read again before a stage is read before those that have a step of the same subsystem.
#[test]
fn who_uses_an_image_is_asked_before_each_stage_and_nothing_acts_before_hard() {
    let plan = Plan::parse("image.toml", IMAGE, &catalogue(), false).unwrap();
    for (stage, last) in [
        (Stage::Announce, "hypervisor.inspect_image"),
        (Stage::Soft, "hypervisor.check_unused"),
        (Stage::Hard, "hypervisor.check_still_unused"),
        (Stage::Purge, "hypervisor.delete_image"),
    ] {
        let names: Vec<&str> = plan.stage(stage).steps.iter().map(|step| step.name.as_str()).collect();
        let again = format!("hypervisor.inspect_image@{stage}");
        let asked = if stage == Stage::Announce { "hypervisor.inspect_image" } else { again.as_str() };
        assert_eq!((names[0], names.contains(&last)), (asked, true), "{stage}: {names:?}");
    }
    let acting = plan.stage(Stage::Soft).steps.iter().filter(|step| !matches!(step.nature, Inspect | Check));
    assert_eq!(acting.count(), 0);
}

/// Whatever is given away is given away after the machine that uses it is no more, and the linter insists on it.
#[test]
fn what_the_machine_uses_is_released_after_it() {
    let catalogue = catalogue();
    let after = ", after = [\"hypervisor.undefine\"]";
    for step in ["dns.remove", "ipam.release", "config.revoke"] {
        let (with, without) = (format!("{{ do = \"{step}\"{after} }}"), format!("{{ do = \"{step}\" }}"));
        assert!(VM.contains(&with), "{step}");
        let refused = Plan::parse("vm.toml", &VM.replace(&with, &without), &catalogue, false).unwrap_err();
        assert!(refused.to_string().contains(&format!("step {step} releases ")), "{refused}");
    }
}

/// A machine that may remain keeps whatever it would miss: its names, its backups, and that it is watched.
#[test]
fn all_that_a_machine_would_miss_depends_on_its_end() {
    let plan = Plan::parse("vm.toml", VM, &catalogue(), false).unwrap();
    let later = [Stage::Hard, Stage::Purge].into_iter().flat_map(|stage| &plan.stage(stage).steps);
    let destroys = later.filter(|step| step.nature == Destructive && step.name != "hypervisor.undefine");
    let undefine = "hypervisor.undefine".to_owned();
    let alone: Vec<_> =
        destroys.filter(|step| !step.after.contains(&undefine)).map(|step| step.name.as_str()).collect();
    assert!(alone.is_empty(), "{alone:?}");
}
