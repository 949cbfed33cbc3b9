//! What belts do beside a round: it is waited for before CPU time is read, so that theirs is counted, and then counted
//! itself, because a figure of belts that did nothing says nothing of them.
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use sexton_ledger::Ledger;
use sexton_model::Timestamp;
use sexton_model::attest::Attestation;
use sexton_model::canary::{Canary, Verdict};

use crate::belts::{self, Belts, PATIENCE};

/// Both wait so long after a round before CPU time is read, for what idling costs to be the same in both. `all` needs most of
/// it: heads are signed every five seconds, and a page of them takes its time.
const SETTLE: Duration = Duration::from_secs(7);
/// In a round of so many milliseconds heads have to be signed and alarms looked for: an interval of either, and a second for
/// what it takes. In a shorter one chance decides.
const LONG_MS: u64 = 7_000;
/// Signed checkpoints read at once: some megabytes.
const READ: u32 = 16;

/// From when to when a round lasted, by the ledger's clock.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Its machines were due then.
    pub from: Timestamp,
    /// None was left then.
    pub until: Timestamp,
}

impl Span {
    fn ms(self) -> u64 {
        self.until.ms_since(self.from)
    }
}

/// What `all` has done beside a round.
#[derive(Debug)]
pub struct Beside {
    span: Span,
    /// Whether somebody began to look for alarms in it.
    looked: bool,
    canaries: usize,
}

impl Beside {
    /// Wait until all is over that these belts have begun in a round which has just ended. What it was; nothing with the
    /// fewest.
    ///
    /// # Errors
    /// If a canary did not hold or there was none, if heads stay unsigned, or the job table does not answer.
    pub async fn settle(belts: Belts, ledger: &dyn Ledger, span: Span) -> anyhow::Result<Option<Self>> {
        let began = Instant::now();
        let beside = match belts {
            Belts::Fewest => None,
            Belts::All => {
                // At once: what it says is whether somebody has begun since the round did. If nobody has, this has, which
                // takes nothing from a round that is over.
                let looked = ledger.begin_alarm_round(span.ms()).await?.is_none();
                let canaries = canaries_held(ledger).await?;
                belts::signed(ledger).await?;
                Some(Self { span, looked, canaries })
            }
        };
        tokio::time::sleep(SETTLE.saturating_sub(began.elapsed())).await;
        Ok(beside)
    }

    /// Print it, of so many machines.
    ///
    /// # Errors
    /// If nothing was signed or nobody looked for alarms in a round that was long enough, or the job table does not answer.
    pub async fn print(&self, ledger: &dyn Ledger, machines: usize) -> anyhow::Result<()> {
        let (checkpoints, heads) = self.signed(ledger).await?;
        let looked = if self.looked { "alarms were looked for" } else { "nobody looked for alarms" };
        println!(
            "  in the round: {checkpoints} checkpoints signed, of {heads} heads ({:.1} a machine); {looked}; {} canaries held",
            heads as f64 / machines as f64,
            self.canaries
        );
        let long = self.span.ms() >= LONG_MS;
        ensure!(!long || checkpoints > 0, "nothing was signed in a round of {} ms", self.span.ms());
        ensure!(!long || self.looked, "nobody looked for alarms in a round of {} ms", self.span.ms());
        Ok(())
    }

    /// Checkpoints that were signed in the round, and the heads in them.
    async fn signed(&self, ledger: &dyn Ledger) -> anyhow::Result<(usize, usize)> {
        let (mut number, mut checkpoints, mut heads) = (0, 0, 0);
        loop {
            let some = ledger.attested_after(number, READ).await?;
            if some.is_empty() {
                return Ok((checkpoints, heads));
            }
            for signed in some {
                let one: Attestation = serde_json::from_str(&signed.body).context("a signed checkpoint")?;
                number = one.number;
                if self.span.from <= one.at && one.at <= self.span.until {
                    checkpoints += 1;
                    heads += one.heads.len();
                }
            }
        }
    }
}

/// Wait until all canaries are answered, each refused as it must be. How many there were.
///
/// # Errors
/// If there was none, one was accepted, or proves nothing, or the job table does not answer.
async fn canaries_held(ledger: &dyn Ledger) -> anyhow::Result<usize> {
    let began = Instant::now();
    loop {
        let canaries = ledger.canaries().await?;
        for Canary { probe, judged, .. } in &canaries {
            if let Some(Verdict::Accepted { how }) = judged.as_ref().map(|judged| &judged.verdict) {
                bail!("a canary was accepted ({}): {how}", probe.word());
            }
        }
        if canaries.iter().any(Canary::is_open) && began.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        let word = |canary: &Canary| canary.judged.as_ref().map_or("open", |judged| judged.verdict.word());
        let failed = canaries.iter().filter(|canary| !canary.holds());
        let failed: Vec<String> =
            failed.map(|canary| format!("{}: {}", canary.probe.word(), word(canary))).collect();
        ensure!(!canaries.is_empty(), "no canary was sent");
        ensure!(failed.is_empty(), "of {} canaries these did not hold: {failed:?}", canaries.len());
        return Ok(canaries.len());
    }
}
