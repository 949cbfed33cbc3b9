use super::*;
use crate::decide::test_deletion;
use crate::deletion::RecordStatus;
use crate::id::Fence;

/// A record whose purge is over, and its trail: every step answered as it has to be.
fn purged() -> (Deletion, Vec<AuditEvent>) {
    let (mut deletion, ..) = test_deletion();
    let mut trail = Vec::new();
    for stage in Stage::ALL.into_iter().filter(|stage| *stage != Stage::Recycle) {
        let kind = JobKind::Stage(stage);
        for step in deletion.plan.stage(stage).steps.clone() {
            let own = matches!(step.performer, Performer::Coordinator(_));
            let gone = step.nature == Nature::Destructive;
            let mode = if step.nature == Nature::Inspect { Mode::Inspect } else { Mode::Perform };
            let number = i64::try_from(trail.len()).unwrap() + 1;
            trail.push(AuditEvent {
                at: Timestamp(number),
                what: What::Settled,
                by: "coordinator".into(),
                job: Some(kind),
                step: (!own).then(|| step.name.clone()),
                mode: (!own).then_some(mode),
                fence: (!own).then_some(Fence { epoch: 1, number }),
                presence: (!own).then_some(if gone { Presence::Absent } else { Presence::Present }),
                state: Some(StateName::Running),
                ordered: None,
                own: if own { vec![step.name.clone()] } else { vec![] },
                drift: vec![],
                unannounced: None,
                detail: "looked".into(),
            });
        }
        if let Some(last) = trail.last_mut() {
            last.state = Some(StateName::Done);
        }
        let job = deletion.jobs.iter_mut().find(|job| job.kind == kind).unwrap();
        (job.state, job.ended_at) = (JobState::Done, Some(Timestamp(99)));
    }
    (deletion, trail)
}

fn receipt(deletion: &Deletion, trail: &[AuditEvent]) -> Result<Receipt, NoReceipt> {
    let numbered: Vec<_> = (1..).zip(trail).map(|(seq, event)| (seq, event.clone(), [7; 32])).collect();
    draw_up("l", Day::Calendar, deletion, BTreeMap::new(), &numbered)
}

fn answer<'a>(trail: &'a mut [AuditEvent], step: &str) -> &'a mut AuditEvent {
    trail.iter_mut().find(|event| event.step.as_deref() == Some(step)).unwrap()
}

fn waiver(deletion: &Deletion, stage: Stage, name: &str, claim: WaiverClaim, evidence: &str) -> Waiver {
    let step = deletion.plan.stage(stage).steps.iter().position(|step| step.name == name).unwrap();
    Waiver {
        slot: stage.index(),
        step: u16::try_from(step).unwrap(),
        claim,
        by: "approver".parse().unwrap(),
        evidence: evidence.into(),
        at: Timestamp(50),
        untouched: false,
        shown: None,
    }
}

#[test]
fn each_step_stands_in_it_with_what_was_seen() {
    let (deletion, mut trail) = purged();
    let last = i64::try_from(trail.len()).unwrap();
    // What comes after purge is not part of it.
    trail.push(AuditEvent { job: Some(JobKind::Stage(Stage::Recycle)), ..trail[0].clone() });
    let found = receipt(&deletion, &trail).unwrap();
    assert!(found.complete && found.remains.is_empty());
    assert_eq!(found.rests_on, Head { chain: "d-1".into(), seq: last, hash: [7; 32] });
    let stages = deletion.plan.stages.iter().map(|stage| stage.steps.len()).sum::<usize>();
    assert_eq!(found.steps.len(), stages);
    let wipe = found.steps.iter().find(|step| step.step == "hypervisor.wipe").unwrap();
    assert_eq!(wipe.instance.as_ref().unwrap().to_string(), "hypervisor.main");
    let Proof::Seen { presence, evidence, fence, .. } = &wipe.proof else { panic!("{wipe:?}") };
    assert_eq!((*presence, evidence.as_str(), fence.epoch), (Presence::Absent, "looked", 1));
    let own = found.steps.iter().find(|step| step.step == "receipt").unwrap();
    assert_eq!(own.proof, Proof::Decided { at: Timestamp(last), event: last });
    assert_eq!(found.sentence(), "all of it is gone");
    let text = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<Receipt>(&text).unwrap(), found);
}

