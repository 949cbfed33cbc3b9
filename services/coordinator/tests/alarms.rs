//! What one coordinator finds and tells: of itself, of a job table that went back in time, of what does not come back, and by mail.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::NaiveTime;
use sexton_coordinator::alarms::mail::{Mail, server};
use sexton_coordinator::alarms::{Alarmer, Options, Route, RouteKind};
use sexton_coordinator::{Hindrance, Plans};
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{AlarmFilter, Alive, Decided, Found, Intent, Ledger, Limits, NewDeletion};
use sexton_model::alarm::{Alarm, AlarmKind, Notice, Phase, Rules, Subject};
use sexton_model::belts::Policy;
use sexton_model::decide::Event;
use sexton_model::deletion::{Due, RecordStatus, Zone};
use sexton_model::digest::Daily;
use sexton_model::job::Stage;
use sexton_model::step::Outcome;
use sexton_model::time::Day;
use sexton_model::{DeletionId, JobId};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

async fn ledger(folder: &Path) -> Arc<dyn Ledger> {
    ledger_of(folder, Day::Calendar).await
}

async fn ledger_of(folder: &Path, day: Day) -> Arc<dyn Ledger> {
    let options = sexton_ledger::Options { day, limits: Limits::default(), policy: Policy::default() };
    Arc::new(SqliteLedger::open(&folder.join("sexton.db"), options).await.unwrap())
}

/// Notes what it is told.
#[derive(Default)]
struct Noted(Mutex<Vec<(Phase, AlarmKind, String)>>);

#[async_trait]
impl Route for Noted {
    fn kind(&self) -> RouteKind {
        RouteKind::Command
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        if let Notice::Alarm { phase, alarm, .. } = notice {
            let told = (*phase, alarm.alarm.kind, alarm.alarm.subject.to_string());
            self.0.lock().unwrap().push(told);
        }
        Ok(())
    }
}

fn alarmer(name: &str, route: &Arc<Noted>) -> Alarmer {
    Alarmer::new(options(name, route))
}

fn options(name: &str, route: &Arc<Noted>) -> Options {
    let last = NaiveTime::from_hms_opt(23, 59, 59).unwrap();
    Options {
        routes: vec![route.clone()],
        name: name.to_owned(),
        round_ms: 0,
        daily: Daily { at: last, zone: chrono_tz::UTC },
        ..Options::default()
    }
}

async fn open(ledger: &dyn Ledger) -> Vec<AlarmKind> {
    let filter = AlarmFilter { ended: false, before: None, limit: 10 };
    let page = ledger.alarms(filter).await.unwrap();
    page.items.into_iter().map(|view| view.standing.alarm.kind).collect()
}

#[tokio::test]
async fn a_coordinator_that_orders_nothing_says_so_of_itself_alone() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger(folder.path()).await;
    let told = Arc::<Noted>::default();
    let (one, other) = (alarmer("one", &told), alarmer("other", &told));
    let stale = [Hindrance::Witness { stale: Duration::from_secs(70) }];
    other.tick(&*ledger, &[]).await.unwrap();
    one.tick(&*ledger, &stale).await.unwrap();
    // Another one, which has a witness, does not know better.
    other.tick(&*ledger, &[]).await.unwrap();
    assert_eq!(open(&*ledger).await, [AlarmKind::OrdersStopped]);
    one.tick(&*ledger, &stale).await.unwrap();
    one.tick(&*ledger, &[]).await.unwrap();
    assert_eq!(open(&*ledger).await, []);
    // One that was started anew does not know what it has said before, and says how it is.
    one.tick(&*ledger, &stale).await.unwrap();
    alarmer("one", &told).tick(&*ledger, &[]).await.unwrap();
    assert_eq!(open(&*ledger).await, []);
    let stopped = |phase| (phase, AlarmKind::OrdersStopped, "coordinator one".to_owned());
    let twice = [Phase::Raised, Phase::Ended, Phase::Raised, Phase::Ended].map(stopped);
    assert_eq!(*told.0.lock().unwrap(), twice);
}

