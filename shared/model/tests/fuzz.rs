//! Hostile plans, records, resources and ids.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use sexton_model::access::Role;
use sexton_model::attest::{Sequence, SignedCheckpoint};
use sexton_model::belts::ceiling::Ceiling;
use sexton_model::belts::census::listing::Page;
use sexton_model::belts::one_shot::Passable;
use sexton_model::catalogue::{Catalogue, SubsystemActions};
use sexton_model::deletion::{Deletion, Record, Zone};
use sexton_model::job::Stage;
use sexton_model::outlook::{Foresight, estimates, late};
use sexton_model::plan::Plan;
use sexton_model::request_key::RequestKey;
use sexton_model::resource::Resource;
use sexton_model::time::{Day, add_days};
use sexton_model::undo::undo;
use sexton_model::{ActionName, Actor, DeletionId, Instance, Kind, ResourceId, Scope, Subsystem, Timestamp};
use sexton_testkit::fuzz::{Form, Fuzz};

const SUBSYSTEMS: [(&str, &str); 10] = [
    ("accounting.toml", include_str!("../../../deploy/subsystems/accounting.toml")),
    ("backup.toml", include_str!("../../../deploy/subsystems/backup.toml")),
    ("cluster.toml", include_str!("../../../deploy/subsystems/cluster.toml")),
    ("config.toml", include_str!("../../../deploy/subsystems/config.toml")),
    ("dns.toml", include_str!("../../../deploy/subsystems/dns.toml")),
    ("hypervisor.toml", include_str!("../../../deploy/subsystems/hypervisor.toml")),
    ("ipam.toml", include_str!("../../../deploy/subsystems/ipam.toml")),
    ("machine.toml", include_str!("../../../deploy/subsystems/machine.toml")),
    ("monitoring.toml", include_str!("../../../deploy/subsystems/monitoring.toml")),
    ("notifier.toml", include_str!("../../../deploy/subsystems/notifier.toml")),
];
const VM: &str = include_str!("../../../deploy/plans/vm.toml");
const MEMBERSHIP: &str = include_str!("../../../deploy/plans/membership.toml");

fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::default();
    for (file, text) in SUBSYSTEMS {
        catalogue.add(file, text).unwrap();
    }
    catalogue
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| error.to_string())
}

/// Read as JSON; what is taken is read again as it was written.
fn parse<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) -> Result<T, String> {
    let taken: T = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let again = serde_json::to_string(&taken).unwrap();
    assert_eq!(serde_json::from_str::<T>(&again).unwrap(), taken);
    Ok(taken)
}

fn record(kind: &Kind) -> serde_json::Value {
    json!({
        "resource": {
            "id": format!("{kind}/web01"), "scope": "tenants/acme", "identity": { "uuid": "u" },
            "criticality": "reproducible", "rebuilt": { "on": "2026-06-01", "evidence": "run 17" },
            "groups": ["db-main"], "exclusive": "machine/storage07", "priority": 7,
            "instances": { "dns": "second" }, "attributes": { "dns": { "names": ["a"], "weight": 0.1 } },
        },
        "due": { "date": "2026-12-01", "zone": "Europe/Berlin" }, "gone_by": "2027-02-01",
        "requested_by": "platform", "reason": "no longer needed", "created_at": 1_796_083_200_000_000_i64,
    })
}

/// What is asked of every record: when its stages are, what is late, and what a cancel would take back.
fn look_ahead(plan: Plan) {
    let record: Record = serde_json::from_value(record(&plan.kind)).unwrap();
    for day in [Day::Calendar, Day::Rehearsal { length_ms: 86_399_999 }] {
        let Ok(deletion) = Deletion::draw_up(DeletionId(17), record.clone(), Arc::new(plan.clone()), day)
        else {
            return;
        };
        for now in [record.created_at, Timestamp(0), Timestamp::MAX] {
            let by = Foresight::of_dates(day, now);
            let _ = (estimates(&deletion, &by), late(&deletion, &by), undo(&deletion, day, now));
        }
        for job in &deletion.jobs {
            let _ = (deletion.step_at(job), deletion.wants(job));
        }
    }
}

#[test]
fn plans() {
    let catalogue = catalogue();
    Fuzz::new("plans", Form::Toml).seed(VM).seed(MEMBERSHIP).slow(10).run(|bytes| {
        let text = text(bytes)?;
        let plan = Plan::parse("plan.toml", text, &catalogue, true).map_err(|errors| {
            let lines = text.lines().count() + 1;
            assert!(!errors.problems.is_empty(), "it is refused for nothing");
            for problem in &errors.problems {
                assert!((1..=lines).contains(&problem.line), "line {} of {lines}", problem.line);
            }
            errors.to_string()
        })?;
        let again: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
        assert_eq!(again, plan);
        look_ahead(plan);
        Ok(())
    });
}

/// A record's own copy is not linted: it was, by the version that made the record.
#[test]
fn pinned_plans() {
    let catalogue = catalogue();
    let pinned = |text: &str| {
        serde_json::to_string(&Plan::parse("plan.toml", text, &catalogue, true).unwrap()).unwrap()
    };
    Fuzz::new("pinned-plans", Form::Json).seed(pinned(VM)).seed(pinned(MEMBERSHIP)).slow(10).run(|bytes| {
        look_ahead(parse::<Plan>(bytes)?);
        Ok(())
    });
}

