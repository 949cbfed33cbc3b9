//! Reading what the server answers. No I/O; every answer is taken for hostile.
use serde::Deserialize;
use serde_json::Value;

/// The `data` of a successful answer.
///
/// # Errors
/// If it is no success, or comes with warnings: then a part may be missing.
pub(super) fn data(body: &[u8]) -> Result<Value, String> {
    let mut answer: Value = serde_json::from_slice(body).map_err(|e| format!("is no JSON: {e}"))?;
    if answer["status"] != "success" {
        return Err(format!("says {}", answer["error"]));
    }
    if answer["warnings"].as_array().is_some_and(|warnings| !warnings.is_empty()) {
        return Err(format!("is incomplete: {}", answer["warnings"]));
    }
    Ok(answer["data"].take())
}

/// One target that bears the resource's uuid, as the server knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// The target file that it comes from, if it comes from one.
    pub(super) file: Option<String>,
    /// Whether it is silenced there.
    pub(super) silenced: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Targets {
    active_targets: Vec<Value>,
    dropped_targets: Vec<Value>,
}

/// The targets of `uuid` in the server's list of all targets, the dropped ones included.
///
/// # Errors
/// If it is no such list.
pub(super) fn targets_of(data: Value, uuid: &str) -> Result<Vec<Seen>, String> {
    let all: Targets = serde_json::from_value(data).map_err(|e| format!("is no list of targets: {e}"))?;
    let seen = |target: &Value| {
        let discovered = &target["discoveredLabels"];
        let ours = discovered["uuid"] == uuid || target["labels"]["uuid"] == uuid;
        ours.then(|| Seen {
            file: discovered["__meta_filepath"].as_str().map(str::to_owned),
            silenced: discovered[super::file::SILENCED] == "true",
        })
    };
    Ok(all.active_targets.iter().chain(&all.dropped_targets).filter_map(seen).collect())
}

/// Whether an instant query's answer holds any sample.
///
/// # Errors
/// If it is no such answer.
pub(super) fn any_sample(data: &Value) -> Result<bool, String> {
    match (data["resultType"].as_str(), data["result"].as_array()) {
        (Some("vector"), Some(result)) => Ok(!result.is_empty()),
        _ => Err("is no vector".into()),
    }
}

/// Whether any series is listed.
///
/// # Errors
/// If it is no list.
pub(super) fn any_series(data: &Value) -> Result<bool, String> {
    data.as_array().map(|series| !series.is_empty()).ok_or_else(|| "is no list".to_owned())
}

/// The value of one command-line flag in the server's list of them.
pub(super) fn flag(data: &Value, name: &str) -> Option<String> {
    data[name].as_str().map(str::to_owned)
}

/// The value of one external label in the configuration that the server says it runs with. The server prints
/// its configuration itself, in one form: two spaces a level, `global:` at the outermost.
pub(super) fn external_label(yaml: &str, name: &str) -> Option<String> {
    let mut lines = yaml.lines().skip_while(|line| *line != "global:").skip(1);
    lines.by_ref().take_while(|line| line.starts_with("  ")).find(|line| *line == "  external_labels:")?;
    let key = format!("    {name}:");
    let value = lines
        .take_while(|line| line.starts_with("    "))
        .find_map(|line| line.strip_prefix(key.as_str()))?
        .trim();
    let quote = |q: char| value.strip_prefix(q).and_then(|v| v.strip_suffix(q));
    Some(quote('"').or_else(|| quote('\'')).unwrap_or(value).to_owned())
}