#[tokio::test]
async fn an_audit_trail_that_is_not_signed_is_told_until_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger(folder.path()).await;
    let told = Arc::<Noted>::default();
    let alarmer = alarmer("one", &told);
    let why = "its last line, number 2, is not what the job table holds".to_owned();
    alarmer.tick(&*ledger, &[Hindrance::Checkpoints { why }]).await.unwrap();
    assert_eq!(open(&*ledger).await, [AlarmKind::AuditTrail]);
    let filter = AlarmFilter { ended: false, before: None, limit: 10 };
    let text = ledger.alarms(filter).await.unwrap().items.remove(0).standing.alarm.text;
    assert!(text.contains("number 2, is not what the job table holds"), "{text}");
    alarmer.tick(&*ledger, &[]).await.unwrap();
    assert_eq!(open(&*ledger).await, []);
    let trail = |phase| (phase, AlarmKind::AuditTrail, "coordinator one".to_owned());
    assert_eq!(*told.0.lock().unwrap(), [trail(Phase::Raised), trail(Phase::Ended)]);
}

#[tokio::test]
async fn a_job_table_that_went_back_is_told_until_it_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger(folder.path()).await;
    let told = Arc::<Noted>::default();
    let alarmer = alarmer("one", &told);
    let mut known = ledger.checkpoint().await.unwrap();
    known.mark.number += 1000;
    let review = ledger.confront(&known).await.unwrap().unwrap();
    alarmer.tick(&*ledger, &[Hindrance::Review]).await.unwrap();
    assert_eq!(open(&*ledger).await, [AlarmKind::Review]);
    assert!(ledger.accept_review(review.epoch, &"eva".parse().unwrap(), "compared").await.unwrap());
    alarmer.tick(&*ledger, &[]).await.unwrap();
    assert_eq!(open(&*ledger).await, []);
    let review = |phase| (phase, AlarmKind::Review, "the job table".to_owned());
    assert_eq!(*told.0.lock().unwrap(), [review(Phase::Raised), review(Phase::Ended)]);
}

/// A record that was due at once.
async fn made(ledger: &dyn Ledger) -> DeletionId {
    let plans = [("vm.toml", include_str!("looks/vm.toml"))];
    let plans = Plans::of(&[("dns.toml", include_str!("looks/dns.toml"))], &plans, true).unwrap();
    let now = ledger.facts().await.unwrap().now;
    let resource = serde_json::from_value(serde_json::json!({
        "id": "vm/web01", "scope": "lab", "identity": {"uuid": "1"}, "criticality": "reproducible",
        "rebuilt": {"on": now.utc().date_naive(), "evidence": "a test"},
    }))
    .unwrap();
    assert_eq!(ledger.register(vec![resource], &"ops".parse().unwrap(), true).await.unwrap(), [Ok(())]);
    let new = NewDeletion {
        resource: "vm/web01".parse().unwrap(),
        due: Due { date: now.utc().date_naive(), zone: Zone("UTC".parse().unwrap()), moment: Some(now) },
        gone_by: None,
        by: "ops".parse().unwrap(),
        reason: "contract ended".into(),
        plan: plans.of_kind(&"vm".parse().unwrap()).unwrap().clone(),
    };
    ledger.create(vec![new]).await.unwrap().remove(0).unwrap()
}

async fn decided(ledger: &dyn Ledger, deletion: DeletionId, event: Event) -> Decided {
    ledger.run(vec![Intent { deletion, event }]).await.unwrap().remove(0).unwrap()
}

