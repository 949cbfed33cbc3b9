//! `register`: one resource. `import`: an inventory, all of it or nothing, or its good lines.
//!
//! Contract: whatever is wrong with the file is said in one run, by its lines: what cannot be read, what the coordinator has
//! no use for, and what the job table refuses. So while a line is bad and nothing is to be registered, the others are sent
//! to be checked. A line that nothing is wrong with is not called bad because another one is. Where it takes several requests
//! and one of them fails, what is known of those before it is said all the same.
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;
use sexton_api::{Client, REGISTER_MAX, REGISTER_MAX_BYTES, Register};
use sexton_model::resource::Resource;

use crate::arguments::Format;
use crate::import::{read, resource};
use crate::output::write;

/// Of what may be sent in pieces, the largest, in bytes: well below what a request may be, so that each is answered in time.
const PIECE_MAX_BYTES: usize = 8 << 20;
/// What stands around the resources of a request, in bytes, and between two of them.
const AROUND_BYTES: usize = 64;
const BETWEEN_BYTES: usize = 1;

/// A line that could be read: its number, and what is in it.
type Good = (usize, Resource);

/// Register one resource.
pub async fn register(client: &Client, format: Format, file: &Path) -> anyhow::Result<()> {
    let doing = || format!("reading {}", file.display());
    let text = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin()).with_context(doing)?
    } else {
        std::fs::read_to_string(file).with_context(doing)?
    };
    let resource = resource(text.as_bytes()).map_err(|why| anyhow::anyhow!("{}: {why}", file.display()))?;
    let id = resource.id.clone();
    let body = Register { resources: vec![resource], whole: true, dry_run: false };
    let registered = client.register(&body).await?;
    if let Some(why) = registered.results.first().and_then(Option::as_ref) {
        anyhow::bail!("{id} is not registered: {why}");
    }
    write(format, &registered, |_| format!("{id} is registered"))
}

/// What came of a file.
#[derive(Debug, Serialize)]
struct Imported {
    /// Lines with anything in them.
    lines: usize,
    /// Those that are registered now.
    imported: usize,
    /// Those that something is wrong with, in the order of the file.
    bad: Vec<BadLine>,
}

/// One that is not registered.
#[derive(Debug, Serialize)]
struct BadLine {
    /// Counted from 1.
    line: usize,
    /// What is wrong with it.
    reason: String,
}

/// Register what is in the file, or only check it.
pub async fn import(
    client: &Client,
    format: Format,
    file: &Path,
    (skip_bad, dry_run): (bool, bool),
) -> anyhow::Result<ExitCode> {
    let lines = read(file)?;
    let mut report = Imported { lines: lines.len(), imported: 0, bad: Vec::new() };
    let mut good = Vec::new();
    for line in lines {
        match line.resource {
            Ok(resource) => good.push((line.number, resource)),
            Err(reason) => report.bad.push(BadLine { line: line.number, reason }),
        }
    }
    let check = dry_run || !skip_bad && !report.bad.is_empty();
    // All or nothing is one request. A check may be several, of which none sees what the others state as exclusive.
    let whole = !check && !skip_bad;
    let pieces = pieces(&good, REGISTER_MAX, if whole { REGISTER_MAX_BYTES } else { PIECE_MAX_BYTES })?;
    anyhow::ensure!(
        !whole || pieces.len() <= 1,
        "all or nothing takes at most {REGISTER_MAX} lines, and {REGISTER_MAX_BYTES} bytes, at once: split the file, or \
         use --skip-bad"
    );
    let mut failed = None;
    for (nth, batch) in pieces.into_iter().enumerate() {
        let resources = batch.iter().map(|(_, resource)| resource.clone()).collect();
        let answer = match check {
            true => client.check_resources(resources).await,
            false => client.register(&Register { resources, whole: !skip_bad, dry_run: false }).await,
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                failed = Some((batch.first().filter(|_| nth > 0).map(|(line, _)| *line), error));
                break;
            }
        };
        if !check {
            report.imported += answer.results.iter().filter(|why| why.is_none()).count();
        }
        for ((line, _), wrong) in batch.iter().zip(answer.wrong()) {
            report.bad.extend(wrong.map(|reason| BadLine { line: *line, reason }));
        }
    }
    report.bad.sort_by_key(|bad| bad.line);
    let nothing_is_known = report.imported == 0 && report.bad.is_empty();
    if let Some((_, error)) = failed.take_if(|_| nothing_is_known) {
        return Err(error.into());
    }
    write(format, &report, |report| {
        let mut text = String::new();
        for BadLine { line, reason } in &report.bad {
            text += &format!("{}:{line}: {reason}\n", file.display());
        }
        let Imported { lines, imported, bad } = report;
        let (count, what) = match dry_run {
            true => (lines - bad.len(), "checked, nothing imported"),
            false => (*imported, "imported"),
        };
        text + &format!("{count} of {lines} lines {what}, {} bad", bad.len())
    })?;
    match failed {
        Some((Some(line), error)) => {
            let unknown = if check { "were not checked" } else { "are not known to be imported" };
            Err(anyhow::Error::from(error).context(format!("lines from {line} on {unknown}")))
        }
        Some((None, error)) => Err(error.into()),
        None => Ok(if report.bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
    }
}

