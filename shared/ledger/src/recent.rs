//! A bounded memory of what was used lately.
use std::collections::HashMap;
use std::hash::Hash;

/// Keeps at least the last `half` entries that were put or looked up, and at most twice as many.
///
/// Two generations instead of a list of ages: when the young one is full it becomes the old one, and what was
/// not used since is dropped with the one before. Every operation is constant time and needs no order.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    pub(crate) fn new(half: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half }
    }

    pub(crate) fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// Remove and return.
    pub(crate) fn take(&mut self, key: &K) -> Option<V> {
        let young = self.young.remove(key);
        let old = self.old.remove(key);
        young.or(old)
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V>
    where
        K: Copy,
        V: Clone,
    {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.put(*key, value.clone());
        Some(value)
    }

    /// Look at it, which does not count as a use.
    pub(crate) fn peek(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.young.iter().chain(&self.old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut recent = Recent::new(4);
        for n in 0..100 {
            recent.put(n, n);
            assert_eq!(recent.get(&0), Some(0), "used all the time");
            assert_eq!(recent.get(&n), Some(n));
            assert!(recent.iter().count() <= 8);
        }
        assert_eq!((recent.get(&50), recent.peek(&50)), (None, None));
        assert_eq!(recent.peek(&99), Some(&99));
        assert_eq!(recent.take(&99), Some(99));
        assert_eq!(recent.take(&99), None);
    }
}
