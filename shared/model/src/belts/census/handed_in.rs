//! What one that was handed in may not do: whoever lists may be who asks for the deletions, and nothing in a listing shows who
//! made it.
//!
//! Contract: this only judges, beside [`Census::check`]. None is handed in where Sexton takes it: it would stand in the place of
//! one that comes from the subsystems themselves. And none lists many more than were there within a day, unless a person says
//! so. What Sexton has listed itself may grow: each of it is registered, and an instance has shown it.
use super::daily::Take;
use super::{Census, NotBelieved, Rules, Taken};
use crate::belts::within;

/// How many per cent more than before it may list; the mirror of what it may list fewer, unless that is configured.
const GROWS_PERCENT: u64 = 10;
/// And so many always: of few, one more is more than a tenth.
const GROWS_ALWAYS: u64 = 5;

impl Census {
    /// Whether it may be handed in at all: not of a kind and scope that Sexton takes by itself, nor of a part of that, which would
    /// count instead of the whole. Nobody's word changes that. While none can be taken, the last one that was believed stands.
    ///
    /// # Errors
    /// Where it is taken.
    pub(super) fn may_come_from_others(&self, rules: &Rules) -> Result<(), NotBelieved> {
        if self.itself {
            return Ok(());
        }
        let covers = |take: &&Take| take.kind == self.kind && within(&self.scope, &take.scope);
        match rules.take.iter().find(covers) {
            Some(Take { kind, scope, .. }) => {
                Err(NotBelieved::TakenHere { kind: kind.clone(), scope: scope.clone() })
            }
            None => Ok(()),
        }
    }

    /// Whether it lists no more than it may without anybody saying that it is meant: no more than a tenth over the fewest of `last`
    /// and those of its kind and scope that were believed within the day before it (`of_day`, ascending), so that it does not
    /// grow by a tenth each minute. One of which somebody said that more are meant is what is counted from.
    ///
    /// # Errors
    /// If it lists more.
    pub fn grown(&self, last: Option<&Taken>, of_day: &[Taken]) -> Result<(), NotBelieved> {
        let Some(mut least) = last.filter(|_| !self.itself && !self.more) else { return Ok(()) };
        for earlier in of_day.iter().rev() {
            if earlier.listed() < least.listed() {
                least = earlier;
            }
            if earlier.more {
                break;
            }
        }
        let before = least.listed();
        let most = before.saturating_add((before.saturating_mul(GROWS_PERCENT) / 100).max(GROWS_ALWAYS));
        let listed = self.listed.len();
        if u64::try_from(listed).unwrap_or(u64::MAX) > most {
            return Err(NotBelieved::More { census: least.census, before, listed });
        }
        Ok(())
    }
}

impl NotBelieved {
    /// Whether it stands as what came last. One that may not be handed in does not: it would hide what came of Sexton's own.
    pub fn stands(&self) -> bool {
        !matches!(self, Self::TakenHere { .. })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tests::{NOW, census as listing, rules, scope};
    use super::*;
    use crate::time::Timestamp;

    /// Of so many, one of which is the sentinel.
    fn census(many: usize) -> Census {
        let names: Vec<String> = (1..many).map(|number| format!("m{number:04}")).collect();
        listing(&names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// One that was believed, of so many.
    fn taken(number: i64, many: usize, more: bool) -> Taken {
        Census { more, ..census(many) }.taken(number, &BTreeMap::new(), None, Timestamp(NOW.0 - 1))
    }

    fn grown(many: usize, last: &Taken, of_day: &[Taken]) -> Result<(), NotBelieved> {
        census(many).grown(Some(last), of_day)
    }

    #[test]
    fn one_that_has_grown_has_to_be_meant() {
        let (hundred, two) = (taken(7, 100, false), taken(7, 2, false));
        assert_eq!(grown(110, &hundred, &[]), Ok(()), "a tenth more");
        let more = NotBelieved::More { census: 7, before: 100, listed: 111 };
        assert_eq!(grown(111, &hundred, &[]), Err(more.clone()));
        assert_eq!(more.to_string(), "listed: 111, and census 7 listed 100: state more if that is meant");
        assert_eq!(grown(7, &two, &[]), Ok(()), "of few a handful");
        assert!(grown(8, &two, &[]).is_err());
        let last = Some(&hundred);
        assert_eq!(Census { more: true, ..census(200) }.grown(last, &[]), Ok(()));
        assert_eq!(Census { itself: true, ..census(200) }.grown(last, &[]), Ok(()), "each is registered");
        assert_eq!(census(200).grown(None, &[]), Ok(()), "there is nothing to compare it with");
    }

    #[test]
    fn it_does_not_grow_by_a_tenth_again_and_again_within_a_day() {
        let (first, second) = (taken(7, 100, false), taken(8, 110, false));
        let of_day = [first, second.clone()];
        assert_eq!(
            grown(121, &second, &of_day),
            Err(NotBelieved::More { census: 7, before: 100, listed: 121 })
        );
        assert_eq!(grown(121, &second, &of_day[1..]), Ok(()), "that was before the day");
        let meant = taken(9, 200, true);
        let of_day = [of_day.as_slice(), std::slice::from_ref(&meant)].concat();
        assert_eq!(grown(220, &meant, &of_day), Ok(()), "somebody has said so");
        assert!(grown(221, &meant, &of_day).is_err());
    }

    #[test]
    fn none_is_handed_in_where_sexton_takes_it() {
        let take = |of: &str| Take {
            kind: "vm".parse().unwrap(),
            scope: scope(of),
            every_hours: 24,
            within_secs: 20,
        };
        let judged =
            |of: &str, census: &Census| census.check(&Rules { take: vec![take(of)], ..rules() }, None, NOW);
        let here = |of: &str| -> Result<(), NotBelieved> {
            Err(NotBelieved::TakenHere { kind: "vm".parse().unwrap(), scope: scope(of) })
        };
        let meant = Census { fewer: true, more: true, new_credential: true, ..census(3) };
        assert_eq!(judged("tenants", &meant), here("tenants"), "whatever is said");
        let part = Census { scope: scope("tenants/acme"), ..census(3) };
        assert_eq!(judged("tenants", &part), here("tenants"), "a part counts instead of the whole");
        assert_eq!(judged("tenants/acme", &meant), Ok(()), "there is more in it than that");
        assert_eq!(judged("tenants/ac", &part), Ok(()));
        assert_eq!(judged("tenants", &Census { itself: true, ..census(3) }), Ok(()));
        let image = Take { kind: "image".parse().unwrap(), ..take("tenants") };
        let image = Rules { take: vec![image], ..rules() };
        assert_eq!(census(3).check(&image, None, NOW), Ok(()));
        let taken_here = judged("tenants", &meant).unwrap_err();
        assert!(!taken_here.stands() && NotBelieved::Empty.stands());
        let said = taken_here.to_string();
        assert!(said.starts_with("scope: Sexton takes the censuses of vm in tenants itself"), "{said}");
    }
}
