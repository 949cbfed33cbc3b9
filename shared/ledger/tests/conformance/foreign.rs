//! What others delete in many scopes at once: few in each, and all of them together too many. Their kind is paused everywhere then.
use sexton_ledger::{Counted, NotDone, Options};
use sexton_model::Scope;
use sexton_model::belts::census::{Census, Listed, NotBelieved, Sentinel};
use sexton_model::belts::{Pause, PauseSelector};
use sexton_model::job::{Blocker, JobKind, JobState, Stage};
use sexton_model::time::Day;

use super::Fixture;
use super::censuses::policy;
use super::stage::{Stagehand, actor, job_id, resource};

const SCOPES: [&str; 3] = ["a", "b", "c"];
/// How many machines each of them has, beside the one that is always there.
const EACH: usize = 4;

fn scope(of: &str) -> Scope {
    format!("tenants/{of}").parse().unwrap()
}

/// Two may go in a day in each scope, and three in all. All of a test happens within one.
fn options() -> Options {
    let policy = policy("a_day = 2\neverywhere = 3");
    let mut options = Options { day: Day::Rehearsal { length_ms: 600_000 }, ..policy };
    let sentinel =
        |of: &str| Sentinel { scope: scope(of), resource: format!("vm/{of}-always").parse().unwrap() };
    options.policy.census.sentinels = SCOPES.map(sentinel).to_vec();
    options
}

impl Stagehand {
    /// With all of them registered, and counted once.
    pub async fn of_many_scopes(fixture: &dyn Fixture) -> Self {
        let on = Self::with(fixture, options()).await;
        for of in SCOPES {
            let numbered = (1..=EACH).map(|number| format!("{of}{number}"));
            for name in numbered.chain([format!("{of}-always")]) {
                let mut one = resource(&name, &format!("uuid-of-{name}"));
                one.scope = scope(of);
                assert_eq!(on.ledger.register(vec![one], &actor("ops"), false).await.unwrap(), [Ok(())]);
            }
            assert!(!on.without(of, 0, true).await.unwrap().has_paused());
        }
        on
    }

    /// A census of that scope, in which the first so many of its machines are gone.
    pub async fn without(&self, of: &str, gone: usize, fewer: bool) -> Result<Counted, NotDone> {
        let left = (gone + 1..=EACH).map(|number| format!("{of}{number}"));
        let listed = |name: String| Listed {
            id: format!("vm/{name}").parse().unwrap(),
            scope: scope(of),
            identity: None,
        };
        let listed: Vec<Listed> = [format!("{of}-always")].into_iter().chain(left).map(listed).collect();
        let (scope, total) = (scope(of), listed.len() as u64);
        self.count(Census { scope, total, listed, fewer, ..self.census(&[]).await }).await
    }

    /// The pause of the kind everywhere, which is the only one that stands.
    async fn the_pause(&self) -> Pause {
        let [pause] = self.ledger.pauses().await.unwrap().try_into().unwrap();
        let of_kind = PauseSelector { kind: Some("vm".parse().unwrap()), ..PauseSelector::default() };
        assert_eq!(pause.covers, of_kind);
        pause
    }
}

