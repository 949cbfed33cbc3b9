//! What is said of a resource that another one contests: with the other one's name to whoever may see it.
use sexton_ledger::{LedgerError, NotDone};
use sexton_model::claims::{Contested, freed_by};

use super::problem::Refused;
use super::{Api, Asker};

/// The answer to whoever asked for what was not done.
pub(super) async fn refused(api: &Api, asker: &Asker, why: NotDone) -> Refused {
    let NotDone::Contested(contested) = &why else { return why.into() };
    match in_words(api, asker, contested).await {
        Ok(words) => Refused::from(why).in_words(words),
        Err(error) => error.into(),
    }
}

/// Why, for this caller: with the other resource and until when it is there, if that is of a scope that it sees.
pub(super) async fn in_words(api: &Api, asker: &Asker, why: &Contested) -> Result<String, LedgerError> {
    let rival = why.rival();
    if !asker.extent().contains(&rival.scope) {
        return Ok(why.to_string());
    }
    let named = why.named();
    let Some(live) = rival.live else { return Ok(named) };
    let Some(view) = api.engine.ledger.deletion(live).await? else { return Ok(named) };
    let zone = view.deletion.record.due.zone;
    let last = view.deletion.date_of(freed_by(&view.deletion), api.engine.ledger.day());
    let day = last.utc().with_timezone(&zone.0).date_naive();
    Ok(format!("{named}, not before {day} ({}) unless that is cancelled", zone.0.name()))
}
