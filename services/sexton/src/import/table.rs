//! An inventory as a table: CSV, whose first line names the columns.
use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::rc::Rc;

use anyhow::Context;
use serde_json::Value;
use sexton_model::rebuilt::{self, Rebuilt};
use sexton_model::resource::{Criticality, Identity, Resource, groups};
use sexton_model::{ResourceId, Scope, date, exclusive};

use super::{LINE_MAX_BYTES, LINES_MAX, Line, resource};
use crate::output::short;

/// Most that is read of a CSV file until there is another line: the reader takes so much more at once.
const CSV_READ_MAX_BYTES: usize = LINE_MAX_BYTES + (8 << 10);
/// How much of a column's wrong name is shown, in characters, and of how many columns.
const COLUMN_SHOWN_MAX: usize = 60;
const WRONG_SHOWN_MAX: usize = 8;

/// The columns that every inventory has, and those that it may have.
const NEEDED: [&str; 3] = ["id", "scope", "criticality"];
const OPTIONAL: [&str; 6] =
    ["priority", "protected", "exclusive", "groups", "rebuilt.on", "rebuilt.evidence"];
/// Between the names of groups.
const BETWEEN: char = ';';
/// How the other columns begin, of which there may be any number; behind `attributes.` there is JSON.
const PREFIXES: [&str; 3] = ["identity.", "instances.", "attributes."];

/// A line: what stands in each column, as text. A number of a machine is its name no less than a word is.
type Row<'a> = BTreeMap<&'a str, &'a str>;

/// A file of which only so much is read until somebody says that there may be more. The reader keeps a line whole, and one
/// whose quote is never closed is all that follows.
struct Bounded {
    source: Box<dyn Read>,
    left: Rc<Cell<usize>>,
}

impl Read for Bounded {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(std::io::Error::other(too_long()));
        }
        let most = into.len().min(left);
        let read = self.source.read(&mut into[..most])?;
        self.left.set(left - read);
        Ok(read)
    }
}

fn too_long() -> String {
    format!("longer than {LINE_MAX_BYTES} bytes: is a quote not closed? What stands behind it is not read")
}

/// All of its lines but the first.
pub(super) fn csv_lines(source: Box<dyn Read>) -> anyhow::Result<Vec<Line>> {
    let left = Rc::new(Cell::new(CSV_READ_MAX_BYTES));
    let source = Bounded { source, left: left.clone() };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(source);
    let headers = reader.headers().context("the first line: expected the names of the columns")?.clone();
    if headers.is_empty() {
        return Ok(Vec::new());
    }
    columns(&headers)?;
    let mut lines = Vec::new();
    let mut records = reader.records();
    loop {
        left.set(CSV_READ_MAX_BYTES);
        let begins = records.reader().position().line();
        let Some(record) = records.next() else { break };
        anyhow::ensure!(lines.len() < LINES_MAX, "more than {LINES_MAX} lines");
        let record = match record {
            // Where the next one begins is not known then: it may be within a quote, and none of it is taken for a line.
            Err(error) if error.is_io_error() && left.get() == 0 => {
                let number = usize::try_from(begins).unwrap_or(usize::MAX);
                lines.push(Line { number, resource: Err(too_long()) });
                break;
            }
            // What cannot be read now cannot be read the next time either.
            Err(error) if error.is_io_error() => return Err(error.into()),
            record => record,
        };
        let place = match &record {
            Ok(record) => record.position(),
            Err(error) => error.position(),
        };
        // A quoted field may hold line ends, so the line is not the count of the records.
        let number = place.map_or(lines.len() + 2, |at| usize::try_from(at.line()).unwrap_or(usize::MAX));
        let resource = record
            .map_err(|e| e.to_string())
            .and_then(|record| resource_of(&headers.iter().zip(&record).collect()));
        lines.push(Line { number, resource });
    }
    Ok(lines)
}

