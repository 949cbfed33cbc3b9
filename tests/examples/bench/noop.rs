//! A subsystem that costs nothing: what is measured is Sexton.
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use sexton_consumer::{Done, Driver, Found, Inspection, Obstacle, Permit, StepContext};
use sexton_model::catalogue::SubsystemActions;
use sexton_model::step::Presence;

/// The instance that carries out all steps.
pub const INSTANCE: &str = "noop.main";
/// Steps of one machine: half of them in the hard stage, half in the purge.
pub const STEPS: usize = 12;

/// What a step costs besides Sexton: nothing.
pub struct Nothing;

#[async_trait]
impl Driver for Nothing {
    async fn inspect(&self, _: &StepContext) -> Result<Inspection, Obstacle> {
        let targets = serde_json::Value::Null;
        Ok(Inspection { found: Found::Same, targets, protected: None, evidence: String::new() })
    }
    async fn find(&self, _: &StepContext) -> Result<Found, Obstacle> {
        Ok(Found::Same)
    }
    async fn perform(
        &self,
        _: &StepContext,
        _: Option<&serde_json::Value>,
        _: Permit,
    ) -> Result<Done, Obstacle> {
        Ok(Done::default())
    }
    async fn presence(&self, _: &StepContext) -> Result<(Presence, String), Obstacle> {
        Ok((Presence::Absent, "gone".into()))
    }
}

/// The driver.
pub fn driver() -> Arc<dyn Driver> {
    Arc::new(Nothing)
}

/// What its actions may do.
pub fn actions() -> anyhow::Result<SubsystemActions> {
    SubsystemActions::parse("noop.toml", &catalogue()).context("the catalogue of no-op actions")
}

/// Its actions as a file.
pub fn catalogue() -> String {
    let mut text = "subsystem = \"noop\"\n".to_owned();
    for n in 0..STEPS {
        text += &format!(
            "[actions.step{n}]\nnature = \"destructive\"\nearliest = \"hard\"\ndeadline_ms = 60000\n\
             longest_call_ms = 1000\nabout = \"nothing\"\n"
        );
    }
    text
}

/// The plan as a file.
pub fn plan() -> String {
    let mut text =
        "kind = \"vm\"\nversion = 1\ncriticality = \"reproducible\"\nrehearsal = true\n".to_owned();
    for (n, stage) in ["announce", "soft", "hard", "purge", "recycle"].into_iter().enumerate() {
        let steps: Vec<String> = match stage {
            "hard" => (0..STEPS / 2).map(|s| format!("{{ do = \"noop.step{s}\" }}")).collect(),
            "purge" => (STEPS / 2..STEPS).map(|s| format!("{{ do = \"noop.step{s}\" }}")).collect(),
            _ => Vec::new(),
        };
        text += &format!("[stages.{stage}]\noffset_days = {n}\nsteps = [{}]\n", steps.join(", "));
    }
    text
}

/// Write plan and catalogue where a coordinator of its own process finds them.
pub fn write(folder: &Path) -> anyhow::Result<()> {
    for (inner, file, text) in [("plans", "vm.toml", plan()), ("subsystems", "noop.toml", catalogue())] {
        let inner = folder.join(inner);
        std::fs::create_dir_all(&inner).with_context(|| format!("making {}", inner.display()))?;
        let file = inner.join(file);
        std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}
