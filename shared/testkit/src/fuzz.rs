//! Hostile input for whatever reads what comes from outside: messages, files, answers of subsystems.
//!
//! Contract: a target is a function of bytes that says whether it takes them, or why not. It is given its seeds (valid
//! examples, which it has to take), what has found something before (`tests/fuzz/corpus/NAME`), and any number of inputs
//! made from its seeds: changed byte by byte, or as the JSON or TOML they are (fields of other types, huge numbers, nesting), and
//! noise. None may make it panic, an overflow included; none may take memory out of proportion to its size; a refusal says why,
//! and not endlessly. What has to hold of what is taken (that it is read again as it was written) the target asserts itself.
//!
//! Input number N of a seed is always the same, on every machine, whatever the corpus holds by then: what was found is tried as it
//! is, and nothing is made from it. What fails is made shorter, shown, and told how to be
//! tried again. `scripts/fuzz` tries millions; in CI each target has [`INPUTS`], or a part of that if it is slow. Tests that
//! do so begin with `fuzz_`, or are in a file `tests/fuzz.rs`: that is how the script finds them.
mod dice;
mod json;
mod memory;
mod progress;
mod raw;
mod tables;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use dice::Dice;
pub use json::each_wrong_field_is_named;
use memory::Peak;
use progress::Progress;

/// Inputs for each target unless `SEXTON_FUZZ_INPUTS` says otherwise.
pub const INPUTS: u64 = 20_000;
/// Longest input, in bytes. Longer ones are what limits are for, which have tests of their own.
const INPUT_MAX_BYTES: usize = 64 << 10;
/// Longest reason for a refusal, in bytes, and how much longer it may be for each byte of the input, which it may quote.
const REASON_MAX_BYTES: usize = 8 << 10;
const REASON_PER_BYTE: usize = 64;
/// Memory is looked at after so many inputs; looking takes longer than reading most of them.
const BATCH: u64 = 64;
/// Most attempts at making an input shorter that fails.
const SHORTER_MAX: usize = 4000;

/// What the inputs of a target look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JSON value.
    Json,
    /// A JSON value in each line.
    JsonLines,
    /// A TOML file.
    Toml,
    /// CSV, and whatever else has lines.
    Text,
    /// Anything.
    Bytes,
}

/// A target and its seeds.
#[derive(Debug)]
pub struct Fuzz {
    name: &'static str,
    form: Form,
    seeds: Vec<Vec<u8>>,
    /// In the tests it gets one input where others get so many.
    slow: u64,
}

/// How much is tried.
#[derive(Debug, Clone, Copy)]
struct Plan {
    seed: u64,
    from: u64,
    inputs: u64,
}

impl Plan {
    /// Whoever says how many gets so many, however slow the target is.
    fn of(slow: u64, number: impl Fn(&str) -> Option<u64>) -> Self {
        Self {
            seed: number("SEXTON_FUZZ_SEED").unwrap_or(1),
            from: number("SEXTON_FUZZ_FROM").unwrap_or(0),
            inputs: number("SEXTON_FUZZ_INPUTS").unwrap_or(INPUTS.div_ceil(slow)),
        }
    }
}

/// What the environment says.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} = {text:?}: expected a number")))
}

impl Fuzz {
    /// A target that is called so: the name of its folder in the corpus, and what `scripts/fuzz --only` knows it by.
    pub fn new(name: &'static str, form: Form) -> Self {
        Self { name, form, seeds: Vec::new(), slow: 1 }
    }

    /// One more valid example.
    #[must_use]
    pub fn seed(mut self, seed: impl Into<Vec<u8>>) -> Self {
        self.seeds.push(seed.into());
        self
    }

    /// Each of its inputs takes about as long as so many of others, so it gets fewer, unless somebody says how many.
    #[must_use]
    pub fn slow(self, times: u64) -> Self {
        Self { slow: times.max(1), ..self }
    }