#[test]
fn nothing_is_drawn_up_without_having_seen_it_gone() {
    let (deletion, trail) = purged();
    let step = "hypervisor.wipe".to_owned();
    let with = |change: &dyn Fn(&mut AuditEvent)| {
        let mut trail = trail.clone();
        change(answer(&mut trail, "hypervisor.wipe"));
        receipt(&deletion, &trail).unwrap_err()
    };
    assert_eq!(with(&|event| event.presence = Some(Presence::Unknown)), NoReceipt::Unknown(step.clone()));
    let presence = Presence::Present;
    let there = NoReceipt::NotSeenAbsent { step: step.clone(), presence };
    assert_eq!(with(&|event| event.presence = Some(presence)), there);
    assert_eq!(with(&|event| event.presence = None), NoReceipt::NoAnswer(step.clone()));
    assert_eq!(with(&|event| event.mode = Some(Mode::Capture)), NoReceipt::NoAnswer(step.clone()));
    assert_eq!(with(&|event| event.job = Some(JobKind::Restore)), NoReceipt::NoAnswer(step.clone()));
    assert_eq!(with(&|event| event.step = Some("another".into())), NoReceipt::NoAnswer(step));
    // Any other one that is unknown, too.
    let mut unknown = trail.clone();
    answer(&mut unknown, "hypervisor.stop").presence = Some(Presence::Unknown);
    assert_eq!(receipt(&deletion, &unknown).unwrap_err(), NoReceipt::Unknown("hypervisor.stop".into()));
    let mut own = trail.clone();
    own.iter_mut().for_each(|event| event.own.retain(|step| step != "inventory.remove"));
    assert_eq!(receipt(&deletion, &own).unwrap_err(), NoReceipt::NoAnswer("inventory.remove".into()));
    let mut endless = trail.clone();
    endless.last_mut().unwrap().state = Some(StateName::Running);
    assert_eq!(receipt(&deletion, &endless).unwrap_err(), NoReceipt::NoEnd);
    // The last answer counts: a failure after an earlier success is none.
    let mut later = trail.clone();
    let failed = AuditEvent { presence: None, ..answer(&mut later, "hypervisor.wipe").clone() };
    later.insert(later.len() - 1, failed);
    assert_eq!(receipt(&deletion, &later).unwrap_err(), NoReceipt::NoAnswer("hypervisor.wipe".into()));
}

#[test]
fn of_a_rehearsal_it_says_so_and_all_others_are_written_as_ever() {
    let (deletion, trail) = purged();
    let numbered: Vec<_> = (1..).zip(&trail).map(|(seq, event)| (seq, event.clone(), [7; 32])).collect();
    let of = |day: Day| draw_up("l", day, &deletion, BTreeMap::new(), &numbered).unwrap();
    let ever = serde_json::to_string(&of(Day::Calendar)).unwrap();
    assert!(!ever.contains("rehearsal_day_ms"), "{ever}");
    assert_eq!(serde_json::from_str::<Receipt>(&ever).unwrap().rehearsal_day_ms, None);
    let rehearsed = of(Day::Rehearsal { length_ms: 5 });
    assert_eq!((rehearsed.rehearsal_day_ms, rehearsed.check()), (Some(5), Ok(())));
    let text = serde_json::to_string(&rehearsed).unwrap();
    assert_eq!(serde_json::from_str::<Receipt>(&text).unwrap(), rehearsed);
    assert_eq!(text.replacen("\"rehearsal_day_ms\":5,", "", 1), ever, "nothing else is another one");
}

