//! The consumer of `scripts/bench` as a process of its own: its steps do nothing.
#[path = "bench/noop.rs"]
#[expect(dead_code, reason = "the benchmark uses the rest")]
mod noop;

fn main() -> anyhow::Result<()> {
    sexton_consumer::program::main("bench-noop", |_, _| Ok((noop::actions()?, noop::driver())))
}
