//! Reading an inventory: JSON lines or CSV. Every bad line is reported with its reason.
mod table;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Context;
use sexton_model::ResourceId;
use sexton_model::resource::Resource;

use self::table::csv_lines;

/// Longest line, in bytes.
const LINE_MAX_BYTES: usize = 1 << 20;
/// Most that is passed over of one that is longer: what has no end by then is no file of lines.
const PASSED_MAX_BYTES: usize = 1 << 30;
/// Most lines of one file.
const LINES_MAX: usize = 1_000_000;

/// One line of an inventory: its number and what is in it, or why not.
pub struct Line {
    /// Counted from 1.
    pub number: usize,
    /// The resource, or what is wrong.
    pub resource: Result<Resource, String>,
}

/// Read a file: CSV by its ending, JSON lines otherwise.
///
/// # Errors
/// If it cannot be read at all, or has too many lines.
pub fn read(file: &Path) -> anyhow::Result<Vec<Line>> {
    let doing = || format!("reading {}", file.display());
    let source: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).with_context(doing)?)
    };
    let lines = if file.extension().is_some_and(|e| e == "csv") {
        csv_lines(source).with_context(doing)?
    } else {
        json_lines(source).with_context(doing)?
    };
    anyhow::ensure!(!lines.is_empty(), "{}: no line in there", file.display());
    Ok(mark_doubles(lines))
}

fn json_lines(source: Box<dyn Read>) -> anyhow::Result<Vec<Line>> {
    let mut source = BufReader::new(source);
    let mut lines = Vec::new();
    let mut text = Vec::new();
    for number in 1.. {
        text.clear();
        if source.by_ref().take(LINE_MAX_BYTES as u64 + 1).read_until(b'\n', &mut text)? == 0 {
            break;
        }
        anyhow::ensure!(number <= LINES_MAX, "more than {LINES_MAX} lines");
        if text.len() > LINE_MAX_BYTES {
            let ends = text.ends_with(b"\n") || pass_over(&mut source)?;
            anyhow::ensure!(ends, "line {number} is longer than {PASSED_MAX_BYTES} bytes");
            lines.push(Line { number, resource: Err(format!("longer than {LINE_MAX_BYTES} bytes")) });
            continue;
        }
        if !text.trim_ascii().is_empty() {
            lines.push(Line { number, resource: resource(&text) });
        }
    }
    Ok(lines)
}

/// Read to the end of a line without keeping it; whether it ends.
fn pass_over(source: &mut impl BufRead) -> std::io::Result<bool> {
    Ok(source.take(PASSED_MAX_BYTES as u64).skip_until(b'\n')? < PASSED_MAX_BYTES)
}

/// One resource as JSON.
///
/// # Errors
/// Naming the field and what was expected.
pub fn resource(json: &[u8]) -> Result<Resource, String> {
    let mut json = serde_json::Deserializer::from_slice(json);
    let resource = serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let field = e.path().to_string();
        if field == "." { e.inner().to_string() } else { format!("{field}: {}", e.inner()) }
    })?;
    json.end().map_err(|e| format!("expected nothing behind the resource: {e}"))?;
    Ok(resource)
}