#[test]
fn catalogues() {
    let mut target = Fuzz::new("catalogues", Form::Toml).slow(4);
    for (_, text) in SUBSYSTEMS {
        target = target.seed(text);
    }
    target.run(|bytes| {
        let actions = SubsystemActions::parse("a.toml", text(bytes)?).map_err(|error| error.to_string())?;
        let again = serde_json::to_string(&actions).unwrap();
        assert_eq!(serde_json::from_str::<SubsystemActions>(&again).unwrap(), actions);
        Ok(())
    });
}

/// Whatever an instance lists for a census is a page that can be believed, or is refused.
#[test]
fn pages_of_a_census() {
    let kind: Kind = "vm".parse().unwrap();
    let seed = json!({
        "after": "vm/a", "entries": [{ "id": "vm/b", "identity": { "uuid": "u" } }, { "id": "vm/c" }], "more": true,
        "total": 3, "credential": "uid 0", "place": "qemu:1",
    });
    Fuzz::new("pages", Form::Json).seed(seed.to_string()).run(|bytes| {
        let page = parse::<Page>(bytes)?;
        page.fault(&kind).map_or(Ok(()), Err)
    });
}

#[test]
fn records_and_resources() {
    let kind: Kind = "vm".parse().unwrap();
    Fuzz::new("records", Form::Json).seed(record(&kind).to_string()).run(|bytes| {
        let record = parse::<Record>(bytes)?;
        let zone = record.due.zone.0;
        for days in [i32::MIN, -1, 1, i32::MAX] {
            add_days(record.created_at, days, zone, Day::Calendar);
        }
        Ok(())
    });
    let resource = record(&kind)["resource"].to_string();
    Fuzz::new("resources", Form::Json).seed(resource).run(|bytes| parse::<Resource>(bytes).map(drop));
}

/// A word of this sort; what is taken says the same again.
fn word<T: FromStr<Err: Display> + Display + PartialEq + Debug>(text: &str) -> Result<(), String> {
    let taken: T = text.parse().map_err(|error: T::Err| error.to_string())?;
    assert_eq!(taken.to_string().parse::<T>().ok().as_ref(), Some(&taken), "{text:?}");
    Ok(())
}

#[test]
fn words() {
    let mut target = Fuzz::new("words", Form::Text);
    for seed in [
        "vm/web01",
        "d-17",
        "dns.main",
        "tenants/acme",
        "ops@example.org",
        "announce",
        "Europe/Berlin",
        "observe",
    ] {
        target = target.seed(seed);
    }
    target.run(|bytes| {
        let text = text(bytes)?;
        let verdicts = [
            word::<ResourceId>(text),
            word::<DeletionId>(text),
            word::<Instance>(text),
            word::<Scope>(text),
            word::<Actor>(text),
            word::<Kind>(text),
            word::<Subsystem>(text),
            word::<ActionName>(text),
            word::<Stage>(text),
            word::<Ceiling>(text),
            text.parse::<Zone>().map(drop).map_err(|error| error.to_string()),
            text.parse::<Role>().map(drop).map_err(|error| error.to_string()),
            text.parse::<Passable>().map(drop).map_err(|error| error.to_string()),
            text.parse::<RequestKey>().map(drop).map_err(|error| error.to_string()),
        ];
        let refused = verdicts.iter().filter_map(|verdict| verdict.as_ref().err());
        assert!(refused.clone().all(|why| why.len() < 1200 && !why.is_empty()), "an id's reason is short");
        if refused.count() < verdicts.len() { Ok(()) } else { Err("it is no word of any sort".to_owned()) }
    });
}

/// The bodies of signed checkpoints, and the lines they stand in.
#[test]
fn checkpoints() {
    let mut sequence = Sequence::default();
    let mut lines = String::new();
    for number in 1..=3 {
        let head = sexton_model::attest::Head { chain: "vm/a".into(), seq: number, hash: [7; 32] };
        let next = sequence.next("here".into(), 1, Timestamp(number), vec![head]);
        let body = serde_json::to_string(&next).unwrap();
        sequence.see(&body).unwrap();
        let line = SignedCheckpoint { body, key_id: "k".into(), signature: "s".into() };
        lines += &(serde_json::to_string(&line).unwrap() + "\n");
    }
    Fuzz::new("checkpoints", Form::JsonLines).seed(lines).run(|bytes| {
        let (mut sequence, mut newest) = (Sequence::default(), sexton_model::attest::Newest::default());
        let mut verdict = Ok(());
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let Ok(signed) = serde_json::from_slice::<SignedCheckpoint>(line) else {
                verdict = Err("a line is no signed checkpoint".to_owned());
                continue;
            };
            match sequence.see(&signed.body) {
                Ok(attestation) => drop(newest.see(attestation)),
                Err(why) => {
                    verdict = Err(why.to_string());
                    if let Ok(behind) = Sequence::behind(&signed.body) {
                        sequence = behind;
                    }
                }
            }
        }
        assert_eq!(newest.len(), newest.into_heads().count());
        verdict
    });
}
