//! `register`: one resource. `import`: an inventory, all of it or nothing, or its good lines.
//!
//! Contract: whatever is wrong with the file is said in one run, by its lines: what cannot be read, what the coordinator has
//! no use for, and what the job table refuses. So while a line is bad and nothing is to be registered, the others are sent
//! to be checked. A line that nothing is wrong with is not called bad because another one is.
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;
use sexton_api::{Client, REGISTER_MAX, Register};

use crate::arguments::Format;
use crate::import::{read, resource};
use crate::output::write;

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
    anyhow::ensure!(
        check || skip_bad || good.len() <= REGISTER_MAX,
        "all or nothing takes at most {REGISTER_MAX} lines at once: split the file, or use --skip-bad"
    );
    for batch in good.chunks(REGISTER_MAX) {
        let resources = batch.iter().map(|(_, resource)| resource.clone()).collect();
        let answer = match check {
            true => client.check_resources(resources).await?,
            false => client.register(&Register { resources, whole: !skip_bad, dry_run: false }).await?,
        };
        if !check {
            report.imported += answer.results.iter().filter(|why| why.is_none()).count();
        }
        for ((line, _), wrong) in batch.iter().zip(answer.wrong()) {
            report.bad.extend(wrong.map(|reason| BadLine { line: *line, reason }));
        }
    }
    report.bad.sort_by_key(|bad| bad.line);
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
    Ok(if report.bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