pub async fn few_deletions_by_others_in_each_of_many_scopes_pause_their_kind(fixture: &dyn Fixture) {
    let on = Stagehand::of_many_scopes(fixture).await;
    let paused = async |of: &str, gone: usize| {
        let Counted { taken, paused, paused_everywhere } = on.without(of, gone, true).await.unwrap();
        assert_eq!((taken.told, taken.told_everywhere), (paused.is_some(), paused_everywhere.is_some()));
        (paused.is_some(), paused_everywhere)
    };
    assert_eq!(paused("a", 2).await, (false, None));
    assert_eq!(paused("b", 1).await, (false, None), "three are gone, which is no more than may go");
    let (of_scope, everywhere) = paused("c", 2).await;
    let pause = on.the_pause().await;
    assert_eq!((of_scope, everywhere), (false, Some(pause.id)), "in none of them more than may go");
    let why = "with it 5 of vm are gone in all scopes together that are not being removed here, where 3 may go in a day";
    assert!(pause.reason.contains(why), "{pause:?}");
    let wanted = on.wanted(&"vm/a4".parse().unwrap()).await;
    let id = on.ledger.create(vec![wanted]).await.unwrap().remove(0).unwrap();
    on.ledger.admit(vec![job_id(id, Stage::Announce)]).await.unwrap();
    assert!(on.claim(id, Stage::Announce).await.unwrap().dispatch.is_none());
    let held = on.job(id, JobKind::Stage(Stage::Announce)).await;
    assert!(matches!(held.state, JobState::Held { by: Blocker::Pause { .. }, .. }), "{held:?}");

    assert_eq!(paused("a", 2).await, (false, None), "nobody has deleted more");
    assert!(on.ledger.resume(pause.id, &actor("ops"), None).await.unwrap().unwrap());
    assert_eq!(paused("b", 2).await, (false, None), "whoever lifted it knows of those before");
    // A scope of which too many are gone stands still by itself, whatever its kind.
    assert_eq!(paused("c", 3).await, (true, None));
    let [pause] = on.ledger.pauses().await.unwrap().try_into().unwrap();
    assert_eq!(pause.covers, PauseSelector { scope: Some(scope("c")), ..PauseSelector::default() });
    let (of_scope, everywhere) = paused("a", 4).await;
    assert!(of_scope && everywhere.is_some(), "that pause stands, so what it has told of counts");
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}

/// What one scope has lost alone stops that one, also if one of another is gone besides.
pub async fn many_deletions_by_others_in_one_scope_pause_no_other(fixture: &dyn Fixture) {
    let on = Stagehand::of_many_scopes(fixture).await;
    assert!(!on.without("b", 1, true).await.unwrap().has_paused());
    let all = on.without("a", 4, true).await.unwrap();
    assert_eq!((all.paused.is_some(), all.paused_everywhere), (true, None), "more than in all may go");
    assert!(on.ledger.resume(all.paused.unwrap(), &actor("ops"), None).await.unwrap().unwrap());
    let few = on.without("b", 2, true).await.unwrap();
    assert!(!few.has_paused(), "whoever lifted it knows of those: {few:?}");
    let fewer = on.without("c", 2, true).await.unwrap();
    assert_eq!((fewer.paused, fewer.paused_everywhere.is_some()), (None, true), "four that nobody knows of");
}

/// Of a small scope few are more than a tenth: nothing is kept of its census, but that it was refused and what it lacked.
pub async fn what_refused_censuses_lack_is_summed_up_too(fixture: &dyn Fixture) {
    let on = Stagehand::of_many_scopes(fixture).await;
    let refused = async |of: &str| {
        let why = on.without(of, 2, false).await.unwrap_err();
        assert!(matches!(why, NotDone::Census(NotBelieved::Fewer { before: 5, listed: 3, .. })), "{why}");
    };
    refused("a").await;
    refused("a").await;
    assert_eq!(on.ledger.pauses().await.unwrap(), [], "they are the same ones");
    // Whoever hands in what is refused for something else does not hide them.
    let cut = Census { scope: scope("a"), total: 9, ..on.census(&[]).await };
    on.count(cut).await.unwrap_err();
    refused("b").await;
    let pause = on.the_pause().await;
    assert!(
        pause.reason.starts_with("a census that lists too few to be believed: with it 4 of vm"),
        "{pause:?}"
    );
    refused("b").await;
    assert_eq!(on.the_pause().await.id, pause.id, "once");
    assert!(on.ledger.resume(pause.id, &actor("ops"), None).await.unwrap().unwrap());
    refused("b").await;
    assert_ne!(on.the_pause().await.id, pause.id, "nobody has said that they may be gone");
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}
