//! What can be set about a consumer, and within what bounds.
use serde::Deserialize;

/// All of it. Every default suits a subsystem whose steps take a fraction of a second.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Orders carried out at once, 1 to 256: what the subsystem can bear.
    pub concurrency: usize,
    /// Messages (packs of up to 16 orders) taken from the queue before one is acked, 1 to 1024. More than
    /// what keeps the workers busy only makes other copies wait.
    pub prefetch: u16,
    /// Answers in one message, 1 to 16.
    pub pack: usize,
    /// Milliseconds an answer waits for others to travel with, 0 to 100: a full pack halves the broker's work.
    pub linger_ms: u64,
    /// Milliseconds between two pulses, 100 to 10,000. Three missing ones mean *down*.
    pub pulse_ms: u64,
    /// Milliseconds that steps under way have to end when the process is to stop, 0 to 600,000. What takes
    /// longer is delivered again.
    pub drain_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { concurrency: 16, prefetch: 64, pack: 16, linger_ms: 2, pulse_ms: 3_000, drain_ms: 30_000 }
    }
}

impl Options {
    /// Which option is out of bounds, and what was expected.
    pub fn mistake(&self) -> Option<String> {
        let bounded = [
            ("concurrency", self.concurrency as u64, 1, 256),
            ("prefetch", u64::from(self.prefetch), 1, 1024),
            ("pack", self.pack as u64, 1, 16),
            ("linger_ms", self.linger_ms, 0, 100),
            ("pulse_ms", self.pulse_ms, 100, 10_000),
            ("drain_ms", self.drain_ms, 0, 600_000),
        ];
        bounded
            .into_iter()
            .find(|(_, value, min, max)| value < min || value > max)
            .map(|(name, value, min, max)| format!("{name} = {value}: expected {min} to {max}"))
    }
}