/// What is wrong with the names of the columns is wrong with all lines: it is said once, and none is taken.
fn columns(headers: &csv::StringRecord) -> anyhow::Result<()> {
    let known = |column: &str| {
        NEEDED.contains(&column)
            || OPTIONAL.contains(&column)
            || PREFIXES.iter().any(|prefix| column.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty()))
    };
    let (mut wrong, mut seen) = (Vec::new(), HashSet::new());
    for column in headers {
        if !known(column) {
            wrong.push(format!("column {:?} is unknown", short(column, COLUMN_SHOWN_MAX)));
        } else if !seen.insert(column) {
            wrong.push(format!("column {:?} stands there twice", short(column, COLUMN_SHOWN_MAX)));
        }
    }
    for needed in NEEDED {
        if !headers.iter().any(|column| column == needed) {
            wrong.push(format!("column {needed:?} is missing"));
        }
    }
    if let more @ 1.. = wrong.len().saturating_sub(WRONG_SHOWN_MAX) {
        wrong.truncate(WRONG_SHOWN_MAX);
        wrong.push(format!("and {more} more"));
    }
    let [rest @ .., last] = OPTIONAL;
    let optional = format!("{} and {last}", rest.join(", "));
    anyhow::ensure!(
        wrong.is_empty(),
        "the first line: {}; known are {}, {} (which may be left out), identity.ATTRIBUTE, instances.SUBSYSTEM and \
         attributes.SUBSYSTEM",
        wrong.join(", "),
        NEEDED.join(", "),
        optional,
    );
    Ok(())
}

fn resource_of(row: &Row<'_>) -> Result<Resource, String> {
    let cell = |column: &str| row.get(column).copied().unwrap_or_default();
    let stated = |column: &str| Some(cell(column)).filter(|text| !text.is_empty());
    let mut identity = BTreeMap::new();
    let mut attributes: BTreeMap<String, Value> = BTreeMap::new();
    let mut instances = BTreeMap::new();
    for (column, value) in row.iter().filter(|(_, value)| !value.is_empty()) {
        if let Some(attribute) = column.strip_prefix("identity.") {
            identity.insert(attribute.to_owned(), (*value).to_owned());
        } else if let Some(subsystem) = column.strip_prefix("attributes.") {
            let value = serde_json::from_str(value).map_err(|e| format!("{column}: expected JSON: {e}"))?;
            attributes.insert(subsystem.to_owned(), value);
        } else if let Some(subsystem) = column.strip_prefix("instances.") {
            let named = |e| format!("{column}: {e}");
            let (subsystem, instance) = (subsystem.parse().map_err(named)?, value.parse().map_err(named)?);
            instances.insert(subsystem, instance);
        }
    }
    let criticality = cell("criticality");
    let criticality =
        serde_json::from_value::<Criticality>(Value::String(criticality.to_owned())).map_err(|_| {
            format!("criticality {criticality:?}: expected reproducible, credential or irreplaceable")
        })?;
    let priority = match stated("priority") {
        None => 100,
        Some(text) => {
            text.parse().map_err(|_| format!("priority {text:?}: expected a number up to 32767"))?
        }
    };
    let protected = match cell("protected") {
        "" | "false" | "no" | "0" => false,
        "true" | "yes" | "1" => true,
        text => return Err(format!("protected {text:?}: expected true or false")),
    };
    let place = stated("exclusive").map(|place| exclusive::place(place.to_owned()));
    let named = stated("groups")
        .map(|names| names.split(BETWEEN).map(|name| name.trim().to_owned()).collect())
        .unwrap_or_default();
    let made = Resource {
        id: cell("id").parse::<ResourceId>().map_err(|e| e.to_string())?,
        scope: cell("scope").parse::<Scope>().map_err(|e| e.to_string())?,
        identity: Identity::try_from(identity).map_err(|e| e.to_string())?,
        criticality,
        rebuilt: proof(stated("rebuilt.on"), stated("rebuilt.evidence"))?,
        priority,
        groups: groups(named).map_err(|e| format!("groups: {e}, separated by {BETWEEN}"))?,
        exclusive: place.transpose().map_err(|e| format!("exclusive: {e}"))?,
        instances,
        protected,
        attributes,
    };
    // What may not be registered is refused here, by its line: the coordinator would refuse the whole request.
    resource(&serde_json::to_vec(&made).map_err(|e| e.to_string())?)
}

