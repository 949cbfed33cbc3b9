//! Which messages travel together, and within what bounds. What shares a queue shares a type here, and the
//! event's type says which of them it is.
use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::value::RawValue;
use sexton_model::beacon::Beacon;

use crate::auth::Direction;
use crate::message::{
    CONCURRENCY_MAX, Extension, Happened, Order, OutcomeReport, Progress, Pulse, Rejected, STAGE_DUE_MAX,
    StageDue, TEXT_MAX_BYTES,
};

/// What travels in a [`crate::Pack`].
pub trait Message: Sized {
    /// The label its proof covers: a body of one direction is worth nothing in another.
    const DIRECTION: Direction;
    /// Largest pack, in bytes.
    const PACK_MAX_BYTES: usize;
    /// The event types that are accepted.
    const TYPES: &'static [&'static str];

    /// The event type of this one.
    fn event_type(&self) -> &'static str;

    /// The event's id, the same whenever the same thing is said again.
    fn event_id(&self) -> String;

    /// Append this one as JSON.
    ///
    /// # Errors
    /// If it cannot be said in JSON.
    fn write(&self, into: &mut Vec<u8>) -> serde_json::Result<()>;

    /// Read the data of an event whose type is one of [`Self::TYPES`].
    ///
    /// # Errors
    /// Naming the field that is missing, unknown or wrong.
    fn read(event_type: &str, data: &RawValue) -> serde_json::Result<Self>;
}

const MIB: usize = 1 << 20;
const KIB: usize = 1 << 10;

/// Event types. A change of form is a new one.
pub mod types {
    /// [`crate::Order`].
    pub const ORDER: &str = "dev.sexton.order.v1";
    /// [`crate::OutcomeReport`].
    pub const OUTCOME: &str = "dev.sexton.outcome.v1";
    /// [`crate::Progress`].
    pub const PROGRESS: &str = "dev.sexton.progress.v1";
    /// [`crate::StageDue`].
    pub const STAGE_DUE: &str = "dev.sexton.stage-due.v1";
    /// [`crate::Pulse`].
    pub const PULSE: &str = "dev.sexton.pulse.v1";
    /// [`sexton_model::beacon::Beacon`].
    pub const BEACON: &str = "dev.sexton.beacon.v1";
    /// [`crate::Extension`].
    pub const EXTENSION: &str = "dev.sexton.extension.v1";
    /// [`crate::Rejected`].
    pub const REJECTED: &str = "dev.sexton.rejected.v1";
    /// [`crate::Happened`].
    pub const HAPPENED: &str = "dev.sexton.happened.v1";
}

macro_rules! single {
    ($message:ty, $direction:ident, $max:expr, $type:expr, $id:expr, $check:expr) => {
        impl Message for $message {
            const DIRECTION: Direction = Direction::$direction;
            const PACK_MAX_BYTES: usize = $max;
            const TYPES: &'static [&'static str] = &[$type];

            fn event_type(&self) -> &'static str {
                $type
            }

            fn event_id(&self) -> String {
                let id: fn(&Self) -> String = $id;
                id(self)
            }

            fn write(&self, into: &mut Vec<u8>) -> serde_json::Result<()> {
                serde_json::to_writer(into, self)
            }

            fn read(_: &str, data: &RawValue) -> serde_json::Result<Self> {
                let read: Self = read_data(data)?;
                let check: fn(&Self) -> Result<(), &'static str> = $check;
                check(&read).map_err(serde_json::Error::custom)?;
                Ok(read)
            }
        }
    };
}

fn read_data<T: DeserializeOwned>(data: &RawValue) -> serde_json::Result<T> {
    serde_json::from_str(data.get()).map_err(|error| naming::<T>(data.get().as_bytes(), error))
}

/// `error`, met while a `T` was read from `json`, with the path of the field that is wrong. Finding it takes a second look,
/// so that what is right costs nothing more.
pub(crate) fn naming<'j, T: Deserialize<'j>>(json: &'j [u8], error: serde_json::Error) -> serde_json::Error {
    let mut json = serde_json::Deserializer::from_slice(json);
    match serde_path_to_error::deserialize::<_, T>(&mut json) {
        Err(again) if again.path().iter().len() > 0 && again.inner().to_string() == error.to_string() => {
            serde_json::Error::custom(format_args!("{}: {error}", again.path()))
        }
        Ok(_) | Err(_) => error,
    }
}

