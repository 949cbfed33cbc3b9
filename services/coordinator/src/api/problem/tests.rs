//! Hostile bodies of requests.
use axum::body::Body as Sent;
use futures_util::FutureExt as _;
use serde::Serialize;
use serde_json::{Value, json};
use sexton_api::{
    AcceptReview, Acknowledge, ApproveRequest, CancelScope, CeilingRequest, CensusRequest, Delete,
    HashesQuery, HoldRequest, OverrideRequest, PauseRequest, PreviewRequest, Prioritize, Reason, Register,
    Rescue, SurveyRequest, TakeCensus, TokenRequest, Waive,
};
use sexton_model::access::{CannotRegister, Denied, Permission, Role};
use sexton_model::belts::ceiling::{CannotSet, Ceiling};
use sexton_model::belts::census::NotBelieved;
use sexton_model::belts::pauses::TooManyPauses;
use sexton_model::deletion::RecordStatus;
use sexton_model::job::Stage;
use sexton_model::undo::Salvage;
use sexton_model::{DeletionId, ResourceId, Timestamp};
use sexton_testkit::fuzz::{Form, Fuzz, each_wrong_field_is_named};

use super::*;

/// What the API makes of a body, as JSON; or what it says to whoever sent it.
fn read<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<Value, String> {
    let request = Request::new(Sent::from(bytes.to_vec()));
    let taken = Body::<T>::from_request(request, &()).now_or_never().expect("the whole body is there");
    taken.map(|Body(taken)| serde_json::to_value(taken).unwrap()).map_err(|refused| refused.problem.detail)
}

/// The same; what is taken is read again as it was written.
fn again<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<(), String> {
    let taken = read::<T>(bytes)?;
    assert_eq!(read::<T>(taken.to_string().as_bytes()), Ok(taken));
    Ok(())
}

fn once<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<(), String> {
    read::<T>(bytes).map(drop)
}

/// Reads it as one sort of request.
type Reader = fn(&[u8]) -> Result<(), String>;

fn example<T: DeserializeOwned + Serialize>(example: Value) -> (Reader, Value) {
    (again::<T> as Reader, example)
}

/// Every sort of request, with an example that says all it may.
fn requests() -> Vec<(Reader, Value)> {
    let resource = json!({
        "id": "vm/web01", "scope": "tenants/acme", "identity": { "uuid": "u" }, "criticality": "reproducible",
        "rebuilt": { "on": "2026-06-01", "evidence": "run 17" },
        "priority": 7, "groups": ["db-main"], "exclusive": "machine/storage07", "instances": { "dns": "second" },
        "protected": true, "attributes": { "dns": { "names": ["a"], "weight": 0.1 } },
    });
    let preview = json!({
        "resource": "vm/web01", "on": "2026-12-01", "zone": "Europe/Berlin", "gone_by": "2027-02-01",
    });
    let mut delete = preview.clone();
    delete["reason"] = json!("no longer needed");
    let survey = json!({
        "resource": "vm/web01", "on": "2026-12-01", "zone": "Europe/Berlin", "within_secs": 20,
    });
    vec![
        example::<Register>(json!({ "resources": [resource], "whole": true })),
        example::<Delete>(delete),
        example::<PreviewRequest>(preview),
        example::<SurveyRequest>(survey),
        example::<Reason>(json!({ "reason": "why" })),
        example::<Waive>(json!({ "claim": "belongs", "mark": "ab12", "evidence": "looked" })),
        example::<Acknowledge>(json!({ "mark": "ab12", "reason": "called" })),
        example::<Rescue>(json!({ "evidence": "copied" })),
        example::<PauseRequest>(json!({
            "covers": { "stage": "hard", "kind": "vm", "scope": "tenants", "subsystem": "dns" }, "reason": "why",
        })),
        example::<CeilingRequest>(json!({
            "scope": "tenants/acme", "everywhere": false, "to": "inherit", "reason": "why", "digest": "ab12",
        })),
        example::<AcceptReview>(json!({ "epoch": 2, "reason": "compared" })),
        example::<HashesQuery>(json!({ "events": [{ "chain": "d-1", "seq": 3 }] })),
        example::<TokenRequest>(json!({
            "name": "ci", "role": "requester", "scopes": ["tenants/acme"], "everywhere": false, "good_for_s": 60,
        })),
        example::<ApproveRequest>(json!({ "digest": "ab12", "reason": "looked at it" })),
        example::<OverrideRequest>(json!({
            "deletion": "d-17", "stage": "hard", "belt": "window", "reason": "why", "break_glass": true,
        })),
        example::<CancelScope>(
            json!({ "scope": "tenants", "reason": "why", "dry_run": true, "after": "-5:d-17", "limit": 2 }),
        ),
        example::<Prioritize>(json!({ "priority": -5 })),
        example::<TakeCensus>(json!({
            "kind": "vm", "scope": "tenants", "new_credential": true, "fewer": true, "within_secs": 25,
        })),
        example::<HoldRequest>(json!({ "origin": "legal", "reason": "lawsuit" })),
        // Its moment may be one that is written in another way.
        (
            once::<CensusRequest> as Reader,
            json!({
                "kind": "vm", "scope": "tenants", "credential": "reader", "new_credential": true, "fewer": true,
                "more": true, "taken_at": "2026-12-01T00:00:00Z", "total": 1,
                "listed": [{ "id": "vm/web01", "scope": "tenants/acme" }],
            }),
        ),
    ]
}

