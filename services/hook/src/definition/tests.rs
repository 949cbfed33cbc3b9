use super::*;
use proptest::prelude::*;
use sexton_testkit::fuzz::{Form, Fuzz};

const ACCOUNTING: &str = include_str!("../../../../deploy/hooks/accounting.toml");
const CONFIG: &str = include_str!("../../../../deploy/hooks/config.toml");

fn actions(name: &str) -> SubsystemActions {
    crate::delivered_actions(&name.parse().unwrap()).unwrap()
}

fn mistake(from: &str, to: &str) -> String {
    assert!(ACCOUNTING.contains(from), "the delivered file has no {from}");
    let text = ACCOUNTING.replace(from, to);
    Definition::parse("accounting.toml", &text, &actions("accounting")).unwrap_err().to_string()
}

#[test]
fn the_delivered_definitions_fit_the_delivered_actions() {
    Definition::parse("accounting.toml", ACCOUNTING, &actions("accounting")).unwrap();
    Definition::parse("config.toml", CONFIG, &actions("config")).unwrap();
    assert!(Definition::parse("config.toml", CONFIG, &actions("accounting")).is_err());
}

#[test]
fn an_outage_is_known_by_its_codes_unless_the_definition_says_otherwise() {
    let of = |text: &str| Definition::parse("accounting.toml", text, &actions("accounting")).unwrap();
    let delivered = of(ACCOUNTING);
    assert_eq!(delivered.actions.values().next().unwrap().perform[0].busy, not_begun());
    assert_eq!((delivered.place.busy, delivered.object.busy), (away(), away()));
    let said = of(&ACCOUNTING.replace("pin = {", "busy = []\npin = {"));
    assert_eq!((said.place.busy, said.object.busy), (away(), vec![]));
}

#[test]
fn a_mistake_names_the_file_and_the_key() {
    let unknown = mistake("{resource.name}", "{resource.host}");
    assert!(unknown.contains("accounting.toml") && unknown.contains("resource.host"), "{unknown}");
    let manifest = mistake("/api/records/{resource.name}", "/api/records/{manifest.active}");
    assert!(manifest.contains("object: there is no manifest here"), "{manifest}");
    let identity = mistake("{identity.uuid}", "fixed");
    assert!(identity.contains("object.identity"), "{identity}");
    let namesake = mistake(
        "identity = { \"/uuid\" = \"{identity.uuid}\" }",
        "identity = { \"/name\" = \"{resource.name}\" }",
    );
    assert!(namesake.contains("expected an attribute of the identity"), "{namesake}");
    let whom = mistake("url = \"/api/instance\"", "url = \"http://{resource.name}/api\"");
    assert!(whom.contains("place.http.url"), "{whom}");
    let intended = mistake("intended = { active = false }", "intended = { rebate = 7 }");
    assert!(intended.contains("actions.stop.intended.rebate"), "{intended}");
    let method = mistake("method = \"PATCH\"", "method = \"ERASE\"");
    assert!(method.contains("ERASE"), "{method}");
    let key = mistake("capture = ", "captures = ");
    assert!(key.contains("captures"), "{key}");
    let action = mistake("[actions.stop]", "[actions.halt]");
    assert!(action.contains("halt"), "{action}");
}

/// Nothing would be pinned, so it could remove nothing: that is said at start, and not once hard has begun.
#[test]
fn who_deletes_and_cannot_look_is_refused() {
    let mut blind = actions("config");
    blind.actions.retain(|_, action| action.nature != Nature::Inspect);
    let refused = Definition::parse("config.toml", CONFIG, &blind).unwrap_err().to_string();
    assert!(refused.contains("needs an action that inspects"), "{refused}");
}

#[test]
fn a_command_is_an_absolute_program_and_nothing_else_may_choose_it() {
    for program in ["revoke", "{attributes.program}", "/opt/{resource.name}"] {
        let text = "http = { method = \"GET\", url = \"/api/instance\" }";
        let found = mistake(text, &format!("command = [\"{program}\"]"));
        assert!(found.contains("place.command"), "{found}");
    }
    let both = mistake("value = \"/id\"", "value = \"/id\"\ncommand = [\"/bin/true\"]");
    assert!(both.contains("place: expected either http or command"), "{both}");
}

proptest! {
    #[test]
    fn hostile_definitions_never_panic(at in 0usize..2000, junk in ".{0,8}") {
        let mut text = ACCOUNTING.to_owned();
        if text.is_char_boundary(at.min(text.len())) {
            text.insert_str(at.min(text.len()), &junk);
        }
        let _ = Definition::parse("x", &text, &actions("accounting"));
    }
}

#[test]
fn fuzz_definitions() {
    let actions = actions("accounting");
    Fuzz::new("hook-definitions", Form::Toml).seed(ACCOUNTING).slow(4).run(|bytes| {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        Definition::parse("accounting.toml", text, &actions).map(drop).map_err(|error| error.to_string())
    });
}
