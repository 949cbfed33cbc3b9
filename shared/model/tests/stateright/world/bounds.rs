//! What limits the search.

/// Which plan the deletion has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Announce inspects, so targets are read again before each later stage; soft has two reversible steps, hard and
    /// purge a destructive one each. A day lies between any two stages.
    Whole,
    /// Nothing is inspected; soft has two reversible steps, hard a destructive one, the other stages none. A day lies
    /// before hard.
    Pair,
    /// The same with one reversible step.
    Short,
    /// Nothing but the destructive step in hard.
    Bare,
}

impl Shape {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::Whole, Self::Pair, Self::Short, Self::Bare];
}

/// What limits the search; every number is for a whole history.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// The plan.
    pub shape: Shape,
    /// Whether what the two reversible steps switch off is on to begin with.
    pub was: [bool; 2],
    /// Orders that may be delivered once more.
    pub copies: u8,
    /// Leases that may run out; where the job table may be put back, only after that.
    pub leases: u8,
    /// Answers other than "done", by a consumer's choice.
    pub failures: u8,
    /// Outdated answers that the network keeps at a time; each is tried when it becomes outdated.
    pub ghosts: u8,
    /// Steps of time after which a call has landed; 0: it lands at once.
    pub call_ticks: u8,
    /// Whether what is deleted holds the fence of its last change: one thing, of `Shape::Short`.
    pub fenced: bool,
    /// Consumers that may fall asleep right before a change, for however long.
    pub naps: u8,
    /// Holds that may be placed.
    pub holds: u8,
    /// Pauses that may begin.
    pub pauses: u8,
    /// Times that the job table may be put back to an older copy: 0 or 1.
    pub returns: u8,
}

impl Bounds {
    /// Nothing goes wrong, and nobody stops anything.
    pub const fn of(shape: Shape) -> Self {
        Self {
            shape,
            was: [true; 2],
            copies: 0,
            leases: 0,
            failures: 0,
            ghosts: 0,
            call_ticks: 0,
            fenced: false,
            naps: 0,
            holds: 0,
            pauses: 0,
            returns: 0,
        }
    }
}
