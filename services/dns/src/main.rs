//! The dns consumer as a process.

fn main() -> anyhow::Result<()> {
    sexton_consumer::program::main("sexton-dns", sexton_dns::build)
}
