//! The power button of a guest, which is pressed through its emulator's monitor.
//!
//! The monitor talks to one client at a time and lets all others wait, and some program that watches over machines may
//! be connected for long. A guest whose button was not pressed knows of nothing. So whatever is in the way (somebody
//! else is connected, the monitor hangs up or says no), it is tried for all the time that the guest has to obey.
use std::path::Path;

use sexton_consumer::driver::Obstacle;
use tokio::net::UnixStream;
use tokio::time::{Duration, Instant, timeout};
use uuid::Uuid;

use super::qmp::{Qmp, QmpError};
use crate::process::{Held, Process};

/// Longest one call to the monitor may take once it talks to us: it answers in milliseconds.
pub(super) const CALL_WITHIN: Duration = Duration::from_secs(3);
/// How often the button is pressed again: a guest that is just booting does not feel it.
const PRESS_EVERY: Duration = Duration::from_secs(2);
/// How soon it is tried again after it could not be pressed: a monitor that refuses does so at once.
const TRY_EVERY: Duration = Duration::from_millis(500);
/// What presses it.
const PRESS: &str = "system_powerdown";

/// A connection to the monitor.
pub(super) type Monitor = Qmp<UnixStream>;

/// The power button of one machine.
pub(super) struct Button<'a> {
    /// The machine's name, for errors.
    pub(super) name: &'a str,
    /// Its UUID, which the monitor has to say before anything is pressed.
    pub(super) uuid: Uuid,
    /// The monitor's socket.
    pub(super) socket: &'a Path,
    /// The process that has to listen there.
    pub(super) process: Process,
    /// Asked before the first press through each connection: it may have taken long to get one.
    pub(super) may: &'a (dyn Fn() -> Result<(), Obstacle> + Send + Sync),
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Asked {
    /// The process has ended.
    Ended {
        /// Whether the button was pressed before.
        pressed: bool,
    },
    /// The time is over.
    InVain {
        /// Whether the button was pressed at all.
        pressed: bool,
        /// The monitor, if it did what it was asked for last; otherwise why not.
        monitor: Result<Monitor, QmpError>,
    },
}

/// Why the button was not pressed.
enum NotPressed {
    /// The monitor did not do it. It may do it another time.
    Monitor(QmpError),
    /// It must not be pressed.
    MustNot(Obstacle),
}

impl From<QmpError> for NotPressed {
    fn from(error: QmpError) -> Self {
        Self::Monitor(error)
    }
}

impl Button<'_> {
    /// Press, and press again, until the process has ended or the time is over.
    ///
    /// # Errors
    /// If it is another machine, if it must not be pressed (any more), or if the system refuses to wait.
    pub(super) async fn press_until(&self, held: &Held, ends: Instant) -> Result<Asked, Obstacle> {
        let (mut open, mut pressed) = (None, false);
        loop {
            let tried = match open.take() {
                Some(monitor) => again(monitor).await,
                None => self.press(ends.saturating_duration_since(Instant::now())).await,
            };
            let (monitor, pause) = match tried {
                Ok(monitor) => (Ok(monitor), PRESS_EVERY),
                Err(NotPressed::Monitor(error)) => (Err(error), TRY_EVERY),
                Err(NotPressed::MustNot(why)) => return Err(why),
            };
            pressed |= monitor.is_ok();
            let left = ends.saturating_duration_since(Instant::now());
            let ended = held.ended(left.min(pause)).await;
            if ended.map_err(|e| Obstacle::Unclear(format!("stopping {}: {e}", self.name)))? {
                return Ok(Asked::Ended { pressed });
            }
            if left <= pause {
                return Ok(Asked::InVain { pressed, monitor });
            }
            // One that failed may still answer what it was asked before: it is not asked again.
            open = monitor.ok();
        }
    }

    /// Connect and press. Who stands in line for the monitor stays there: whoever comes again stands behind himself.
    async fn press(&self, left: Duration) -> Result<Monitor, NotPressed> {
        // Where next to nothing is left, it is tried properly all the same.
        let within = left.max(CALL_WITHIN);
        match timeout(within, self.connect_and_press(within)).await {
            Ok(pressed) => pressed,
            Err(_) => Err(QmpError::TimedOut(PRESS, within).into()),
        }
    }

    async fn connect_and_press(&self, turn: Duration) -> Result<Monitor, NotPressed> {
        let mut monitor = Qmp::connect(self.socket, self.process, turn, CALL_WITHIN).await?;
        let uuid = monitor.uuid().await?;
        if uuid != self.uuid {
            return Err(NotPressed::MustNot(Obstacle::Refuse(format!(
                "the monitor of {} says {uuid}, expected was {}",
                self.name, self.uuid
            ))));
        }
        (self.may)().map_err(NotPressed::MustNot)?;
        monitor.call(PRESS).await?;
        Ok(monitor)
    }
}

