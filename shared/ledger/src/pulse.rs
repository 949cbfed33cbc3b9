//! Signs of life of consumers, and what they tell of an instance.
use sexton_model::{Instance, Timestamp};

/// One copy of a consumer says that it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alive {
    /// Whose consumer it is.
    pub instance: Instance,
    /// Which copy; different for every process.
    pub copy: String,
    /// Orders it carries out at once.
    pub hands: u32,
    /// Orders it has answered or reported on since it began.
    pub answered: u64,
}

/// What pulses tell of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulsed {
    /// The last one.
    pub at: Timestamp,
    /// Orders that the copies that live carry out at once.
    pub hands: u32,
    /// When one of them was last heard to have answered or reported anything.
    pub answered_at: Option<Timestamp>,
}
