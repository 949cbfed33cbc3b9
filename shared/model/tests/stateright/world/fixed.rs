//! What is the same in every history: plans, records, and what is in force.
#![expect(clippy::unwrap_used, reason = "fixed plans and records; a mistake in them fails every test")]

use std::sync::{Arc, LazyLock};

use sexton_model::belts::ceiling::{Ceiling, ScopeCeiling};
use sexton_model::belts::{InForce, Policy};
use sexton_model::catalogue::Catalogue;
use sexton_model::deletion::{Deletion, Record};
use sexton_model::job::Stage;
use sexton_model::plan::Plan;
use sexton_model::time::{Day, Timestamp};
use sexton_model::{Actor, DeletionId};

use super::bounds::Shape;

/// One step of time: half a deadline, and a longest call. In milliseconds.
const TICK_MS: u64 = 5_000;
/// The same as [`Timestamp`]s count.
pub const TICK: i64 = TICK_MS as i64 * 1000;
/// A step of time, too.
pub const DAY: Day = Day::Rehearsal { length_ms: TICK_MS };

const SUBSYSTEM: &str = r#"
subsystem = "world"
actions.off = { nature = "reversible", earliest = "soft", deadline_ms = 10000, longest_call_ms = 5000, about = "" }
actions.destroy = { nature = "destructive", earliest = "hard", deadline_ms = 10000, longest_call_ms = 5000, about = "" }
"#;

/// Whoever has this has to look before anything is destroyed.
const LOOK: &str = r#"
actions.look = { nature = "inspect", earliest = "announce", deadline_ms = 10000, longest_call_ms = 5000, about = "" }
"#;

const HEAD: &str = r#"kind = "vm"
version = 1
criticality = "reproducible"
rehearsal = true
"#;

/// Offsets of the stages in days, and the names of the steps of each.
type Stages = [(i32, &'static [&'static str]); 5];

fn stages(shape: Shape) -> Stages {
    match shape {
        Shape::Whole => [(-1, &["look"]), (0, &["c", "d"]), (1, &["a"]), (2, &["b"]), (3, &[])],
        Shape::Pair => [(0, &[]), (0, &["c", "d"]), (1, &["a"]), (1, &[]), (1, &[])],
        Shape::Short => [(0, &[]), (0, &["c"]), (1, &["a"]), (1, &[]), (1, &[])],
        Shape::Bare => [(0, &[]), (0, &[]), (1, &["a"]), (1, &[]), (1, &[])],
    }
}

fn plan(shape: Shape) -> Plan {
    let mut text = HEAD.to_owned();
    let (_, looks) = stages(shape)[0];
    let look = if looks.is_empty() { "" } else { LOOK };
    for (stage, (offset, names)) in Stage::ALL.into_iter().zip(stages(shape)) {
        let action = match stage {
            Stage::Announce => "look",
            Stage::Soft => "off",
            Stage::Hard | Stage::Purge | Stage::Recycle => "destroy",
        };
        let step = |name: &&str| format!(r#"{{ do = "world.{action}", name = "{name}", max_attempts = 2 }}"#);
        let steps: Vec<_> = names.iter().map(step).collect();
        text += &format!("[stages.{stage}]\noffset_days = {offset}\nsteps = [{}]\n", steps.join(", "));
    }
    let mut catalogue = Catalogue::default();
    catalogue.add("world.toml", &format!("{SUBSYSTEM}{look}")).unwrap();
    Plan::parse("vm.toml", &text, &catalogue, true).unwrap()
}

/// A record; its dates lie long before everything, so that only the grace counts, which is relative.
pub fn drawn_up(id: DeletionId, shape: Shape, day: Day) -> Deletion {
    let record: Record = serde_json::from_value(serde_json::json!({
        "resource": {
            "id": format!("vm/web{:02}", id.0), "scope": "a", "identity": { "uuid": id.0.to_string() },
            "criticality": "reproducible", "rebuilt": { "on": "1970-01-01", "evidence": "a test" },
        },
        "due": { "date": "2020-01-01", "zone": "UTC", "moment": -1_000_000_000_000_000i64 },
        "requested_by": "platform", "reason": "over", "created_at": 0,
    }))
    .unwrap();
    Deletion::draw_up(id, record, Arc::new(plan(shape)), day).unwrap()
}

static BASES: LazyLock<[Deletion; 4]> =
    LazyLock::new(|| Shape::ALL.map(|shape| drawn_up(DeletionId(1), shape, DAY)));

impl Shape {
    /// The deletion as it begins.
    pub fn base(self) -> &'static Deletion {
        &BASES[self as usize]
    }
}

/// Nothing stops it.
pub static IN_FORCE: LazyLock<InForce> = LazyLock::new(|| {
    let (ceiling, reason) = (Ceiling::Purge, "as far as it goes".to_owned());
    let by = OPS.clone();
    let ceilings =
        [ScopeCeiling { scope: None, ceiling, by, reason, since: Timestamp(0) }].into_iter().collect();
    InForce { ceilings, ..InForce::default() }
});

/// In a rehearsal it limits nothing.
pub static POLICY: LazyLock<Policy> = LazyLock::new(Policy::default);

/// Somebody.
pub static OPS: LazyLock<Actor> = LazyLock::new(|| "ops".parse().unwrap());

/// Why somebody holds, pauses, or cancels.
pub const REASON: &str = "not now";
