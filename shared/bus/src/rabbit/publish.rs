//! Publishing with confirms, many at a time.
//!
//! A **lane** is one task with one channel. It takes what waits for it as one window, hands all of it to the
//! client before awaiting anything, then awaits all confirms, then takes the next window: a group commit. Two
//! lanes take turns, so that one can send while the other waits.
//!
//! A window ends before the next begins because of messages that cannot be routed. The broker returns them
//! ahead of their confirms, but the client hands a returned message to whichever confirm it resolves next,
//! which may be a neighbour's. Within a window they are told apart by their ids; across windows a caller could
//! be told `Ok` for a message that came back.
use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Confirmation, PublisherConfirm};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::connection::Link;
use super::failure::{self, Blame};
use crate::topology::route;
use crate::{BusError, CONTENT_TYPE, Outgoing, PublishError, Target};

/// The header that carries [`Outgoing::key_id`].
pub(super) const KEY_ID: &str = "sexton-key-id";
/// The header that carries [`Outgoing::mac`].
pub(super) const MAC: &str = "sexton-mac";

/// One to send while the other waits for confirms; more gain nothing, since the broker's log is one.
const LANES: usize = 2;
/// Twice the broker's own limit on commands in flight per channel.
const WINDOW_MESSAGES: usize = 512;
/// A window of the largest messages must fit into memory, several times over.
const WINDOW_BYTES: usize = 16 << 20;
/// Requests waiting for a lane; whoever comes then waits to be let in, up to its deadline.
const WAITING_REQUESTS: usize = 64;
/// After a channel was lost on a connection that seems to live.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Persistent, for a broker that distinguishes: quorum queues always are.
const PERSISTENT: u8 = 2;

/// Part of a call to [`crate::Bus::publish`].
struct Request {
    messages: Vec<Outgoing>,
    deadline: Instant,
    reply: oneshot::Sender<Vec<Result<(), PublishError>>>,
}

pub(super) struct Publisher {
    lanes: Vec<mpsc::Sender<Request>>,
    turn: AtomicUsize,
    timeout: Duration,
    link: Arc<Link>,
}

impl Publisher {
    pub(super) fn start(link: &Arc<Link>, user: &str, timeout: Duration) -> Self {
        let lanes = (0..LANES)
            .map(|_| {
                let (requests, waiting) = mpsc::channel(WAITING_REQUESTS);
                let lane = Lane { link: Arc::clone(link), user: user.to_owned(), timeout, channel: None };
                tokio::spawn(lane.run(waiting));
                requests
            })
            .collect();
        Self { lanes, turn: AtomicUsize::new(0), timeout, link: Arc::clone(link) }
    }

    /// All parts of a call go through one lane, and so in order.
    pub(super) async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let deadline = Instant::now() + self.timeout;
        let lane = &self.lanes[self.turn.fetch_add(1, Ordering::Relaxed) % LANES];
        let mut results: Vec<Result<(), PublishError>> = Vec::with_capacity(messages.len());
        let mut replies = Vec::new();
        for part in parts(messages) {
            let (reply, replied) = oneshot::channel();
            let targets: Vec<Target> = part.iter().map(|message| message.target.clone()).collect();
            let request = Request { messages: part, deadline, reply };
            // What could not be handed over is answered by its reply, which was dropped with it.
            timeout_at(deadline, lane.send(request)).await.ok();
            replies.push((targets, replied));
        }
        for (targets, replied) in replies {
            match timeout_at(deadline, replied).await {
                Ok(Ok(answer)) => results.extend(answer),
                Ok(Err(_)) | Err(_) => {
                    results.extend(targets.iter().map(|target| Err(self.unanswered(target))));
                }
            }
        }
        results
    }

    fn unanswered(&self, target: &Target) -> PublishError {
        if self.link.is_closed() { PublishError::Closed } else { unconfirmed(target, self.timeout) }
    }
}

fn unconfirmed(target: &Target, waited: Duration) -> PublishError {
    let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
    PublishError::Unconfirmed { to: target.to_string(), waited_ms }
}

