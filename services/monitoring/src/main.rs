//! The monitoring consumer as a process.

fn main() -> anyhow::Result<()> {
    sexton_consumer::program::main("sexton-monitoring", sexton_monitoring::build)
}
