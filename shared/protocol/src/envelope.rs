//! The envelope: a CloudEvents 1.0 batch in JSON mode, of 1 to 16 events of one channel.
//!
//! A message is a batch because a broker's cost is per message, not per byte: sixteen orders in one cost about
//! as much as one. Decoding is strict and bounded: size first, then count, then every attribute by name; data
//! goes straight into its type.
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use chrono::{DateTime, Datelike as _, SecondsFormat};
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sexton_model::Timestamp;

use crate::channel::{Message, naming};

/// Content type of every body.
pub const CONTENT_TYPE: &str = "application/cloudevents-batch+json";
/// Most events in one message. More gains little and makes one poisoned message cost more.
pub const PACK_MAX: usize = 16;
/// Longest id or source of an event, in bytes.
const ATTRIBUTE_MAX_BYTES: usize = 256;

/// One event: a message with where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Event<T> {
    /// With `source`, names this event; the same whenever it is sent again.
    pub id: String,
    /// Who says it, such as `/coordinator` or `/consumer/dns.main`.
    pub source: String,
    /// When it was said.
    pub time: Timestamp,
    /// The W3C trace context it belongs to.
    pub traceparent: Option<String>,
    /// The message.
    pub data: T,
}

impl<T: Message> Event<T> {
    /// `data`, said by `source` at `time`, with the id that belongs to it.
    pub fn new(source: impl Into<String>, time: Timestamp, data: T) -> Self {
        Self { id: data.event_id(), source: source.into(), time, traceparent: None, data }
    }

    /// The same, as part of a trace.
    pub fn traced(self, traceparent: Option<String>) -> Self {
        Self { traceparent, ..self }
    }
}

/// Why something cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// One event alone is larger than a pack may be.
    #[error("event {id}: {bytes} bytes, more than the {max} that a message may have")]
    TooLarge {
        /// The event.
        id: String,
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Not 1 to 16 events.
    #[error("{count} events: expected 1 to {PACK_MAX}")]
    Count {
        /// How many there were.
        count: usize,
    },
    /// It cannot be said in JSON.
    #[error("event {id}")]
    Json {
        /// The event.
        id: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Why a body is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Larger than a message of this channel may be; not looked at any further.
    #[error("{bytes} bytes, more than the {max} that a message may have")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Not JSON of this form; says which field.
    #[error("{0}")]
    Form(serde_json::Error),
    /// One event's attributes or data are wrong; says which field.
    #[error("event {index}: {reason}")]
    Event {
        /// Its place in the pack, from 0.
        index: usize,
        /// What is wrong, naming the field.
        reason: String,
    },
}

/// 1 to 16 events of one channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Pack<T> {
    /// The events, in order.
    pub events: Vec<Event<T>>,
}

/// An encoded pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The body.
    pub body: Bytes,
    /// The id to publish it under, the same whenever it is published again.
    pub message_id: String,
    /// How many events it carries.
    pub events: usize,
}

#[derive(Serialize)]
struct HeadOut<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    event_type: &'static str,
    time: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireIn<'a> {
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow, default)]
    datacontenttype: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    traceparent: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl<T: Message> Pack<T> {
    /// A pack of one event.
    pub fn one(event: Event<T>) -> Self {
        Self { events: vec![event] }
    }

    /// Encode all events as one message.
    ///
    /// # Errors
    /// If there are not 1 to 16 of them or they are too large together; see [`Packer`].
    pub fn encode(&self) -> Result<Packed, EncodeError> {
        let count = self.events.len();
        if count == 0 || count > PACK_MAX {
            return Err(EncodeError::Count { count });
        }
        let mut packer = Packer::new(PACK_MAX);
        for event in &self.events {
            if let Some(full) = packer.push(event)? {
                if full.events == count {
                    return Ok(full);
                }
                let bytes = full.body.len();
                return Err(EncodeError::TooLarge { id: event.id.clone(), bytes, max: T::PACK_MAX_BYTES });
            }
        }
        packer.finish().ok_or(EncodeError::Count { count })
    }

    /// Decode a message.
    ///
    /// # Errors
    /// If it is too large, has not 1 to 16 events, or anything in it is missing, unknown or wrong.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        if body.len() > T::PACK_MAX_BYTES {
            return Err(DecodeError::TooLarge { bytes: body.len(), max: T::PACK_MAX_BYTES });
        }
        let Bounded(wires) = serde_json::from_slice(body)
            .map_err(|error| DecodeError::Form(naming::<Bounded<'_>>(body, error)))?;
        let events = wires
            .into_iter()
            .enumerate()
            .map(|(index, wire)| event_of(wire).map_err(|reason| DecodeError::Event { index, reason }));
        Ok(Self { events: events.collect::<Result<_, _>>()? })
    }
}

