//! A collector of spans over OTLP/HTTP, as small as can be.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// A span that arrived. Ids are in hexadecimal; no parent is an empty one.
#[derive(Debug, Clone)]
pub struct Seen {
    pub service: String,
    pub name: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub links: Vec<(String, String)>,
    attributes: Vec<(String, String)>,
}

impl Seen {
    pub fn said(&self, key: &str, value: &str) -> bool {
        self.attributes.iter().any(|(k, v)| k == key && v == value)
    }
}

pub struct Collector {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Collector {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let into = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, into) = (stream.unwrap(), into.clone());
                std::thread::spawn(move || while receive(&stream, &into).is_some() {});
            }
        });
        Self { address, seen }
    }

    pub fn spans(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// One request; `None` when there are no more on this connection.
fn receive(stream: &TcpStream, into: &Mutex<Vec<Seen>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|bytes| *bytes > 0)?;
    assert!(first.starts_with("POST /v1/traces "), "{first}");
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
    for resource in request.resource_spans {
        let service =
            resource.resource.into_iter().flat_map(|r| r.attributes).find(|a| a.key == "service.name");
        let service = service.and_then(|a| a.value).and_then(|v| v.value).map(text).unwrap_or_default();
        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        into.lock().unwrap().extend(spans.map(|span| of(&service, span)));
    }
    let mut stream = stream;
    let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(answer.as_bytes()).ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(value: Value) -> String {
    match value {
        Value::StringValue(text) => text,
        other => format!("{other:?}"),
    }
}

fn of(service: &str, span: Span) -> Seen {
    Seen {
        service: service.to_owned(),
        name: span.name,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
        attributes: span
            .attributes
            .into_iter()
            .filter_map(|a| Some((a.key, text(a.value?.value?))))
            .collect(),
    }
}
