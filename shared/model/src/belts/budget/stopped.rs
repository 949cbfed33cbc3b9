//! What keeps a batch from beginning beside the budget that it exceeds: an approval lets it pass that alone, and its days run out
//! meanwhile.
use crate::belts::Pause;
use crate::belts::budget::Group;
use crate::belts::ceiling::{self, Ceiling, Ceilings};

/// Most pauses that are named of one batch: more of them say no more.
const NAMED_MAX: usize = 5;

/// The pauses that cover the group, and its ceiling if it is too low, each in a line. Of a pause of one subsystem nobody knows here
/// whether each member has a step there left.
pub fn stopped_by(group: &Group, pauses: &[Pause], ceilings: &Ceilings) -> Vec<String> {
    let Group { scope, kind, stage } = group;
    let covers = |pause: &&Pause| pause.covers.may_cover(*stage, kind, scope);
    let said = |pause: &Pause| {
        let Pause { id, covers, by, reason, .. } = pause;
        let whom = if covers.subsystem.is_some() { " (who has a step left there)" } else { "" };
        format!("pause {id} of {covers}{whom}, by {by}: {reason}")
    };
    let covering: Vec<&Pause> = pauses.iter().filter(covers).collect();
    let mut all: Vec<String> = covering.iter().take(NAMED_MAX).map(|pause| said(pause)).collect();
    if covering.len() > NAMED_MAX {
        all.push(format!("{} more pauses", covering.len() - NAMED_MAX));
    }
    let height = ceilings.height(scope);
    if height < Ceiling::needed_for(*stage) {
        let of = ceiling::of(ceilings.of(scope).and_then(|said| said.scope.as_ref()));
        all.push(format!("the ceiling of {of} is {}", height.word()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::belts::PauseSelector;
    use crate::belts::ceiling::ScopeCeiling;
    use crate::job::Stage;
    use crate::time::Timestamp;

    fn pause(id: i64, covers: PauseSelector) -> Pause {
        Pause { id, covers, by: "eva".parse().unwrap(), reason: "look".into(), since: Timestamp(0) }
    }

    fn up_to(scope: Option<&str>, ceiling: Ceiling) -> ScopeCeiling {
        let scope = scope.map(|scope| scope.parse().unwrap());
        ScopeCeiling {
            scope,
            ceiling,
            by: "eva".parse().unwrap(),
            reason: "tried".into(),
            since: Timestamp(0),
        }
    }

    #[test]
    fn what_covers_a_batch_is_named_and_nothing_else() {
        let (scope, kind) = ("tenants/acme".parse().unwrap(), "vm".parse().unwrap());
        let group = Group { scope, kind, stage: Stage::Hard };
        let all = PauseSelector::default();
        let of = |scope: &str| PauseSelector { scope: Some(scope.parse().unwrap()), ..all.clone() };
        let at = |stage| PauseSelector { stage: Some(stage), ..all.clone() };
        let kinds = |kind: &str| PauseSelector { kind: Some(kind.parse().unwrap()), ..all.clone() };
        let dns = PauseSelector { subsystem: Some("dns".parse().unwrap()), ..all.clone() };
        let pauses = [
            pause(1, of("tenants")),
            pause(2, of("tenants/acme/web")),
            pause(3, of("tenants/ac")),
            pause(4, at(Stage::Hard)),
            pause(5, at(Stage::Soft)),
            pause(6, kinds("vm")),
            pause(7, kinds("image")),
            pause(8, dns),
        ];
        let high: Ceilings = [up_to(None, Ceiling::Purge)].into_iter().collect();
        assert_eq!(
            stopped_by(&group, &pauses, &high),
            [
                "pause 1 of scope tenants, by eva: look",
                "pause 4 of stage hard, by eva: look",
                "pause 6 of kind vm, by eva: look",
                "pause 8 of subsystem dns (who has a step left there), by eva: look",
            ]
        );
        let many: Vec<Pause> = (1..=7).map(|id| pause(id, all.clone())).collect();
        let named = stopped_by(&group, &many, &high);
        assert_eq!((named.len(), named[5].as_str()), (6, "2 more pauses"));

        let low = [up_to(None, Ceiling::Purge), up_to(Some("tenants"), Ceiling::Soft)];
        let low: Ceilings = low.into_iter().collect();
        assert_eq!(stopped_by(&group, &[], &low), ["the ceiling of tenants is soft"]);
        assert_eq!(stopped_by(&Group { stage: Stage::Soft, ..group }, &[], &low), Vec::<String>::new());
    }
}
