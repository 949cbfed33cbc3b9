//! Where announcements are sent from.
use async_trait::async_trait;
use sexton_consumer::driver::{Obstacle, Place};
use tokio::time::Duration;

use crate::letter::Letter;
use crate::spool::Spool;

/// How a message fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The server took it on for this person.
    Accepted,
    /// The server will not deliver to this person, and says why: asking again does not help.
    Rejected(String),
}

/// A way to tell people, and the spool that remembers it.
#[async_trait]
pub trait Office: Send + Sync + 'static {
    /// What was sent.
    fn spool(&self) -> &Spool;

    /// Who is told of every deletion, beside those whom the platform names.
    fn also_tell(&self) -> &[String];

    /// The address that messages come from, if there is one.
    fn from(&self) -> Option<&str> {
        None
    }

    /// Which place this is, read afresh.
    fn place(&self) -> Result<Place, Obstacle> {
        self.spool().place()
    }

    /// Send one letter to one person, within this time.
    ///
    /// # Errors
    /// [`Obstacle::Busy`] if the server is down or says "later", [`Obstacle::Unclear`] if it may or may not
    /// have taken it.
    async fn tell(&self, to: &str, letter: &Letter, within: Duration) -> Result<Delivery, Obstacle>;
}
