//! One signed conversation with an authoritative server, over TCP.
//!
//! Invariants: every request carries a TSIG, and no answer but a refusal is believed that carries none; an answer
//! that is truncated, not authoritative, or without the zone's own SOA is never taken for absence. TCP, because
//! an answer then is whole, or none.
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode, UpdateMessage};
use hickory_proto::rr::rdata::tsig::TsigError;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, TSigVerifier, TSigner};
use sexton_consumer::driver::Obstacle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::record::{Current, RDATA_MAX, RecordKind, text_of};

/// How long calls may take: each at most `call`, all of them until `until`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    until: Instant,
    call: Duration,
}

impl Budget {
    /// `call` for each call, `left` for all of them.
    pub(super) fn new(left: Duration, call: Duration) -> Self {
        Self { until: Instant::now() + left, call }
    }

    fn next(self) -> Instant {
        self.until.min(Instant::now() + self.call)
    }
}

/// What a zone says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authority {
    /// Which version of the zone.
    pub(super) serial: u32,
    /// The name of the server that its changes are made at.
    pub(super) primary: String,
}

/// A connection to the server.
pub(super) struct Session<'a> {
    stream: TcpStream,
    server: SocketAddr,
    signer: &'a TSigner,
    budget: Budget,
}

impl<'a> Session<'a> {
    /// Connect to `server`.
    pub(super) async fn open(
        server: SocketAddr,
        signer: &'a TSigner,
        budget: Budget,
    ) -> Result<Self, Obstacle> {
        match timeout_at(budget.next(), TcpStream::connect(server)).await {
            Ok(Ok(stream)) => Ok(Self { stream, server, signer, budget }),
            Ok(Err(e)) if is_away(e.kind()) => {
                Err(Obstacle::Busy(format!("connecting to DNS server {server}: {e}")))
            }
            Ok(Err(e)) => Err(Obstacle::Unclear(format!("connecting to DNS server {server}: {e}"))),
            Err(_) => Err(Obstacle::Busy(format!("connecting to DNS server {server}: no answer in time"))),
        }
    }

    /// The start of authority of `zone`, which the server must answer for itself: the proof of place.
    pub(super) async fn authority(&mut self, zone: &Name) -> Result<Authority, Obstacle> {
        let answer = self.query(zone, RecordType::SOA).await?;
        authority_in(zone, &answer)
    }

    /// One record set as it is now.
    pub(super) async fn read(
        &mut self,
        zone: &Name,
        owner: &Name,
        kind: RecordKind,
    ) -> Result<Current, Obstacle> {
        let answer = self.query(owner, kind.record_type()).await?;
        current_in(zone, owner, kind, &answer)
    }

    /// Delete exactly `data` from a record set. With `exclusive` only if they are all the set holds.
    pub(super) async fn delete(
        &mut self,
        zone: &Name,
        owner: &Name,
        data: &[RData],
        exclusive: bool,
    ) -> Result<ResponseCode, Obstacle> {
        let request = deletion(zone, owner, data, exclusive);
        let what = format!("deleting {} from zone {}", text_of(owner), text_of(zone));
        Ok(self.exchange(request, &what).await?.metadata.response_code)
    }

    async fn query(&mut self, name: &Name, kind: RecordType) -> Result<Message, Obstacle> {
        let mut request = Message::query();
        request.metadata.recursion_desired = false;
        request.add_query(Query::query(name.clone(), kind));
        self.exchange(request, &format!("asking for {} {kind}", text_of(name))).await
    }

    pub(super) async fn exchange(&mut self, mut request: Message, what: &str) -> Result<Message, Obstacle> {
        let what = format!("{what} at DNS server {}", self.server);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let unclear = |e: &dyn std::fmt::Display| Obstacle::Unclear(format!("{what}: {e}"));
        // A question that is not answered has changed nothing: the server is away.
        let asks = request.metadata.op_code == OpCode::Query;
        let unanswered = |e: &dyn std::fmt::Display| {
            if asks { Obstacle::Busy(format!("{what}: {e}")) } else { unclear(e) }
        };
        let verifier = request.finalize(self.signer, now).map_err(|e| unclear(&e))?;
        let mut verifier = verifier.ok_or_else(|| unclear(&"the request could not be signed"))?;
        let bytes = request.to_vec().map_err(|e| unclear(&e))?;
        let length = u16::try_from(bytes.len()).map_err(|_| unclear(&"the request is too long"))?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&bytes);
        let stream = &mut self.stream;
        let talk = async {
            stream.write_all(&framed).await?;
            let mut answer = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = match timeout_at(self.budget.next(), talk).await {
            Ok(answer) => answer.map_err(|e| unanswered(&e))?,
            Err(_) if asks => return Err(unanswered(&"no answer in time")),
            Err(_) => return Err(unanswered(&"no answer in time; it may still be carried out")),
        };
        believe(&request, &answer, &mut verifier, &what)
    }
}

/// Whether a connection failed because nobody is there, or no way leads there. Nothing was sent then.
fn is_away(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind;
    matches!(
        kind,
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::TimedOut
    )
}

/// The update that deletes `data`, as single records: it can never take with it what it does not name.
fn deletion(zone: &Name, owner: &Name, data: &[RData], exclusive: bool) -> Message {
    let mut request = Message::query();
    request.metadata.op_code = OpCode::Update;
    request.metadata.recursion_desired = false;
    request.add_zone(Query::query(zone.clone(), RecordType::SOA));
    for data in data {
        let mut record = Record::from_rdata(owner.clone(), 0, data.clone());
        if exclusive {
            request.add_pre_requisite(record.clone());
        }
        record.dns_class = DNSClass::NONE;
        request.add_update(record);
    }
    request
}

