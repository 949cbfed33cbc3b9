//! The hypervisor consumer as a process.

fn main() -> anyhow::Result<()> {
    sexton_consumer::program::main("sexton-hypervisor", sexton_hypervisor::build)
}
