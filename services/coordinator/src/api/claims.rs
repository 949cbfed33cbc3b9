//! What is said of a resource that another one contests: with the other one's name to whoever may see it.
use std::collections::BTreeMap;

use sexton_ledger::{LedgerError, NotDone};
use sexton_model::DeletionId;
use sexton_model::claims::{Contested, freed_by};

use super::problem::Refused;
use super::{Api, Asker};

/// Of how many records one answer says until when they are there: each is read for that, with its whole trail, and ten thousand
/// may contest what is registered at once. Any further one is named without it.
const DATED_MAX: usize = 100;

/// Until when records are there, as far as one answer says it; nothing of one that has left meanwhile.
#[derive(Debug, Default)]
pub(super) struct Dates(BTreeMap<DeletionId, Option<String>>);

impl Dates {
    /// Whether this record is to be read: once, and not after so many others.
    fn lack(&self, record: DeletionId) -> bool {
        self.0.len() < DATED_MAX && !self.0.contains_key(&record)
    }

    /// What is said of it.
    fn of(&self, record: DeletionId) -> Option<&str> {
        self.0.get(&record)?.as_deref()
    }
}

/// The answer to whoever asked for what was not done.
pub(super) async fn refused(api: &Api, asker: &Asker, why: NotDone) -> Refused {
    let NotDone::Contested(contested) = &why else { return why.into() };
    match in_words(api, asker, contested, &mut Dates::default()).await {
        Ok(words) => Refused::from(why).in_words(words),
        Err(error) => error.into(),
    }
}

/// Why, for this caller: with the other resource and until when it is there, if that is of a scope that it sees.
pub(super) async fn in_words(
    api: &Api,
    asker: &Asker,
    why: &Contested,
    dates: &mut Dates,
) -> Result<String, LedgerError> {
    let rival = why.rival();
    if !asker.extent().contains(&rival.scope) {
        return Ok(why.to_string());
    }
    let named = why.named();
    let Some(live) = rival.live else { return Ok(named) };
    if dates.lack(live) {
        let read = there_until(api, live).await?;
        dates.0.insert(live, read);
    }
    Ok(match dates.of(live) {
        Some(day) => format!("{named}, not before {day} unless that is cancelled"),
        None => named,
    })
}

/// The day on which it lets go of what it claims at the earliest, and in which time zone.
async fn there_until(api: &Api, record: DeletionId) -> Result<Option<String>, LedgerError> {
    let Some(view) = api.engine.ledger.deletion(record).await? else { return Ok(None) };
    let zone = view.deletion.record.due.zone;
    let last = view.deletion.date_of(freed_by(&view.deletion), api.engine.ledger.day());
    let day = last.utc().with_timezone(&zone.0).date_naive();
    Ok(Some(format!("{day} ({})", zone.0.name())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_is_read_once_and_a_hundred_at_most() {
        let mut dates = Dates::default();
        let many = i64::try_from(DATED_MAX).unwrap();
        for id in 1..=many {
            assert!(dates.lack(DeletionId(id)));
            dates.0.insert(DeletionId(id), (id > 1).then(|| format!("day {id}")));
            assert!(!dates.lack(DeletionId(id)));
        }
        assert!(!dates.lack(DeletionId(many + 1)), "it is named without a day");
        assert_eq!(dates.of(DeletionId(many)), Some("day 100"));
        assert_eq!([1, many + 1].map(|id| dates.of(DeletionId(id))), [None; 2]);
    }
}
