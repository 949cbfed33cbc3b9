//! Exchanging a holder's key while everybody goes on working.
//!
//! A key is known to two sides, the holder and the coordinators, and neither reads a new file at the same moment as
//! the other. So it takes three steps, and after each of them both sides are given their files and started again:
//!
//! 1. the new key is known to both and signs nothing: whichever side is asked already accepts it;
//! 2. the new key signs; the old one is still accepted, for whoever is not started again yet;
//! 3. the old key is gone.
use secrecy::ExposeSecret;

use crate::auth::{Holder, Key, Keyring, SECRET_MIN_BYTES};

/// Which step of an exchange was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// A new key is accepted and signs nothing yet.
    HandedOut,
    /// The new key signs, the old ones are still accepted.
    Signs,
    /// The old keys are gone.
    Retired,
}

impl Keyring {
    /// A new key for `holder`, unless it has one. Says whether it needed one.
    pub fn add_missing(&mut self, holder: &Holder, rng: &mut impl rand::CryptoRng) -> bool {
        let missing = self.keys_of(holder).is_empty();
        if missing {
            self.insert(holder.clone(), new_key(holder, true, rng));
        }
        missing
    }

    /// Take over the keys of `holder` from another ring, if this one has none. Says whether any were.
    pub fn adopt(&mut self, holder: &Holder, other: &Self) -> bool {
        if !self.keys_of(holder).is_empty() {
            return false;
        }
        for key in other.keys_of(holder) {
            let secret = key.secret.expose_secret().clone();
            self.insert(holder.clone(), Key::new(key.id.clone(), key.signs, secret));
        }
        !self.keys_of(holder).is_empty()
    }

    /// The next step of exchanging the key of `holder`; none if it has no key.
    pub fn rotate(&mut self, holder: &Holder, rng: &mut impl rand::CryptoRng) -> Option<Rotation> {
        let keys = self.keys_of_mut(holder)?;
        let older = keys.len().checked_sub(1)?;
        let newest = keys.last_mut()?;
        if !newest.signs {
            newest.signs = true;
            keys.iter_mut().take(older).for_each(|key| key.signs = false);
            return Some(Rotation::Signs);
        }
        if older > 0 {
            keys.drain(..older);
            return Some(Rotation::Retired);
        }
        keys.push(new_key(holder, false, rng));
        Some(Rotation::HandedOut)
    }
}

pub(crate) fn new_key(holder: &Holder, signs: bool, rng: &mut impl rand::CryptoRng) -> Key {
    let mut secret = vec![0; SECRET_MIN_BYTES];
    rng.fill_bytes(&mut secret);
    let id = format!("{holder}-{:08x}", rng.next_u32());
    Key::new(id, signs, secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{AuthError, Direction, Seal};

    const BODY: &[u8] = b"body";

    fn holder() -> Holder {
        "dns.main".parse().unwrap()
    }

    fn copy(ring: &Keyring) -> Keyring {
        ring.only(&holder())
    }

    fn sign(ring: &Keyring) -> Seal {
        ring.sign(&holder(), Direction::Order, BODY).unwrap()
    }

    fn takes(ring: &Keyring, seal: &Seal) -> Result<(), AuthError> {
        ring.verify(&holder(), Direction::Order, BODY, Some(&seal.key_id), Some(&seal.mac))
    }

    /// At every step each side takes what the other signs, whichever of them has its new file first.
    #[test]
    fn both_sides_understand_each_other_throughout() {
        let mut rng = rand::rng();
        let mut ring = Keyring::generate([holder(), Holder::Scheduler], &mut rng);
        let first = sign(&ring);
        for step in [Rotation::HandedOut, Rotation::Signs, Rotation::Retired] {
            let before = copy(&ring);
            assert_eq!(ring.rotate(&holder(), &mut rng), Some(step));
            takes(&ring, &sign(&before))
                .map_err(|e| format!("{step:?}: {e}"))
                .unwrap_or_else(|e| panic!("{e}"));
            takes(&before, &sign(&ring))
                .map_err(|e| format!("{step:?}: {e}"))
                .unwrap_or_else(|e| panic!("{e}"));
        }
        assert!(takes(&ring, &first).is_err(), "the old key is gone");
        assert_ne!(sign(&ring).key_id, first.key_id);
        assert_eq!(ring.keys_of(&holder()).len(), 1);
        assert_eq!(ring.keys_of(&Holder::Scheduler).len(), 1, "nobody else's key was touched");
        assert_eq!(ring.rotate(&"dns.other".parse().unwrap(), &mut rng), None);
    }

    #[test]
    fn only_a_missing_key_is_added() {
        let mut rng = rand::rng();
        let mut ring = Keyring::generate([holder()], &mut rng);
        let before = sign(&ring);
        assert!(!ring.add_missing(&holder(), &mut rng));
        assert_eq!(sign(&ring), before);
        let other: Holder = "ipam.main".parse().unwrap();
        assert!(ring.add_missing(&other, &mut rng));
        let mut third = Keyring::default();
        assert!(third.adopt(&other, &ring) && !third.adopt(&other, &ring));
        assert_eq!(third.holders().collect::<Vec<_>>(), [&other]);
    }
}
