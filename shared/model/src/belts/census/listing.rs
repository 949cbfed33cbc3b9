//! A census that Sexton takes itself: the instances that hold a kind are asked, page after page, all at once.
//!
//! Contract: this only judges what comes. It is asked under the name of an action that no plan can have ([`ACTION`]), so
//! an order for a page is one like all others, and a consumer that knows nothing of censuses refuses it. Each page is asked
//! under a number of its own, so an answer that comes again is no other page. Whoever cannot list everything refuses: a
//! listing never shrinks.
mod pages;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::pages::{ENTRIES_MAX, ENTRY_MAX_BYTES, Entry, PLACE_MAX_BYTES, Page, PageAsked};

use super::LISTED_MAX;
use super::daily::Seen;
use crate::belts::{Pause, within};
use crate::canary::Came;
use crate::id::{Actor, Fence, Instance, Kind, ResourceId, Scope, Subsystem};
use crate::step::Outcome;
use crate::survey::Numbers;
use crate::time::Timestamp;

/// What an order for a page names as its action. No catalogue may have it.
pub const ACTION: &str = "census";
/// Most pages of one instance.
pub const PAGES_MAX: u32 = 4096;
/// Most instances of one census: the first pages of all are asked under numbers of one block.
pub const INSTANCES_MAX: usize = 256;
/// Most censuses that are being taken at once, over all coordinators: each asks every instance of a subsystem.
pub const OPEN_MAX: usize = 4;
/// How long instances have to list everything unless it is said, and at the most, in seconds: whoever asks waits for it,
/// and no request takes longer than half a minute.
pub const ANSWER_SECS: u64 = 20;
/// See [`ANSWER_SECS`].
pub const ANSWER_SECS_MAX: u64 = 25;
/// How long what came is kept if nobody has fetched it, in microseconds: a minute after its time is over.
pub const LEFT_US: i64 = 60_000_000;

/// A listing that is to be begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewListing {
    /// Who asks for it.
    pub by: Actor,
    /// Of which kind.
    pub kind: Kind,
    /// For which scope: what is asked is the same for each.
    pub scope: Scope,
    /// How long it may take, in milliseconds.
    pub within_ms: u64,
    /// Who is asked, at most [`INSTANCES_MAX`].
    pub instances: Vec<Instance>,
    /// If it was time for it, and nobody has asked: what was known then. It is begun only if that is all that is known by
    /// now, and no listing of its kind and scope is kept, over or not: else another coordinator was faster.
    pub seen: Option<Seen>,
}

/// How far one instance has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum Progress {
    /// The page behind this one is waited for.
    Open {
        /// Behind which it begins.
        after: Option<ResourceId>,
        /// Why it was not listed when it was asked last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lacks: Option<String>,
    },
    /// Everything has come.
    Whole,
    /// It does not list.
    Refused {
        /// Why.
        reason: String,
    },
}

/// One instance that is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Which.
    pub instance: Instance,
    /// What the order for the page that is waited for is numbered with.
    pub fence: Fence,
    /// How many pages have come.
    pub pages: u32,
    /// How far it has come.
    pub progress: Progress,
}

/// A listing that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listing {
    /// Its number: that of its first order.
    pub id: i64,
    /// Who asked for it.
    pub by: Actor,
    /// Of which kind.
    pub kind: Kind,
    /// For which scope.
    pub scope: Scope,
    /// The pause revision when it was begun: a pause that comes after it stops what has not begun.
    pub revision: i64,
    /// Since when it is asked: that is when the census was taken.
    pub begun_at: Timestamp,
    /// Until when everything has to have come; nothing is begun for it after this.
    pub answer_by: Timestamp,
    /// Who is asked.
    pub asked: Vec<Asked>,
    /// If it was time for it: what was known then. Whichever coordinator looks goes on with it; else who has asked for it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
}

/// What an answer makes of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// The listing with it.
    pub listing: Listing,
    /// The page that came, if one did: of whom, and how many came before it.
    pub page: Option<(Instance, u32, Page)>,
    /// Whether there is a page behind it: its order takes a number of its own, see [`Listing::number`].
    pub more: bool,
}

