//! What every process needs and no rule depends on: configuration, telemetry, health, shutdown, patience at start.
//!
//! A leaf: it knows nothing of resources or messages. A service's `main` parses its arguments, loads its
//! sections of the one configuration file, and calls `run(…, shutdown)`.
pub mod config;
pub mod health;
pub mod secret;
pub mod start;
pub mod telemetry;
pub mod trace;

pub use config::{Config, ConfigError};
pub use health::{Health, Watched};
pub use start::{CommonArguments, Failed, patiently, run_whole, shutdown_on_signal, wind_down};
pub use telemetry::Telemetry;

/// Of every process: whoever links this crate allocates with it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