fn too_late(until: Option<Timestamp>) -> Refusal {
    Refusal::TooLate { reached: Stage::Hard, still: Salvage::Data { until } }
}

#[test]
fn what_is_too_late_to_cancel_is_a_conflict_that_says_until_when_it_can_be_saved() {
    let until = Timestamp(1_800_000_000_000_000);
    let refused = Refused::from(NotDone::Refused(too_late(Some(until))));
    assert!(refused.is(StatusCode::CONFLICT), "{refused:?}");
    assert!(refused.problem.detail.contains(&until.to_string()), "{refused:?}");
}

#[test]
fn more_pauses_than_there_may_be_are_a_conflict_that_says_what_to_do() {
    let refused = Refused::from(LedgerError::from(TooManyPauses));
    assert!(refused.is(StatusCode::CONFLICT) && !refused.denied, "{refused:?}");
    assert_eq!(refused.problem.field.as_deref(), Some("covers"));
    let said = &refused.problem.detail;
    assert!(said.contains("1000 pauses") && said.contains("everything, which is always taken"), "{said}");
}

#[test]
fn what_a_belt_refuses_is_written_down_and_what_is_not_there_is_not() {
    let vm: ResourceId = "vm/a".parse().unwrap();
    let (digest, batch) = ("ab12".to_owned(), 3);
    let too_far = CannotSet::TooFar {
        of: "tenants".to_owned(),
        now: Ceiling::Observe,
        next: Ceiling::Announce,
        asked: Ceiling::Hard,
    };
    let too_low = Denied::Role {
        name: "ci".parse().unwrap(),
        what: Permission::Unprotect,
        needed: Role::Admin,
        has: Role::Requester,
    };
    for why in [
        NotDone::Refused(too_late(None)),
        NotDone::Refused(Refusal::NoRescue("purge has begun")),
        NotDone::Refused(Refusal::NameInUse("an address".into())),
        NotDone::Refused(Refusal::OtherThings { mark: "ab12".into() }),
        NotDone::Refused(Refusal::Requested { by: "dev".parse().unwrap(), what: "do that" }),
        NotDone::CannotDelete(CannotDelete::Protected("vm/a".into())),
        NotDone::CannotDelete(CannotDelete::Configured("vm/a".into())),
        NotDone::Ceiling(too_far),
        NotDone::Approval(CannotApprove::OtherSet { batch, digest: digest.clone() }),
        NotDone::Resume(CannotResume::OtherSet { members: 2, digest }),
        NotDone::Census(NotBelieved::Empty),
        NotDone::Survey(CannotSurvey::Review),
        NotDone::OtherIdentity(vm.clone()),
        NotDone::StaysInScope {
            resource: vm.clone(),
            from: "tenants/acme".parse().unwrap(),
            deletion: DeletionId(1),
        },
        NotDone::StaysInGroup { resource: vm.clone(), group: "db-main".into(), by: "dev".parse().unwrap() },
        NotDone::AlreadyLive { resource: vm.clone(), deletion: DeletionId(1) },
        NotDone::Register(CannotRegister::Field { field: "protected".into(), why: too_low }),
    ] {
        assert!(Refused::from(why.clone()).denied, "{why}");
    }
    for why in [
        NotDone::Refused(Refusal::NotLive(RecordStatus::Cancelled)),
        NotDone::Refused(Refusal::NothingParked),
        NotDone::Refused(Refusal::Missing("reason")),
        NotDone::CannotDelete(CannotDelete::Reason),
        NotDone::Ceiling(CannotSet::TooMany),
        NotDone::Approval(CannotApprove::NoSuchBatch(batch)),
        NotDone::Survey(CannotSurvey::TooOften),
        NotDone::NotRegistered(vm),
        NotDone::Hold(CannotHold::Reason),
        NotDone::Refused(Refusal::TooManyHolds),
    ] {
        assert!(!Refused::from(why.clone()).denied, "{why}");
    }
}

#[test]
fn whatever_is_wrong_is_named() {
    for (read, example) in requests() {
        each_wrong_field_is_named(example.to_string().as_bytes(), &[], read);
    }
}

#[test]
fn fuzz_requests() {
    let requests = requests();
    let mut target = Fuzz::new("requests", Form::Json).slow(4);
    for (_, example) in &requests {
        target = target.seed(example.to_string());
    }
    target.run(|bytes| {
        let mut why = String::new();
        for (read, _) in &requests {
            match read(bytes) {
                Ok(()) => return Ok(()),
                Err(refused) => why = refused,
            }
        }
        Err(why)
    });
}
