//! What the job table has to refuse, tried in it, in the writer's own transaction, which is rolled back.
use std::sync::Arc;

use sexton_model::access::Registrar;
use sexton_model::canary::{Probe, Rehearsed, actor};
use sexton_model::job::Stage;
use sexton_model::plan::Plan;
use sexton_model::{DeletionId, JobId};

use super::connection::Db;
use super::load::{Bodies, load};
use super::memory::{Memory, Staged};
use super::run::Setting;
use super::{admitting, inventory, jobs, run};
use crate::LedgerError;
use crate::rehearsal::{self, Done, Next, Op, Script};

/// Do what the script asks for, to its end.
pub(super) fn carry_out(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    (setting, probe, plan): (&Setting, &Probe, &Arc<Plan>),
) -> Result<Rehearsed, LedgerError> {
    let policy = setting.policy.get();
    let mut script = Script::new(probe.clone(), plan.clone(), staged.now, (&policy, setting.day));
    let mut done = Done::Quietly;
    loop {
        done = match script.next(done) {
            Next::Over(came) => return Ok(came),
            Next::Do(Op::Register(resources)) => Done::Registered(inventory::register(
                db,
                memory,
                staged,
                Some(&policy),
                (&resources, &Registrar::Trusted, &actor(), false),
            )?),
            Next::Do(Op::Create(new)) => Done::Created(inventory::create(db, staged, setting, &new)?),
            Next::Do(Op::Arrive(deletions, stage)) => {
                arrive(db, staged, (&deletions, stage))?;
                Done::Quietly
            }
            Next::Do(Op::Spend(group)) => {
                admitting::spend(db, setting, &group, staged.now)?;
                Done::Quietly
            }
            Next::Do(Op::Admit(jobs)) => {
                admitting::admit(db, staged, setting, &jobs)?;
                Done::Quietly
            }
            Next::Do(Op::Claim(jobs)) => claim(db, memory, staged, (setting, &script, &jobs))?,
        };
    }
}

fn arrive(db: &Db, staged: &Staged, (deletions, stage): (&[DeletionId], Stage)) -> Result<(), LedgerError> {
    let mut bodies = Bodies::new(deletions.len());
    let mut found = load(db, deletions, &mut bodies)?;
    let rows: Vec<_> =
        found.values_mut().flat_map(|(deletion, _)| rehearsal::rows(deletion, stage, staged.now)).collect();
    jobs::update(db, &rows.iter().collect::<Vec<_>>())
}

fn claim(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    (setting, script, jobs): (&Setting, &Script, &[JobId]),
) -> Result<Done, LedgerError> {
    let batch = Arc::new(rehearsal::intents(jobs));
    let loaded = run::load(db, memory, staged, setting, (0, &batch, 0..batch.len()))?.loaded;
    script.claims(loaded, jobs, (&setting.limits, &setting.policy.get()))
}
