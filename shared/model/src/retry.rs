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
/// Longest delay of a restore, in milliseconds, whatever was answered: somebody waits for it, five minutes at the most. With
/// what is added it is asked for again within half a minute.
const RESTORE_LONGEST_MS: u64 = 24_000;
/// No notice is tried more often than this, in milliseconds, however short a rehearsal's day is.
const NOTICE_SHORTEST_MS: u64 = 100;
/// Attempts a step has before its job parks, if the plan says nothing.
pub const ATTEMPTS: u16 = 8;
/// Orders in a row that came to nothing without spending an attempt before a stage's job parks. With the longest delays
/// it comes there after about a day: an outage of a night parks nothing, and nothing goes round for ever unseen.
pub const IN_VAIN: u16 = 300;
/// The same of a restore, which asks more often: more than five hours.
const RESTORE_IN_VAIN: u16 = 900;
/// What an order weighs among them that nobody answered while the instance pulsed and answered nothing at all:
/// somebody takes orders and dies. Five of them park the job. They are counted by the thousand, beside the others:
/// whoever answers after them is alive, and what they put off waits no longer for that.
pub const SILENT: u16 = 1_000;
/// So many of them park the job: see [`SILENT`].
const SILENT_PARK: u16 = 5;

/// Whether so many orders in a row, by weight, have come to nothing without spending an attempt that a job of this kind
/// parks.
pub fn in_vain_too_often(kind: JobKind, in_vain: u16) -> bool {
    let most = match kind {
        JobKind::Stage(_) => IN_VAIN,
        JobKind::Restore => RESTORE_IN_VAIN,
    };
    let (silent, others) = (in_vain / SILENT, in_vain % SILENT);
    silent.saturating_mul(most / SILENT_PARK).saturating_add(others) >= most
}

/// Milliseconds to wait before attempt number `attempts + 1`: doubling from one second to five minutes, plus
/// up to a quarter that differs from job to job. A restore's grow fourfold and end at 24 seconds: it is never
/// long in coming back, and does not use up its attempts earlier for that.
pub fn delay_ms(job: JobId, kind: JobKind, attempts: u16) -> u64 {
    let before = attempts.saturating_sub(1).min(20);
    let base = match kind {
        JobKind::Stage(_) => FIRST_MS.saturating_mul(1 << before).min(LONGEST_MS),
        JobKind::Restore => FIRST_MS.saturating_mul(1 << (2 * before)).min(RESTORE_LONGEST_MS),
    };
    base + jitter(job, attempts) % (base / 4)
}

/// Milliseconds to wait after an answer that put an order off, the last of so many orders in a row, by weight, that came to
/// nothing without spending an attempt: doubling from two seconds to five, and after five minutes to five minutes (a
/// restore: 24 seconds), plus up to a quarter.
pub fn spared_delay_ms(job: JobId, kind: JobKind, in_vain: u16) -> u64 {
    let longest = match kind {
        JobKind::Stage(_) => LONGEST_MS,
        JobKind::Restore => RESTORE_LONGEST_MS,
    };
    let in_vain = in_vain % SILENT;
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

    const SOFT: JobKind = JobKind::Stage(crate::job::Stage::Soft);

    #[test]
    fn what_is_spared_backs_off_too() {
        for in_vain in 1..IN_VAIN {
            let base = (2000u64 << (in_vain - 1).min(20)).min(if in_vain <= 60 { 5_000 } else { 300_000 });
            let delay = spared_delay_ms(JobId(17), SOFT, in_vain);
            assert!(delay >= base && delay < base + base / 4, "{in_vain}: {delay} ms");
        }
    }

    /// From cancel to a running machine it is five minutes: of a subsystem that has come back in time nobody hears too
    /// late. And though it asks so often, a restore does not give up sooner.
    #[test]
    fn a_restore_is_asked_for_again_within_half_a_minute() {
        let restore = JobId(JobKind::RESTORE_SLOT.into());
        let delays = |many: u16| (1..=many).map(|n| delay_ms(restore, JobKind::Restore, n));
        let spared = |many: u16| (1..=many).map(|n| spared_delay_ms(restore, JobKind::Restore, n));
        let longest = delays(1000).chain(spared(RESTORE_IN_VAIN)).max();
        assert!(longest.is_some_and(|ms| ms < 30_000), "{longest:?}");
        let hours = spared(RESTORE_IN_VAIN - 1).sum::<u64>() / 3_600_000;
        assert!((5..8).contains(&hours), "it parks after {hours} hours");
        let attempts_ms = delays(ATTEMPTS - 1).sum::<u64>();
        assert!(attempts_ms >= 110_000, "its attempts are spent after {attempts_ms} ms");
    }

    #[test]
    fn five_silent_orders_park_a_job_and_fewer_make_nothing_wait_longer() {
        for (kind, most) in [(SOFT, IN_VAIN), (JobKind::Restore, RESTORE_IN_VAIN)] {
            let parks = |silent: u16, others: u16| in_vain_too_often(kind, silent * SILENT + others);
            for silent in 0..SILENT_PARK {
                let others = most - silent * most / SILENT_PARK;
                assert!(!parks(silent, others - 1) && parks(silent, others), "{kind}: {silent}, {others}");
                let delay = spared_delay_ms(JobId(17), kind, silent * SILENT + 1);
                assert!(delay < SPARED_MS * 5 / 4, "{kind}: after {silent} of them {delay} ms");
            }
            assert!(parks(SILENT_PARK, 0) && parks(u16::MAX / SILENT, 0), "{kind}");
        }
    }

    #[test]
    fn the_schedule_doubles_and_ends_at_five_minutes() {
        let job = JobId(17);
        for attempts in 1..40 {
            let delay = delay_ms(job, SOFT, attempts);
            let base = (1000u64 << (attempts - 1).min(20)).min(300_000);
            assert!(delay >= base && delay < base + base / 4, "attempt {attempts}: {delay} ms");
        }
        assert_ne!(
            delay_ms(JobId(1), SOFT, 9),
            delay_ms(JobId(2), SOFT, 9),
            "all jobs would come back at once"
        );
    }
}
