//! A census: whoever lists a kind lists everything, and whoever does not refuses.
use sexton_consumer::Verdict;
use sexton_model::belts::census::listing::{ACTION, ENTRIES_MAX, Entry, Page, PageAsked};
use sexton_model::canary;
use sexton_model::catalogue::Nature;
use sexton_model::job::{JobKind, Stage};
use sexton_model::step::{Mode, Outcome, RetryClass};
use sexton_model::{InvalidId, JobId, Kind, ResourceId};
use sexton_protocol::Order;

use super::bench::{Bench, refused, retried};
use super::{CannotBe, Fixture};

/// What is promised.
pub(super) const PROMISE: &str = "a census lists everything that is there, page after page, and changes nothing; of another kind it is refused";
/// Asked of whoever lists nothing.
const SOME_KIND: &str = "vm";
/// A kind that nobody lists.
const NO_KIND: &str = "nothing-of-the-kind";
/// Most pages of a world, which holds few things.
const PAGES_MAX: usize = 1000;

/// Put it to the test. Gives back why it could not be, if so.
pub(super) async fn run(fixture: &dyn Fixture) -> Result<Option<CannotBe>, String> {
    let subsystem = fixture.actions();
    let looks = subsystem.actions.iter().find(|(_, action)| action.nature == Nature::Inspect);
    let Some((name, action)) = looks else {
        return Ok(Some(CannotBe(
            "its catalogue has no action that inspects, and so no world that is whole",
        )));
    };
    let bench = Bench::new(fixture, name, action).await?;
    let kind = |text: &str| text.parse::<Kind>().map_err(|e| e.to_string());
    refused(&bench.give(&order(&bench, &asked(kind(NO_KIND)?, None, 1))?, None).await)?;
    if subsystem.lists.is_empty() {
        refused(&bench.give(&order(&bench, &asked(kind(SOME_KIND)?, None, 1))?, None).await)?;
        bench.unchanged("a refused census").await?;
        return Ok(None);
    }
    for kind in &subsystem.lists {
        not_asked_so(&bench, kind).await?;
        listed(&bench, kind).await?;
        not_now(&bench, kind).await?;
    }
    Ok(None)
}

/// What is no page of a census is refused, whoever asks for it.
async fn not_asked_so(bench: &Bench<'_>, kind: &Kind) -> Result<(), String> {
    let good = || order(bench, &asked(kind.clone(), None, 1));
    let deletion = bench.order(Mode::Inspect, None).deletion;
    refused(&bench.give(&Order { deletion, ..good()? }, None).await)?;
    refused(&bench.give(&Order { nature: Nature::Check, ..good()? }, None).await)?;
    let resource = format!("{NO_KIND}/{ACTION}").parse().map_err(|e: InvalidId| e.to_string())?;
    refused(&bench.give(&Order { resource, ..good()? }, None).await)?;
    refused(&bench.give(&order(bench, &asked(kind.clone(), None, ENTRIES_MAX + 1))?, None).await)
}

/// Under a pause, and without a fresh beacon, nothing is looked at.
async fn not_now(bench: &Bench<'_>, kind: &Kind) -> Result<(), String> {
    let mut order = order(bench, &asked(kind.clone(), None, 1))?;
    order.revision -= 1;
    retried(&bench.give(&order, None).await, RetryClass::Spared)?;
    order.revision += 1;
    order.deadline = order.deadline.plus_ms(60_000);
    bench.clock.advance(5_001);
    retried(&bench.give(&order, None).await, RetryClass::Spared)?;
    bench.pass(1);
    Ok(())
}

async fn listed(bench: &Bench<'_>, kind: &Kind) -> Result<(), String> {
    let whole = pages(bench, kind, ENTRIES_MAX).await?;
    let one_by_one = pages(bench, kind, 1).await?;
    bench.unchanged("a census").await?;
    let all = entries(&whole);
    if entries(&one_by_one) != all {
        return Err(format!("by ones it lists {:?}, and at once {all:?}", entries(&one_by_one)));
    }
    for page in whole.iter().chain(&one_by_one) {
        if usize::try_from(page.total) != Ok(all.len()) {
            return Err(format!("it counts {}, and lists {}", page.total, all.len()));
        }
        if (&page.place, &page.credential) != (&whole[0].place, &whole[0].credential) {
            return Err(format!("it is at {} with {} now", page.place, page.credential));
        }
    }
    let about = &bench.template;
    if about.resource.kind != *kind {
        return Ok(());
    }
    let found = all.iter().find(|entry| entry.id == about.resource);
    let shown =
        found.ok_or_else(|| format!("{} is there, and is not listed", about.resource))?.identity.as_ref();
    let other = |(name, value): (&str, &str)| about.identity.get(name) != Some(value);
    if let Some(shown) = shown.filter(|shown| shown.attributes().any(other)) {
        return Err(format!("{} is listed as {shown:?}, and is {:?}", about.resource, about.identity));
    }
    bench.world.make_absent().await;
    let left = pages(bench, kind, ENTRIES_MAX).await?;
    match entries(&left).iter().find(|entry| entry.id == about.resource) {
        Some(still) => Err(format!("it is gone, and is listed: {still:?}")),
        None => Ok(()),
    }
}

fn entries(pages: &[Page]) -> Vec<Entry> {
    pages.iter().flat_map(|page| page.entries.clone()).collect()
}

fn asked(kind: Kind, after: Option<ResourceId>, most: usize) -> PageAsked {
    PageAsked { kind, after, most }
}

async fn pages(bench: &Bench<'_>, kind: &Kind, most: usize) -> Result<Vec<Page>, String> {
    let (mut pages, mut after) = (Vec::new(), None);
    while pages.len() < PAGES_MAX {
        let order = order(bench, &asked(kind.clone(), after.clone(), most))?;
        let page: Page = match bench.give(&order, None).await {
            Verdict::Answer(Outcome::Done { finding: Some(page), .. }) => {
                serde_json::from_value(page).map_err(|e| e.to_string())?
            }
            other => return Err(format!("no page behind {after:?}: {other:?}")),
        };
        if page.after != after {
            return Err(format!("a page behind {after:?} begins behind {:?}", page.after));
        }
        after = page.entries.last().map(|entry| entry.id.clone());
        let more = page.more;
        pages.push(page);
        if !more {
            return Ok(pages);
        }
    }
    Err(format!("more than {PAGES_MAX} pages"))
}

/// The order for a page, as a coordinator gives it.
fn order(bench: &Bench<'_>, asked: &PageAsked) -> Result<Order, String> {
    let kind = JobKind::Stage(Stage::Announce);
    Ok(Order {
        job: JobId::of(canary::DELETION, kind.slot()),
        deletion: canary::DELETION,
        resource: format!("{}/{ACTION}", asked.kind).parse().map_err(|e: InvalidId| e.to_string())?,
        kind,
        action: ACTION.parse().map_err(|e: InvalidId| e.to_string())?,
        nature: Nature::Inspect,
        params: asked.params(),
        ..bench.order(Mode::Inspect, None)
    })
}
