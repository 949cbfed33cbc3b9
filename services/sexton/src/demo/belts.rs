//! What happens beside the play: a record that was made for another machine of the same name is refused, and what a
//! pause covers does not begin before it is lifted.
use std::collections::BTreeMap;

use anyhow::Context;
use sexton_coordinator::Engine;
use sexton_ledger::{DeletionView, Intent, Ledger};
use sexton_model::belts::PauseSelector;
use sexton_model::decide::Event;
use sexton_model::job::{Job, JobState, Stage, StateName};
use sexton_model::resource::{Identity, Resource};
use sexton_model::{Actor, DeletionId};
use uuid::Uuid;

use super::screen::Screen;
use super::{Checks, view};

/// The machine that was re-created since it was registered.
pub const STRANGER: &str = "spare01";
/// The machine whose scope is paused.
pub const PAUSED: &str = "db01";
/// Its scope.
const NIGHT: &str = "demo/night";
/// Looks for which the pause stays: a day of the demo.
const LOOKS: u32 = 10;

/// The machines as they were registered: the one with the UUID of an earlier machine, the other in a scope of its own.
///
/// # Errors
/// If a name of the demo is none.
pub fn registered(mut resources: Vec<Resource>) -> anyhow::Result<Vec<Resource>> {
    for resource in &mut resources {
        let id = resource.id.to_string();
        if id == format!("vm/{STRANGER}") {
            let earlier = BTreeMap::from([("uuid".to_owned(), Uuid::new_v4().to_string())]);
            resource.identity = Identity::try_from(earlier)?;
        } else if id == format!("vm/{PAUSED}") {
            resource.scope = NIGHT.parse()?;
        }
    }
    Ok(resources)
}

/// Both scenes, and what was seen of them.
pub struct Belts {
    stranger: DeletionId,
    paused: DeletionId,
    /// The pause while it is in force.
    pause: Option<i64>,
    looks: u32,
    refused: Option<String>,
    /// The states that the first job of the paused machine had during the pause, but for waiting to be due.
    during: Vec<StateName>,
    after: bool,
}

impl Belts {
    /// Pause the scope, before anything of it is due.
    ///
    /// # Errors
    /// If the job table does not do it.
    pub async fn begin(
        ledger: &dyn Ledger,
        by: &Actor,
        (stranger, paused): (DeletionId, DeletionId),
    ) -> anyhow::Result<Self> {
        let covers = PauseSelector { scope: Some(NIGHT.parse()?), ..PauseSelector::default() };
        let pause = Some(ledger.pause(covers, by, "nobody is there").await?.pause.id);
        let (refused, during) = (None, Vec::new());
        Ok(Self { stranger, paused, pause, looks: 0, refused, during, after: false })
    }

    /// Look once, and do what is next. Whether both scenes are over.
    ///
    /// # Errors
    /// If the job table does not do it.
    pub async fn go_on(
        &mut self,
        (ledger, engine): (&dyn Ledger, &Engine),
        by: &Actor,
        (screen, kills): (&mut Screen, u32),
    ) -> anyhow::Result<bool> {
        let (stranger, paused) = (view(ledger, self.stranger).await?, view(ledger, self.paused).await?);
        screen.update(&stranger, kills);
        screen.update(&paused, kills);
        if self.refused.is_none()
            && let JobState::Parked { reason } = &announcement(&stranger)?.state
        {
            self.refused = Some(reason.clone());
            screen.say(&format!("{STRANGER} is another machine by now, so nothing is done: {reason}"));
            cancel(engine, self.stranger, by, "it was for another machine").await?;
        }
        let state = announcement(&paused)?.state.name();
        match self.pause {
            Some(pause) => {
                if state != StateName::Scheduled {
                    self.during.push(state);
                }
                self.looks += u32::from(state == StateName::Held);
                if self.looks > LOOKS {
                    ledger.resume(pause, by, None).await??;
                    self.pause = None;
                    screen.say(&format!("{PAUSED} was held for a day; the pause is lifted now"));
                }
            }
            None if !self.after && state == StateName::Done => {
                self.after = true;
                cancel(engine, self.paused, by, "only a pause was to be shown").await?;
            }
            None => {}
        }
        Ok(!stranger.deletion.status.live() && !paused.deletion.status.live())
    }

    /// What was expected of both.
    ///
    /// # Errors
    /// If the job table cannot be read.
    pub async fn check(&self, ledger: &dyn Ledger, checks: &mut Checks) -> anyhow::Result<()> {
        let refused = self.refused.as_deref().unwrap_or_default();
        let why = format!("a record for another machine called {STRANGER} was refused");
        checks.expect(refused.contains("uuid"), &why);
        let held = !self.during.is_empty() && self.during.iter().all(|state| *state == StateName::Held);
        checks.expect(held, &format!("nothing of {PAUSED} began during the pause"));
        checks.expect(self.after, &format!("{PAUSED} was announced after the pause, and cancelled"));
        for (name, id) in [(STRANGER, self.stranger), (PAUSED, self.paused)] {
            let chain = ledger.verify_chain(id).await?;
            checks.expect(chain.is_ok(), &format!("the audit chain of {name} verifies"));
        }
        Ok(())
    }
}

fn announcement(view: &DeletionView) -> anyhow::Result<&Job> {
    view.deletion.stage_job(Stage::Announce).context("a record without an announcement")
}

/// Cancel a record.
///
/// # Errors
/// If the job table does not do it, or refuses.
pub async fn cancel(engine: &Engine, deletion: DeletionId, by: &Actor, reason: &str) -> anyhow::Result<()> {
    tell(engine, deletion, Event::Cancel { by: by.clone(), reason: reason.to_owned() }).await
}

/// What a person decides of a record.
///
/// # Errors
/// If the job table does not do it, or refuses.
pub async fn tell(engine: &Engine, deletion: DeletionId, event: Event) -> anyhow::Result<()> {
    for result in engine.run(vec![Intent { deletion, event }]).await? {
        result.with_context(|| format!("deciding about {deletion}"))?;
    }
    Ok(())
}
