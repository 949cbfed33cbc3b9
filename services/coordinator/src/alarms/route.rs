//! A way to tell people, beside the platform: neither the broker nor a consumer is needed for it.
use std::fmt;

use async_trait::async_trait;
use sexton_model::alarm::Notice;

/// What kind of a way. Its word stands in the job table, for what was told by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// An HTTP request.
    Webhook,
    /// A program.
    Command,
    /// Mail.
    Mail,
}

impl RouteKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Webhook, Self::Command, Self::Mail];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Command => "command",
            Self::Mail => "mail",
        }
    }
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One route.
#[async_trait]
pub trait Route: Send + Sync + 'static {
    /// What kind it is.
    fn kind(&self) -> RouteKind;

    /// Hand over a notice, within a time that is less than [`LEASE_MS`](super::tell::LEASE_MS).
    ///
    /// # Errors
    /// Why it was not taken, or that nobody knows; without secrets. It is tried again later.
    async fn deliver(&self, notice: &Notice) -> Result<(), String>;
}

/// Longest a route may take, in milliseconds.
pub const TIMEOUT_MAX_MS: u64 = 60_000;
/// How long it may take unless configured, in milliseconds.
pub const TIMEOUT_MS: u64 = 10_000;

/// An error with all its causes: the outermost says little.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
