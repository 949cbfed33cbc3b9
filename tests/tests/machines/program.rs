//! Calling the subsystems' own tools.
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

/// What a variable of `scripts/test` says.
pub fn wanted(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: scripts/test starts the servers and sets it"))
}

/// Run a program to its success, and return what it printed.
pub fn run(command: &mut Command) -> String {
    run_with(command, "")
}

/// The same, with something to read.
pub fn run_with(command: &mut Command, input: &str) -> String {
    try_run_with(command, input).unwrap_or_else(|why| panic!("{why}"))
}

/// The same, where it may fail, and why it has.
pub fn try_run_with(command: &mut Command, input: &str) -> Result<String, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("{command:?}: {e}"))?;
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // Aside, so that neither side waits for the other with a full pipe.
    let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let written = writing.join().unwrap();
    if !output.status.success() {
        return Err(format!(
            "{command:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    written.map_err(|e| format!("{command:?}: {e}"))?;
    String::from_utf8(output.stdout).map_err(|e| format!("{command:?}: {e}"))
}

/// The same for a program that prints JSON.
pub fn run_json(command: &mut Command) -> Value {
    let text = run(command);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{command:?} printed {text:?}: {e}"))
}

/// Ask an HTTP server.
pub fn curl(arguments: &[&str]) -> Value {
    run_json(Command::new("curl").args(["-sS", "--fail-with-body", "--max-time", "60"]).args(arguments))
}