/// Where a listing stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stands {
    /// Pages are waited for.
    Open,
    /// Everything has come.
    Whole,
    /// There is no census.
    Not(NotTaken),
}

/// Why there is no census. Nothing is taken for half of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Whoever holds it lists nothing.
    #[error("kind: no subsystem lists all of kind {0}: hand the census in")]
    NobodyLists(Kind),
    /// There is nobody to ask.
    #[error("no instance of {0} is known here, which lists all of that kind")]
    NoInstance(Subsystem),
    /// More than one census asks.
    #[error("{found} instances would be asked: expected at most {INSTANCES_MAX}; hand the census in")]
    TooManyInstances {
        /// So many.
        found: usize,
    },
    /// A pause says that they are to be left alone.
    #[error("nobody is asked: {0}")]
    Paused(String),
    /// The job table has gone back in time.
    #[error("the job table is under review: until that is accepted nobody is asked for anything")]
    Review,
    /// Somebody takes it already.
    #[error("a census of {kind} in {scope} is being taken until {until}: wait for it")]
    Busy {
        /// Of which kind.
        kind: Kind,
        /// In which scope.
        scope: Scope,
        /// Until when.
        until: Timestamp,
    },
    /// Too many are being taken.
    #[error("{open} censuses are being taken, and no more than {OPEN_MAX} at once: wait until some are over")]
    TooMany {
        /// So many.
        open: usize,
    },
    /// It was due, and is not any more.
    #[error("another coordinator has taken it, or somebody has handed one in meanwhile")]
    Overtaken,
    /// One has not listed everything in time.
    #[error("no census: {instance} has not listed everything within {secs} s: {why}")]
    NoAnswer {
        /// Who.
        instance: Instance,
        /// In which time.
        secs: u64,
        /// What is known of why.
        why: String,
    },
    /// One does not list.
    #[error("no census: {instance} refused: {reason}")]
    Refused {
        /// Who.
        instance: Instance,
        /// Why.
        reason: String,
    },
    /// What came was put away before it was fetched.
    #[error("no census: its pages are gone; take it again")]
    Gone,
    /// Pages of one instance are not of one listing.
    #[error("no census: {instance} changed while it was listed: {what}")]
    Changed {
        /// Who.
        instance: Instance,
        /// In what.
        what: String,
    },
    /// Another number than its own came.
    #[error("no census: {instance} counts {said}, and has listed {listed}: pages are missing, or it changed")]
    Total {
        /// Who.
        instance: Instance,
        /// What it says.
        said: u64,
        /// What came.
        listed: u64,
    },
    /// More than one census has.
    #[error("no census: {0} are listed: expected at most {LISTED_MAX}; hand censuses in by scope")]
    TooManyListed(usize),
    /// One is at two places.
    #[error("no census: {} is at {one} and at {other}: which of them is meant is not known", named(id, *own))]
    Twice {
        /// Which.
        id: ResourceId,
        /// Whether it is registered in the scope of the census. Any other is named to nobody: it may be of another scope.
        own: bool,
        /// Here,
        one: Instance,
        /// and there.
        other: Instance,
    },
    /// Something else goes by a name that is registered.
    #[error("no census: {id} at {instance} is not the one that is registered: it shows {shown}")]
    Another {
        /// Which.
        id: ResourceId,
        /// Where.
        instance: Instance,
        /// What it shows of itself.
        shown: String,
    },
    /// One that is registered is held by somebody who was not asked.
    #[error("no census: {id} is registered at {instance}, which is not known here and was not asked")]
    NotAsked {
        /// Which.
        id: ResourceId,
        /// Where.
        instance: Instance,
    },
}

/// What is said of one of which it is told that it is at two places.
fn named(id: &ResourceId, own: bool) -> String {
    if own { id.to_string() } else { "one that is not registered in this scope".to_owned() }
}