/// A selector for everything that was measured of `uuid`.
pub(super) fn selector(uuid: &str) -> String {
    format!("{{uuid=\"{}\"}}", uuid.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use sexton_testkit::fuzz::{Form, Fuzz};

    #[test]
    fn an_answer_with_warnings_or_errors_is_no_answer() {
        assert!(data(br#"{"status":"error","error":"too many samples"}"#).unwrap_err().contains("too many"));
        assert!(data(br#"{"status":"success","data":[],"warnings":["remote read failed"]}"#).is_err());
        assert!(data(b"<html>").is_err());
        assert_eq!(data(br#"{"status":"success","data":[1]}"#), Ok(json!([1])));
    }

    #[test]
    fn dropped_targets_count() {
        let list = json!({
            "activeTargets": [{ "discoveredLabels": { "uuid": "u2" }, "labels": {} }],
            "droppedTargets": [{ "discoveredLabels": {
                "uuid": "u1", "__meta_filepath": "/t/web01.json", "silenced": "true" } }],
        });
        let seen = targets_of(list, "u1").unwrap();
        assert_eq!(seen, [Seen { file: Some("/t/web01.json".into()), silenced: true }]);
        assert!(targets_of(json!({ "activeTargets": [] }), "u1").is_err());
    }

    #[test]
    fn an_external_label_is_found_where_it_is_and_nowhere_else() {
        let yaml = "global:\n  scrape_interval: 1s\n  external_labels:\n    cluster: main\n    dc: \"7\"\nscrape_configs:\n- job_name: x\n  external_labels:\n    cluster: other\n";
        assert_eq!(external_label(yaml, "cluster").as_deref(), Some("main"));
        assert_eq!(external_label(yaml, "dc").as_deref(), Some("7"));
        assert_eq!(external_label(yaml, "clust"), None);
        let without =
            "global:\n  scrape_interval: 1s\nscrape_configs:\n  external_labels:\n    cluster: other\n";
        assert_eq!(external_label(without, "cluster"), None);
    }

    #[test]
    fn only_a_vector_answers_the_question() {
        assert_eq!(any_sample(&json!({ "resultType": "vector", "result": [] })), Ok(false));
        assert_eq!(any_sample(&json!({ "resultType": "vector", "result": [{}] })), Ok(true));
        assert!(any_sample(&json!({ "resultType": "matrix", "result": [] })).is_err());
        assert!(any_sample(&json!({ "resultType": "vector" })).is_err());
    }

    /// Each answer is read as if it were each of them. Nothing is there only where a list is that says so.
    #[test]
    fn fuzz_answers() {
        let success = |data: Value| json!({ "status": "success", "data": data }).to_string();
        let targets = json!({
            "activeTargets": [{ "discoveredLabels": { "uuid": "u1", "__meta_filepath": "/t/a.json" }, "labels": {} }],
            "droppedTargets": [{ "discoveredLabels": { "uuid": "u2" } }],
        });
        let yaml = "global:\n  external_labels:\n    cluster: main\n    dc: \"7\"\nscrape_configs: []\n";
        Fuzz::new("prometheus", Form::Json)
            .seed(success(targets))
            .seed(success(json!({ "resultType": "vector", "result": [{ "value": [1, "2"] }] })))
            .seed(success(json!({ "yaml": yaml })))
            .seed(success(json!({ "storage.tsdb.path": "/prometheus", "web.enable-admin-api": "true" })))
            .seed(success(json!([{ "__name__": "up", "uuid": "u1" }])))
            .slow(2)
            .run(|bytes| {
                let data = data(bytes)?;
                let empty = |list: &Value| list.as_array().is_some_and(Vec::is_empty);
                let (sample, series) = (any_sample(&data), any_series(&data));
                assert!(sample != Ok(false) || empty(&data["result"]), "no sample in {data}");
                assert!(series != Ok(false) || empty(&data), "no series in {data}");
                let label = data["yaml"].as_str().and_then(|yaml| external_label(yaml, "cluster"));
                let shown = label.or_else(|| flag(&data, "storage.tsdb.path"));
                let taken = sample.is_ok() || series.is_ok() || shown.is_some() || data["yaml"].is_string();
                let targets = targets_of(data, "u1");
                if taken { Ok(()) } else { targets.map(drop) }
            });
        Fuzz::new("prometheus-yaml", Form::Text).seed(yaml).run(|bytes| {
            let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
            let found = external_label(text, "cluster").ok_or("there is no such label")?;
            assert!(text.contains(&found), "{found} does not stand there");
            Ok(())
        });
    }

    proptest! {
        #[test]
        fn hostile_answers_never_panic(text in ".{0,300}") {
            let _ = (data(text.as_bytes()), external_label(&text, "cluster"));
            let _ = any_sample(&json!(text));
            let _ = targets_of(json!(text), "u1");
        }

        #[test]
        fn a_selector_has_one_matcher(uuid in ".{1,40}") {
            let selector = selector(&uuid);
            let inner = selector.strip_prefix("{uuid=\"").unwrap().strip_suffix("\"}").unwrap();
            let mut escaped = false;
            for c in inner.chars() {
                prop_assert!(escaped || c != '"');
                escaped = c == '\\' && !escaped;
            }
            prop_assert!(!escaped);
        }
    }
}