/// The same resource twice in one file is a mistake in the second place.
fn mark_doubles(lines: Vec<Line>) -> Vec<Line> {
    let mut seen: BTreeMap<ResourceId, usize> = BTreeMap::new();
    lines
        .into_iter()
        .map(|line| {
            let number = line.number;
            let resource = line.resource.and_then(|resource| match seen.get(&resource.id) {
                Some(first) => Err(format!("{} stands in line {first} already", resource.id)),
                None => {
                    seen.insert(resource.id.clone(), number);
                    Ok(resource)
                }
            });
            Line { number, resource }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use sexton_testkit::fuzz::{Form, Fuzz, each_wrong_field_is_named};

    use super::*;

    pub(super) fn lines(name: &str, text: &str) -> Vec<Result<String, String>> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        let lines = read(&file).unwrap();
        lines
            .into_iter()
            .map(|l| l.resource.map(|r| r.id.to_string()).map_err(|e| format!("{}: {e}", l.number)))
            .collect()
    }

    #[test]
    fn a_line_that_is_too_long_is_bad_and_the_others_are_read() {
        let good = |name: &str| {
            format!(
                r#"{{"id":"vm/{name}","scope":"x","identity":{{"uuid":"1"}},"criticality":"reproducible"}}"#
            )
        };
        let long = || Err("2: longer than 1048576 bytes".to_owned());
        for length in [LINE_MAX_BYTES, LINE_MAX_BYTES + 1, 3 * LINE_MAX_BYTES] {
            let text = format!("{}\n{}\n{}\n", good("a"), "x".repeat(length), good("b"));
            let expected = [Ok("vm/a".to_owned()), long(), Ok("vm/b".to_owned())];
            assert_eq!(lines("inventory.jsonl", &text), expected, "{length}");
        }
        let text = format!("{}\n{}", good("a"), "x".repeat(2 * LINE_MAX_BYTES));
        assert_eq!(lines("inventory.jsonl", &text), [Ok("vm/a".to_owned()), long()]);
        assert!(json_lines(Box::new(std::io::repeat(b'x'))).is_err(), "one without an end");
    }

    #[test]
    fn json_names_the_field_that_is_wrong() {
        let good = r#"{"id":"vm/a","scope":"x","identity":{"uuid":"1"},"criticality":"reproducible",
            "rebuilt":{"on":"2026-11-01","evidence":"run 17"}}"#;
        assert!(resource(good.as_bytes()).unwrap().rebuilt.is_some());
        for (from, to, field) in [
            (r#""vm/a""#, "7", "id: "),
            (r#""vm/a""#, r#""web01""#, "id: "),
            (r#""x""#, r#""""#, "scope: "),
            (r#""1""#, "1", "identity"),
            (r#"{"uuid":"1"}"#, "{}", "identity: "),
            (r#""reproducible""#, r#""precious""#, "criticality: "),
            (r#""scope""#, r#""scpoe""#, "scpoe: unknown field"),
            (r#""2026-11-01""#, r#""2026-11-1""#, "rebuilt.on: "),
            (r#""run 17""#, r#""""#, "rebuilt.evidence: expected 1 to 500"),
            (r#""evidence""#, r#""by""#, "rebuilt.by: unknown field"),
            (r#","evidence":"run 17""#, "", "rebuilt: missing field `evidence`"),
        ] {
            let text = good.replacen(from, to, 1);
            let error = resource(text.as_bytes()).unwrap_err();
            assert!(error.starts_with(field), "{text}: {error}");
        }
        let two = format!("{good} {good}");
        assert!(resource(two.as_bytes()).unwrap_err().starts_with("expected nothing behind"));
        let deep = format!("{{\"id\":{}", "[".repeat(100_000));
        assert!(resource(deep.as_bytes()).is_err());
    }

    #[test]
    fn json_lines_name_the_field() {
        let good = r#"{"id":"vm/a","scope":"x","identity":{"uuid":"1"},"criticality":"reproducible"}"#;
        let found = lines("inventory.jsonl", &format!("{good}\n\n{{\"id\":\"vm/b\"}}\nnonsense\n"));
        assert_eq!(found[0], Ok("vm/a".to_owned()));
        assert!(found[1].as_ref().unwrap_err().starts_with("3: missing field `scope`"), "{found:?}");
        assert!(found[2].as_ref().unwrap_err().starts_with("4: "));
    }

    const ALL: &str = r#"{"id":"vm/a","scope":"x/y","identity":{"uuid":"1"},"criticality":"reproducible","priority":7,
        "rebuilt":{"on":"2026-11-01","evidence":"run 17"},
        "groups":["g"],"exclusive":"machine/m","instances":{"dns":"b"},"protected":true,"attributes":{"dns":{"w":0.1}}}"#;

    /// Each line has its verdict, and its number is that of a line that is there.
    fn judged(lines: anyhow::Result<Vec<Line>>, bytes: &[u8]) -> Result<(), String> {
        let lines = mark_doubles(lines.map_err(|error| format!("{error:#}"))?);
        let there = bytes.split(|byte| *byte == b'\n').count();
        let mut before = 0;
        for line in &lines {
            assert!((1..=there).contains(&line.number), "line {} of {there}", line.number);
            assert!(line.number >= before, "line {} behind line {before}", line.number);
            before = line.number;
            if let Ok(resource) = &line.resource {
                let text = serde_json::to_string(resource).unwrap();
                assert_eq!(super::resource(text.as_bytes()).as_ref(), Ok(resource));
            }
        }
        let refused = lines.into_iter().find_map(|line| line.resource.err());
        refused.map_or(Ok(()), Err)
    }

    #[test]
    fn fuzz_inventories() {
        each_wrong_field_is_named(ALL.as_bytes(), &[], |bytes| resource(bytes).map(drop));
        let line = ALL.replace('\n', " ");
        let lines = format!("{line}\n\n{}\n", line.replace("vm/a", "vm/b"));
        Fuzz::new("inventories", Form::JsonLines)
            .seed(lines)
            .slow(2)
            .run(|bytes| judged(json_lines(Box::new(Cursor::new(bytes.to_vec()))), bytes));
        let table = "id,scope,criticality,priority,protected,exclusive,identity.uuid,instances.dns,attributes.dns,\
            rebuilt.on,rebuilt.evidence\n\
            vm/a,x/y,irreplaceable,7,yes,machine/m,\"u\n1\",b,\"{\"\"w\"\":[0.1]}\",,\n\
            vm/b,x,reproducible,,,,u2,,,2026-11-01,run 17\n";
        Fuzz::new("inventory-tables", Form::Text)
            .seed(table)
            .slow(4)
            .run(|bytes| judged(csv_lines(Box::new(Cursor::new(bytes.to_vec()))), bytes));
    }
}
