use super::*;

mod looked_at;

const HYPERVISOR: &str = r#"
subsystem = "hypervisor"
[actions.inspect]
nature = "inspect"
earliest = "announce"
deadline_ms = 10000
longest_call_ms = 5000
irreplaceable = ["volumes"]
about = "look"
[actions.tell]
nature = "reversible"
earliest = "announce"
notice = true
deadline_ms = 10000
longest_call_ms = 5000
about = "tell"
[actions.stop]
nature = "reversible"
earliest = "soft"
deadline_ms = 60000
longest_call_ms = 5000
about = "stop"
[actions.copy]
nature = "adds"
earliest = "soft"
deadline_ms = 300000
longest_call_ms = 5000
about = "copy"
[actions.undefine]
nature = "destructive"
earliest = "hard"
deadline_ms = 60000
longest_call_ms = 5000
ends_use_of = ["address"]
about = "undefine"
"#;
const IPAM: &str = r#"
subsystem = "ipam"
[actions.release]
nature = "destructive"
earliest = "hard"
deadline_ms = 60000
longest_call_ms = 5000
releases = ["address"]
about = "release"
"#;
const GOOD: &str = r#"kind = "vm"
version = 1
criticality = "irreplaceable"
[stages.announce]
offset_days = -5
steps = [{ do = "hypervisor.inspect" }, { do = "hypervisor.tell" }]
[stages.soft]
offset_days = 0
steps = [{ do = "hypervisor.stop" }]
[stages.hard]
offset_days = 3
steps = [
  { do = "hypervisor.undefine" },
  { do = "ipam.release", after = ["hypervisor.undefine"] },
  { do = "inventory.remove", after = ["hypervisor.undefine"] },
]
[stages.purge]
offset_days = 8
steps = [{ do = "receipt" }]
[stages.recycle]
offset_days = 38
steps = []
"#;

/// The step of it that tells people.
const TELL: &str = ", { do = \"hypervisor.tell\" }";

fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::default();
    catalogue.add("hypervisor.toml", HYPERVISOR).unwrap();
    catalogue.add("ipam.toml", IPAM).unwrap();
    catalogue
}

fn problems(text: &str) -> Vec<(usize, String)> {
    problems_by(&catalogue(), text)
}

fn problems_by(catalogue: &Catalogue, text: &str) -> Vec<(usize, String)> {
    match Plan::parse("vm.toml", text, catalogue, false) {
        Ok(_) => Vec::new(),
        Err(e) => e.problems.into_iter().map(|p| (p.line, p.reason)).collect(),
    }
}

#[test]
fn the_good_one_passes() {
    assert_eq!(problems(GOOD), []);
}

