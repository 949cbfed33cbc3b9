//! What is destroyed is in the last archive as it was last: taken after the machine was stopped, and it was not switched on
//! again. Of what nobody has archived, because the plan does not or a person let it pass, nothing is asked.
use sexton_model::deletion::Deletion;
use sexton_model::job::Stage;

use super::{Act, Violation, violated};
use crate::simulation::platform::{Does, Truth};

/// Something was changed.
///
/// # Errors
/// If volumes are destroyed that are nowhere any more.
pub(super) fn destroyed(
    act: &Act,
    d: &Deletion,
    truth: &Truth,
    told: &impl Fn() -> String,
) -> Result<(), Violation> {
    let archives = d.plan.stage(Stage::Soft).steps.iter().any(|step| step.name == "backup.final");
    let passed = d.waivers.iter().any(|waiver| waiver.passes());
    if act.thing != "volumes" || act.deed.does != Does::Removes || !archives || passed {
        return Ok(());
    }
    match truth.not_in_the_archive(&act.vm) {
        Some(why) => violated("backup", format!("{}: {why}", told())),
        None => Ok(()),
    }
}
