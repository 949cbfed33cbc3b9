//! The ipam consumer as a process.

fn main() -> anyhow::Result<()> {
    sexton_consumer::program::main("sexton-ipam", sexton_ipam::build)
}
