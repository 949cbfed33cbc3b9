//! What there is of a machine, and what may be done to it.

/// How one thing of a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// There, and on.
    On,
    /// There, and off.
    Off,
    /// Not there.
    Gone,
}

/// One thing of a machine, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thing {
    /// The UUID of the machine that it belongs to.
    pub owner: String,
    /// How it is.
    pub state: State,
}

/// What an action does to a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// Turns it, and back.
    Turns(State),
    /// Removes it.
    Removes,
    /// Makes it.
    Makes,
}

/// One action of the simulated platform.
#[derive(Debug, Clone, Copy)]
pub struct Deed {
    /// Of which subsystem.
    pub subsystem: &'static str,
    /// Its name.
    pub action: &'static str,
    /// To which things.
    pub things: &'static [&'static str],
    /// What it does to them.
    pub does: Does,
}

const fn deed(
    subsystem: &'static str,
    action: &'static str,
    things: &'static [&'static str],
    does: Does,
) -> Deed {
    Deed { subsystem, action, things, does }
}

/// All of them.
pub const DEEDS: [Deed; 13] = [
    deed("hypervisor", "stop", &["power"], Does::Turns(State::Off)),
    deed("hypervisor", "undefine", &["definition"], Does::Removes),
    deed("hypervisor", "delete_volumes", &["volumes"], Does::Removes),
    deed("ipam", "release", &["address"], Does::Removes),
    deed("monitoring", "silence", &["alerts"], Does::Turns(State::Off)),
    deed("monitoring", "remove_target", &["target"], Does::Removes),
    deed("monitoring", "delete_history", &["history"], Does::Removes),
    deed("backup", "final", &["last archive"], Does::Makes),
    deed("backup", "remove_schedule", &["schedule"], Does::Removes),
    deed("backup", "delete_archives", &["archives", "last archive"], Does::Removes),
    deed("notifier", "announce", &["notice"], Does::Turns(State::On)),
    deed("dns", "remove", &["name"], Does::Removes),
    deed("config", "revoke", &["key"], Does::Removes),
];

/// What each subsystem shows when it is asked to look: by the first it tells whether the machine is there.
pub(super) const SHOWN: [(&str, &[&str]); 7] = [
    ("hypervisor", &["definition", "volumes"]),
    ("ipam", &["address"]),
    ("monitoring", &["target", "history"]),
    ("backup", &["schedule", "archives"]),
    ("notifier", &["notice"]),
    ("dns", &["name"]),
    ("config", &["key"]),
];

/// What a machine has in the beginning.
pub(super) const BEGINNING: [(&str, State); 12] = [
    ("power", State::On),
    ("definition", State::On),
    ("volumes", State::On),
    ("address", State::On),
    ("alerts", State::On),
    ("target", State::On),
    ("history", State::On),
    ("schedule", State::On),
    ("archives", State::On),
    ("notice", State::Off),
    ("name", State::On),
    ("key", State::On),
];

/// The action of a step's name, such as `hypervisor.stop`.
pub fn deed_of(step: &str) -> Option<&'static Deed> {
    let (subsystem, action) = step.split_once('.')?;
    DEEDS.iter().find(|deed| deed.subsystem == subsystem && deed.action == action)
}
