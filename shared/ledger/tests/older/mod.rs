//! A job table as an early version left it: before there were ceilings, budgets and all that came after. It holds one
//! record of which nothing has begun, in that version's words (`shared/model/tests/written`), and goes on.
use sexton_model::DeletionId;
use sexton_model::audit::{GENESIS, Hash, link};
use sexton_model::deletion::RecordStatus;
use sexton_model::job::Stage;

use crate::conformance::stage::{Stagehand, WHOLE_LIFE};

pub const RESOURCE: &str = include_str!("../../../model/tests/written/v1/resource.json");
pub const RECORD: &str = include_str!("../../../model/tests/written/v1/record.json");
pub const PLAN: &str = include_str!("../../../model/tests/written/v1/plan.json");
pub const EVENT: &str = include_str!("../../../model/tests/written/v1/event.json");
/// When it was made, as it says itself; microseconds. Its first stage has been due since then.
pub const MADE: i64 = 1_600_000_000_000_000;
/// Jobs of its stages.
pub const JOBS: std::ops::Range<i64> = 8..13;

/// The end of its chain, which has one event.
pub fn head() -> Hash {
    link(&GENESIS, 1, EVENT.as_bytes())
}

/// It is carried out to its end by its own plan, in which targets are not read again, and others are made beside it.
pub async fn goes_on(on: &Stagehand) {
    let id = DeletionId(1);
    assert_eq!(on.ledger.verify_chain(id).await.unwrap(), Ok(()));
    let mut seen = Vec::new();
    for stage in Stage::ALL {
        let first = on.claim(id, stage).await.unwrap().dispatch;
        assert!(on.play(first, &mut seen, |_, _| false).await.is_none());
    }
    let wanted = WHOLE_LIFE.iter().filter(|(name, _)| !name.contains('@'));
    let wanted: Vec<_> = wanted.map(|(name, mode)| ((*name).to_owned(), *mode)).collect();
    assert_eq!(seen, wanted);
    assert_eq!(on.status(id).await, RecordStatus::Recycled);
    assert_eq!(on.ledger.verify_chain(id).await.unwrap(), Ok(()));
    assert_eq!(on.doomed("web02").await, DeletionId(2));
}