fn event_of<T: Message>(wire: WireIn<'_>) -> Result<Event<T>, String> {
    if wire.specversion != "1.0" {
        return Err(format!("field `specversion`: expected 1.0, found {:?}", short(&wire.specversion)));
    }
    if !T::TYPES.contains(&wire.event_type.as_ref()) {
        let found = short(&wire.event_type);
        return Err(format!("field `type`: expected {}, found {found:?}", T::TYPES.join(" or ")));
    }
    for (name, value) in [("id", &wire.id), ("source", &wire.source)] {
        if value.is_empty() || value.len() > ATTRIBUTE_MAX_BYTES {
            return Err(format!("field `{name}`: expected 1 to {ATTRIBUTE_MAX_BYTES} bytes"));
        }
    }
    if wire.datacontenttype.is_some_and(|t| t != "application/json") {
        return Err("field `datacontenttype`: expected application/json".to_owned());
    }
    // Of an hour around the turn of the year 0 or 10,000 UTC's year has a sign, which RFC 3339 does not know.
    let time = DateTime::parse_from_rfc3339(&wire.time)
        .ok()
        .filter(|time| (0..=9999).contains(&time.naive_utc().year()))
        .ok_or_else(|| format!("field `time`: expected RFC 3339, found {:?}", short(&wire.time)))?;
    if wire.traceparent.as_deref().is_some_and(|t| !is_traceparent(t)) {
        return Err("field `traceparent`: expected VERSION-TRACE-PARENT-FLAGS in hexadecimal".to_owned());
    }
    let data = T::read(&wire.event_type, wire.data).map_err(|e| format!("field `data`: {e}"))?;
    Ok(Event {
        id: wire.id.into_owned(),
        source: wire.source.into_owned(),
        time: Timestamp(time.timestamp_micros()),
        traceparent: wire.traceparent.map(Cow::into_owned),
        data,
    })
}

fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(80)]
}

/// Whether `text` has the form of a W3C `traceparent`.
pub fn is_traceparent(text: &str) -> bool {
    let mut parts = text.split('-');
    let well_formed = [2, 32, 16, 2].into_iter().all(|length| {
        parts.next().is_some_and(|part| {
            part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        })
    });
    well_formed && parts.next().is_none()
}

/// At most [`PACK_MAX`] events, counted while they are read: a longer array is not read to its end.
struct Bounded<'a>(Vec<WireIn<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Bounded<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Events<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Events<'a> {
            type Value = Bounded<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an array of 1 to {PACK_MAX} events")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Bounded<'a>, A::Error> {
                let mut events = Vec::new();
                while let Some(event) = from.next_element()? {
                    if events.len() == PACK_MAX {
                        return Err(A::Error::custom(format_args!("more than {PACK_MAX} events")));
                    }
                    events.push(event);
                }
                if events.is_empty() {
                    return Err(A::Error::custom("no event at all"));
                }
                Ok(Bounded(events))
            }
        }
        from.deserialize_seq(Events(PhantomData))
    }
}

/// Fills packs up to a number of events and their channel's size. Each event is encoded once; one that is too
/// large fails alone.
#[derive(Debug)]
pub struct Packer<T> {
    count_max: usize,
    count: usize,
    body: Vec<u8>,
    message_id: String,
    /// The last event's time as text: events that travel together were mostly said at the same moment.
    time: (Timestamp, String),
    of: PhantomData<fn(T)>,
}

impl<T: Message> Packer<T> {
    /// Packs of at most `count_max` events, which is taken as 1 to [`PACK_MAX`].
    pub fn new(count_max: usize) -> Self {
        Self {
            count_max: count_max.clamp(1, PACK_MAX),
            count: 0,
            body: Vec::new(),
            message_id: String::new(),
            time: (Timestamp::default(), as_text(Timestamp::default())),
            of: PhantomData,
        }
    }

    /// Add an event; gives back a pack whenever one is full.
    ///
    /// # Errors
    /// If the event alone is too large or cannot be said in JSON; what was added before stays.
    pub fn push(&mut self, event: &Event<T>) -> Result<Option<Packed>, EncodeError> {
        let before = self.body.len();
        self.body.push(if self.count == 0 { b'[' } else { b',' });
        if self.time.0 != event.time {
            self.time = (event.time, as_text(event.time));
        }
        if let Err(source) = write_event(event, &self.time.1, &mut self.body) {
            self.body.truncate(before);
            return Err(EncodeError::Json { id: event.id.clone(), source });
        }
        let bytes = self.body.len() - before + 1;
        if bytes > T::PACK_MAX_BYTES {
            self.body.truncate(before);
            return Err(EncodeError::TooLarge { id: event.id.clone(), bytes, max: T::PACK_MAX_BYTES });
        }
        if self.body.len() + 1 > T::PACK_MAX_BYTES {
            let last = self.body.split_off(before);
            let full = self.finish();
            self.begin(event, last);
            return Ok(full);
        }
        self.count += 1;
        if self.count == 1 {
            self.message_id = event.id.clone();
        }
        Ok(if self.count == self.count_max { self.finish() } else { None })
    }

    fn begin(&mut self, event: &Event<T>, mut encoded: Vec<u8>) {
        encoded[0] = b'[';
        self.body = encoded;
        self.count = 1;
        self.message_id = event.id.clone();
    }

    /// What is left over, if anything is.
    pub fn finish(&mut self) -> Option<Packed> {
        if self.count == 0 {
            return None;
        }
        self.body.push(b']');
        let capacity = self.body.len();
        let body = std::mem::replace(&mut self.body, Vec::with_capacity(capacity));
        let message_id = format!("{}+{}", self.message_id, self.count);
        let events = std::mem::take(&mut self.count);
        Some(Packed { body: body.into(), message_id, events })
    }
}

fn as_text(time: Timestamp) -> String {
    time.utc().to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Without `datacontenttype`: the content of a batch in JSON is JSON unless an event says otherwise, and every byte is
/// hashed at both ends.
fn write_event<T: Message>(event: &Event<T>, time: &str, into: &mut Vec<u8>) -> serde_json::Result<()> {
    let head = HeadOut {
        specversion: "1.0",
        id: &event.id,
        source: &event.source,
        event_type: event.data.event_type(),
        time,
        traceparent: event.traceparent.as_deref(),
    };
    serde_json::to_writer(&mut *into, &head)?;
    into.pop(); // the closing brace: data follows
    into.extend_from_slice(b",\"data\":");
    event.data.write(into)?;
    into.push(b'}');
    Ok(())
}
