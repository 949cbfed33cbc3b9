//! The backup consumer as a process.

fn main() -> anyhow::Result<()> {
    sexton_consumer::program::main("sexton-backup", sexton_backup::build)
}
