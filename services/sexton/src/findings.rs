//! Findings: what is there and nobody has registered, and what a person would press to have it deleted.
//!
//! Contract: nothing is sent but questions, and what is shown cannot be pressed as it is: what a person has to give stands
//! there as `?`, or as `DATE`, which nothing takes. Names and identities come from subsystems, and whoever runs a machine may
//! choose them: so they are quoted before they stand in a command, and what a terminal would take for one is escaped.
use serde_json::{Value, json};
use sexton_api::{Client, FindingsInfo, FindingsQuery};
use sexton_model::belts::census::findings::{Finding, Lack, Source, Standing};
use sexton_model::{Kind, Scope};

use crate::arguments::Format;
use crate::output::{counted, moment, plain, write};

/// How many are asked for at once: the most that are answered.
const AT_ONCE: u32 = 1000;

/// List them.
///
/// # Errors
/// If the coordinator refuses, or cannot be asked. What it had listed before that is written all the same.
pub async fn list(
    client: &Client,
    format: Format,
    (kind, scope): (Option<Kind>, Option<Scope>),
) -> anyhow::Result<()> {
    let mut query = FindingsQuery { kind, scope, after: None, limit: Some(AT_ONCE) };
    let mut all = client.findings(&query).await?;
    let mut stopped = None;
    while let Some(next) = all.next.take() {
        query.after = Some(next);
        match client.findings(&query).await {
            Ok(page) => {
                all.items.extend(page.items);
                (all.censuses, all.next) = (page.censuses, page.next);
            }
            Err(error) => stopped = Some(error),
        }
    }
    write(format, &all, told)?;
    match stopped {
        None => Ok(()),
        Some(error) => Err(anyhow::Error::from(error).context("there may be more findings than these")),
    }
}

fn told(info: &FindingsInfo) -> String {
    if info.censuses.is_empty() {
        let none = "no census speaks of this: what is there and nobody has registered is not known";
        return format!("{none} (sexton census)");
    }
    let mut text: String = info.censuses.iter().map(of_census).collect();
    for finding in &info.items {
        text += "\n";
        text += &one(finding);
    }
    let found = counted(info.items.len(), "finding");
    text + &format!(
        "\n{found}. Nothing is deleted because nobody has registered it: who wants it gone gives the date"
    )
}

/// What a census says, in a line.
fn of_census(source: &Source) -> String {
    let Source { kind, scope, standing, why, census, taken_at, more, .. } = source;
    let of = format!("{kind} in {scope}");
    match standing {
        Standing::Refused | Standing::Old => {
            let why = why.as_deref().unwrap_or("it does not say why");
            format!("NO FINDINGS of {of}: {}\n", plain(why))
        }
        Standing::Believed => {
            let number = census.map(|number| number.to_string()).unwrap_or_default();
            let more = match more {
                None | Some(0) => String::new(),
                Some(more) => format!("; and {more} more that it lists are not kept one by one"),
            };
            format!("{of}: by census {number}, begun at {} UTC{more}\n", moment(*taken_at))
        }
    }
}

/// One finding, and what to press.
fn one(finding: &Finding) -> String {
    let Finding { resource, scope, identity, instance, census, census_scope, first_seen, record, .. } =
        finding;
    let scope = scope.as_ref().map_or_else(|| "of no known scope".to_owned(), |scope| format!("of {scope}"));
    let identity = identity
        .as_ref()
        .map_or_else(|| "without identity".to_owned(), |identity| plain(&json!(identity).to_string()));
    let at = instance.as_ref().map(|instance| format!(", at {instance}")).unwrap_or_default();
    let seen = moment(Some(*first_seen));
    let mut text = format!(
        "{resource}  {scope}, {identity}{at}; first seen {seen} UTC, listed by census {census} of {census_scope}\n"
    );
    if record.lacks.contains(&Lack::Plan) {
        text += &format!("  there is no plan for {}: no record can be made\n", resource.kind);
        return text;
    }
    let lacks: Vec<&str> = record.lacks.iter().map(|lack| what(*lack)).collect();
    let reason = record.delete["reason"].as_str().unwrap_or_default();
    text += &format!("  to be given by a person: {}\n", lacks.join(", "));
    text +=
        &format!("    printf %s {} | sexton register -\n", quoted(&plain(&to_register(finding).to_string())));
    text + &format!("    sexton delete {resource} --on DATE --reason {}\n", quoted(reason))
}

/// What is registered, with `?` for whatever a person has to give: none of them is taken so.
fn to_register(finding: &Finding) -> Value {
    let mut resource = finding.record.register["resources"][0].clone();
    for lack in &finding.record.lacks {
        match lack {
            Lack::Scope => resource["scope"] = json!("?"),
            Lack::Identity => resource["identity"] = json!("?"),
            Lack::Criticality => resource["criticality"] = json!("?"),
            Lack::Plan | Lack::Date => {}
        }
    }
    resource
}

