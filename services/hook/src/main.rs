//! The hook consumer as a process.

fn main() -> anyhow::Result<()> {
    sexton_consumer::program::main("sexton-hook", sexton_hook::build)
}