async fn again(mut monitor: Monitor) -> Result<Monitor, NotPressed> {
    monitor.call(PRESS).await?;
    Ok(monitor)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    use tokio::net::UnixListener;

    use super::*;

    const UUID: Uuid = Uuid::from_u128(7);
    /// Longer than any of these tests takes.
    const LONG: Duration = Duration::from_secs(60);

    /// A guest that ends as soon as its button is pressed, and its monitor's socket.
    struct Guest {
        child: Child,
        folder: tempfile::TempDir,
    }

    impl Drop for Guest {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// What a monitor does with one client.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Does {
        HangUp,
        SayNo,
        Press,
    }

    impl Guest {
        /// With a monitor that does this with its first clients, and then presses.
        fn with(first: &'static [Does]) -> Self {
            let child = Command::new("sleep").arg("1000").spawn().unwrap();
            let guest = Self { child, folder: tempfile::tempdir().unwrap() };
            tokio::spawn(monitor(UnixListener::bind(guest.socket()).unwrap(), guest.process(), first));
            guest
        }

        fn socket(&self) -> std::path::PathBuf {
            self.folder.path().join("qmp")
        }

        fn process(&self) -> Process {
            Process::of(self.child.id()).unwrap().unwrap()
        }

        /// Press its button for so long.
        async fn asked(
            &self,
            uuid: Uuid,
            polite: Duration,
            may: &(dyn Fn() -> Result<(), Obstacle> + Send + Sync),
        ) -> Result<Asked, Obstacle> {
            // The monitor is this very process.
            let process = Process::of(std::process::id()).unwrap().unwrap();
            let socket = self.socket();
            let button = Button { name: "web01", uuid, socket: &socket, process, may };
            let held = self.process().open().unwrap().unwrap();
            button.press_until(&held, Instant::now() + polite).await
        }

        /// Somebody else, who is connected and was let in.
        async fn somebody(&self) -> UnixStream {
            let mut other = UnixStream::connect(self.socket()).await.unwrap();
            other.read_exact(&mut [0]).await.unwrap();
            other
        }
    }

    fn allowed() -> Result<(), Obstacle> {
        Ok(())
    }

    /// One client at a time, as QEMU does it.
    async fn monitor(listener: UnixListener, guest: Process, first: &'static [Does]) {
        let mut first = first.iter().copied();
        while let Ok((stream, _)) = listener.accept().await {
            let does = first.next().unwrap_or(Does::Press);
            if does != Does::HangUp {
                let _ = serve(BufReader::new(stream), guest, does).await;
            }
        }
    }

    async fn serve(mut stream: BufReader<UnixStream>, guest: Process, does: Does) -> std::io::Result<()> {
        stream.get_mut().write_all(b"{\"QMP\": {}}\n").await?;
        let mut line = String::new();
        while stream.read_line(&mut line).await? > 0 {
            let presses = line.contains(PRESS);
            let answer = if presses && does == Does::SayNo {
                "{\"error\": {\"desc\": \"not now\"}}\n".to_owned()
            } else {
                if let Some(held) = guest.open()?.filter(|_| presses) {
                    held.kill()?;
                }
                format!("{{\"return\": {{\"UUID\": \"{UUID}\"}}}}\n")
            };
            stream.get_mut().write_all(answer.as_bytes()).await?;
            line.clear();
        }
        Ok(())
    }

    #[tokio::test]
    async fn what_fails_is_tried_again() {
        let guest = Guest::with(&[Does::HangUp, Does::SayNo, Does::HangUp]);
        let asked = guest.asked(UUID, LONG, &allowed).await.unwrap();
        assert!(matches!(asked, Asked::Ended { pressed: true }), "{asked:?}");
    }

    #[tokio::test]
    async fn somebody_elses_turn_is_waited_for() {
        let guest = Guest::with(&[]);
        let other = guest.somebody().await;
        let lets_go = async move {
            tokio::time::sleep(CALL_WITHIN + TRY_EVERY).await;
            drop(other);
        };
        let (asked, ()) = tokio::join!(guest.asked(UUID, LONG, &allowed), lets_go);
        let asked = asked.unwrap();
        assert!(matches!(asked, Asked::Ended { pressed: true }), "{asked:?}");
    }

    #[tokio::test]
    async fn a_turn_that_never_comes_is_given_up_when_the_time_is_over() {
        let guest = Guest::with(&[]);
        let other = guest.somebody().await;
        let polite = CALL_WITHIN + TRY_EVERY;
        let began = Instant::now();
        let asked = guest.asked(UUID, polite, &allowed).await.unwrap();
        assert!(matches!(asked, Asked::InVain { pressed: false, monitor: Err(_) }), "{asked:?}");
        assert!(began.elapsed() >= polite, "the guest had less time than it was given");
        assert!(guest.process().lives().unwrap());
        drop(other);
    }

    #[tokio::test]
    async fn nothing_is_pressed_that_must_not_be() {
        let guest = Guest::with(&[]);
        let another = guest.asked(Uuid::from_u128(8), LONG, &allowed).await;
        assert!(
            matches!(&another, Err(Obstacle::Refuse(why)) if why.contains(&UUID.to_string())),
            "{another:?}"
        );
        let paused = guest.asked(UUID, LONG, &|| Err(Obstacle::Busy("paused".into()))).await;
        assert!(matches!(&paused, Err(Obstacle::Busy(why)) if why == "paused"), "{paused:?}");
        assert!(guest.process().lives().unwrap());
    }
}