/// Every rule of the linter: what is changed in the good plan, the line it must name, a part of the reason.
#[test]
fn each_rule_names_its_line_and_reason() {
    let cases = [
        ("{ do = \"hypervisor.stop\" }", "{ do = \"hypervisor.undefine\", name = \"x\" }", 9, "has no undo"),
        ("do = \"hypervisor.inspect\"", "do = \"hypervisor.stop\", name = \"early\"", 6, "before soft"),
        (
            ", after = [\"hypervisor.undefine\"] },\n  { do = \"inv",
            " },\n  { do = \"inv",
            14,
            "expected after",
        ),
        ("{ do = \"hypervisor.undefine\" },\n", "", 13, "no step removes what uses it"),
        ("offset_days = 3", "offset_days = 2", 11, "hard follows after 2 days"),
        ("offset_days = 8", "offset_days = 5", 18, "purge follows after 2 days"),
        ("offset_days = 8", "offset_days = 1", 18, "before the stage it follows"),
        ("offset_days = 38", "offset_days = 36501", 21, "expected -36500 to 36500, found 36501"),
        ("offset_days = -5", "offset_days = -2147483648", 5, "expected -36500 to 36500"),
        ("hypervisor.stop", "hyperviser.stop", 9, "unknown subsystem \"hyperviser\""),
        ("hypervisor.stop", "hypervisor.halt", 9, "unknown action"),
        ("offset_days = -5\n", "", 4, "missing field `offset_days`"),
        ("version = 1\n", "", 1, "missing field `version`"),
        ("version = 1", "version = \"one\"", 2, "version: invalid type: string \"one\", expected u32"),
        ("offset_days = 3", "offset_days = \"3\"", 11, "stages.hard.offset_days: invalid type: string \"3\""),
        ("offset_days = 3\n", "", 10, "stages.hard: missing field `offset_days`"),
        ("{ do = \"receipt\" }", "{ do = 7 }", 19, "stages.purge.steps.do: invalid type: integer `7`"),
        ("kind = \"vm\"", "kind = \"VM\"", 1, "kind \"VM\": expected at most 32 lower-case letters"),
        ("kind = \"vm\"", "kind = \"vm\"\nretries = 3", 2, "unknown field"),
        ("{ do = \"receipt\" }", "{ do = \"receipt\" }, { do = \"receipt\" }", 19, "the name is taken"),
        ("steps = []", "steps = [{ do = \"receipt\", name = \"r\" }]", 22, "only frees the name"),
        ("{ do = \"receipt\" }", "{ do = \"inventory.remove\", name = \"late\" }", 19, "belongs into hard"),
        ("{ do = \"inventory.remove\"", "{ do = \"receipt\", name = \"early\"", 15, "belongs into purge"),
        (
            "inventory.remove\", after = [\"hypervisor.undefine\"]",
            "inventory.remove\", after = [\"receipt\"]",
            15,
            "after = \"receipt\" names no step before this one",
        ),
        (
            "{ do = \"hypervisor.stop\" }",
            "{ do = \"hypervisor.stop\", deadline_ms = 60001 }",
            9,
            "deadline_ms",
        ),
        ("version = 1", "version = 1\nrehearsal = true", 3, "created as a rehearsal"),
        (
            "{ do = \"hypervisor.stop\" }",
            "{ do = \"hypervisor.inspect\", name = \"x\" }",
            9,
            "belongs into announce",
        ),
        (
            "{ do = \"hypervisor.stop\" }",
            "{ do = \"hypervisor.stop\", rolling = [\"x\"] }",
            9,
            "only a step that inspects",
        ),
        (
            "{ do = \"hypervisor.inspect\" }",
            "{ do = \"hypervisor.inspect\", rolling = [\"volumes\"] }",
            6,
            "is irreplaceable",
        ),
        ("{ do = \"hypervisor.stop\" }", "{ do = \"hypervisor.stop\", name = \"a@b\" }", 9, "in no others"),
        ("{ do = \"hypervisor.stop\" }", "{ do = \"hypervisor.copy\" }", 9, "a restore waits for it"),
        (TELL, "", 5, "expected a step that tells people"),
        (
            "offset_days = -5",
            "offset_days = 0",
            8,
            "at once, and nobody could say no: expected at least a day",
        ),
        (
            "version = 1",
            "version = 1\nunannounced = \"\"",
            3,
            "expected a line of 1 to 300 characters, found 0",
        ),
        ("version = 1", "version = 1\nunannounced = \"why\"", 3, "somebody is told, by hypervisor.tell"),
    ];
    for (from, to, line, reason) in cases {
        assert!(GOOD.contains(from), "{from}");
        let found = problems(&GOOD.replacen(from, to, 1));
        assert!(
            found.iter().any(|(l, r)| *l == line && r.contains(reason)),
            "{to}: expected line {line} {reason:?}, found {found:?}"
        );
    }
}

const WHY: &str = "version = 1\nunannounced = \"why\"";

/// Who is told and has no time to say no is told all the same, and the plan says why there is none.
#[test]
fn a_plan_that_tells_people_too_late_says_why() {
    let once = GOOD.replacen("offset_days = -5", "offset_days = 0", 1);
    let found = problems(&once);
    assert!(
        matches!(&found[..], [(8, reason)] if reason.contains("soft follows the notice at once")),
        "{found:?}"
    );
    assert_eq!(problems(&once.replacen("version = 1", WHY, 1)), []);
    // The clock runs until the first stage in which anything is done, whichever that is.
    let stop = "{ do = \"hypervisor.stop\" }";
    assert!(GOOD.contains(stop));
    let later = once.replacen(stop, "", 1);
    assert_eq!(problems(&later), []);
    let found = problems(&later.replacen("version = 1", WHY, 1));
    assert!(matches!(&found[..], [(3, reason)] if reason.contains("leave one of the two out")), "{found:?}");
    // A check is none.
    let plan = Plan::parse("vm.toml", &later, &catalogue(), true).unwrap();
    assert!(plan.stages[0].steps.iter().chain(&plan.stages[3].steps).all(|step| !step.acts()));
}

