//! The notifier consumer as a process.

fn main() -> anyhow::Result<()> {
    sexton_consumer::program::main("sexton-notifier", sexton_notifier::build)
}
