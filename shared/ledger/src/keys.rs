//! Keys of requests: held by the attempt that works under them, noted with what it changed, answered, forgotten.
//!
//! Contract: a handle [`Keys::under`] an attempt makes one change at the most. The transaction of that change notes what
//! it did at the key, and is undone ([`LedgerError::Overtaken`]) unless that attempt is still the key's last one and has
//! noted nothing: so a request that is sent again, after whoever worked on it died at whatever moment, is done once.
//! Everything else that such a handle does is as with the ledger itself.
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sexton_model::access::Token;
use sexton_model::belts::Pause;
use sexton_model::belts::one_shot::OneShot;
use sexton_model::deletion::{Hold, RecordStatus};
use sexton_model::request_key::{Attempt, KeptAnswer, Keyed, Standing, judge};
use sexton_model::{Actor, DeletionId, Timestamp};

use crate::{Counted, Decided, Ledger, LedgerError, NotDone};

/// What a change leaves at the key of its request: enough to answer it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// A deletion was decided about, and stood so afterwards.
    Decided(RecordStatus),
    /// A record was made.
    Created(DeletionId),
    /// Resources were registered: why not, of each.
    Registered(Vec<Option<String>>),
    /// A priority was changed.
    Prioritized,
    /// A resource is held.
    Held(Hold),
    /// A resource is released of these.
    Released(Vec<Hold>),
    /// A pause is in force.
    Paused(Pause, u64),
    /// A pause is lifted.
    Resumed,
    /// A ceiling is set.
    CeilingSet,
    /// A census is believed.
    CensusTaken(Counted),
    /// A belt is overridden.
    Overridden(OneShot),
    /// An override is taken back.
    TakenBack,
    /// A batch of so many may go.
    Approved(u64),
    /// A review is accepted.
    Accepted,
    /// An alarm is acknowledged.
    AlarmSeen,
    /// A token is issued. Its secret is nowhere.
    TokenIssued(Actor),
    /// A token is revoked.
    TokenRevoked(Box<Token>),
}

impl Note {
    /// Of a batch of one: nothing was done if that was refused.
    pub(crate) fn of_run(results: &[Result<Decided, NotDone>]) -> Option<Self> {
        results.iter().flatten().next().map(|decided| Self::Decided(decided.status))
    }

    /// Of one record.
    pub(crate) fn of_create(results: &[Result<DeletionId, NotDone>]) -> Option<Self> {
        results.iter().flatten().next().map(|id| Self::Created(*id))
    }

    /// Of resources: nothing was done if all were refused.
    pub(crate) fn of_register(results: &[Result<(), NotDone>]) -> Option<Self> {
        let why = |result: &Result<(), NotDone>| result.as_ref().err().map(ToString::to_string);
        results.iter().any(Result::is_ok).then(|| Self::Registered(results.iter().map(why).collect()))
    }
}

/// What becomes of a request under a key.
#[expect(clippy::large_enum_variant, reason = "there is one of a request, and it is taken apart at once")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// This attempt holds the key. If one before it has changed something, then what: nothing is to be changed any more.
    By(Attempt, Option<Note>),
    /// It was answered.
    Answered(KeptAnswer),
    /// Somebody is at work on it.
    Busy,
    /// The key is another request's.
    Other,
    /// Its actor has as many keys as are kept.
    TooMany,
}

/// Keys of requests.
#[async_trait]
pub trait Keys: Send + Sync {
    /// Hold a key for an attempt at this request, or find what has become of it.
    async fn hold_key(&self, keyed: Keyed) -> Result<Held, LedgerError>;

    /// Whether this very request was sent before under its key, and nothing begins by it
    /// ([`begins_nothing`](sexton_model::request_key::Verdict::begins_nothing)). Holds nothing: by the time that it is held, the
    /// key may be forgotten.
    async fn sent_before(&self, keyed: &Keyed) -> Result<bool, LedgerError>;

    /// The ledger, for the one change of an attempt.
    fn under(&self, attempt: Attempt) -> Arc<dyn Ledger>;

    /// Keep what an attempt answered. `false` if another one has begun since: then nothing is kept.
    ///
    /// # Errors
    /// [`LedgerError::TooMany`] for an answer that is too long. Else the store did not do it.
    async fn keep_answer(&self, attempt: &Attempt, answer: KeptAnswer) -> Result<bool, LedgerError>;

    /// An attempt is over, and its answer is not to be kept: the next one may begin at once.
    async fn let_go(&self, attempt: &Attempt) -> Result<(), LedgerError>;

    /// Forget keys that were kept long enough, at most [`sexton_model::request_key::SWEPT_MAX`]. How many.
    async fn forget_keys(&self) -> Result<u64, LedgerError>;
}

/// What [`Keys::sent_before`] says, at `now`, of what is there under the key.
pub(crate) fn was_sent_before(
    found: Option<(Standing, Option<Note>)>,
    keyed: &Keyed,
    now: Timestamp,
) -> bool {
    let (standing, note) = found.map_or((None, None), |(standing, note)| (Some(standing), note));
    judge(standing, &keyed.request, now).begins_nothing(note.is_some())
}

/// What a note is as it is stored.
pub(crate) fn stored(note: &Note) -> Result<String, LedgerError> {
    crate::rules::text(note)
}
