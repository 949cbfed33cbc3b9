//! What one coordinator finds and tells: of itself, of a job table that went back in time, and by mail.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::NaiveTime;
use sexton_coordinator::Hindrance;
use sexton_coordinator::alarms::mail::{Mail, server};
use sexton_coordinator::alarms::{Alarmer, Options, Route, RouteKind};
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{AlarmFilter, Ledger, Limits};
use sexton_model::alarm::{AlarmKind, Notice, Phase};
use sexton_model::belts::Policy;
use sexton_model::digest::Daily;
use sexton_model::time::Day;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

async fn ledger(folder: &Path) -> Arc<dyn Ledger> {
    let options =
        sexton_ledger::Options { day: Day::Calendar, limits: Limits::default(), policy: Policy::default() };
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
    let last = NaiveTime::from_hms_opt(23, 59, 59).unwrap();
    Alarmer::new(Options {
        routes: vec![route.clone()],
        name: name.to_owned(),
        round_ms: 0,
        daily: Daily { at: last, zone: chrono_tz::UTC },
        ..Options::default()
    })
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