impl NotTaken {
    /// What is kept of it, which everybody reads who sees the scope of the census: without how many there are at an instance,
    /// for those are of other scopes, too.
    pub fn kept(&self) -> String {
        match self {
            Self::TooManyListed(_) => {
                format!("no census: more than {LISTED_MAX} are listed; hand censuses in by scope")
            }
            Self::Changed { instance, .. } => format!("no census: {instance} changed while it was listed"),
            Self::Total { instance, .. } => format!(
                "no census: {instance} counts another number than it has listed: pages are missing, or it changed"
            ),
            Self::NobodyLists(_)
            | Self::NoInstance(_)
            | Self::TooManyInstances { .. }
            | Self::Paused(_)
            | Self::Review
            | Self::Busy { .. }
            | Self::TooMany { .. }
            | Self::Overtaken
            | Self::NoAnswer { .. }
            | Self::Refused { .. }
            | Self::Gone
            | Self::Twice { .. }
            | Self::Another { .. }
            | Self::NotAsked { .. } => self.to_string(),
        }
    }
}

/// The pause that covers a census of this kind in this scope, if one does: consumers would be made to look.
pub fn paused(pauses: &[Pause], kind: &Kind, scope: &Scope, subsystem: &Subsystem) -> Option<NotTaken> {
    // One of a single stage is about what records do.
    let covers = |pause: &&Pause| {
        let covers = &pause.covers;
        covers.stage.is_none()
            && covers.kind.as_ref().is_none_or(|covered| covered == kind)
            && covers.scope.as_ref().is_none_or(|covered| within(scope, covered))
            && covers.subsystem.as_ref().is_none_or(|covered| covered == subsystem)
    };
    let pause = pauses.iter().find(covers)?;
    Some(NotTaken::Paused(format!("pause {}: {}: {}", pause.id, pause.by, pause.reason)))
}

impl NewListing {
    /// The listing that it becomes.
    pub fn numbered(self, numbers: Numbers) -> Listing {
        let Numbers { now, epoch, revision, first_fence } = numbers;
        let asked = |(instance, number): (Instance, i64)| Asked {
            instance,
            fence: Fence { epoch, number },
            pages: 0,
            progress: Progress::Open { after: None, lacks: None },
        };
        Listing {
            id: first_fence,
            by: self.by,
            kind: self.kind,
            scope: self.scope,
            revision,
            begun_at: now,
            answer_by: now.plus_ms(self.within_ms),
            asked: self.instances.into_iter().zip(first_fence..).map(asked).collect(),
            seen: self.seen,
        }
    }
}

impl Listing {
    /// What becomes of it with this answer; nothing if the answer changes nothing: of somebody else, to another order, to
    /// a page that has come, or too late.
    pub fn hear(&self, (from, fence): (&Instance, Fence), came: &Came, now: Timestamp) -> Option<Heard> {
        let at = self.asked.iter().position(|asked| asked.fence == fence && asked.instance == *from)?;
        let asked = self.asked.get(at).filter(|_| now < self.answer_by)?;
        let Progress::Open { after, .. } = &asked.progress else { return None };
        let (progress, page) = match of(came) {
            Said::Page(value) => match self.page(value) {
                Ok(page) if page.after != *after => (
                    Progress::Refused {
                        reason: "it has listed another page than the one it was asked for".into(),
                    },
                    None,
                ),
                Ok(page) => (behind(asked, &page), Some(page)),
                Err(why) => (Progress::Refused { reason: format!("what came is no page: {why}") }, None),
            },
            Said::Refused(reason) => (Progress::Refused { reason }, None),
            Said::NotNow(why) => (Progress::Open { after: after.clone(), lacks: Some(why) }, None),
        };
        let mut listing = self.clone();
        let heard = listing.asked.get_mut(at).filter(|heard| page.is_some() || heard.progress != progress)?;
        let page = page.map(|page| (heard.instance.clone(), heard.pages, page));
        heard.pages += u32::from(page.is_some());
        let more = page.is_some() && matches!(progress, Progress::Open { .. });
        heard.progress = progress;
        Some(Heard { listing, page, more })
    }

