//! Whose turn it is among batches of several scopes.
use sexton_ledger::Admitted;
use sexton_model::DeletionId;
use sexton_model::job::{JobKind, JobState, Stage};

use super::{announce, policy};
use crate::conformance::Fixture;
use crate::conformance::stage::{Stagehand, actor, resource};

/// One of a scope of its own whose announcement is due.
async fn due_in(on: &Stagehand, scope: &str, name: &str) -> DeletionId {
    let mut resource = resource(name, &format!("uuid-of-{name}"));
    resource.scope = scope.parse().unwrap();
    let id = resource.id.clone();
    assert_eq!(on.ledger.register(vec![resource], &actor("ops"), true).await.unwrap(), [Ok(())]);
    let wanted = on.wanted(&id).await;
    let id = on.ledger.create(vec![wanted]).await.unwrap().remove(0).unwrap();
    if let JobState::Scheduled { due_at: Some(due_at) } =
        on.job(id, JobKind::Stage(Stage::Announce)).await.state
    {
        on.until(due_at).await;
    }
    id
}

pub async fn the_oldest_batch_gets_what_becomes_free_of_a_shared_number(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("a_day = 3\neverywhere = 3")).await;
    for (scope, name) in [("tenants/a", "web01"), ("tenants/b", "web02")] {
        let id = due_in(&on, scope, name).await;
        assert_eq!(on.admit(&[id]).await, Admitted::default(), "{name}");
    }
    let large = on.all_due(&["web03", "web04"]).await;
    let frozen = on.admit(&large).await.frozen;
    assert_eq!((frozen.len(), frozen[0].exceeded.used, frozen[0].exceeded.before), (1, 2, 0));
    // For this one there is room, but it would keep the others waiting, and the next one, too.
    let late = due_in(&on, "tenants/c", "web05").await;
    let frozen = on.admit(&[late]).await.frozen;
    assert_eq!((frozen.len(), frozen[0].exceeded.used, frozen[0].exceeded.before), (1, 2, 2));
    assert_eq!(on.admit(&[]).await, Admitted::default(), "nobody's turn");
    fixture.execute("DELETE FROM admitted WHERE scope = 'tenants/a'").await;
    let later = due_in(&on, "tenants/d", "web06").await;
    let admitted = on.admit(&[later]).await;
    assert_eq!(admitted.again, large.iter().map(|id| announce(*id)).collect::<Vec<_>>());
    assert_eq!(admitted.frozen.len(), 1);
    fixture.execute("DELETE FROM admitted").await;
    assert_eq!(on.admit(&[]).await.again, [announce(late), announce(later)]);
}