    /// Try it. `read` says why it refuses an input, and panics if something does not hold.
    ///
    /// # Panics
    /// If an input makes it panic or take too much memory, if a refusal has no reason or one out of all proportion, or if a
    /// seed is not taken. The message shows the input, and how it is tried again.
    pub fn run(self, read: impl Fn(&[u8]) -> Result<(), String>) {
        let Self { name, form, seeds, slow } = self;
        if std::env::var("SEXTON_FUZZ_ONLY").is_ok_and(|only| only != name) {
            return;
        }
        let plan = Plan::of(slow, number);
        let mut progress = Progress::begin(name, plan.from, plan.inputs);
        for (number, seed) in seeds.iter().enumerate() {
            match attempt(&read, seed) {
                Ok(Ok(())) => {}
                Ok(Err(why)) => panic!("{name}: seed {number} is no valid example: {why}\n{}", shown(seed)),
                Err(why) => panic!("{name}: seed {number}: {why}\n{}", shown(seed)),
            }
        }
        for (file, input) in corpus(name) {
            if let Err(why) = attempt(&read, &input) {
                panic!("{name}: {}: {why}\n{}", file.display(), shown(&input));
            }
        }
        let (mut taken, mut largest, mut peak) = (0u64, 0, Peak::begin());
        for number in plan.from..plan.from.saturating_add(plan.inputs) {
            let input = input(form, &seeds, plan.seed, number);
            match attempt(&read, &input) {
                Ok(verdict) => taken += u64::from(verdict.is_ok()),
                Err(why) => {
                    fail(name, plan.seed, number, &why, input, |shorter| attempt(&read, shorter).is_err())
                }
            }
            largest = largest.max(input.len());
            let done = number - plan.from + 1;
            if done.is_multiple_of(BATCH) || done == plan.inputs {
                let now = Peak::now();
                if let Some(more) = now.grown_too_much(&peak, largest) {
                    let first = number.saturating_sub(BATCH - 1).max(plan.from);
                    panic!(
                        "{name}: one of the inputs {first} to {number} of seed {} took {more}, with inputs of {largest} \
                         bytes at most; again: scripts/fuzz --only {name} --seed {} --from {first} --inputs {BATCH}",
                        plan.seed, plan.seed
                    );
                }
                progress.tell(done, taken, now.resident());
                (peak, largest) = (Peak::begin(), 0);
            }
        }
    }
}

/// The verdict on an input, or what must not happen.
fn attempt(read: &impl Fn(&[u8]) -> Result<(), String>, input: &[u8]) -> Result<Result<(), String>, String> {
    let verdict = catch_unwind(AssertUnwindSafe(|| read(input))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
        format!("it panics: {text}")
    })?;
    match &verdict {
        Err(why) if why.trim().is_empty() => Err("it refuses and says no reason".to_owned()),
        Err(why) if why.len() > REASON_MAX_BYTES + REASON_PER_BYTE * input.len() => {
            Err(format!("its reason has {} bytes, and the input {}", why.len(), input.len()))
        }
        Err(_) | Ok(()) => Ok(verdict),
    }
}

/// Input number `number`, always the same.
fn input(form: Form, seeds: &[Vec<u8>], seed: u64, number: u64) -> Vec<u8> {
    let mut dice = Dice::of(seed, number);
    let mut input = match dice.pick(seeds) {
        Some(seed) if !dice.one_in(12) => seed.clone(),
        Some(_) | None => raw::noise(&mut dice),
    };
    let other = dice.pick(seeds).cloned().unwrap_or_default();
    for _ in 0..=dice.below(4) {
        let structured = match form {
            Form::Json if !dice.one_in(3) => json::changed(&mut dice, &input),
            Form::JsonLines if !dice.one_in(3) => json::changed_line(&mut dice, &input),
            Form::Toml if !dice.one_in(3) => tables::changed(&mut dice, &input),
            Form::Json | Form::JsonLines | Form::Toml | Form::Text | Form::Bytes => None,
        };
        match structured {
            Some(changed) => input = changed,
            None => raw::change(&mut dice, &mut input, &other),
        }
        input.truncate(INPUT_MAX_BYTES);
    }
    input
}

/// Make it shorter, keep it if asked to, and say it.
fn fail(name: &str, seed: u64, number: u64, why: &str, input: Vec<u8>, fails: impl Fn(&[u8]) -> bool) -> ! {
    // Each attempt that still fails would say so.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let input = shorter(input, fails);
    std::panic::set_hook(hook);
    let kept = match std::env::var_os("SEXTON_FUZZ_KEEP") {
        Some(_) => keep(name, seed, number, &input),
        None => "not kept (scripts/fuzz does)".to_owned(),
    };
    panic!(
        "{name}: input {number} of seed {seed}: {why}\nmade shorter: {}\n{kept}\nagain: scripts/fuzz --only {name} \
         --seed {seed} --from {number} --inputs 1",
        shown(&input)
    )
}

/// The same with as many pieces left out as still fails.
fn shorter(mut input: Vec<u8>, fails: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let (mut piece, mut attempts) = (input.len().div_ceil(2), 0);
    while piece > 0 {
        let mut at = 0;
        while at < input.len() && attempts < SHORTER_MAX {
            attempts += 1;
            let end = (at + piece).min(input.len());
            let without = [&input[..at], &input[end..]].concat();
            if fails(&without) {
                input = without;
            } else {
                at = end;
            }
        }
        piece /= 2;
    }
    input
}

fn shown(input: &[u8]) -> String {
    const SHOWN_MAX: usize = 2000;
    let text: String = input.escape_ascii().to_string().chars().take(SHOWN_MAX).collect();
    format!("({} bytes) b\"{text}\"", input.len())
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus").join(name)
}

