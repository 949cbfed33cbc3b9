//! Target files (`file_sd`): what they say, and how a silenced one looks. No I/O.
use serde_json::Value;

/// The label that silences: alerting rules exclude what bears it (`unless on(uuid) …{silenced="true"}`), or a
/// route of the alert manager drops it.
pub(super) const SILENCED: &str = "silenced";

/// Whether `text` is the target file of the resource `uuid`: every group bears it as the label `uuid`.
///
/// # Errors
/// Why it is not.
pub(super) fn compare(text: &str, uuid: &str) -> Result<(), String> {
    let groups = groups(text)?;
    for group in &groups {
        let held = &group["labels"]["uuid"];
        if held != uuid {
            return Err(format!("has a target with uuid {held}, expected {uuid}"));
        }
    }
    Ok(())
}

/// How many addresses are listed in `text`.
pub(super) fn addresses(text: &str) -> Result<usize, String> {
    Ok(groups(text)?.iter().filter_map(|group| group["targets"].as_array()).map(Vec::len).sum())
}

/// Whether every group is silenced.
pub(super) fn is_silenced(text: &str) -> Result<bool, String> {
    Ok(groups(text)?.iter().all(|group| group["labels"][SILENCED] == "true"))
}

/// The silenced form of a captured file: the same whenever it is made, so that it can be compared with.
pub(super) fn silenced(text: &str) -> Result<String, String> {
    let mut groups = groups(text)?;
    for group in &mut groups {
        group["labels"][SILENCED] = Value::String("true".into());
    }
    serde_json::to_string_pretty(&groups).map_err(|e| e.to_string())
}

fn groups(text: &str) -> Result<Vec<Value>, String> {
    let groups: Vec<Value> = serde_json::from_str(text).map_err(|e| format!("is no target file: {e}"))?;
    if groups.is_empty() {
        return Err("is a target file without targets".into());
    }
    let formed = |group: &Value| group["targets"].is_array() && group["labels"].is_object();
    if !groups.iter().all(formed) {
        return Err("is no target file: expected a list of objects with targets and labels".into());
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sexton_testkit::fuzz::{Form, Fuzz};

    const WEB01: &str = r#"[{"targets":["10.0.0.1:9100"],"labels":{"uuid":"u1","rack":"7"}}]"#;

    #[test]
    fn every_group_must_be_the_resources() {
        assert_eq!(compare(WEB01, "u1"), Ok(()));
        assert!(compare(WEB01, "u2").unwrap_err().contains("u1"));
        let mixed = r#"[{"targets":[],"labels":{"uuid":"u1"}},{"targets":[],"labels":{"uuid":"u2"}}]"#;
        assert!(compare(mixed, "u1").is_err());
        for wrong in ["[]", "{}", "", r#"[{"targets":[]}]"#, r#"[{"targets":[],"labels":{}}]"#, "[7]"] {
            assert!(compare(wrong, "u1").is_err(), "{wrong} was taken");
        }
    }

    #[test]
    fn silencing_keeps_everything_else() {
        let silent = silenced(WEB01).unwrap();
        assert!(is_silenced(&silent).unwrap() && !is_silenced(WEB01).unwrap());
        assert!(silent.contains("\"rack\": \"7\""));
        assert_eq!(silenced(&silent).unwrap(), silent);
        assert_eq!(addresses(&silent), Ok(1));
    }

    /// What is silenced is the same file, silenced; whoever silences it again finds it so.
    #[test]
    fn fuzz_target_files() {
        Fuzz::new("target-files", Form::Json).seed(WEB01).run(|bytes| {
            let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
            let ours = compare(text, "u1");
            let silent = silenced(text)?;
            assert!(is_silenced(&silent).unwrap());
            assert_eq!(silenced(&silent).unwrap(), silent);
            assert_eq!((compare(&silent, "u1"), addresses(&silent)), (ours.clone(), addresses(text)));
            ours
        });
    }

    proptest! {
        #[test]
        fn hostile_files_never_panic(text in ".{0,200}") {
            let _ = (compare(&text, "u1"), addresses(&text), is_silenced(&text), silenced(&text));
        }

        #[test]
        fn silencing_twice_is_silencing_once(rack in "[a-z\"\\\\ é]{0,20}") {
            let text = serde_json::json!([{"targets": ["a:1"], "labels": {"uuid": "u1", "rack": rack}}]).to_string();
            let once = silenced(&text).unwrap();
            prop_assert_eq!(silenced(&once).unwrap(), once.clone());
            prop_assert_eq!(compare(&once, "u1"), Ok(()));
        }
    }
}