fn what(lack: Lack) -> &'static str {
    match lack {
        Lack::Plan => "a plan",
        Lack::Scope => "the scope",
        Lack::Identity => "the identity",
        Lack::Criticality => "how critical it is (reproducible, credential or irreplaceable)",
        Lack::Date => "the date",
    }
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sexton_api::Delete;
    use sexton_model::belts::census::findings::Prefilled;
    use sexton_model::resource::{Identity, Resource};

    use super::*;

    fn finding() -> Finding {
        let identity: Identity =
            BTreeMap::from([("uuid".to_owned(), "x'; rm -rf / #".to_owned())]).try_into().unwrap();
        let resource = json!({ "id": "vm/stray", "identity": identity });
        Finding {
            resource: "vm/stray".parse().unwrap(),
            scope: None,
            identity: Some(identity),
            instance: None,
            census: 7,
            census_scope: "tenants".parse().unwrap(),
            taken_at: sexton_model::Timestamp(1),
            first_seen: sexton_model::Timestamp(0),
            record: Prefilled {
                register: json!({ "resources": [resource], "whole": true }),
                delete: json!({ "resource": "vm/stray", "reason": "found" }),
                plan: Some(1),
                lacks: vec![Lack::Scope, Lack::Criticality, Lack::Date],
            },
        }
    }

    #[test]
    fn what_is_shown_is_not_taken_as_it_is() {
        let finding = finding();
        assert!(serde_json::from_value::<Resource>(to_register(&finding)).is_err());
        let mut given = to_register(&finding);
        given["scope"] = json!("tenants");
        assert!(serde_json::from_value::<Resource>(given.clone()).is_err());
        given["criticality"] = json!("irreplaceable");
        assert!(serde_json::from_value::<Resource>(given).is_ok());
        assert!(serde_json::from_value::<Delete>(finding.record.delete.clone()).is_err(), "without a date");
        let text = one(&finding);
        assert!(text.contains("sexton delete vm/stray --on DATE --reason 'found'\n"), "{text}");
        assert!(sexton_api::date::parse("DATE").is_err());
    }

    #[test]
    fn what_a_machine_says_of_itself_is_one_word_of_a_shell() {
        assert_eq!(quoted("a'b"), r"'a'\''b'");
        let text = one(&finding());
        assert!(text.contains(r#""uuid":"x'\''; rm -rf / #"}"#), "{text}");
    }

    #[test]
    fn what_a_terminal_takes_for_a_command_is_escaped_and_still_the_same() {
        let uuid = "a\u{9b}2Jb\u{202e}c\u{7f}";
        let identity: Identity = BTreeMap::from([("uuid".to_owned(), uuid.to_owned())]).try_into().unwrap();
        let mut finding = finding();
        finding.record.register["resources"][0]["identity"] = json!(identity);
        finding.identity = Some(identity);
        let text = one(&finding);
        assert_eq!(text.matches(r"a\u009b2Jb\u202ec\u007f").count(), 2, "{text}");
        assert!(!text.contains(['\u{9b}', '\u{202e}', '\u{7f}']), "{text}");
        let sent: Value = serde_json::from_str(&plain(&to_register(&finding).to_string())).unwrap();
        assert_eq!(sent["identity"]["uuid"], json!(uuid));
    }

    #[test]
    fn where_there_are_none_it_is_said_why() {
        let info = |censuses| told(&FindingsInfo { items: Vec::new(), censuses, next: None });
        assert!(info(Vec::new()).contains("no census speaks of this"));
        let refused = Source {
            kind: "vm".parse().unwrap(),
            scope: "demo".parse().unwrap(),
            standing: Standing::Refused,
            why: Some("the newest census was not believed".to_owned()),
            census: Some(1),
            taken_at: None,
            unknown: Some(7),
            more: Some(0),
        };
        let why = Some("credential: \u{1b}[2J, and census 1 was taken with census-ro".to_owned());
        let text = info(vec![Source { why, ..refused.clone() }]);
        assert!(text.starts_with(r"NO FINDINGS of vm in demo: credential: \u001b[2J, and"), "{text}");
        let text = info(vec![refused.clone()]);
        assert!(
            text.starts_with("NO FINDINGS of vm in demo: the newest census was not believed\n"),
            "{text}"
        );
        let believed = Source { standing: Standing::Believed, why: None, more: Some(5), ..refused };
        let text = info(vec![believed]);
        assert!(text.contains("and 5 more that it lists are not kept one by one"), "{text}");
    }
}