/// Cut into what fits a request, by number and by bytes. A single line is far smaller than that.
fn pieces(lines: &[Good], most: usize, most_bytes: usize) -> serde_json::Result<Vec<&[Good]>> {
    let mut pieces = Vec::new();
    let mut rest = lines;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(fitting(rest, most, most_bytes)?);
        pieces.push(piece);
        rest = behind;
    }
    Ok(pieces)
}

/// How many of the first ones fit; one in any case.
fn fitting(lines: &[Good], most: usize, most_bytes: usize) -> serde_json::Result<usize> {
    let mut bytes = AROUND_BYTES;
    for (before, (_, resource)) in lines.iter().take(most).enumerate() {
        bytes += serde_json::to_vec(resource)?.len() + BETWEEN_BYTES;
        if bytes > most_bytes && before > 0 {
            return Ok(before);
        }
    }
    Ok(lines.len().min(most.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: usize, more: usize) -> Good {
        let json = format!(
            r#"{{"id":"vm/a{number}","scope":"x","identity":{{"uuid":"1"}},"criticality":"irreplaceable","attributes":{{"a":"{}"}}}}"#,
            "x".repeat(more)
        );
        (number, resource(json.as_bytes()).unwrap())
    }

    #[test]
    fn pieces_are_bounded_by_number_and_by_bytes() {
        let small: Vec<Good> = (0..10).map(|number| line(number, 0)).collect();
        let sizes = |lines: &[Good], most, bytes| -> Vec<usize> {
            pieces(lines, most, bytes).unwrap().into_iter().map(<[Good]>::len).collect()
        };
        assert_eq!(sizes(&small, 4, usize::MAX), [4, 4, 2]);
        assert_eq!(sizes(&small, 10, usize::MAX), [10]);
        assert_eq!(sizes(&[], 4, usize::MAX), [0; 0]);
        // The bound is that of the whole body.
        let body = |lines: &[Good]| {
            let resources = lines.iter().map(|(_, resource)| resource.clone()).collect();
            serde_json::to_vec(&Register { resources, whole: false, dry_run: true }).unwrap().len()
        };
        let lines: Vec<Good> = (0..50).map(|number| line(number, number * 31)).collect();
        let most = body(&lines[..20]);
        let cut = pieces(&lines, 50, most).unwrap();
        assert!(cut.len() > 2, "{}", cut.len());
        assert_eq!(cut.concat(), lines);
        for piece in cut {
            assert!(body(piece) <= most, "{} of {most}", body(piece));
        }
        // What is too large by itself is sent by itself: the coordinator says what is wrong with it.
        assert_eq!(sizes(&lines[..3], 50, 1), [1, 1, 1]);
    }
}