/// An order that is out for the first time excuses it, as each step of a restore does once more: of whoever was told before that it
/// does not come back it is no end.
#[tokio::test]
async fn what_does_not_come_back_is_told_once_whatever_order_is_out() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of(folder.path(), Day::Rehearsal { length_ms: 1000 }).await;
    let alive = Alive { instance: "dns.main".parse().unwrap(), copy: "one".into(), hands: 8, answered: 0 };
    ledger.pulse(vec![alive]).await.unwrap();
    let id = made(&*ledger).await;
    let claim = Event::Claim { job: JobId::of(id, Stage::Announce.index()) };
    let order = decided(&*ledger, id, claim).await.dispatch.unwrap().spec;
    decided(&*ledger, id, Event::Cancel { by: "ops".parse().unwrap(), reason: "it is wanted".into() }).await;
    // Ten minutes are over at once.
    let told = Arc::<Noted>::default();
    let rules = Rules { not_back_ms: 0, ..Rules::default() };
    let alarmer = Alarmer::new(Options { rules, ..options("one", &told) });
    alarmer.tick(&*ledger, &[]).await.unwrap();
    assert_eq!(open(&*ledger).await, [], "its order has until its deadline");

    // Somebody has found it in line.
    let subject = Subject::Deletion { deletion: id, resource: "vm/web01".parse().unwrap() };
    let scope = Some("lab".parse().unwrap());
    let alarm = Alarm::new(AlarmKind::NotBack, scope, subject.clone(), "it is not back", "look");
    let since = ledger.facts().await.unwrap().now;
    ledger.note_alarms(Found { since, hold: vec![alarm], ..Found::default() }).await.unwrap();
    for _ in 0..2 {
        alarmer.tick(&*ledger, &[]).await.unwrap();
        assert_eq!(open(&*ledger).await, [AlarmKind::NotBack]);
    }

    let (job, from, fence) = (order.job, order.instance, order.fence);
    let outcome = Outcome::failed("no answer");
    decided(&*ledger, id, Event::Outcome { job, from, fence, outcome }).await;
    let status = ledger.deletion(id).await.unwrap().unwrap().deletion.status;
    assert_eq!(status, RecordStatus::Cancelled, "nothing was switched off");
    alarmer.tick(&*ledger, &[]).await.unwrap();
    assert_eq!(open(&*ledger).await, []);
    let once = [Phase::Raised, Phase::Ended].map(|phase| (phase, AlarmKind::NotBack, subject.to_string()));
    assert_eq!(*told.0.lock().unwrap(), once);
}

/// Takes mail for everybody but `nobody@…`; what it was given, as it came.
async fn post_office(listener: TcpListener, taken: Arc<Mutex<Vec<String>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let taken = taken.clone();
        tokio::spawn(async move {
            let (read, mut write) = stream.into_split();
            let mut lines = BufReader::new(read).lines();
            write.write_all(b"220 here\r\n").await.unwrap();
            while let Ok(Some(line)) = lines.next_line().await {
                let answer = match line.split([' ', ':']).next().unwrap() {
                    "RCPT" if line.contains("nobody@") => "550 nobody is called so\r\n",
                    "DATA" => {
                        write.write_all(b"354 go on\r\n").await.unwrap();
                        let mut letter = String::new();
                        while let Ok(Some(line)) = lines.next_line().await {
                            if line == "." {
                                break;
                            }
                            letter += &(line + "\n");
                        }
                        taken.lock().unwrap().push(letter);
                        "250 taken\r\n"
                    }
                    "QUIT" => return,
                    _ => "250 yes\r\n",
                };
                write.write_all(answer.as_bytes()).await.unwrap();
            }
        });
    }
}

#[tokio::test]
async fn mail_is_told_if_one_of_them_is() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = server(&format!("smtp://{}", listener.local_addr().unwrap())).unwrap();
    let taken = Arc::<Mutex<Vec<String>>>::default();
    tokio::spawn(post_office(listener, taken.clone()));
    let mail = |to: &[&str]| {
        let to = to.iter().map(|to| to.parse().unwrap()).collect();
        let from = "Sexton <sexton@example.org>".parse().unwrap();
        Mail::new(&url, None, (from, to), Duration::from_secs(30)).unwrap()
    };
    let alarm = sexton_model::alarm::hold::orders_stopped("one", 70);
    let now = sexton_model::Timestamp(0);
    let standing =
        sexton_model::alarm::Standing { id: 7, alarm, raised_at: now, ended_at: None, acknowledged: None };
    let notice = Notice::of_alarm("l1", Phase::Raised, standing);
    mail(&["nobody@example.org", "eva@example.org"]).deliver(&notice).await.unwrap();
    let letter = taken.lock().unwrap().remove(0);
    for part in [
        "From: Sexton <sexton@example.org>",
        "To: eva@example.org",
        "Subject: sexton critical: orders_stopped: coordinator one",
        "Auto-Submitted: auto-generated",
        "What to do now: look whether the disk of the witness is full",
    ] {
        assert!(letter.contains(part), "{part:?} is missing in {letter}");
    }
    let why = mail(&["nobody@example.org"]).deliver(&notice).await.unwrap_err();
    assert!(why.contains("nobody is called so"), "{why}");
}