    /// The order for the page behind the one that was asked for under `before` has this number.
    #[must_use]
    pub fn number(mut self, before: Fence, number: i64) -> Self {
        for asked in self.asked.iter_mut().filter(|asked| asked.fence == before) {
            asked.fence = Fence { number, ..before };
        }
        self
    }

    fn page(&self, value: &Value) -> Result<Page, String> {
        let page: Page = serde_json::from_value(value.clone()).map_err(|e| e.to_string())?;
        page.fault(&self.kind).map_or(Ok(page), Err)
    }

    /// Where it stands at `now`. One that does not list is enough: there is no census without it.
    pub fn stands(&self, now: Timestamp) -> Stands {
        let refused = self.asked.iter().find_map(|asked| match &asked.progress {
            Progress::Refused { reason } => Some((&asked.instance, reason)),
            Progress::Open { .. } | Progress::Whole => None,
        });
        if let Some((instance, reason)) = refused {
            return Stands::Not(NotTaken::Refused { instance: instance.clone(), reason: reason.clone() });
        }
        let open = self.asked.iter().find_map(|asked| match &asked.progress {
            Progress::Open { lacks, .. } => Some((asked, lacks)),
            Progress::Whole | Progress::Refused { .. } => None,
        });
        match open {
            None => Stands::Whole,
            Some(_) if now < self.answer_by => Stands::Open,
            Some((asked, lacks)) => Stands::Not(NotTaken::NoAnswer {
                instance: asked.instance.clone(),
                secs: self.answer_by.ms_since(self.begun_at).div_ceil(1000),
                why: match lacks {
                    Some(why) => why.clone(),
                    None if asked.pages == 0 => "no answer".to_owned(),
                    None => format!("no answer after page {}", asked.pages),
                },
            }),
        }
    }

    /// Whether something may still come of it at `now`: until a minute after its time is over. If it is kept for longer, whoever
    /// asked for it has died, or nobody has looked; it is put away by the next look, or by the begin of another one.
    pub fn may_be_judged(&self, now: Timestamp) -> bool {
        now.0 < self.answer_by.0.saturating_add(LEFT_US)
    }

    /// Who is to be asked for which page.
    pub fn open(&self) -> impl Iterator<Item = (&Asked, PageAsked)> {
        self.asked.iter().filter_map(move |asked| match &asked.progress {
            Progress::Open { after, .. } => {
                let (kind, after) = (self.kind.clone(), after.clone());
                Some((asked, PageAsked { kind, after, most: ENTRIES_MAX }))
            }
            Progress::Whole | Progress::Refused { .. } => None,
        })
    }
}

/// What an answer says.
enum Said<'a> {
    Page(&'a Value),
    Refused(String),
    NotNow(String),
}

fn of(came: &Came) -> Said<'_> {
    match came {
        Came::Answered(Outcome::Done { finding: Some(finding), .. }) => Said::Page(finding),
        Came::Answered(Outcome::Done { finding: None, .. }) => {
            Said::Refused("it says that it is done, and lists nothing".to_owned())
        }
        Came::Answered(Outcome::Refused { reason }) => Said::Refused(reason.clone()),
        Came::Answered(Outcome::Retry { reason, .. }) => Said::NotNow(reason.clone()),
        Came::NotBelieved(why) | Came::Dropped(why) | Came::Rejected(why) => {
            Said::NotNow(format!("the order was rejected: {why}"))
        }
        // Nobody is asked so: that is how the job table is tried.
        Came::Rehearsed(_) => Said::NotNow("it is no answer to an order".to_owned()),
    }
}

/// How far an instance has come with this page, which is the one that was waited for.
fn behind(asked: &Asked, page: &Page) -> Progress {
    match page.entries.last().filter(|_| page.more) {
        None => Progress::Whole,
        Some(_) if asked.pages + 1 >= PAGES_MAX => {
            Progress::Refused { reason: format!("it has more than {PAGES_MAX} pages: hand the census in") }
        }
        Some(last) => Progress::Open { after: Some(last.id.clone()), lacks: None },
    }
}

#[cfg(test)]
pub(super) mod tests;