/// The answer in `bytes`, if it is one to `request` and signed by the server.
pub(super) fn believe(
    request: &Message,
    bytes: &[u8],
    verifier: &mut TSigVerifier,
    what: &str,
) -> Result<Message, Obstacle> {
    let unclear = |e: &dyn std::fmt::Display| Obstacle::Unclear(format!("{what}: {e}"));
    let answer = Message::from_vec(bytes).map_err(|e| unclear(&e))?;
    if answer.metadata.message_type != MessageType::Response
        || answer.metadata.id != request.metadata.id
        || answer.metadata.op_code != request.metadata.op_code
    {
        return Err(unclear(&"the answer belongs to another question"));
    }
    let code = answer.metadata.response_code;
    let Some(tsig) = answer.signature().map(|record| &record.data) else {
        return Err(match code {
            ResponseCode::Refused | ResponseCode::NotAuth | ResponseCode::NotZone => refusal(code, what),
            code => unclear(&format!("the answer ({code}) is not signed")),
        });
    };
    match tsig.error {
        Some(TsigError::BadTime) => {
            return Err(unclear(&"the server's clock differs from this one (BADTIME)"));
        }
        Some(TsigError::BadKey | TsigError::BadSig | TsigError::BadTrunc) => {
            return Err(Obstacle::Refuse(format!(
                "{what}: the server does not accept the TSIG key ({:?}); check its name, secret and algorithm",
                tsig.error
            )));
        }
        Some(TsigError::Unknown(0)) | None => {}
        Some(error @ TsigError::Unknown(_)) => return Err(unclear(&format!("TSIG error {error:?}"))),
    }
    if tsig.time < u64::from(tsig.fudge) || tsig.time >= 1 << 48 {
        return Err(unclear(&"the signature has an impossible time"));
    }
    verifier.verify(bytes).map_err(|e| unclear(&format!("the answer's signature: {e}")))?;
    if answer.metadata.truncation {
        return Err(unclear(&"the answer is truncated"));
    }
    // The same question must come back; only an update's answer may leave it out.
    let repeated = answer.queries == request.queries
        || (answer.queries.is_empty() && request.metadata.op_code == OpCode::Update);
    if !repeated {
        return Err(unclear(&"the answer repeats another question"));
    }
    Ok(answer)
}

/// What the server means by refusing: a person has to look at key and zone.
pub(super) fn refusal(code: ResponseCode, what: &str) -> Obstacle {
    Obstacle::Refuse(format!(
        "{what}: the server answered {}; check that it is primary for the zone and that the key may do this",
        word(code)
    ))
}

/// The code as people know it.
pub(super) fn word(code: ResponseCode) -> String {
    match code {
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::NotAuth => "NOTAUTH".to_owned(),
        ResponseCode::NotZone => "NOTZONE".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NXRRSet => "NXRRSET".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        code => code.to_string(),
    }
}

/// What the answer to a question means, if it is no answer.
fn authoritative(answer: &Message, what: &str) -> Result<(), Obstacle> {
    match answer.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain if answer.metadata.authoritative => Ok(()),
        ResponseCode::NoError | ResponseCode::NXDomain => {
            Err(Obstacle::Unclear(format!("{what}: the server does not answer with authority")))
        }
        code @ (ResponseCode::Refused | ResponseCode::NotAuth | ResponseCode::NotZone) => {
            Err(refusal(code, what))
        }
        // It has not loaded the zone yet, or could not renew it.
        code @ ResponseCode::ServFail => {
            Err(Obstacle::Busy(format!("{what}: the server answered {}", word(code))))
        }
        code => Err(Obstacle::Unclear(format!("{what}: the server answered {}", word(code)))),
    }
}

fn authority_in(zone: &Name, answer: &Message) -> Result<Authority, Obstacle> {
    let what = format!("reading the SOA of zone {}", text_of(zone));
    authoritative(answer, &what)?;
    soa(zone, &answer.answers)
        .ok_or_else(|| Obstacle::Refuse(format!("{what}: the server has no such zone; check the zones")))
}

fn soa(zone: &Name, records: &[Record]) -> Option<Authority> {
    records.iter().find_map(|record| match &record.data {
        RData::SOA(soa) if record.name == *zone => {
            Some(Authority { serial: soa.serial, primary: text_of(&soa.mname) })
        }
        _ => None,
    })
}

/// The record set that `answer` shows; empty only if the very zone says so.
pub(super) fn current_in(
    zone: &Name,
    owner: &Name,
    kind: RecordKind,
    answer: &Message,
) -> Result<Current, Obstacle> {
    let what = format!("reading {} {}", text_of(owner), kind.record_type());
    authoritative(answer, &what)?;
    let mut current = Current::default();
    for record in &answer.answers {
        if record.name != *owner || record.dns_class != DNSClass::IN {
            continue;
        }
        if let RData::CNAME(alias) = &record.data {
            current.alias = Some(text_of(&alias.0));
        }
        if let Some(text) = kind.text(&record.data) {
            current.ttl = record.ttl;
            current.rdata.insert(text);
        }
    }
    if current.rdata.len() > RDATA_MAX {
        return Err(Obstacle::Unclear(format!("{what}: more than {RDATA_MAX} data")));
    }
    let nothing = current.rdata.is_empty() && current.alias.is_none();
    if nothing && (!answer.answers.is_empty() || soa(zone, &answer.authorities).is_none()) {
        return Err(Obstacle::Unclear(format!(
            "{what}: nothing in the answer, but not by the word of zone {}",
            text_of(zone)
        )));
    }
    Ok(current)
}