/// What is done at announce is done before anybody could say no.
#[test]
fn a_plan_that_acts_at_announce_says_why() {
    let (soft, announce) =
        ("nature = \"reversible\"\nearliest = \"soft\"", "nature = \"reversible\"\nearliest = \"announce\"");
    assert!(HYPERVISOR.contains(soft));
    let mut catalogue = Catalogue::default();
    catalogue.add("hypervisor.toml", &HYPERVISOR.replacen(soft, announce, 1)).unwrap();
    catalogue.add("ipam.toml", IPAM).unwrap();
    let early = r#"{ do = "hypervisor.stop", name = "early" }"#;
    let before = GOOD.replacen(TELL, &format!(", {early}{TELL}"), 1);
    let behind = GOOD.replacen(TELL, &format!("{TELL}, {early}"), 1);
    for text in [before, behind] {
        assert!(text.contains("early"), "{text}");
        let found = problems_by(&catalogue, &text);
        let [(5, reason)] = &found[..] else { panic!("{found:?}") };
        assert!(reason.starts_with("announce: early acts before anybody could say no"), "{reason}");
        assert_eq!(problems_by(&catalogue, &text.replacen("version = 1", WHY, 1)), []);
    }
    // Whatever follows, if anything does.
    let alone = r#"kind = "vm"
version = 1
criticality = "irreplaceable"
[stages.announce]
offset_days = -5
steps = [{ do = "hypervisor.stop" }]
[stages.soft]
offset_days = 0
steps = []
[stages.hard]
offset_days = 3
steps = []
[stages.purge]
offset_days = 8
steps = [{ do = "receipt" }]
[stages.recycle]
offset_days = 38
steps = []
"#;
    let found = problems_by(&catalogue, alone);
    assert!(matches!(&found[..], [(5, reason)] if reason.contains("a step that tells people")), "{found:?}");
    assert_eq!(problems_by(&catalogue, &alone.replacen("version = 1", WHY, 1)), []);
    assert_eq!(problems_by(&catalogue, &alone.replacen("hypervisor.stop", "hypervisor.inspect", 1)), []);
}

/// The notice starts the clock: where nobody is told, or nobody has time, a plan has to say why.
#[test]
fn a_plan_that_tells_nobody_says_why() {
    let silent = GOOD.replacen(TELL, "", 1);
    let because =
        |reason: &str| silent.replacen("version = 1", &format!("version = 1\nunannounced = {reason:?}"), 1);
    let plan = |text: &str| Plan::parse("vm.toml", text, &catalogue(), true);
    let why = "nobody owns it but who asks";
    assert_eq!(plan(&because(why)).unwrap().unannounced.as_deref(), Some(why));
    assert_eq!(plan(GOOD).unwrap().unannounced, None);
    assert_eq!(problems(&because(&"x".repeat(UNANNOUNCED_MAX))), []);
    let long = "x".repeat(UNANNOUNCED_MAX + 1);
    for bad in ["", "  ", "two\nlines", long.as_str()] {
        let found = problems(&because(bad));
        let [(3, reason)] = &found[..] else { panic!("{bad:?}: {found:?}") };
        assert!(reason.starts_with("unannounced: expected a line"), "{reason}");
    }
    // Whatever the ledger: only a plan that says so is a rehearsal's.
    let refused = plan(&silent).unwrap_err();
    assert!(
        refused.to_string().starts_with("vm.toml:5: announce: expected a step that tells people"),
        "{refused}"
    );
    assert!(plan(&silent.replacen("version = 1", "version = 1\nrehearsal = true", 1)).is_ok());
    // Told in another stage is told too late.
    let late = silent.replacen("{ do = \"hypervisor.stop\" }", "{ do = \"hypervisor.tell\" }", 1);
    assert_eq!(problems(&late).len(), 1, "{late}");
    // A step that is not understood may be the one.
    let unknown = GOOD.replacen("hypervisor.tell", "hypervisor.shout", 1);
    let found = problems(&unknown);
    assert!(matches!(&found[..], [(6, reason)] if reason.contains("unknown action")), "{found:?}");
}

/// Of what nothing happens to nobody has to be told.
#[test]
fn a_plan_that_does_nothing_tells_nobody() {
    let lines: Vec<&str> = GOOD
        .lines()
        .map(|line| if line.starts_with("steps = [{ do = \"hypervisor.") { "steps = []" } else { line })
        .filter(|line| !line.starts_with("  "))
        .collect();
    let nothing = lines.join("\n").replace("steps = [\n]", "steps = []");
    assert!(nothing.contains("receipt"), "{nothing}");
    assert_eq!(problems(&nothing), []);
    let removes = nothing.replacen(
        "offset_days = 3\nsteps = []",
        "offset_days = 3\nsteps = [{ do = \"inventory.remove\" }]",
        1,
    );
    let found = problems(&removes);
    assert!(matches!(&found[..], [(5, reason)] if reason.starts_with("announce: expected")), "{found:?}");
}

