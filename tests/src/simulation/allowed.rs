//! How many deletions may begin within a span, in runs that have budgets.
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::json;
use sexton_model::belts::budget::{Budgets, Written};
use sexton_model::job::Stage;

/// Scopes that machines are in.
pub const SCOPES: [&str; 3] = ["tenants/acme", "tenants/acme/web", "tenants/umbrella"];

/// Which stages are counted, in one run or another.
const COUNTED: [&[Stage]; 6] = [
    &[Stage::Announce, Stage::Hard, Stage::Purge],
    &[Stage::Announce],
    &[Stage::Hard],
    &[Stage::Hard, Stage::Purge],
    &[Stage::Soft, Stage::Hard],
    &[Stage::Announce, Stage::Purge, Stage::Recycle],
];

/// The numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// In each scope that has no number of its own.
    pub each: u64,
    /// In all scopes together.
    pub everywhere: u64,
    /// Within so many days.
    pub days: u16,
    /// That begin one of these stages.
    pub stages: Vec<Stage>,
    /// In these scopes and those below them.
    pub scopes: Vec<(&'static str, u64)>,
    /// And of each number no more than so many per cent of those that are there, as censuses say.
    pub percent: Option<u32>,
}

impl Allowed {
    /// Some numbers, small enough to be exceeded. Beside a share of those that are there they are larger: else it is never
    /// what counts.
    pub fn draw(rng: &mut StdRng, by_percent: bool) -> Self {
        let least = if by_percent { 2 } else { 0 };
        let mut scopes = Vec::new();
        for scope in SCOPES {
            if rng.random_range(0..3) == 0 {
                scopes.push((scope, least + rng.random_range(0..=2)));
            }
        }
        Self {
            each: least + rng.random_range(0..=2),
            everywhere: least + rng.random_range(1..=4),
            days: if rng.random_range(0..4) == 0 { 2 } else { 1 },
            stages: COUNTED[rng.random_range(0..COUNTED.len())].to_vec(),
            scopes,
            percent: by_percent.then(|| rng.random_range(15..=60)),
        }
    }

    /// As Sexton is told.
    pub fn budgets(&self) -> Budgets {
        let scopes: Vec<_> =
            self.scopes.iter().map(|(scope, a_day)| json!({ "scope": scope, "a_day": a_day })).collect();
        let written = json!({
            "a_day": self.each, "everywhere": self.everywhere, "days": self.days, "stages": self.stages,
            "scopes": scopes, "percent": self.percent.map(f64::from),
        });
        serde_json::from_value::<Written>(written).unwrap().budgets().unwrap()
    }
}
