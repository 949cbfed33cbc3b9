//! Listings for whoever is limited to scopes: page by page, without what is outside.
use sexton_api::PAGE_MAX;
use sexton_ledger::Page;
use sexton_model::Scope;
use sexton_model::access::Extent;

use crate::api::problem::Refused;

/// The job table's pages looked at for one page: whoever is limited to one scope of many is asked to name it.
const LOOK_PAGES: usize = 16;

/// A page that is filled.
pub(in crate::api) struct Sieve<'a, T> {
    extent: &'a Extent,
    limit: u32,
    looked: usize,
    kept: Vec<T>,
    /// What the job table says of where it goes on.
    next: Option<String>,
}

impl<'a, T> Sieve<'a, T> {
    pub(in crate::api) fn new(extent: &'a Extent, limit: u32) -> Self {
        Self { extent, limit, looked: 0, kept: Vec::new(), next: None }
    }

    /// How many items to ask the job table for at once.
    pub(in crate::api) fn ask_for(&self) -> u32 {
        if self.extent.is_everywhere() { self.limit } else { PAGE_MAX }
    }

    /// Keep what is inside; where to look on, if the page is not full yet.
    pub(in crate::api) fn take(&mut self, page: Page<T>, scope: impl Fn(&T) -> &Scope) -> Option<String> {
        self.next = page.next;
        if self.extent.is_everywhere() {
            self.kept = page.items;
            return None;
        }
        self.looked += 1;
        self.kept.extend(page.items.into_iter().filter(|item| self.extent.contains(scope(item))));
        self.next.clone().filter(|_| self.kept.len() < self.limit as usize && self.looked < LOOK_PAGES)
    }

    /// The page. Where the next one begins is said by the last item that is shown: what is not shown is not named.
    ///
    /// # Errors
    /// If nothing was found among very many of other scopes.
    pub(in crate::api) fn end(mut self, key: impl Fn(&T) -> String) -> Result<Page<T>, Refused> {
        if self.extent.is_everywhere() {
            return Ok(Page { items: self.kept, next: self.next });
        }
        let more = self.next.is_some() || self.kept.len() > self.limit as usize;
        self.kept.truncate(self.limit as usize);
        let next = self.kept.last().filter(|_| more).map(key);
        if more && next.is_none() {
            let extent = self.extent;
            let detail =
                format!("scope: there are too many of other scopes to look through: name one of {extent}");
            return Err(Refused::field("scope", detail));
        }
        Ok(Page { items: self.kept, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(scopes: &[&str], next: Option<&str>) -> Page<(u8, Scope)> {
        let items = (0_u8..).zip(scopes).map(|(n, scope)| (n, scope.parse().unwrap())).collect();
        Page { items, next: next.map(str::to_owned) }
    }

    fn sift(limit: u32, pages: Vec<Page<(u8, Scope)>>) -> (Vec<u8>, Option<String>) {
        let extent = Extent::Scopes(["a".parse().unwrap()].into());
        let mut sieve = Sieve::new(&extent, limit);
        for page in pages {
            if sieve.take(page, |item| &item.1).is_none() {
                break;
            }
        }
        let page = sieve.end(|item| item.0.to_string()).unwrap_or_else(|e| panic!("{e:?}"));
        (page.items.into_iter().map(|item| item.0).collect(), page.next)
    }

    #[test]
    fn what_is_outside_is_neither_shown_nor_named() {
        let next = |n: u8| Some(n.to_string());
        assert_eq!(sift(9, vec![page(&["a", "b", "a/c", "ab"], None)]), (vec![0, 2], None));
        assert_eq!(sift(1, vec![page(&["b", "a", "b"], Some("b/3"))]), (vec![1], next(1)));
        assert_eq!(sift(1, vec![page(&["a", "a"], None)]), (vec![0], next(0)), "the second one is behind it");
        let two = vec![page(&["b", "b"], Some("1")), page(&["a"], None)];
        assert_eq!(sift(2, two), (vec![0], None));
    }

    #[test]
    fn whoever_sees_everything_has_the_job_tables_own_page() {
        let mut sieve = Sieve::new(&Extent::Everywhere, 9);
        assert_eq!((sieve.ask_for(), sieve.take(page(&["a"], Some("x")), |item| &item.1)), (9, None));
        let page = sieve.end(|item| item.0.to_string()).unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!((page.items.len(), page.next.as_deref()), (1, Some("x")));
    }

    #[test]
    fn whoever_looks_through_too_much_is_asked_to_name_a_scope() {
        let extent = Extent::Scopes(["a".parse().unwrap()].into());
        let mut sieve = Sieve::new(&extent, 1);
        let more = (0..LOOK_PAGES).map(|_| sieve.take(page(&["b"], Some("x")), |item| &item.1).is_some());
        assert_eq!(more.filter(|more| *more).count(), LOOK_PAGES - 1);
        assert!(sieve.end(|item| item.0.to_string()).is_err());
    }
}