/// Cut into what fits a window.
fn parts(messages: Vec<Outgoing>) -> Vec<Vec<Outgoing>> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut bytes = 0;
    for message in messages {
        if part.len() >= WINDOW_MESSAGES || bytes + message.body.len() > WINDOW_BYTES {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += message.body.len();
        part.push(message);
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

struct Lane {
    link: Arc<Link>,
    user: String,
    timeout: Duration,
    channel: Option<Channel>,
}

impl Lane {
    async fn run(mut self, mut waiting: mpsc::Receiver<Request>) {
        while let Some(first) = waiting.recv().await {
            let mut requests = vec![first];
            let (mut messages, mut bytes) = weight(&requests[0]);
            while messages < WINDOW_MESSAGES && bytes < WINDOW_BYTES {
                let Ok(request) = waiting.try_recv() else { break };
                let (more_messages, more_bytes) = weight(&request);
                messages += more_messages;
                bytes += more_bytes;
                requests.push(request);
            }
            let now = Instant::now();
            requests.retain(|request| request.deadline > now && !request.reply.is_closed());
            let mut results = self.publish(&requests).await.into_iter();
            for request in requests {
                let answer = results.by_ref().take(request.messages.len()).collect();
                // Nobody waits for it any more; fine.
                request.reply.send(answer).ok();
            }
        }
    }

    /// A window, again on a new channel if it must be, until its last deadline.
    async fn publish(&mut self, requests: &[Request]) -> Vec<Result<(), PublishError>> {
        let mut window = Window::new(requests);
        let deadline = requests.iter().map(|request| request.deadline).max().unwrap_or_else(Instant::now);
        while window.is_open() {
            let channel = match self.channel(deadline).await {
                Ok(channel) => channel,
                Err(BusError::Closed) => {
                    window.settle_open(|_| Err(PublishError::Closed));
                    break;
                }
                Err(BusError::Refused { reason, .. }) => {
                    window.settle_open(|to| {
                        Err(PublishError::Refused { to: to.to_string(), reason: reason.clone() })
                    });
                    break;
                }
                Err(_) if Instant::now() >= deadline => break,
                Err(_) => {
                    sleep(RETRY_PAUSE).await;
                    continue;
                }
            };
            match timeout_at(deadline, window.send(&channel, &self.user)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    self.channel = None;
                    window.assign_blame(&error);
                    if window.is_open() {
                        sleep(RETRY_PAUSE).await;
                    }
                }
                // Its confirms may come at any time, or never: a later window must not see them.
                Err(_) => {
                    self.channel = None;
                    break;
                }
            }
        }
        let waited = self.timeout;
        window.settle_open(|to| Err(unconfirmed(to, waited)));
        window.into_results()
    }

    async fn channel(&mut self, deadline: Instant) -> Result<Channel, BusError> {
        // While the broker takes nothing the client keeps whatever it is given, and each repeat would add to that.
        if self.link.now().is_ok_and(|live| live.blocked()) {
            return Err(BusError::Blocked);
        }
        if let Some(channel) = self.channel.as_ref().filter(|channel| channel.status().connected()) {
            return Ok(channel.clone());
        }
        let doing = "opening a channel";
        let live = self.link.up(deadline).await?;
        let open = async {
            let channel = live.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(channel)
        };
        match timeout_at(deadline, open).await {
            Ok(Ok(channel)) => Ok(self.channel.insert(channel).clone()),
            Ok(Err(error)) => Err(failure::of_call(doing, &error)),
            Err(_) => Err(failure::too_late(doing)),
        }
    }
}

fn weight(request: &Request) -> (usize, usize) {
    (request.messages.len(), request.messages.iter().map(|message| message.body.len()).sum())
}

/// Messages that are published together, and what became of each so far.
struct Window<'a> {
    messages: Vec<&'a Outgoing>,
    results: Vec<Option<Result<(), PublishError>>>,
    /// What came back: exchange, routing key and message id.
    returned: HashSet<(String, String, String)>,
}

type Sending<'a> = Pin<Box<dyn Future<Output = Result<PublisherConfirm, lapin::Error>> + Send + 'a>>;

impl<'a> Window<'a> {
    fn new(requests: &'a [Request]) -> Self {
        let messages: Vec<&Outgoing> = requests.iter().flat_map(|request| &request.messages).collect();
        let results = messages.iter().map(|message| message.check().err().map(Err)).collect();
        Self { messages, results, returned: HashSet::new() }
    }

    fn is_open(&self) -> bool {
        self.results.iter().any(Option::is_none)
    }

