//! The committed schemas are those of the types. After a change: `SEXTON_WRITE_SCHEMAS=1 cargo test`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::path::Path;

use serde_json::Value;
use sexton_protocol::schema::{asyncapi, schemas};

fn compare(file: &str, generated: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = serde_json::to_string_pretty(generated).unwrap() + "\n";
    if std::env::var_os("SEXTON_WRITE_SCHEMAS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let held = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(held == text, "{file} is not what the types say; write it anew with SEXTON_WRITE_SCHEMAS=1");
}

#[test]
fn schemas_are_current() {
    for message in schemas() {
        compare(&format!("schemas/{}.json", message.name), &message.schema);
    }
}

#[test]
fn asyncapi_is_current() {
    compare("asyncapi.json", &asyncapi());
}