/// What has found something before, ascending by its name.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(folder(name)) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let read = |file: PathBuf| {
        let input = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        (file, input)
    };
    files.into_iter().map(read).collect()
}

fn keep(name: &str, seed: u64, number: u64, input: &[u8]) -> String {
    let file = folder(name).join(format!("found-{seed}-{number}"));
    let written = std::fs::create_dir_all(folder(name)).and_then(|()| std::fs::write(&file, input));
    match written {
        Ok(()) => format!(
            "kept in {}: mend it, give the file a name that says what it is, and commit it",
            file.display()
        ),
        Err(error) => format!("not kept: {}: {error}", file.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// What a run of a target says when it fails.
    fn failure(target: impl Fn(&[u8]) -> Result<(), String>) -> String {
        let run = || Fuzz::new("none", Form::Json).seed(br#"{"number":1,"list":["a"]}"#.to_vec()).run(target);
        let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
        panic.downcast_ref::<String>().unwrap().clone()
    }

    fn parsed(input: &[u8]) -> Result<serde_json::Value, String> {
        serde_json::from_slice(input).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_wrong_with_a_target_is_found_and_made_short() {
        let overflows = |input: &[u8]| -> Result<(), String> {
            if let Some(number) = parsed(input)?["number"].as_i64() {
                assert_ne!(number.checked_add(1), None, "too far");
            }
            Ok(())
        };
        let said = failure(overflows);
        assert!(said.contains("it panics: ") && said.contains("too far"), "{said}");
        assert!(said.contains("9223372036854775807") && said.contains("scripts/fuzz --only none"), "{said}");
        let silent = |input: &[u8]| parsed(input).map(drop).map_err(|_| String::new());
        assert!(failure(silent).contains("says no reason"));
        let talkative = |input: &[u8]| parsed(input).map(drop).map_err(|e| e.repeat(10_000));
        assert!(failure(talkative).contains("its reason has "));
        let picky = |_: &[u8]| Err("never".to_owned());
        assert!(failure(picky).contains("seed 0 is no valid example: never"));
    }

    #[test]
    fn a_slow_target_gets_fewer_inputs_unless_somebody_says_how_many() {
        assert_eq!(Plan::of(20, |_| None).inputs, INPUTS / 20);
        let said = |name: &str| (name == "SEXTON_FUZZ_INPUTS").then_some(1_000_000);
        assert_eq!(Plan::of(20, said).inputs, 1_000_000);
    }

    #[test]
    fn an_input_is_always_the_same_and_all_sorts_come() {
        let seeds = [br#"{"number":1,"list":["a"]}"#.to_vec()];
        let (parses, deep, long) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let distinct = RefCell::new(std::collections::BTreeSet::new());
        for number in 0..2000 {
            let made = input(Form::Json, &seeds, 7, number);
            assert_eq!(made, input(Form::Json, &seeds, 7, number));
            assert!(made.len() <= INPUT_MAX_BYTES);
            let add = |cell: &Cell<u32>, holds: bool| cell.set(cell.get() + u32::from(holds));
            add(&parses, parsed(&made).is_ok());
            add(&deep, made.windows(100).any(|w| w.iter().all(|b| *b == b'[')));
            add(&long, made.len() > 4096);
            distinct.borrow_mut().insert(made);
        }
        assert!(distinct.borrow().len() > 1000, "{}", distinct.borrow().len());
        assert!(parses.get() > 400 && deep.get() > 0 && long.get() > 10, "{parses:?} {deep:?} {long:?}");
    }

    #[test]
    fn a_good_part_of_what_is_made_of_toml_is_toml() {
        let seeds = [b"name = \"a\"\n\n[[keys]]\nid = \"k\"\nnumber = 1\n".to_vec()];
        let parses = |made: &[u8]| {
            let text = std::str::from_utf8(made).ok();
            text.is_some_and(|text| toml::from_str::<serde_json::Value>(text).is_ok())
        };
        let of = |form: Form| (0..2000).filter(|number| parses(&input(form, &seeds, 7, *number))).count();
        let (by_tables, by_bytes) = (of(Form::Toml), of(Form::Text));
        assert!(by_tables > 400 && by_tables > by_bytes, "{by_tables}, and {by_bytes} byte by byte");
    }

    /// What is kept is tried first in every run: it stays small.
    #[test]
    fn the_corpus_is_small() {
        const FILES_MAX: usize = 200;
        let names = std::fs::read_dir(folder("")).unwrap().map(|entry| entry.unwrap().file_name());
        let names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        let kept: Vec<(PathBuf, Vec<u8>)> = names.iter().flat_map(|name| corpus(name)).collect();
        assert!(!kept.is_empty() && kept.len() <= FILES_MAX, "{} files", kept.len());
        for (file, input) in kept {
            assert!(input.len() <= INPUT_MAX_BYTES, "{}: {} bytes", file.display(), input.len());
        }
    }
}