/// The days that a plan must grant before hard, and once more before purge.
#[test]
fn each_class_has_its_least_grace() {
    for (class, least) in [("reproducible", 1), ("credential", 1), ("irreplaceable", 3)] {
        let with = |hard: i32, purge: i32| {
            GOOD.replacen("irreplaceable", class, 1)
                .replacen("offset_days = 3\n", &format!("offset_days = {hard}\n"), 1)
                .replacen("offset_days = 8\n", &format!("offset_days = {purge}\n"), 1)
        };
        assert_eq!(problems(&with(least, 2 * least)), [], "{class}");
        for (plan, line, stage) in
            [(with(least - 1, 2 * least), 11, "hard"), (with(least, 2 * least - 1), 18, "purge")]
        {
            let found = problems(&plan);
            let [(at, reason)] = &found[..] else { panic!("{class}: {stage}: {found:?}") };
            assert!(
                *at == line
                    && reason.contains(&format!("{stage} follows after {} days", least - 1))
                    && reason.ends_with(&format!("at least {least}")),
                "{class}: {found:?}"
            );
        }
    }
}

#[test]
fn a_plan_may_shorten_what_a_restore_would_wait_for() {
    let short = "{ do = \"hypervisor.copy\", deadline_ms = 60000 }";
    assert_eq!(problems(&GOOD.replacen("{ do = \"hypervisor.stop\" }", short, 1)), []);
}

/// Whatever a step says travels with its orders and stands in what people read.
#[test]
fn what_a_step_says_is_bounded() {
    let stop = "{ do = \"hypervisor.stop\" }";
    let with = |more: &str| GOOD.replacen(stop, &format!("{{ do = \"hypervisor.stop\", {more} }}"), 1);
    let text = |count: usize| "x".repeat(count);
    // As JSON it is {"a":"…"}.
    let params = |bytes: usize| with(&format!("params = {{ a = \"{}\" }}", text(bytes - 8)));
    assert_eq!(problems(&params(PARAMS_MAX_BYTES)), []);
    assert_eq!(problems(&with(&format!("name = \"{}\"", text(NAME_MAX)))), []);
    let many: Vec<String> = (0..=NAMED_MAX).map(|_| "\"hypervisor.inspect\"".to_owned()).collect();
    for (plan, reason) in [
        (
            params(PARAMS_MAX_BYTES + 1),
            "step hypervisor.stop: params: expected at most 16384 bytes of JSON, found 16385",
        ),
        (
            with(&format!("name = \"{}\"", text(NAME_MAX + 1))),
            "name: expected 1 to 100 characters, found 101",
        ),
        (with("name = \"\""), "name: expected 1 to 100 characters, found 0"),
        (with(&format!("after = [{}]", many.join(", "))), "after: expected at most 64 names"),
        (
            with(&format!("rolling = [\"{}\"]", text(NAME_MAX + 1))),
            "rolling: expected at most 64 names of at most 100",
        ),
    ] {
        let found = problems(&plan);
        assert!(found.iter().any(|(line, said)| *line == 9 && said.contains(reason)), "{reason}: {found:?}");
        assert!(found.iter().all(|(_, said)| said.len() < 300), "{found:?}");
    }
    // Of a table that stands alone, its own line.
    let table = format!(
        "{}\n[[stages.recycle.steps]]\ndo = \"receipt\"\n\n[stages.recycle.steps.params]\na = \"{}\"\n",
        GOOD.replacen("offset_days = 38\nsteps = []", "offset_days = 38", 1),
        text(PARAMS_MAX_BYTES)
    );
    let found = problems(&table);
    assert!(found.iter().any(|(line, said)| *line == 26 && said.contains("params: expected")), "{found:?}");
}

#[test]
fn a_stage_has_only_so_many_steps() {
    let steps = |count: usize| {
        let steps: Vec<String> =
            (0..count).map(|n| format!("{{ do = \"hypervisor.stop\", name = \"stop{n}\" }}")).collect();
        GOOD.replacen("{ do = \"hypervisor.stop\" }", &steps.join(", "), 1)
    };
    // One reads the targets again.
    assert_eq!(problems(&steps(STEPS_MAX - 1)), []);
    let found = problems(&steps(STEPS_MAX));
    assert!(found.iter().any(|(line, said)| *line == 8 && said.contains("at most 64 steps")), "{found:?}");
}

