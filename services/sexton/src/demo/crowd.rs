//! The breaker: more machines of one scope than may begin within a day. Not one of them begins before somebody else has
//! approved exactly that batch.
use anyhow::Context;
use serde_json::json;
use sexton_coordinator::Engine;
use sexton_ledger::{Approval, BatchView, DeletionView, Ledger, NotDone};
use sexton_model::belts::Policy;
use sexton_model::belts::budget::{CannotApprove, Written};
use sexton_model::job::{Stage, StateName};
use sexton_model::resource::Resource;
use sexton_model::{Actor, DeletionId};

use super::belts::cancel;
use super::screen::Screen;
use super::{Checks, view};

/// The machines that nobody should lose at once.
pub const CROWD: [&str; 3] = ["db02", "mail01", "build01"];
/// Their scope.
const SCOPE: &str = "demo/crowd";
/// Looks for which the batch waits: a day of the demo.
const LOOKS: u32 = 10;

/// What the demo is configured with: two of that scope may begin within a day, and enough of all others.
///
/// # Errors
/// If the section is none.
pub fn policy() -> anyhow::Result<Policy> {
    let section = json!({ "a_day": 20, "everywhere": 50, "scopes": [{ "scope": SCOPE, "a_day": 2 }] });
    let written: Written = serde_json::from_value(section)?;
    Ok(Policy { budgets: Some(written.budgets()?), ..Policy::default() })
}

/// The machines, in their scope.
///
/// # Errors
/// If a name of the demo is none.
pub fn registered(mut resources: Vec<Resource>) -> anyhow::Result<Vec<Resource>> {
    for resource in &mut resources {
        if CROWD.iter().any(|name| resource.id.to_string() == format!("vm/{name}")) {
            resource.scope = SCOPE.parse()?;
        }
    }
    Ok(resources)
}

/// The scene, and what was seen of it.
pub struct Crowd {
    records: Vec<DeletionId>,
    looks: u32,
    /// Members of the batch when it was approved.
    approved: Option<usize>,
    /// Whether whoever requested them could not approve them.
    refused: bool,
    /// Whether one began before the approval.
    early: bool,
    cancelled: bool,
}

impl Crowd {
    /// The records were just made.
    pub fn new(records: Vec<DeletionId>) -> Self {
        Self { records, looks: 0, approved: None, refused: false, early: false, cancelled: false }
    }

    /// Look once, and do what is next. Whether the scene is over.
    ///
    /// # Errors
    /// If the job table does not do it.
    pub async fn go_on(
        &mut self,
        (ledger, engine): (&dyn Ledger, &Engine),
        by: &Actor,
        (screen, kills): (&mut Screen, u32),
    ) -> anyhow::Result<bool> {
        let mut views = Vec::new();
        for id in &self.records {
            let view = view(ledger, *id).await?;
            screen.update(&view, kills);
            views.push(view);
        }
        let announced = |state: StateName| views.iter().all(|view| announcement(view) == Some(state));
        if self.approved.is_none() {
            self.early |= views
                .iter()
                .any(|view| !matches!(announcement(view), Some(StateName::Scheduled | StateName::Held)));
            self.looks += u32::from(announced(StateName::Held));
            if self.looks > LOOKS {
                let batch = batch(ledger).await?;
                screen.say(&format!("{} of them wait: {}", batch.members.len(), batch.row.exceeded));
                self.approve((engine, &batch), by, screen).await?;
            }
        } else if !self.cancelled && announced(StateName::Done) {
            self.cancelled = true;
            for id in &self.records {
                cancel(engine, *id, by, "only the breaker was to be shown").await?;
            }
        }
        Ok(views.iter().all(|view| !view.deletion.status.live()))
    }

    async fn approve(
        &mut self,
        (engine, batch): (&Engine, &BatchView),
        by: &Actor,
        screen: &mut Screen,
    ) -> anyhow::Result<()> {
        let approval = |by: Actor| Approval {
            batch: batch.row.batch,
            digest: batch.digest(),
            by,
            reason: "all three are to be moved".to_owned(),
        };
        if let Err(why) = engine.approve(approval(by.clone())).await? {
            self.refused = matches!(why, NotDone::Approval(CannotApprove::Requested { .. }));
            screen.say(&why.to_string());
        }
        let boss: Actor = "boss".parse()?;
        self.approved = Some(engine.approve(approval(boss)).await??);
        screen.say("boss has looked at the batch, and approves it");
        Ok(())
    }

    /// What was expected of it.
    ///
    /// # Errors
    /// If the job table cannot be read.
    pub async fn check(&self, ledger: &dyn Ledger, checks: &mut Checks) -> anyhow::Result<()> {
        let all = CROWD.len();
        checks.expect(
            self.looks > 0 && !self.early,
            &format!("not one of the {all} of {SCOPE} began, where 2 may in a day"),
        );
        checks.expect(self.refused, "who requested them could not approve them");
        checks.expect(self.approved == Some(all), "somebody else approved exactly that batch");
        checks.expect(self.cancelled, "they were announced then, and cancelled");
        let left = ledger.batches().await?;
        checks.expect(left.is_empty(), "no batch is left");
        Ok(())
    }
}

fn announcement(view: &DeletionView) -> Option<StateName> {
    view.deletion.stage_job(Stage::Announce).map(|job| job.state.name())
}

async fn batch(ledger: &dyn Ledger) -> anyhow::Result<BatchView> {
    let batches = ledger.batches().await?;
    let batch = batches.first().context("they are held, and in no batch")?.batch;
    ledger.batch(batch).await?.context("the batch has vanished")
}
