//! Censuses: handed in, taken and listed.
use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use sexton_api::{CensusInfo, CensusRequest, CensusesQuery, Client, TakeCensus};
use sexton_model::ResourceId;
use sexton_model::belts::census::{Latest, Misplaced, Taken};

use crate::arguments::{CensusCommand, Format};
use crate::output::{counted, moment, plain, table, write};

/// How many are asked for at once: each may count thousands of scopes, and name thousands of resources.
const AT_ONCE: u32 = 100;

/// What is missing in one, in words.
const MISSING: &str = "registered, not being removed here, and not there";

/// What is known of them.
#[derive(Debug, Serialize)]
struct Known {
    /// Those that were believed and are kept, the newest first.
    believed: Vec<Taken>,
    /// What came last of each kind and scope.
    latest: Vec<Latest>,
}

/// Hand one in, or list them.
///
/// # Errors
/// If the file is none, or the coordinator refuses or cannot be asked.
pub async fn census(client: &Client, format: Format, file: Option<&Path>) -> anyhow::Result<()> {
    let Some(file) = file else {
        let known = Known { believed: believed(client).await?, latest: client.latest_censuses().await? };
        return write(format, &known, list);
    };
    let text = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let mut json = serde_json::Deserializer::from_slice(&text);
    let request: CensusRequest = serde_path_to_error::deserialize(&mut json)
        .map_err(|e| anyhow::anyhow!("{}: {}: {}", file.display(), e.path(), e.inner()))?;
    write(format, &client.census(&request).await?, taken)
}

/// All that are kept, page after page.
async fn believed(client: &Client) -> anyhow::Result<Vec<Taken>> {
    let mut query = CensusesQuery { after: None, limit: Some(AT_ONCE) };
    let mut all = Vec::new();
    loop {
        let page = client.censuses(&query).await?;
        all.extend(page.items);
        let Some(next) = page.next else { return Ok(all) };
        let behind = next.parse::<i64>().with_context(|| format!("the next page of censuses: {next:?}"))?;
        query.after = Some(behind);
    }
}

/// Have one taken.
///
/// # Errors
/// If there is none, or it is not believed, or the coordinator cannot be asked.
pub async fn take(client: &Client, format: Format, command: CensusCommand) -> anyhow::Result<()> {
    let CensusCommand::Take { kind, scope, new_credential, fewer, within } = command;
    let wanted = TakeCensus { kind, scope, new_credential, fewer, within_secs: within };
    write(format, &client.take_census(&wanted).await?, taken)
}

fn taken(info: &CensusInfo) -> String {
    let CensusInfo { taken, paused, paused_everywhere } = info;
    let there: u64 = taken.counts.values().sum();
    let mut text = format!(
        "census {} is believed: {} of {} in {}\n",
        taken.census,
        counted(there, "resource"),
        taken.kind,
        taken.scope
    );
    for (many, named, what) in [
        (taken.missing, &taken.missing_named, MISSING),
        (taken.unknown, &taken.unknown_named, "there, and not registered"),
    ] {
        if many > 0 {
            text += &format!("{many:<8} {what}: {}\n", first(many, named));
        }
    }
    if let Some(misplaced) = misplaced(taken) {
        text += &format!("{misplaced}\n");
    }
    let newly = taken.newly_missing;
    let pauses = [
        paused.map(|pause| format!("PAUSED      {newly} are gone since the last census: pause {pause}")),
        paused_everywhere.map(|pause| {
            format!("PAUSED      too many of {} are gone in all scopes together: pause {pause}", taken.kind)
        }),
    ];
    let pauses: Vec<String> = pauses.into_iter().flatten().collect();
    if pauses.is_empty() {
        text + "nothing is deleted because a census lacks it"
    } else {
        text + &pauses.join("\n")
    }
}

/// What is listed in another scope than it is registered in, if anything is.
fn misplaced(taken: &Taken) -> Option<String> {
    let many: u64 = taken.misplaced.values().sum();
    let one = |one: &Misplaced| {
        let Misplaced { id, listed_in, registered_in } = one;
        format!("{id} (listed in {listed_in}, registered in {registered_in})")
    };
    let named: Vec<String> = taken.misplaced_named.iter().take(10).map(one).collect();
    let more = if many > 10 { format!(", and {} more", many - 10) } else { String::new() };
    (many > 0).then(|| {
        format!("{many:<8} registered in another scope than they are listed in: {}{more}", named.join(", "))
    })
}

/// The first ten of so many.
fn first(many: u64, named: &BTreeSet<ResourceId>) -> String {
    let named: Vec<String> = named.iter().take(10).map(ToString::to_string).collect();
    let more = if many > 10 { format!(", and {} more", many - 10) } else { String::new() };
    format!("{}{more}", named.join(", "))
}

fn list(known: &Known) -> String {
    let refused: String = known.latest.iter().filter_map(refused).chain(elsewhere(&known.believed)).collect();
    if known.believed.is_empty() {
        return if refused.is_empty() { "no census was taken".to_owned() } else { refused };
    }
    let lines = known.believed.iter().map(|taken| {
        [
            taken.census.to_string(),
            taken.kind.to_string(),
            taken.scope.to_string(),
            moment(Some(taken.taken_at)),
            plain(&taken.credential),
            taken.counts.values().sum::<u64>().to_string(),
            taken.missing.to_string(),
            taken.unknown.to_string(),
        ]
    });
    let heading = ["census", "kind", "scope", "begun (UTC)", "credential", "there", "missing", "unknown"];
    format!("{}\n{refused}", table(heading, lines))
}

/// What the newest of each kind and scope lists in another scope than it is registered in: someone is wrong, or it was moved.
fn elsewhere(believed: &[Taken]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let newest = believed.iter().filter(|taken| seen.insert((&taken.kind, &taken.scope)));
    let told = |taken: &Taken| misplaced(taken).map(|told| format!("census {}: {told}\n", taken.census));
    newest.filter_map(told).collect()
}

/// The last one of a kind and scope that was refused.
fn refused(latest: &Latest) -> Option<String> {
    let Latest { kind, scope, refused, .. } = latest;
    let refused = refused.as_ref()?;
    let word =
        if latest.refused_last().is_some() { "NOT BELIEVED" } else { "refused, and one was believed since" };
    let (at, why) = (moment(Some(refused.at)), plain(&refused.why));
    if refused.not_taken {
        let word = if latest.refused_last().is_some() {
            "NOT TAKEN"
        } else {
            "not taken, and one was believed since"
        };
        return Some(format!("{word}: {kind} in {scope}, when it was time ({at} UTC): {why}\n"));
    }
    let missing = match refused.missing {
        0 => String::new(),
        many => format!("  {many} {MISSING}: {}\n", first(many, &refused.missing_named)),
    };
    Some(format!("{word}: {kind} in {scope}, {} ({at} UTC): {why}\n{missing}", refused.whose()))
}
