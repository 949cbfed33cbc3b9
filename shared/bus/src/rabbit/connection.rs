//! One connection to the broker that is built again whenever it is lost.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;
use futures_util::StreamExt;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, info, warn};

use super::{RabbitOptions, declare, failure};
use crate::BusError;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Publish,
    Consume,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Role::Publish => "publish",
            Role::Consume => "consume",
        }
    }
}

/// A live connection. Its generation tells it from those before.
#[derive(Clone)]
pub(super) struct Live {
    connection: Arc<Connection>,
    pub(super) generation: u64,
}

impl Live {
    pub(super) async fn create_channel(&self) -> Result<Channel, lapin::Error> {
        self.connection.create_channel().await
    }

    pub(super) fn blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    fn connected(&self) -> bool {
        self.connection.status().connected()
    }
}

#[derive(Clone)]
enum State {
    /// Being built; what stood in the way the last time, if it was tried.
    Down(Option<BusError>),
    Up(Live),
    Closed,
}

/// A handle on a connection that is kept up by a task of its own, which ends with the handle.
pub(super) struct Link {
    state: watch::Receiver<State>,
    built: Arc<AtomicU64>,
    stop: watch::Sender<bool>,
}

/// Between two looks at whether the client still believes in its connection. Its events tell sooner; this is
/// for what they leave out.
const LOOK: Duration = Duration::from_secs(1);

/// For one attempt: connecting, logging in and declaring.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);

/// For saying goodbye; the broker notices without.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Between the loss of a connection and the watchdog's notice.
const NOTICE: Duration = Duration::from_millis(20);

/// From 100 ms, so that a restart costs little, to 5 s, give or take half, so that a hundred services do not storm a
/// broker that is coming up; without end.
pub(super) fn schedule() -> ExponentialBackoff {
    ExponentialBackoff {
        current_interval: Duration::from_millis(100),
        initial_interval: Duration::from_millis(100),
        max_interval: Duration::from_secs(5),
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    }
}

/// The next pause. The schedule has no end; the fallback only keeps that out of the type.
pub(super) fn pause(schedule: &mut ExponentialBackoff) -> Duration {
    schedule.next_backoff().unwrap_or(Duration::from_secs(5))
}

impl Link {
    pub(super) fn open(uri: AMQPUri, options: Arc<RabbitOptions>, role: Role) -> Self {
        let (tell, state) = watch::channel(State::Down(None));
        let (stop, stopped) = watch::channel(false);
        let built = Arc::<AtomicU64>::default();
        let counted = built.clone();
        tokio::spawn(Watchdog { uri, options, role, tell, stopped, generation: 0, built: counted }.run());
        Self { state, built, stop }
    }

    pub(super) fn close(&self) {
        self.stop.send_replace(true);
    }

    /// The connection as it is now.
    pub(super) fn now(&self) -> Result<Live, BusError> {
        match &*self.state.borrow() {
            State::Up(live) if live.connected() => Ok(live.clone()),
            State::Closed => Err(BusError::Closed),
            State::Down(Some(error)) => Err(error.clone()),
            State::Up(_) | State::Down(None) => Err(failure::too_late("connecting")),
        }
    }

    /// The connection, once there is one; waits for it until `deadline`. A refusal that has been pronounced
    /// is answered at once.
    pub(super) async fn up(&self, deadline: Instant) -> Result<Live, BusError> {
        let mut state = self.state.clone();
        let wait = async {
            loop {
                match &*state.borrow_and_update() {
                    State::Up(live) if live.connected() => return Ok(live.clone()),
                    State::Closed => return Err(BusError::Closed),
                    State::Down(Some(error @ BusError::Refused { .. })) => return Err(error.clone()),
                    State::Up(_) | State::Down(_) => {}
                }
                // The timeout is for a connection that is lost without the watchdog knowing it yet.
                if let Ok(Err(_)) = timeout(NOTICE, state.changed()).await {
                    return Err(BusError::Closed);
                }
            }
        };
        match timeout_at(deadline, wait).await {
            Ok(answer) => answer,
            Err(_) => self.now(),
        }
    }