/// The proof of a line that it can be rebuilt: none, if it states neither part of one.
fn proof(on: Option<&str>, evidence: Option<&str>) -> Result<Option<Rebuilt>, String> {
    if on.is_none() && evidence.is_none() {
        return Ok(None);
    }
    let on = date::parse(on.unwrap_or_default()).map_err(|e| format!("rebuilt.on: {e}"))?;
    let evidence = rebuilt::evidence(evidence.unwrap_or_default().to_owned());
    Ok(Some(Rebuilt { on, evidence: evidence.map_err(|e| format!("rebuilt.evidence: {e}"))? }))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::import::read;
    use crate::import::tests::lines;

    #[test]
    fn every_bad_line_is_named_with_its_reason() {
        let text = "id,scope,criticality,identity.uuid,attributes.dns\n\
            vm/web01,acme,irreplaceable,u1,\"{\"\"names\"\":[]}\"\n\
            web02,acme,irreplaceable,u2,\n\
            vm/web03,acme,precious,u3,\n\
            vm/web04,acme,irreplaceable,,\n\
            vm/web01,acme,irreplaceable,u1,\n";
        let found = lines("inventory.csv", text);
        assert_eq!(found[0], Ok("vm/web01".to_owned()));
        for (n, part) in
            [(1, "3: resource \"web02\""), (2, "4: criticality"), (3, "5: identity"), (4, "line 2 already")]
        {
            assert!(found[n].as_ref().unwrap_err().contains(part), "{:?}", found[n]);
        }
    }

    #[test]
    fn what_one_at_a_time_is_registered_for_has_a_column() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("inventory.csv");
        let text = format!(
            "id,scope,criticality,identity.key,exclusive\nmembership/a,storage,credential,k1,machine/storage07\n\
             vm/b,acme,irreplaceable,u1,\nvm/c,acme,irreplaceable,u2,{}\n",
            "x".repeat(257)
        );
        std::fs::write(&file, text).unwrap();
        let found: Vec<_> =
            read(&file).unwrap().into_iter().map(|line| line.resource.map(|r| r.exclusive)).collect();
        assert_eq!(found[..2], [Ok(Some("machine/storage07".to_owned())), Ok(None)]);
        assert!(found[2].as_ref().unwrap_err().starts_with("exclusive: expected "), "{:?}", found[2]);
    }

    #[test]
    fn groups_have_a_column_that_takes_several() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("inventory.csv");
        let text = format!(
            "id,scope,criticality,identity.uuid,groups\nvm/a,acme,irreplaceable,u1,db-main; web front\n\
             vm/b,acme,irreplaceable,u2,\nvm/c,acme,irreplaceable,u3,db-main;\nvm/d,acme,irreplaceable,u4,{}\n",
            "x".repeat(257)
        );
        std::fs::write(&file, text).unwrap();
        let found: Vec<_> =
            read(&file).unwrap().into_iter().map(|line| line.resource.map(|r| r.groups)).collect();
        let both = vec!["db-main".to_owned(), "web front".to_owned()];
        assert_eq!(found[..2], [Ok(both), Ok(Vec::new())]);
        for wrong in &found[2..] {
            let why = wrong.as_ref().unwrap_err();
            assert!(why.starts_with("groups: expected ") && why.ends_with("separated by ;"), "{why}");
        }
    }

    #[test]
    fn a_proof_has_two_columns_that_belong_together() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("inventory.csv");
        let line = |name: &str, proof: &str| format!("vm/{name},acme,reproducible,{name},{proof}\n");
        let text = [
            "id,scope,criticality,identity.uuid,rebuilt.on,rebuilt.evidence\n".to_owned(),
            line("a", "2026-11-01,run 17"),
            line("b", ","),
            line("c", "2026-11-01,"),
            line("d", ",run 17"),
            line("e", "01.11.2026,run 17"),
            line("f", &format!("2026-11-01,{}", "x".repeat(501))),
            line("g", "2026-11-01,\"run\n17\""),
        ]
        .concat();
        std::fs::write(&file, text).unwrap();
        let found: Vec<_> =
            read(&file).unwrap().into_iter().map(|line| line.resource.map(|r| r.rebuilt)).collect();
        let on = "2026-11-01".parse().unwrap();
        assert_eq!(found[..2], [Ok(Some(Rebuilt { on, evidence: "run 17".to_owned() })), Ok(None)]);
        for (n, part) in [
            (2, "rebuilt.evidence: expected 1 to 500"),
            (3, "rebuilt.on: \"\": expected a date"),
            (4, "rebuilt.on: \"01.11.2026\": expected a date"),
            (5, "rebuilt.evidence: expected 1 to 500"),
            (6, "rebuilt.evidence: expected 1 to 500"),
        ] {
            assert!(found[n].as_ref().unwrap_err().starts_with(part), "{:?}", found[n]);
        }
    }

    #[test]
    fn a_wrong_column_is_named_with_those_that_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("inventory.csv");
        let said = |text: &str| {
            std::fs::write(&file, text).unwrap();
            format!("{:#}", read(&file).map(|lines| lines.len()).unwrap_err())
        };
        let known = "known are id, scope, criticality, priority, protected, exclusive, groups, rebuilt.on and \
                     rebuilt.evidence (which may be left out), identity.";
        for (header, parts) in [
            (
                "id,scpoe,criticality,identity.uuid",
                vec!["column \"scpoe\" is unknown", "column \"scope\" is missing"],
            ),
            ("id,scope,criticality,protcted", vec!["column \"protcted\" is unknown"]),
            ("id,scope,criticality,rebuilt.by", vec!["column \"rebuilt.by\" is unknown"]),
            ("id,scope,criticality,identity.", vec!["column \"identity.\" is unknown"]),
            ("id,scope,identity.uuid,protected", vec!["column \"criticality\" is missing"]),
            ("id,scope,criticality,scope", vec!["column \"scope\" stands there twice"]),
            // No line with the names at all.
            ("vm/a,acme,irreplaceable,u1", vec!["column \"vm/a\" is unknown", "column \"id\" is missing"]),
        ] {
            // A field under a misspelt name may well be empty: it is no less misspelt.
            let said = said(&format!("{header}\nvm/b,acme,irreplaceable,\n"));
            for part in parts.into_iter().chain(["inventory.csv", "the first line: ", known]) {
                assert!(said.contains(part), "{header}: expected {part:?} in: {said}");
            }
            assert!(!said.contains("field"), "{said}");
        }
        let many = format!("{}\n", (0..5000).map(|n| format!("x{n},")).collect::<String>());
        let said = said(&many);
        assert!(said.len() < 1000 && said.contains("more;"), "{said}");
    }

    #[test]
    fn a_csv_line_is_counted_as_an_editor_does() {
        let text = "id,scope,criticality,identity.uuid,instances.dns\n\
            vm/a,acme,irreplaceable,\"u\n1\",\n\
            b,acme,irreplaceable,u2,\n\
            vm/c,acme,irreplaceable\n\
            vm/d,acme,irreplaceable,u4,no instance\n";
        let found = lines("inventory.csv", text);
        for (n, part) in [(1, "4: resource \"b\""), (2, "5: "), (3, "6: instances.dns: ")] {
            assert!(found[n].as_ref().unwrap_err().starts_with(part), "{:?}", found[n]);
        }
    }

    #[test]
    fn a_line_that_could_not_be_registered_is_named() {
        let many = "x".repeat(17_000);
        let text = format!(
            "id,scope,criticality,identity.uuid,attributes.dns\nvm/a,x,reproducible,u,\"{{\"\"a\"\":\"\"{many}\"\"}}\"\n\
             vm/b,x,reproducible,u,7\n"
        );
        let found = lines("inventory.csv", &text);
        assert!(
            found[0].as_ref().unwrap_err().starts_with("2: attributes: expected at most 16384"),
            "{:?}",
            found[0]
        );
        assert_eq!(found[1], Ok("vm/b".to_owned()));
    }

    #[test]
    fn a_number_that_identifies_a_machine_is_text_as_any_other() {
        let text = "id,scope,criticality,identity.vmid,identity.on\nvm/a,acme,irreplaceable,107,true\n";
        assert_eq!(lines("inventory.csv", text), [Ok("vm/a".to_owned())]);
    }

    #[test]
    fn a_line_without_an_end_is_not_kept() {
        /// A file that never ends, which nobody could read to its end.
        struct Endless(&'static [u8]);
        impl Read for Endless {
            fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
                if self.0.is_empty() {
                    into.fill(b'x');
                    return Ok(into.len());
                }
                self.0.read(into)
            }
        }
        let error = csv_lines(Box::new(Endless(b"id,scope"))).map(|lines| lines.len()).unwrap_err();
        assert!(format!("{error:#}").contains("longer than 1048576 bytes"), "{error:#}");
        let begin =
            b"id,scope,criticality,identity.uuid\nvm/a,acme,irreplaceable,u\nvm/b,acme,irreplaceable,\"u";
        let found = csv_lines(Box::new(Endless(begin))).unwrap();
        assert!(found.len() == 2 && found[0].resource.is_ok() && found[1].number == 3);
        assert!(found[1].resource.as_ref().unwrap_err().starts_with("longer than 1048576 bytes"));
        // As long as a line may be, and with others around it.
        let id = "vm/a,acme,irreplaceable,u";
        let long = format!("id,scope,criticality,identity.uuid\n{id}\n{id}{}\n{id}\n", " ".repeat(900_000));
        let found = csv_lines(Box::new(Cursor::new(long.into_bytes()))).unwrap();
        assert!(found.len() == 3 && found.iter().all(|line| line.resource.is_ok()));
    }
}
