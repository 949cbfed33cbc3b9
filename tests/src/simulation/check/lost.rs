//! Time that counts for no grace, by what really happened: nobody could have cancelled while no coordinator ran, and time
//! that the job table's clock skipped was lived through by nobody.
use sexton_model::Timestamp;

/// So long a silence, or so far a jump, is none, in milliseconds: that is what a day this short allows.
const TOLERANCE_MS: u64 = 5_000;
/// After this many milliseconds every consumer that does anything goes by a beacon of after the clock was set.
const HEARD_MS: u64 = 6_000;

/// All of it, by the job table's clock.
#[derive(Debug, Default)]
pub struct Lost {
    spans: Vec<(Timestamp, Timestamp)>,
    /// No coordinator has run since then.
    nobody_since: Option<Timestamp>,
    /// The clock has been this far before it went back: what is between is lived through again, and what is missing of it
    /// nobody can tell from heartbeats.
    blind_before: Timestamp,
    /// When it was set, truly.
    set_at: Option<Timestamp>,
}

impl Lost {
    /// The job table's clock was set at the moment `truly`: it showed `before`, and shows `now`.
    pub fn clock_set(&mut self, (before, now): (Timestamp, Timestamp), truly: Timestamp) {
        self.set_at = Some(truly);
        self.goes_on(now);
        self.add(before, now);
    }

    /// The job table was opened anew: it was shown `before`, and is shown `now`.
    pub fn reopened(&mut self, before: Timestamp, now: Timestamp) {
        if now < before {
            self.blind_before = self.blind_before.max(before);
            self.goes_on(now);
        }
    }

    /// No coordinator runs any more.
    pub fn nobody(&mut self, now: Timestamp) {
        self.nobody_since.get_or_insert(now);
    }

    /// One runs again.
    pub fn somebody(&mut self, now: Timestamp) {
        if let Some(since) = self.nobody_since.take() {
            self.add(since, now);
        }
    }

    /// Whether the job table's clock has ever gone back.
    pub fn went_back(&self) -> bool {
        self.blind_before > Timestamp::default()
    }

    /// Whether everybody who does anything at this moment, truly, has heard of how the clock was set.
    pub fn heard(&self, at: Timestamp) -> bool {
        self.set_at.is_none_or(|set| at > set.plus_ms(HEARD_MS))
    }

    /// How much of the time between these two was lost, in microseconds.
    pub fn within_us(&self, from: Timestamp, to: Timestamp) -> i64 {
        let mut spans = self.spans.clone();
        spans.sort_unstable();
        let (mut lost, mut counted) = (0, from);
        for (began, ended) in spans {
            let (began, ended) = (began.max(counted), ended.min(to));
            if ended > began {
                lost += ended.0 - began.0;
                counted = ended;
            }
        }
        lost
    }

    /// What was shown after `now` has not happened.
    fn goes_on(&mut self, now: Timestamp) {
        self.spans.retain(|(began, _)| *began < now);
        for (_, ended) in &mut self.spans {
            *ended = (*ended).min(now);
        }
    }

    fn add(&mut self, from: Timestamp, to: Timestamp) {
        if to.ms_since(from) > TOLERANCE_MS && from >= self.blind_before {
            self.spans.push((from, to));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(0).plus_ms(seconds * 1000)
    }

    #[test]
    fn what_is_lost_is_counted_once() {
        let mut lost = Lost::default();
        lost.nobody(at(10));
        lost.clock_set((at(12), at(40)), at(12));
        lost.somebody(at(42));
        lost.nobody(at(50));
        lost.somebody(at(54));
        assert_eq!(lost.within_us(at(0), at(100)), 32_000_000, "from 10 to 42; four seconds are none");
        assert_eq!(lost.within_us(at(20), at(30)), 10_000_000);
        assert_eq!(lost.within_us(at(42), at(100)), 0);
    }

    #[test]
    fn a_jump_that_nobody_saw_has_not_happened() {
        let mut lost = Lost::default();
        lost.clock_set((at(10), at(100)), at(10));
        lost.clock_set((at(100), at(30)), at(10));
        assert_eq!(lost.within_us(at(0), at(100)), 20_000_000);
        assert!(!lost.heard(at(16)) && lost.heard(at(17)));
    }
}
