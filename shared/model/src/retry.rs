//! The job table's own retry schedule: attempt in, delay out. Pure, because it must be reproducible; the
//! jitter comes from the job's id.
use crate::id::JobId;
use crate::job::JobKind;

/// First delay, in milliseconds.
const FIRST_MS: u64 = 1_000;
/// Longest delay, in milliseconds: a subsystem that comes back is used again within five minutes.
const LONGEST_MS: u64 = 300_000;
/// First delay after an answer that spends no attempt, in milliseconds: an outage or a foreign lock.
const SPARED_MS: u64 = 2_000;
/// Such delays are no longer than this, in milliseconds, for the first [`BRIEF`] of them: most of what is busy is a
/// lock that others hold in turn, or a consumer that has just been started, and whoever waits much longer than that
/// takes leaves it idle.
const BRIEF_LONGEST_MS: u64 = 5_000;
/// See [`BRIEF_LONGEST_MS`]: about five minutes.
const BRIEF: u16 = 60;
/// Longest such delay of a restore, in milliseconds: somebody waits for it.
const RESTORE_LONGEST_MS: u64 = 60_000;
/// No notice is tried more often than this, in milliseconds, however short a rehearsal's day is.
const NOTICE_SHORTEST_MS: u64 = 100;
/// Attempts a step has before its job parks, if the plan says nothing.
pub const ATTEMPTS: u16 = 8;
/// Orders in a row that came to nothing without spending an attempt before the job parks. With the longest delays a
/// stage comes there after about a day, a restore after five hours: an outage of a night parks nothing, and nothing
/// goes round for ever unseen.
pub const IN_VAIN: u16 = 300;
/// What an order weighs among them that nobody answered while the instance pulsed and answered nothing at all:
/// somebody takes orders and dies. Five of them park the job.
pub const SILENT: u16 = IN_VAIN / 5;

/// Milliseconds to wait before attempt number `attempts + 1`: doubling from one second to five minutes, plus
/// up to a quarter that differs from job to job.
pub fn delay_ms(job: JobId, attempts: u16) -> u64 {
    let base = FIRST_MS.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(LONGEST_MS);
    base + jitter(job, attempts) % (base / 4)
}

/// Milliseconds to wait after the `in_vain`th order in a row that came to nothing without spending an attempt:
/// doubling from two seconds to five, and after five minutes to five minutes (a restore: one), plus up to a quarter.
pub fn spared_delay_ms(job: JobId, kind: JobKind, in_vain: u16) -> u64 {
    let longest = match kind {
        JobKind::Stage(_) => LONGEST_MS,
        JobKind::Restore => RESTORE_LONGEST_MS,
    };
    let longest = if in_vain <= BRIEF { BRIEF_LONGEST_MS } else { longest };
    let base = SPARED_MS.saturating_mul(1 << in_vain.saturating_sub(1).min(20)).min(longest);
    base + jitter(job, in_vain) % (base / 4)
}

/// Milliseconds to wait before a notice is tried again, in a policy's day of `day_ms`: doubling from a second to an
/// hour of it, plus up to a quarter. It is tried for days: a mail server that is down over a night or a weekend is found
/// within the hour once it is back, and nobody has to do anything.
pub fn notice_delay_ms(job: JobId, attempts: u16, day_ms: u64) -> u64 {
    let longest = (day_ms / 24).max(NOTICE_SHORTEST_MS);
    let base = FIRST_MS.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(longest);
    base + jitter(job, attempts) % (base / 4)
}

fn jitter(job: JobId, attempts: u16) -> u64 {
    // SplitMix64: any well-mixed function of the two would do.
    let mut x =
        (job.0 as u64).wrapping_mul(31).wrapping_add(u64::from(attempts)).wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spared_backs_off_too_and_a_restore_less() {
        let restore = JobId(JobKind::RESTORE_SLOT.into());
        for in_vain in 1..IN_VAIN {
            let base = (2000u64 << (in_vain - 1).min(20)).min(if in_vain <= 60 { 5_000 } else { 300_000 });
            let delay = spared_delay_ms(JobId(17), JobKind::Stage(crate::job::Stage::Soft), in_vain);
            assert!(delay >= base && delay < base + base / 4, "{in_vain}: {delay} ms");
            assert!(spared_delay_ms(restore, JobKind::Restore, in_vain) < 75_000, "{in_vain}");
        }
    }

    #[test]
    fn the_schedule_doubles_and_ends_at_five_minutes() {
        let job = JobId(17);
        for attempts in 1..40 {
            let delay = delay_ms(job, attempts);
            let base = (1000u64 << (attempts - 1).min(20)).min(300_000);
            assert!(delay >= base && delay < base + base / 4, "attempt {attempts}: {delay} ms");
        }
        assert_ne!(delay_ms(JobId(1), 9), delay_ms(JobId(2), 9), "all jobs would come back at once");
    }
}