    /// Send what is open, and settle it by its confirms. Safe to cancel: what is settled stays so.
    async fn send(&mut self, channel: &Channel, user: &str) -> Result<(), lapin::Error> {
        let mut sent: Vec<(usize, Sending<'_>)> = Vec::with_capacity(self.messages.len());
        for (index, message) in self.messages.iter().enumerate() {
            if self.results[index].is_none() {
                sent.push((index, Box::pin(hand_over(channel, message, user)) as Sending<'_>));
            }
        }
        // The first poll puts the frames into the client's buffer: in this order, before anything is awaited.
        let mut early = Vec::new();
        for (index, sending) in &mut sent {
            if let Poll::Ready(result) =
                std::future::poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await
            {
                early.push((*index, result?));
            }
        }
        let mut confirms = Vec::with_capacity(sent.len());
        let mut done = early.into_iter().peekable();
        for (index, sending) in sent {
            match done.next_if(|(early, _)| *early == index) {
                Some(confirm) => confirms.push(confirm),
                None => confirms.push((index, sending.await?)),
            }
        }
        let mut lost = None;
        for (index, confirm) in confirms {
            match confirm.await {
                Ok(confirmation) => self.confirmed(index, confirmation),
                Err(error) => lost = lost.or(Some(error)),
            }
        }
        lost.map_or(Ok(()), Err)
    }

    fn confirmed(&mut self, index: usize, confirmation: Confirmation) {
        let accepted = confirmation.is_ack();
        if let Some(returned) = confirmation.take_message() {
            let id = returned.properties.message_id().as_ref().map(|id| id.as_str().to_owned());
            let exchange = returned.exchange.as_str().to_owned();
            self.returned.insert((
                exchange,
                returned.routing_key.as_str().to_owned(),
                id.unwrap_or_default(),
            ));
        }
        let to = self.messages[index].target.to_string();
        self.results[index] = Some(if accepted { Ok(()) } else { Err(PublishError::Full { to }) });
    }

    /// The channel was closed over one of these messages, or lost with its connection.
    fn assign_blame(&mut self, error: &lapin::Error) {
        let Some((code, said)) = failure::broker_said(error).filter(|_| error.is_amqp_soft_error()) else {
            return;
        };
        for (message, result) in self.messages.iter().zip(&mut self.results) {
            let to = || message.target.to_string();
            let (exchange, _) = route(&message.target);
            if result.is_none() {
                *result = match failure::blame(code, said, &exchange) {
                    Blame::NoExchange => Some(Err(PublishError::Unroutable { to: to() })),
                    Blame::Refused(reason) => Some(Err(PublishError::Refused { to: to(), reason })),
                    Blame::Innocent => None,
                };
            }
        }
    }

    fn settle_open(&mut self, result: impl Fn(&Target) -> Result<(), PublishError>) {
        for (message, open) in self.messages.iter().zip(&mut self.results) {
            open.get_or_insert_with(|| result(&message.target));
        }
    }

    /// All are settled by now; what came back was not published, whatever its confirm said.
    fn into_results(self) -> Vec<Result<(), PublishError>> {
        let Self { messages, results, returned } = self;
        let came_back = |message: &Outgoing| {
            let (exchange, key) = route(&message.target);
            returned.contains(&(exchange, key, message.message_id.clone()))
        };
        messages
            .into_iter()
            .zip(results)
            .map(|(message, result)| match result {
                Some(Ok(())) if !returned.is_empty() && came_back(message) => {
                    Err(PublishError::Unroutable { to: message.target.to_string() })
                }
                Some(result) => result,
                None => Err(unconfirmed(&message.target, Duration::ZERO)),
            })
            .collect()
    }
}

/// Give one message to the client. The lengths have been checked: the client's short strings panic.
async fn hand_over(
    channel: &Channel,
    message: &Outgoing,
    user: &str,
) -> Result<PublisherConfirm, lapin::Error> {
    let (exchange, key) = route(&message.target);
    let text = |text: &str| AMQPValue::LongString(LongString::from(text));
    let mut headers = FieldTable::default();
    headers.insert(KEY_ID.into(), text(&message.key_id)).insert(MAC.into(), text(&message.mac));
    let mut properties = BasicProperties::default()
        .with_content_type(CONTENT_TYPE.into())
        .with_delivery_mode(PERSISTENT)
        .with_headers(headers)
        .with_message_id(message.message_id.as_str().into())
        .with_user_id(user.into());
    if let Some(ttl) = message.ttl {
        properties = properties.with_expiration(ttl.as_millis().to_string().into());
    }
    let options =
        BasicPublishOptions { mandatory: matches!(message.target, Target::Queue(_)), immediate: false };
    channel.basic_publish(exchange.into(), key.into(), options, &message.body, properties).await
}