#[test]
fn only_what_is_purged_has_one() {
    let (mut deletion, trail) = purged();
    let purge = deletion.jobs.iter_mut().find(|job| job.kind == JobKind::Stage(Stage::Purge)).unwrap();
    for state in [JobState::Rescued, JobState::Cancelled, JobState::Parked { reason: "why".into() }] {
        purge.state = state;
        let not_yet = draw_up(
            "l",
            Day::Calendar,
            &Deletion { jobs: vec![purge.clone()], status: RecordStatus::Live, ..test_deletion().0 },
            BTreeMap::new(),
            &[(1, trail[0].clone(), [0; 32])],
        );
        assert_eq!(not_yet.unwrap_err(), NoReceipt::NotPurged);
    }
}

#[test]
fn what_a_person_let_pass_is_named_and_what_remains_with_its_date() {
    let (mut deletion, mut trail) = purged();
    answer(&mut trail, "dns.forget").presence = None;
    let absent = waiver(&deletion, Stage::Purge, "dns.forget", WaiverClaim::Absent, "no such zone any more");
    deletion.waivers.push(absent);
    let found = receipt(&deletion, &trail).unwrap();
    assert!(found.complete);
    assert_eq!(found.sentence(), "all of it is gone (1 step on a person's statement)");

    let evidence = "locked by the store: present until 2027-03-01, the last one present until 2027-06-30";
    let stays = waiver(&deletion, Stage::Purge, "hypervisor.wipe", WaiverClaim::MayRemain, evidence);
    deletion.waivers.push(stays);
    answer(&mut trail, "hypervisor.wipe").presence = Some(Presence::Present);
    let found = receipt(&deletion, &trail).unwrap();
    let [only] = found.remains.as_slice() else { panic!("{:?}", found.remains) };
    assert_eq!(only.until, Some("2027-06-30".parse().unwrap()));
    assert!(!found.complete);
    let said = found.sentence();
    assert!(
        said.starts_with("NOT all of it is gone (2 steps") && said.contains("present until 2027-06-30"),
        "{said}"
    );
    let wipe = found.steps.iter().find(|step| step.step == "hypervisor.wipe").unwrap();
    let Proof::Waived { claim, by, shown, .. } = &wipe.proof else { panic!("{wipe:?}") };
    assert_eq!((*claim, by.as_str(), *shown), (WaiverClaim::MayRemain, "approver", Some(Presence::Present)));
}

/// Whoever holds the key may sign anything; what is no receipt is found out all the same.
#[test]
fn a_receipt_that_contradicts_itself_is_none() {
    let (deletion, trail) = purged();
    let good = receipt(&deletion, &trail).unwrap();
    type Spoil = fn(&mut Receipt);
    let cases: [(&str, Spoil); 6] = [
        ("format 2", |r| r.format = 2),
        ("do not agree", |r| r.complete = false),
        ("another record", |r| r.rests_on.chain = "d-2".into()),
        ("do not agree", |r| {
            let (step, evidence) = ("x".into(), String::new());
            r.remains.push(Remains { step, instance: None, until: None, evidence });
            r.complete = false;
        }),
        ("unknown is no proof", |r| spoil(r, Presence::Unknown)),
        ("Present was seen", |r| spoil(r, Presence::Present)),
    ];
    for (expected, spoil) in cases {
        let mut spoilt = good.clone();
        spoil(&mut spoilt);
        let refused = spoilt.check().unwrap_err().to_string();
        assert!(refused.contains(expected), "{expected}: {refused}");
    }
}

fn spoil(receipt: &mut Receipt, to: Presence) {
    let wipe = receipt.steps.iter_mut().find(|step| step.step == "hypervisor.wipe").unwrap();
    let Proof::Seen { presence, .. } = &mut wipe.proof else { panic!("{wipe:?}") };
    *presence = to;
}
