//! `sexton verify`: signed checkpoints that were kept outside the job table, checked by themselves, and compared with
//! what the job table says now.
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sexton_api::{AuditQuery, BrokenChain, Client, EventName, HASHES_MAX, HashesQuery};
use sexton_model::Timestamp;
use sexton_model::archive::FILE_MAX_BYTES;
use sexton_model::attest::{Attestation, Head, LINE_MAX_BYTES, Newest, Sequence, SignedCheckpoint};
use sexton_model::audit::hex;
use sexton_model::chain_copy::{ChainCopy, Fits};
use sexton_protocol::BeaconVerifier;

use crate::archived::read;
use crate::arguments::Format;
use crate::output::{moment, write};

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Lines of the file.
    checkpoints: u64,
    /// The ledger they are about.
    ledger: Option<String>,
    /// Number of the last one that holds.
    last: i64,
    /// When that one was signed, by the store's clock.
    signed_at: Option<Timestamp>,
    /// Chains whose heads were signed.
    chains: usize,
    /// Lines that do not hold.
    bad: Vec<BadLine>,
    /// Whether the job table was asked.
    compared: bool,
    /// Chains that are another history than the one that was signed.
    rewritten: Vec<Rewritten>,
    /// Chains that do not hold in themselves.
    broken: Vec<BrokenChain>,
    /// What became of the copy of a chain, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    copy: Option<CopyReport>,
}

/// What became of a copy of a chain.
#[derive(Debug, Serialize)]
struct CopyReport {
    /// Which chain.
    chain: String,
    /// How far it is what was signed, if it is.
    #[serde(flatten)]
    fits: Option<Fits>,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// A line that does not hold.
#[derive(Debug, Serialize)]
struct BadLine {
    /// Which line, from 1.
    line: u64,
    /// What is wrong.
    why: String,
}

/// A chain that is another one than was signed.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Rewritten {
    /// Which one.
    chain: String,
    /// Number of the event whose hash was signed.
    seq: i64,
    /// That hash.
    signed: String,
    /// The hash that is stored; none if there is no such event.
    stored: Option<String>,
}

impl Report {
    fn holds(&self) -> bool {
        let copy = self.copy.as_ref().is_none_or(|copy| copy.why.is_none());
        self.bad.is_empty() && self.rewritten.is_empty() && self.broken.is_empty() && copy
    }
}

