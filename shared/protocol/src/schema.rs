//! JSON Schemas of every message and an AsyncAPI document, generated from the types so that they cannot lie.
//!
//! Their snapshots lie in `shared/protocol/schemas` and `shared/protocol/asyncapi.json`; a test compares them.
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};
use sexton_model::beacon::Beacon;

use crate::channel::{Broadcast, Message, Report, types};
use crate::envelope::{CONTENT_TYPE, PACK_MAX};
use crate::message::{Extension, Happened, Order, OutcomeReport, Progress, Pulse, Rejected, StageDue};

/// The schema of one message's data.
#[derive(Debug, Clone)]
pub struct MessageSchema {
    /// Its short name, which is also its file's.
    pub name: &'static str,
    /// Its event type.
    pub event_type: &'static str,
    /// JSON Schema 2020-12 of the event's `data`.
    pub schema: Value,
}

fn one<T: JsonSchema>(name: &'static str, event_type: &'static str) -> MessageSchema {
    let schema: Schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    MessageSchema { name, event_type, schema: schema.into() }
}

/// Schemas of all messages.
pub fn schemas() -> Vec<MessageSchema> {
    vec![
        one::<Order>("order", types::ORDER),
        one::<OutcomeReport>("outcome", types::OUTCOME),
        one::<Progress>("progress", types::PROGRESS),
        one::<StageDue>("stage-due", types::STAGE_DUE),
        one::<Pulse>("pulse", types::PULSE),
        one::<Beacon>("beacon", types::BEACON),
        one::<Extension>("extension", types::EXTENSION),
        one::<Rejected>("rejected", types::REJECTED),
        one::<Happened>("happened", types::HAPPENED),
    ]
}

struct Channel {
    name: &'static str,
    /// The queue it is read from; of what every listener has a queue of its own for, the exchange.
    address: &'static str,
    /// The exchange and the routing key it is published with.
    published_to: (&'static str, &'static str),
    /// What Sexton's core (coordinator and scheduler) does with it.
    core: &'static [&'static str],
    about: &'static str,
    types: &'static [&'static str],
    max_bytes: usize,
}

fn channel<T: Message>(
    name: &'static str,
    address: &'static str,
    published_to: (&'static str, &'static str),
    core: &'static [&'static str],
    about: &'static str,
) -> Channel {
    Channel { name, address, published_to, core, about, types: T::TYPES, max_bytes: T::PACK_MAX_BYTES }
}

fn channels() -> Vec<Channel> {
    vec![
        channel::<Order>(
            "orders",
            "sexton.orders.{instance}",
            ("sexton.send.orders", "{instance}"),
            &["send"],
            "Orders to one subsystem instance, sealed with HMAC-SHA256 under its key.",
        ),
        channel::<Report>(
            "outcomes",
            "sexton.outcomes",
            ("sexton.send.outcomes", ""),
            &["receive"],
            "Outcomes and progress, sealed with HMAC-SHA256 under the key of the instance.",
        ),
        channel::<StageDue>(
            "stageDue",
            "sexton.stage-due",
            ("sexton.send.stage-due", ""),
            &["send", "receive"],
            "The scheduler's wake-ups to the coordinators, sealed with HMAC-SHA256 under the scheduler's key.",
        ),
        channel::<Pulse>(
            "pulses",
            "sexton.pulses",
            ("sexton.send.pulses", ""),
            &["receive"],
            "Every copy of a consumer lives; sealed with HMAC-SHA256 under the key of its instance.",
        ),
        channel::<Broadcast>(
            "beacon",
            "sexton.fanout.beacon",
            ("sexton.fanout.beacon", ""),
            &["send"],
            "To every consumer: the state of a ledger read, each second, and extensions. Signed with Ed25519.",
        ),
        channel::<Rejected>(
            "rejected",
            "sexton.rejected",
            ("sexton.send.rejected", ""),
            &["send"],
            "What was not accepted, with the reason; for people. What a consumer rejects is sealed with HMAC-SHA256 \
             under the key of its instance, what a coordinator rejects is signed with Ed25519.",
        ),
        channel::<Rejected>(
            "canaries",
            "sexton.canaries",
            ("sexton.send.rejected", ""),
            &["receive"],
            "A copy of all that is published to sexton.rejected, for the coordinators, who look for canaries among it.",
        ),
        channel::<Happened>(
            "events",
            "sexton.events",
            ("sexton.events", "{topic}"),
            &["send"],
            "What happened to deletions, for whoever listens. Signed with Ed25519.",
        ),
    ]
}

fn short_name(event_type: &str) -> &str {
    event_type.trim_start_matches("dev.sexton.").trim_end_matches(".v1")
}

/// The AsyncAPI 3 document.
pub fn asyncapi() -> Value {
    let mut all_channels = serde_json::Map::new();
    let mut operations = serde_json::Map::new();
    for c in channels() {
        let messages: serde_json::Map<String, Value> = c
            .types
            .iter()
            .map(|t| {
                let name = short_name(t);
                (name.to_owned(), json!({"$ref": format!("#/components/messages/{name}")}))
            })
            .collect();
        let mut described = json!({
            "address": c.address,
            "description": format!("{} At most {} bytes.", c.about, c.max_bytes),
            "messages": messages,
            "x-published-to": {"exchange": c.published_to.0, "routingKey": c.published_to.1},
        });
        if c.address.contains("{instance}") {
            described["parameters"] =
                json!({"instance": {"description": "SUBSYSTEM.NAME, such as hypervisor.main"}});
        }
        all_channels.insert(c.name.to_owned(), described);
        for action in c.core {
            let title = format!("{action}{}{}", c.name[..1].to_uppercase(), &c.name[1..]);
            let channel = json!({"$ref": format!("#/channels/{}", c.name)});
            operations.insert(title, json!({"action": action, "channel": channel}));
        }
    }
    let messages: serde_json::Map<String, Value> =
        schemas().iter().map(|m| (m.name.to_owned(), message(m))).collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Sexton's messages",
            "version": "1",
            "description": "Seen from the coordinator and the scheduler. The job table is the truth; \
                messages only wake people up, and every one of them may be lost or come twice. A message is \
                published to the exchange that `x-published-to` names, and read from the queue that is its \
                channel's address; beacon and events, whose address is an exchange, from a queue of one's own \
                that is bound to it."
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": all_channels,
        "operations": operations,
        "components": {"messages": messages},
    })
}

fn message(of: &MessageSchema) -> Value {
    json!({
        "name": of.name,
        "contentType": CONTENT_TYPE,
        "headers": {
            "type": "object",
            "description": "AMQP headers; the proof is over LABEL 0x00 BODY.",
            "properties": {
                "sexton-key-id": {"type": "string", "description": "Which key the proof was made with."},
                "sexton-mac": {"type": "string", "description": "HMAC-SHA256 or Ed25519 signature, in base64."}
            }
        },
        "payload": {
            "type": "array",
            "minItems": 1,
            "maxItems": PACK_MAX,
            "items": {
                "type": "object",
                "additionalProperties": false,
                "required": ["specversion", "id", "source", "type", "time", "data"],
                "properties": {
                    "specversion": {"const": "1.0"},
                    "id": {"type": "string", "minLength": 1, "maxLength": 256},
                    "source": {"type": "string", "minLength": 1, "maxLength": 256},
                    "type": {"const": of.event_type},
                    "time": {"type": "string", "format": "date-time"},
                    "datacontenttype": {"const": "application/json"},
                    "traceparent": {"type": "string", "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
                    "data": {"$ref": format!("./schemas/{}.json", of.name)}
                }
            }
        }
    })
}
