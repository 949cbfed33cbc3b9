//! From the pages that all instances have listed to one census, which is then judged as one that was handed in.
//!
//! Contract: this only judges. What a page does not prove makes it none: a number that does not fit, one resource at two
//! instances, something else under a name that is registered. Scopes are what is registered; what nobody has registered
//! is of no scope, and told by number and name.
use std::collections::{BTreeMap, BTreeSet};

use ring::digest::{SHA256, digest};

use super::listing::{Listing, NotTaken, Page};
use super::{CREDENTIAL_MAX, Census, LISTED_MAX, Listed, Stranger};
use crate::access::Permission;
use crate::belts::within;
use crate::id::{Instance, ResourceId, Scope};
use crate::resource::Identity;

/// One of the kind that is registered, in whichever scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Its scope.
    pub scope: Scope,
    /// What makes it this one.
    pub identity: Identity,
    /// Which instance is to hold it.
    pub instance: Instance,
}

/// What is meant by whoever takes it: see [`Census`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meant {
    /// That another credential than last time is meant, or another place.
    pub new_credential: bool,
    /// That so many fewer than last time is meant.
    pub fewer: bool,
    /// That so many more than last time is meant. Of what Sexton takes itself nobody has to say so.
    pub more: bool,
}

impl Meant {
    /// What it takes to hand in a census, or have one taken: that something is meant which it cannot show is no part of a
    /// listing, since whatever lists would say so each time, and be believed whatever it has left out.
    pub fn takes(self) -> Permission {
        if self.fewer || self.more || self.new_credential { Permission::Vouch } else { Permission::Register }
    }
}

/// The census that a whole listing is. `pages` are all that came, in the order in which they did for each instance.
///
/// # Errors
/// Why it is none.
pub fn assembled(
    listing: &Listing,
    pages: &[(Instance, Page)],
    registered: &BTreeMap<ResourceId, Registered>,
    meant: Meant,
) -> Result<Census, NotTaken> {
    let mut seen: BTreeMap<&ResourceId, (&Instance, Option<&Identity>)> = BTreeMap::new();
    let mut places: BTreeSet<String> = BTreeSet::new();
    let mut total: u64 = 0;
    let in_scope = |of: &Registered| within(&of.scope, &listing.scope);
    for asked in &listing.asked {
        let instance = &asked.instance;
        let own: Vec<&Page> =
            pages.iter().filter(|(from, _)| from == instance).map(|(_, page)| page).collect();
        let first = whole(instance, &own)?;
        total = total.saturating_add(first.total);
        places.insert(format!("{} at {}", first.credential, first.place));
        for entry in own.iter().flat_map(|page| &page.entries) {
            if let Some((one, _)) = seen.insert(&entry.id, (instance, entry.identity.as_ref())) {
                let (one, other) = (one.clone(), instance.clone());
                let own = registered.get(&entry.id).is_some_and(in_scope);
                return Err(NotTaken::Twice { id: entry.id.clone(), own, one, other });
            }
        }
    }
    if seen.len() > LISTED_MAX {
        return Err(NotTaken::TooManyListed(seen.len()));
    }
    for (id, of) in registered.iter().filter(|(_, of)| in_scope(of)) {
        if !listing.asked.iter().any(|asked| asked.instance == of.instance) {
            return Err(NotTaken::NotAsked { id: id.clone(), instance: of.instance.clone() });
        }
    }
    let (mut listed, mut unregistered) = (Vec::new(), Vec::new());
    let mut elsewhere: u64 = 0;
    for (id, (instance, shown)) in seen {
        match registered.get(id) {
            None => unregistered.push(Stranger {
                id: id.clone(),
                scope: None,
                identity: shown.cloned(),
                instance: Some(instance.clone()),
            }),
            Some(of) if !in_scope(of) => elsewhere += 1,
            Some(of) => {
                if let Some(shown) = shown.filter(|shown| !same(shown, &of.identity)) {
                    let shown: Vec<String> =
                        shown.attributes().map(|(name, value)| format!("{name} {value}")).collect();
                    let (instance, shown) = (instance.clone(), shown.join(", "));
                    return Err(NotTaken::Another { id: id.clone(), instance, shown });
                }
                listed.push(Listed { id: id.clone(), scope: of.scope.clone(), identity: None });
            }
        }
    }
    // What the subsystems count, without what is not of this scope.
    let not_of_it = elsewhere.saturating_add(u64::try_from(unregistered.len()).unwrap_or(u64::MAX));
    Ok(Census {
        kind: listing.kind.clone(),
        scope: listing.scope.clone(),
        credential: credential(&places),
        new_credential: meant.new_credential,
        fewer: meant.fewer,
        more: meant.more,
        taken_at: listing.begun_at,
        total: total.saturating_sub(not_of_it),
        listed,
        unregistered,
        itself: true,
    })
}

/// That these are all pages of one instance, and of one listing: the first of them.
fn whole<'a>(instance: &Instance, pages: &[&'a Page]) -> Result<&'a Page, NotTaken> {
    let changed = |what: String| NotTaken::Changed { instance: instance.clone(), what };
    let first = *pages.first().ok_or(NotTaken::Gone)?;
    let mut after: Option<&ResourceId> = None;
    for (number, page) in pages.iter().enumerate() {
        if page.after.as_ref() != after {
            return Err(changed(format!("page {} does not begin where the one before ends", number + 1)));
        }
        if page.place != first.place {
            return Err(changed(format!("it is {}, and was {}", page.place, first.place)));
        }
        if page.credential != first.credential {
            return Err(changed(format!(
                "it is listed with {}, and was with {}",
                page.credential, first.credential
            )));
        }
        if page.total != first.total {
            return Err(changed(format!("it counts {}, and counted {}", page.total, first.total)));
        }
        after = page.entries.last().map(|entry| &entry.id);
    }
    if pages.last().is_some_and(|last| last.more) {
        return Err(NotTaken::Gone);
    }
    let listed = pages.iter().map(|page| page.entries.len()).sum::<usize>();
    let listed = u64::try_from(listed).unwrap_or(u64::MAX);
    if listed != first.total {
        return Err(NotTaken::Total { instance: instance.clone(), said: first.total, listed });
    }
    Ok(first)
}

/// Whether everything that is shown is as it is registered.
fn same(shown: &Identity, registered: &Identity) -> bool {
    shown
        .attributes()
        .all(|(name, value)| registered.get(name).is_some_and(|wanted| spelled(wanted) == spelled(value)))
}

/// A UUID in one spelling, however it is written; anything else as it is.
fn spelled(value: &str) -> String {
    let digits: String = value.chars().filter(|c| *c != '-').collect();
    let uuid = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if uuid { digits.to_ascii_lowercase() } else { value.to_owned() }
}

/// The name of all that it was listed with: the same as last time only if nobody is asked more, less or otherwise.
fn credential(places: &BTreeSet<String>) -> String {
    let all = places.iter().map(String::as_str).collect::<Vec<_>>().join("; ");
    if all.chars().count() <= CREDENTIAL_MAX {
        return all;
    }
    let hash: String =
        digest(&SHA256, all.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{} places, sha256 {hash}", places.len())
}

#[cfg(test)]
mod tests;