fn text(fits: bool, otherwise: &'static str) -> Result<(), &'static str> {
    if fits { Ok(()) } else { Err(otherwise) }
}

// One order carries at most two findings of 64 KiB; sixteen small ones are far below.
single!(Order, Order, MIB, types::ORDER, |o| format!("order-{}", o.fence), |o| {
    text(o.job.deletion() == o.deletion, "field `deletion`: not the deletion of `job`")
});
single!(
    StageDue,
    StageDue,
    512 * KIB,
    types::STAGE_DUE,
    |d| match d.jobs.as_slice() {
        [] => "due-none".to_owned(),
        [first, ..] => format!("due-{first}-{}", d.jobs.len()),
    },
    |d| text(!d.jobs.is_empty() && d.jobs.len() <= STAGE_DUE_MAX, "field `jobs`: expected 1 to 1024 of them")
);
single!(
    Pulse,
    Pulse,
    32 * KIB,
    types::PULSE,
    |p| format!("pulse-{}-{}-{}", p.instance, p.consumer, p.at.0),
    |p| {
        let plain = |name: &str| name.len() <= 64 && name.bytes().all(|b| b.is_ascii_graphic());
        let fits = plain(&p.consumer) && plain(&p.version);
        text(fits, "fields `consumer`, `version`: expected at most 64 visible ASCII characters each")?;
        let fits = (1..=CONCURRENCY_MAX).contains(&p.concurrency);
        text(fits, "field `concurrency`: expected 1 to 256")
    }
);
single!(
    Rejected,
    Rejected,
    256 * KIB,
    types::REJECTED,
    |r| format!("rejected-{}", r.message_id.as_deref().unwrap_or("nameless")),
    |r| text(r.reason.len() <= TEXT_MAX_BYTES, "field `reason`: expected at most 2048 bytes")
);
single!(
    Happened,
    Event,
    256 * KIB,
    types::HAPPENED,
    |h| format!("happened-{}-{}", h.deletion, h.sequence),
    |h| {
        let fits = h.what.len() <= 64 && h.text.len() <= TEXT_MAX_BYTES;
        text(fits, "field `what`: expected at most 64 bytes; `text`: at most 2048")
    }
);

macro_rules! either {
    ($(#[$doc:meta])* $name:ident, $direction:ident, $max:expr,
     $($(#[$vdoc:meta])* $variant:ident($message:ty) = $type:expr, $id:expr;)+) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $name { $($(#[$vdoc])* $variant($message)),+ }

        impl Message for $name {
            const DIRECTION: Direction = Direction::$direction;
            const PACK_MAX_BYTES: usize = $max;
            const TYPES: &'static [&'static str] = &[$($type),+];

            fn event_type(&self) -> &'static str {
                match self { $(Self::$variant(_) => $type),+ }
            }

            fn event_id(&self) -> String {
                match self {
                    $(Self::$variant(message) => {
                        let id: fn(&$message) -> String = $id;
                        id(message)
                    })+
                }
            }

            fn write(&self, into: &mut Vec<u8>) -> serde_json::Result<()> {
                match self { $(Self::$variant(message) => serde_json::to_writer(into, message)),+ }
            }

            fn read(event_type: &str, data: &RawValue) -> serde_json::Result<Self> {
                $(if event_type == $type {
                    return read_data(data).map(Self::$variant);
                })+
                Err(serde_json::Error::custom("field `type`: not one of this channel"))
            }
        }

        $(impl From<$message> for $name {
            fn from(message: $message) -> Self {
                Self::$variant(message)
            }
        })+
    };
}

either!(
    /// What consumers send to the coordinators about orders.
    Report, Outcome, MIB,
    /// An answer.
    Outcome(OutcomeReport) = types::OUTCOME, |r| format!("outcome-{}", r.fence);
    /// A sign that it was begun or goes on.
    Progress(Progress) = types::PROGRESS, |p| format!("progress-{}-{}-{}", p.fence, p.nonce, p.done);
);
either!(
    /// What the coordinators say to every consumer.
    Broadcast, Beacon, 64 * KIB,
    /// The state of a ledger read.
    Beacon(Beacon) = types::BEACON, |b| format!("beacon-{}-{}-{}", b.epoch, b.revision, b.read_at.0);
    /// One long step may go on.
    Extension(Extension) = types::EXTENSION, |e| format!("extension-{}-{}", e.fence, e.deadline.0);
);
