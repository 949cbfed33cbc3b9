//! The wrong cluster: once a machine was announced, whoever reaches its cluster reaches another one, which has a machine of
//! that name and that UUID. Nothing is done there. Once it is put right, it goes on.
use serde_json::Value;
use sexton_coordinator::Engine;
use sexton_ledger::Ledger;
use sexton_model::belts::PauseSelector;
use sexton_model::decide::Event;
use sexton_model::job::{JobState, Stage};
use sexton_model::resource::Resource;
use sexton_model::{Actor, DeletionId};

use super::belts::{cancel, tell};
use super::platform::{APART, OTHER, OWN, Platform};
use super::screen::Screen;
use super::{Checks, view};

/// The scope of the machine.
const SCOPE: &str = "demo/north";

/// The machines, this one in its scope.
///
/// # Errors
/// If a name of the demo is none.
pub fn registered(mut resources: Vec<Resource>) -> anyhow::Result<Vec<Resource>> {
    for resource in &mut resources {
        if resource.id.to_string() == format!("vm/{APART}") {
            resource.scope = SCOPE.parse()?;
        }
    }
    Ok(resources)
}

/// The scene, and what was seen of it.
pub struct Cluster {
    record: DeletionId,
    /// The machine in both clusters before.
    before: [Value; 2],
    /// The pause of its soft stage, until the clusters are exchanged: they are between two stages.
    pause: Option<i64>,
    refused: Option<String>,
    /// Whether the machine was as before in both of them when it was refused.
    untouched: bool,
    went_on: bool,
}

impl Cluster {
    /// The record was just made: its soft stage waits.
    ///
    /// # Errors
    /// If the job table does not do it, or the clusters cannot be read.
    pub async fn begin(
        (ledger, platform): (&dyn Ledger, &Platform),
        by: &Actor,
        record: DeletionId,
    ) -> anyhow::Result<Self> {
        let covers = PauseSelector {
            stage: Some(Stage::Soft),
            scope: Some(SCOPE.parse()?),
            ..PauseSelector::default()
        };
        let pause = Some(ledger.pause(covers, by, "somebody works at the clusters").await?.pause.id);
        let before = platform.both_clusters()?;
        Ok(Self { record, before, pause, refused: None, untouched: false, went_on: false })
    }

    /// Look once, and do what is next. Whether the scene is over.
    ///
    /// # Errors
    /// If the job table does not do it, or the file system refuses.
    pub async fn go_on(
        &mut self,
        (ledger, engine): (&dyn Ledger, &Engine),
        platform: &Platform,
        by: &Actor,
        (screen, kills): (&mut Screen, u32),
    ) -> anyhow::Result<bool> {
        let view = view(ledger, self.record).await?;
        screen.update(&view, kills);
        let job = |stage: Stage| view.deletion.stage_job(stage);
        if let Some(pause) = self.pause {
            if job(Stage::Announce).is_some_and(|job| job.state == JobState::Done) {
                platform.exchange_clusters()?;
                screen.say(&format!(
                    "by mistake orders for {APART} reach another cluster, which has a copy of it"
                ));
                ledger.resume(pause, by, None).await??;
                self.pause = None;
            }
        } else if self.refused.is_none() {
            if let Some(JobState::Parked { reason }) = job(Stage::Soft).map(|job| &job.state) {
                let [there, here] = platform.both_clusters()?;
                self.untouched = [here, there] == self.before;
                self.refused = Some(reason.clone());
                screen.say(&format!("nothing is done there: {reason}"));
                platform.exchange_clusters()?;
                tell(engine, self.record, Event::Retry { by: by.clone() }).await?;
            }
        } else if !self.went_on && job(Stage::Soft).is_some_and(|job| job.cursor > 0) {
            self.went_on = true;
            cancel(engine, self.record, by, "only the wrong cluster was to be shown").await?;
        }
        Ok(!view.deletion.status.live())
    }

    /// What was expected of it. `before`: the machine in all subsystems.
    ///
    /// # Errors
    /// If the job table or the platform cannot be read.
    pub async fn check(
        &self,
        (ledger, platform): (&dyn Ledger, &Platform),
        before: Option<&Value>,
        checks: &mut Checks,
    ) -> anyhow::Result<()> {
        let why = format!("pinned at sandbox:{OWN}, but this is sandbox:{OTHER}");
        let refused = self.refused.as_deref().unwrap_or_default();
        checks.expect(
            refused.contains(&why),
            &format!("an order for {APART} that came to the wrong cluster was refused"),
        );
        checks.expect(self.untouched, &format!("nothing was changed there, nor in the cluster of {APART}"));
        checks.expect(self.went_on, &format!("{APART} went on where it belongs, and was cancelled"));
        let back = before == Some(&platform.describe_one(APART)?) && platform.both_clusters()? == self.before;
        checks.expect(back, &format!("{APART} is back exactly as it was, and so is its copy"));
        let chain = ledger.verify_chain(self.record).await?;
        checks.expect(chain.is_ok(), &format!("the audit chain of {APART} verifies"));
        Ok(())
    }
}
