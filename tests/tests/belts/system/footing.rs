//! What a system stands on: a file and the bus of one process, or PostgreSQL and RabbitMQ as many machines have them.
//!
//! A test says nothing of it, and stands on the former. Those that a file names in [`on_many_machines`] run once more, on
//! the latter.
use std::cell::Cell;
use std::sync::Arc;

use sexton_bus::local::Local;
use sexton_bus::{Bus, Topology};

#[cfg(feature = "real-servers")]
use super::System;
use super::many::VirtualHost;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Footing {
    /// SQLite, and a bus without a broker.
    Embedded,
    /// PostgreSQL and RabbitMQ.
    #[cfg_attr(
        not(feature = "real-servers"),
        expect(dead_code, reason = "only tests with real servers stand on it")
    )]
    Many,
}

thread_local! {
    /// Whoever makes a system does it in the thread of its test.
    static FOOTING: Cell<Footing> = const { Cell::new(Footing::Embedded) };
}

impl Footing {
    /// That of the test that runs in this thread.
    pub fn now() -> Self {
        FOOTING.get()
    }

    /// A system on it, whatever its test stands on: for a test that compares two.
    #[cfg(feature = "real-servers")]
    pub async fn make(self, system: impl Future<Output = System>) -> System {
        let before = FOOTING.replace(self);
        let made = system.await;
        FOOTING.set(before);
        made
    }

    /// Run a test on it.
    #[cfg(feature = "real-servers")]
    pub fn carry(self, test: fn()) {
        /// The next test of this thread may be another one's.
        struct Stepped;
        impl Drop for Stepped {
            fn drop(&mut self) {
                FOOTING.set(Footing::Embedded);
            }
        }
        let _stepped = Stepped;
        FOOTING.set(self);
        test();
    }
}

/// These tests run a second time, as `many::…` beside them, on PostgreSQL and RabbitMQ.
macro_rules! on_many_machines {
    ($($test:ident),+ $(,)?) => {
        #[cfg(feature = "real-servers")]
        mod many {
            $(
                #[test]
                fn $test() {
                    $crate::system::footing::Footing::Many.carry(super::$test);
                }
            )+
        }
    };
}
pub(crate) use on_many_machines;

/// The broker of one process, which ends with it.
pub enum Broker {
    Local(Local),
    Rabbit(VirtualHost),
}

impl Broker {
    /// On the footing of this test, with empty queues.
    pub async fn new(topology: Topology) -> Self {
        match Footing::now() {
            Footing::Embedded => Self::Local(Local::with_topology(topology)),
            Footing::Many => Self::Rabbit(VirtualHost::new(&topology).await),
        }
    }

    /// What this user sees of it.
    pub fn as_user(&self, user: &str) -> Arc<dyn Bus> {
        match self {
            Self::Local(local) => local.as_user(user),
            Self::Rabbit(host) => host.as_user(user),
        }
    }
}