#[test]
fn an_address_released_too_early_is_refused() {
    let swapped = GOOD.replacen(
        "  { do = \"hypervisor.undefine\" },\n  { do = \"ipam.release\", after = [\"hypervisor.undefine\"] },\n",
        "  { do = \"ipam.release\" },\n  { do = \"hypervisor.undefine\" },\n",
        1,
    );
    let found = problems(&swapped);
    assert!(found.iter().any(|(l, r)| *l == 13 && r.contains("releases address before")), "{found:?}");
}

/// The backups of what may still live stay: what deletes them depends on what ends the use of them, wherever there is such a step.
#[test]
fn backups_that_go_although_the_machine_may_remain_are_refused() {
    const BACKUP: &str = r#"
subsystem = "backup"
[actions.delete_archives]
nature = "destructive"
earliest = "hard"
deadline_ms = 60000
longest_call_ms = 5000
withdraws = ["backup"]
about = "delete"
"#;
    let ending = HYPERVISOR.replace("[\"address\"]", "[\"address\", \"backup\"]");
    let catalogue = |hypervisor: &str| {
        let mut catalogue = Catalogue::default();
        for (file, text) in [("hypervisor.toml", hypervisor), ("ipam.toml", IPAM), ("backup.toml", BACKUP)] {
            catalogue.add(file, text).unwrap();
        }
        catalogue
    };
    let plan = |step: &str| GOOD.replace("[{ do = \"receipt\" }]", &format!("[{step}]"));
    let without = plan("{ do = \"backup.delete_archives\" }");
    let with = plan("{ do = \"backup.delete_archives\", after = [\"hypervisor.undefine\"] }");
    let refused = Plan::parse("vm.toml", &without, &catalogue(&ending), false).unwrap_err();
    let reason = "step backup.delete_archives withdraws backup: expected after = [\"hypervisor.undefine\"]";
    assert!(refused.to_string().contains(reason), "{refused}");
    Plan::parse("vm.toml", &with, &catalogue(&ending), false).unwrap();
    // Where nothing ends the use of them, nobody's are taken away.
    Plan::parse("vm.toml", &without, &catalogue(HYPERVISOR), false).unwrap();

    let early = with.replacen(
        "  { do = \"hypervisor.undefine\" },\n",
        "  { do = \"backup.delete_archives\", name = \"early\" },\n  { do = \"hypervisor.undefine\" },\n",
        1,
    );
    let refused = Plan::parse("vm.toml", &early, &catalogue(&ending), false).unwrap_err();
    assert!(
        refused.to_string().contains("step early withdraws backup before hypervisor.undefine"),
        "{refused}"
    );
}

#[test]
fn targets_are_read_again_before_the_first_step_of_a_later_stage() {
    let good = GOOD
        .replace(
            "{ do = \"hypervisor.inspect\" }",
            "{ do = \"hypervisor.inspect\", rolling = [\"snapshots\"] }",
        )
        .replace(
            "{ do = \"receipt\" }",
            "{ do = \"ipam.release\", name = \"late\", after = [\"hypervisor.undefine\"] }",
        );
    let plan = Plan::parse("vm.toml", &good, &catalogue(), false).unwrap();
    let first = |stage: Stage| plan.stage(stage).steps.first();
    for stage in [Stage::Soft, Stage::Hard] {
        let step = first(stage).unwrap();
        assert_eq!(step.name, format!("hypervisor.inspect@{stage}"));
        assert_eq!((step.nature, &step.irreplaceable[..]), (Nature::Inspect, &["volumes".to_owned()][..]));
        assert_eq!(
            (&step.rolling[..], &step.after[..]),
            (&["snapshots".to_owned()][..], &["hypervisor.inspect".to_owned()][..])
        );
        let again = plan.stage(stage).steps.iter().filter(|step| step.nature == Nature::Inspect).count();
        assert_eq!(again, 1, "{stage}: ipam is inspected nowhere");
    }
    assert_eq!(first(Stage::Purge).unwrap().name, "late", "no step of the hypervisor is in it");
    assert!(first(Stage::Recycle).is_none());
    let old: Step = serde_json::from_str(&{
        let mut step = serde_json::to_value(first(Stage::Soft).unwrap()).unwrap();
        let table = step.as_object_mut().unwrap();
        table.retain(|key, _| key != "irreplaceable" && key != "rolling");
        step.to_string()
    })
    .unwrap();
    assert!(old.rolling.is_empty(), "a record keeps the copy that it was made with");
}

#[test]
fn prepare_is_announce() {
    assert_eq!(problems(&GOOD.replace("[stages.announce]", "[stages.prepare]")), []);
}