/// Check `file` with the keys in `key`, and, unless there is none, with the job table behind `client`; and with it the copy
/// of a chain in the file `copy`. Fails if anything does not hold.
///
/// # Errors
/// If one of the files cannot be read, or the coordinator does not answer.
pub async fn verify(
    client: Option<&Client>,
    format: Format,
    (file, key): (&Path, &Path),
    copy: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let text = std::fs::read_to_string(key).with_context(|| format!("reading {}", key.display()))?;
    let verifier = BeaconVerifier::parse(&key.display().to_string(), &text)?;
    let doing = || format!("reading {}", file.display());
    let lines = File::open(file).with_context(doing)?;
    let bar = bar(lines.metadata().with_context(doing)?.len(), "{bytes} of {total_bytes} read");
    let (mut report, newest) = offline(bar.wrap_read(lines), &verifier).with_context(doing)?;
    bar.finish_and_clear();
    if let Some(path) = copy {
        let no_copy = || format!("{}: it is no copy of a chain", path.display());
        let copy: ChainCopy = serde_json::from_slice(&read(path, COPY_MAX_BYTES)?).with_context(no_copy)?;
        report.copy = Some(fits(&copy, &report, &newest));
    }
    if let Some(client) = client {
        compare(client, &mut report, newest).await?;
        chains(client, &mut report).await?;
        report.compared = true;
    }
    write(format, &report, table)?;
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Largest copy of a chain, in bytes: as the archive's files.
const COPY_MAX_BYTES: u64 = FILE_MAX_BYTES;

/// Compare a copy with what was signed of its chain.
fn fits(copy: &ChainCopy, report: &Report, newest: &Newest) -> CopyReport {
    let signed = newest.of(&copy.chain);
    let (fits, why) = match copy.fits(report.ledger.as_deref(), signed.as_ref()) {
        Ok(fits) => (Some(fits), None),
        Err(why) => (None, Some(why.to_string())),
    };
    CopyReport { chain: copy.chain.clone(), fits, why }
}

fn bar(length: u64, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("{{wide_bar}} {what}"));
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Check what needs nobody: that each line is signed, and follows from the one before it.
fn offline(lines: impl Read, verifier: &BeaconVerifier) -> std::io::Result<(Report, Newest)> {
    let mut lines = BufReader::new(lines);
    let (mut report, mut newest, mut sequence) = (Report::default(), Newest::default(), Sequence::default());
    let mut text = Vec::new();
    loop {
        text.clear();
        if lines.by_ref().take(LINE_MAX_BYTES as u64 + 1).read_until(b'\n', &mut text)? == 0 {
            break;
        }
        report.checkpoints += 1;
        let line = report.checkpoints;
        let whole = text.pop_if(|byte| *byte == b'\n').is_some();
        if !whole && text.len() > LINE_MAX_BYTES {
            report.bad.push(BadLine { line, why: format!("is longer than {LINE_MAX_BYTES} bytes") });
            break;
        }
        let seen = if whole { see(&text, verifier, &mut sequence) } else { Err(vec![CUT.to_owned()]) };
        match seen {
            Ok(attestation) => {
                report.ledger = Some(attestation.ledger.clone());
                (report.last, report.signed_at) = (attestation.number, Some(attestation.at));
                let shrunk = newest.see(attestation).into_iter();
                report.bad.extend(shrunk.map(|shrunk| BadLine { line, why: shrunk.to_string() }));
            }
            Err(whys) => report.bad.extend(whys.into_iter().map(|why| BadLine { line, why })),
        }
    }
    report.chains = newest.len();
    Ok((report, newest))
}

/// A line without an end.
const CUT: &str = "is cut short: its coordinator completes it, if a loss of power did that";

/// All that is wrong with a line. Whatever it is, the next one is compared with this one, so that one mistake is told
/// once.
fn see(text: &[u8], verifier: &BeaconVerifier, sequence: &mut Sequence) -> Result<Attestation, Vec<String>> {
    let signed: SignedCheckpoint =
        serde_json::from_slice(text).map_err(|error| vec![format!("is no signed checkpoint: {error}")])?;
    let authentic = verifier.verify_checkpoint(&signed);
    let linked = sequence.see(&signed.body);
    if linked.is_err()
        && let Ok(behind) = Sequence::behind(&signed.body)
    {
        *sequence = behind;
    }
    match (authentic, linked) {
        (Ok(()), Ok(attestation)) => Ok(attestation),
        (Ok(()), Err(unlinked)) => Err(vec![unlinked.to_string()]),
        (Err(forged), Ok(_)) => Err(vec![format!("is not authentic: {forged}")]),
        (Err(forged), Err(unlinked)) => {
            Err(vec![format!("is not authentic: {forged}"), unlinked.to_string()])
        }
    }
}

/// Compare the newest head of each chain with what is stored under its number.
async fn compare(client: &Client, report: &mut Report, newest: Newest) -> anyhow::Result<()> {
    let bar = bar(newest.len() as u64, "{pos} of {len} chains compared");
    let heads: Vec<Head> = newest.into_heads().collect();
    for some in heads.chunks(HASHES_MAX) {
        let name = |head: &Head| EventName { chain: head.chain.clone(), seq: head.seq };
        let answer = client.hashes(&HashesQuery { events: some.iter().map(name).collect() }).await?;
        if let Some(ledger) = report.ledger.as_ref().filter(|ledger| **ledger != answer.ledger) {
            anyhow::bail!(
                "the checkpoints are about the ledger {ledger}, the coordinator's is {}",
                answer.ledger
            );
        }
        anyhow::ensure!(
            answer.hashes.len() == some.len(),
            "asked for {} hashes, the coordinator answered {}",
            some.len(),
            answer.hashes.len()
        );
        report.rewritten.extend(some.iter().zip(answer.hashes).filter_map(differs));
        bar.inc(some.len() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

fn differs((head, stored): (&Head, Option<String>)) -> Option<Rewritten> {
    let signed = hex(&head.hash);
    let same = stored.as_ref() == Some(&signed);
    (!same).then(|| Rewritten { chain: head.chain.clone(), seq: head.seq, signed, stored })
}

/// A head stands for all events before it only as long as its chain holds.
async fn chains(client: &Client, report: &mut Report) -> anyhow::Result<()> {
    let bar = ProgressBar::new_spinner().with_style(
        ProgressStyle::with_template("{spinner} {pos} chains checked")
            .unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
    let mut query = AuditQuery::default();
    loop {
        let page = client.audit(&query).await?;
        bar.inc(page.checked);
        report.broken.extend(page.broken);
        query.after = page.next;
        if query.after.is_none() {
            bar.finish_and_clear();
            return Ok(());
        }
    }
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    for BadLine { line, why } in &report.bad {
        text += &format!("BAD line {line} {why}\n");
    }
    for Rewritten { chain, seq, stored, .. } in &report.rewritten {
        let what =
            if stored.is_some() { "is another one than was signed" } else { "was signed and is missing" };
        text += &format!("REWRITTEN {chain}: event {seq} {what}\n");
    }
    for BrokenChain { chain, why } in &report.broken {
        text += &format!("BROKEN {chain}: {why}\n");
    }
    match &report.copy {
        Some(CopyReport { chain, why: Some(why), .. }) => {
            text += &format!("NOT WHAT WAS SIGNED {chain}: {why}\n")
        }
        Some(CopyReport { chain, fits: Some(Fits { signed, unsigned }), .. }) => {
            text += &format!(
                "{chain}: its chain holds, and is what was signed up to event {signed}; {unsigned} behind that are not signed yet\n"
            );
        }
        Some(CopyReport { .. }) | None => {}
    }
    let Report { checkpoints, last, chains, .. } = report;
    text += &match report.signed_at {
        Some(at) => {
            format!(
                "{checkpoints} signed checkpoints of {chains} chains, the last one number {last} of {} UTC",
                moment(Some(at))
            )
        }
        None => format!("{checkpoints} lines, no signed checkpoint that holds"),
    };
    text + match (report.holds(), report.compared) {
        (true, true) => ": they hold, and the job table says the same",
        (true, false) => ": they hold in themselves; the job table was not asked",
        (false, _) => ": NOT ALL OF IT HOLDS",
    }
}

#[cfg(test)]
mod tests;