    /// Returns when the connection of this generation is gone.
    pub(super) async fn gone(&self, generation: u64) {
        let mut state = self.state.clone();
        let lost = |state: &State| !matches!(state, State::Up(live) if live.generation == generation);
        // The other outcome is that the watchdog has ended, and the connection with it.
        state.wait_for(lost).await.ok();
    }

    /// How often it was built again.
    pub(super) fn reconnects(&self) -> u64 {
        self.built.load(Ordering::Relaxed).saturating_sub(1)
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(*self.state.borrow(), State::Closed)
    }
}

struct Watchdog {
    uri: AMQPUri,
    options: Arc<RabbitOptions>,
    role: Role,
    tell: watch::Sender<State>,
    stopped: watch::Receiver<bool>,
    generation: u64,
    built: Arc<AtomicU64>,
}

impl Watchdog {
    async fn run(mut self) {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            // An error means that nobody holds the link any more.
            _ = stopped.wait_for(|stop| *stop) => {}
            () = self.keep_up() => {}
        }
        let last = self.tell.send_replace(State::Closed);
        if let State::Up(live) = last {
            let goodbye = live.connection.close(200, "closing".into());
            timeout(CLOSE_TIMEOUT, goodbye).await.ok();
        }
    }

    /// Never returns.
    async fn keep_up(&mut self) {
        let mut troubled = false;
        loop {
            let live = self.build(&mut troubled).await;
            info!(role = self.role.as_str(), generation = live.generation, "connected to the broker");
            self.tell.send_replace(State::Up(live.clone()));
            watch_until_lost(&live.connection).await;
            warn!(role = self.role.as_str(), "lost the connection to the broker; trying until it is back");
            troubled = true;
            self.tell.send_replace(State::Down(None));
        }
    }

    async fn build(&mut self, troubled: &mut bool) -> Live {
        let mut schedule = schedule();
        loop {
            let error = match timeout(ATTEMPT_TIMEOUT, self.attempt()).await {
                Ok(Ok(connection)) => {
                    self.generation += 1;
                    self.built.store(self.generation, Ordering::Relaxed);
                    return Live { connection: Arc::new(connection), generation: self.generation };
                }
                Ok(Err(error)) => error,
                Err(_) => failure::too_late("connecting"),
            };
            let pause = pause(&mut schedule);
            if *troubled {
                debug!(role = self.role.as_str(), %error, ?pause, "still no connection to the broker");
            } else {
                warn!(role = self.role.as_str(), %error, "no connection to the broker; trying until there is");
                *troubled = true;
            }
            self.tell.send_replace(State::Down(Some(error)));
            sleep(pause).await;
        }
    }

    async fn attempt(&self) -> Result<Connection, BusError> {
        let name = format!("{} ({})", self.options.name, self.role.as_str());
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let connection = Connection::connect_uri(self.uri.clone(), properties)
            .await
            .map_err(|error| failure::of_call("logging in", &error))?;
        if let (Role::Publish, Some(topology)) = (self.role, &self.options.declare) {
            declare::all(&connection, topology)
                .await
                .map_err(|error| failure::of_call("declaring exchanges and queues", &error))?;
        }
        Ok(connection)
    }
}

async fn watch_until_lost(connection: &Connection) {
    let mut events = Box::pin(connection.events_listener());
    while connection.status().connected() {
        // What happened does not matter, only whether it is still connected.
        timeout(LOOK, events.next()).await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However long the broker is away, it is tried again, and every few seconds.
    #[test]
    fn an_outage_of_any_length_is_waited_out() {
        let mut schedule = schedule();
        assert_eq!(schedule.max_elapsed_time, None, "after so long it would not be tried any more");
        // Five seconds and half as much, rounded.
        let longest = Duration::from_millis(7_501);
        for round in 0..1_000 {
            let next = schedule.next_backoff().expect("there is always a next pause");
            assert!(next <= longest, "{round}: {next:?}");
            assert!(pause(&mut schedule) <= longest, "{round}");
        }
    }
}
