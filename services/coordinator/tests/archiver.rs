//! The archiver, killed between any two lines, and given files that are not what they should be.
#![expect(clippy::unwrap_used, reason = "a test says what it expected by failing")]
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use sexton_api::{Client, ClientError, ListQuery};
use sexton_bus::local::Local;
use sexton_bus::{Bus as _, Outgoing, Queue, Target, Topology};
use sexton_coordinator::api::{Api, router};
use sexton_coordinator::archiver::{Options, Round};
use sexton_coordinator::{Archiver, Attester, Engine, Plans, Witness, attester};
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Archive, Ended, Intent, Ledger, LedgerError, Limits, NewDeletion};
use sexton_model::archive::{Document, Stub};
use sexton_model::belts::Policy;
use sexton_model::catalogue::Catalogue;
use sexton_model::decide::Event;
use sexton_model::deletion::{Due, RecordStatus, Zone};
use sexton_model::plan::Plan;
use sexton_model::step::{Outcome, Presence};
use sexton_model::time::Day;
use sexton_model::{DeletionId, Fence, JobId, Timestamp};
use sexton_protocol::archive::{open, seal, sha256, verify_stub};
use sexton_protocol::{
    BeaconSigner, BeaconVerifier, Event as Envelope, Holder, Keyring, Message as _, OutcomeReport, Pack,
    Report,
};

const PLAN: &str = r#"kind = "vm"
version = 1
criticality = "irreplaceable"
rehearsal = true
[stages.announce]
offset_days = -1
steps = []
[stages.soft]
offset_days = 0
steps = []
[stages.hard]
offset_days = 1
steps = []
[stages.purge]
offset_days = 2
steps = []
[stages.recycle]
offset_days = 3
steps = []
"#;

/// The job table, which may die before it writes, show a document that is not what is stored, or name records that have
/// not ended.
#[derive(Clone)]
struct Store {
    ledger: Arc<SqliteLedger>,
    dies: bool,
    spoil: fn(&mut Document),
    also: Option<Ended>,
}

#[async_trait]
impl Archive for Store {
    async fn ended(
        &self,
        before: Timestamp,
        after: Option<Ended>,
        limit: u32,
    ) -> Result<Vec<Ended>, LedgerError> {
        let found = self.ledger.ended(before, after, limit).await?;
        Ok(self.also.into_iter().chain(found).collect())
    }

    async fn whole(&self, id: DeletionId) -> Result<Option<Document>, LedgerError> {
        let mut document = self.ledger.whole(id).await?;
        document.iter_mut().for_each(self.spoil);
        Ok(document)
    }

    async fn archive(&self, stub: &Stub) -> Result<bool, LedgerError> {
        if self.dies {
            return Err(LedgerError::Unfit("killed".into()));
        }
        self.ledger.archive(stub).await
    }
}

struct Site {
    folder: tempfile::TempDir,
    ledger: Arc<SqliteLedger>,
    signer: Arc<BeaconSigner>,
    plan: Arc<Plan>,
}

impl Site {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = sexton_ledger::Options {
            day: Day::Rehearsal { length_ms: 1 },
            limits: Limits::default(),
            policy: Policy::default(),
        };
        let ledger = SqliteLedger::open(folder.path().join("sexton.db"), options).await.unwrap();
        std::fs::create_dir(folder.path().join("archive")).unwrap();
        let signer = Arc::new(BeaconSigner::generate("audit-1", &mut rand::rng()));
        let plan = Arc::new(Plan::parse("vm.toml", PLAN, &Catalogue::default(), true).unwrap());
        Self { folder, ledger: Arc::new(ledger), signer, plan }
    }

    /// A record that is live, due in a thousand days.
    async fn live(&self, name: &str) -> DeletionId {
        let resource = serde_json::json!({
            "id": format!("vm/{name}"), "scope": "tenants/acme", "identity": {"uuid": name},
            "criticality": "irreplaceable",
        });
        let resource: sexton_model::resource::Resource = serde_json::from_value(resource).unwrap();
        let id = resource.id.clone();
        let by = "ops".parse().unwrap();
        assert_eq!(self.ledger.register(vec![resource], &by, true).await.unwrap(), [Ok(())]);
        let now = self.ledger.facts().await.unwrap().now;
        let (date, zone) = (now.utc().date_naive(), Zone("UTC".parse().unwrap()));
        let due = Due { date, zone, moment: Some(now.plus_ms(1_000_000)) };
        let (reason, plan) = ("no longer needed".to_owned(), self.plan.clone());
        let new = NewDeletion { resource: id, due, gone_by: None, by, reason, plan };
        self.ledger.create(vec![new]).await.unwrap().remove(0).unwrap()
    }

    /// A record that ended longer ago than a day of this rehearsal lasts.
    async fn ended(&self, name: &str) -> DeletionId {
        let id = self.live(name).await;
        let event = Event::Cancel { by: "ops".parse().unwrap(), reason: "kept".into() };
        let decided = self.ledger.run(vec![Intent { deletion: id, event }]).await.unwrap().remove(0).unwrap();
        assert_eq!(decided.status, RecordStatus::Cancelled);
        while self.ledger.facts().await.unwrap().now.ms_since(decided.at) < 3 {
            tokio::task::yield_now().await;
        }
        self.sign().await;
        id
    }

    /// Have all that has grown signed.
    async fn sign(&self) {
        let file = self.folder.path().join("checkpoints");
        let (every, signer, known) = (Duration::from_secs(1), self.signer.clone(), BeaconVerifier::default());
        let attester = Attester::new(attester::Options { file, every, signer, known });
        let mut left = Some(attester::Round::default());
        while let Some(round) = left {
            left = attester.go_on(&*self.ledger, round).await;
        }
        assert_eq!(attester.trouble(), None);
    }

    fn store(&self) -> Store {
        Store { ledger: self.ledger.clone(), dies: false, spoil: |_| {}, also: None }
    }

    fn archiver(&self, store: Store) -> Archiver {
        self.archiver_with(store, self.signer.clone(), BeaconVerifier::default())
    }

    fn archiver_with(&self, store: Store, signer: Arc<BeaconSigner>, known: BeaconVerifier) -> Archiver {
        let folder = self.folder.path().join("archive");
        Archiver::new(Options { store: Arc::new(store), folder, after_days: 1, signer, known })
    }

    /// One round: how many records were archived in it, and how many refused.
    async fn round(&self, archiver: &Archiver) -> (u64, u64) {
        let counted = || {
            let counters = &archiver.counters;
            (counters.archived.load(Ordering::Relaxed), counters.refused.load(Ordering::Relaxed))
        };
        let before = counted();
        let mut left = Some(Round::default());
        while let Some(round) = left {
            left = archiver.go_on(&*self.ledger, round).await.unwrap();
        }
        let after = counted();
        (after.0 - before.0, after.1 - before.1)
    }

    async fn there(&self, id: DeletionId) -> bool {
        let (row, stub) = (self.ledger.deletion(id).await.unwrap(), self.ledger.stub(id).await.unwrap());
        assert_ne!(row.is_some(), stub.is_some(), "either the record or its stub");
        row.is_some()
    }

    async fn file(&self, id: DeletionId) -> PathBuf {
        let document = self.ledger.whole(id).await.unwrap().unwrap();
        self.folder.path().join("archive").join(document.file_name())
    }

    fn files(&self) -> usize {
        let months = std::fs::read_dir(self.folder.path().join("archive")).unwrap();
        let months = months.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
        months.map(|month| std::fs::read_dir(month).unwrap().count()).sum()
    }
}

#[tokio::test]
async fn what_ended_long_ago_is_archived_and_can_be_checked_without_the_job_table() {
    let site = Site::new().await;
    let (id, live) = (site.ended("web01").await, site.live("web02").await);
    let (file, whole) = (site.file(id).await, site.ledger.whole(id).await.unwrap().unwrap());
    let archiver = site.archiver(site.store());
    assert_eq!(site.round(&archiver).await, (1, 0));
    assert_eq!(site.round(&archiver).await, (0, 0), "once");
    assert!(site.there(live).await && !site.there(id).await);
    let bytes = std::fs::read(&file).unwrap();
    let stub = site.ledger.stub(id).await.unwrap().unwrap();
    assert_eq!(stub.entry.sha256, sha256(&bytes));
    assert!(file.ends_with(&stub.entry.file));
    let keys = site.signer.verifier();
    let opened = open(&bytes, &keys).unwrap();
    assert_eq!((opened.signed, opened.sound), (Ok(()), Ok(())));
    assert_eq!(opened.document, whole);
    assert_eq!((verify_stub(&stub, &keys), archiver.verify(&stub)), (Ok(()), Ok(())));

    // Whatever is changed, in the file or in the stub, is found.
    let text = String::from_utf8(bytes).unwrap();
    let changed = text.replacen("no longer needed", "no longer wanted", 1);
    assert_ne!(changed, text);
    assert!(open(changed.as_bytes(), &keys).unwrap().signed.is_err());
    let mut other = stub.clone();
    other.entry.file = "elsewhere".into();
    assert!(verify_stub(&other, &keys).is_err());
    let stranger = BeaconSigner::generate("audit-1", &mut rand::rng()).verifier();
    assert!(open(text.as_bytes(), &stranger).unwrap().signed.is_err());
    assert!(verify_stub(&stub, &stranger).is_err());
}

#[tokio::test]
async fn nothing_is_archived_before_its_time() {
    let site = Site::new().await;
    let id = site.ended("web01").await;
    let folder = site.folder.path().join("archive");
    let (store, signer) = (Arc::new(site.store()), site.signer.clone());
    let known = BeaconVerifier::default();
    let later = Archiver::new(Options { store, folder, after_days: 10_000_000, signer, known });
    assert_eq!(site.round(&later).await, (0, 0));
    assert!(site.there(id).await);
    assert_eq!(site.files(), 0);
}

#[tokio::test]
async fn killed_before_the_stub_it_goes_on_with_the_same_file() {
    let site = Site::new().await;
    let id = site.ended("web01").await;
    let file = site.file(id).await;
    let dying = site.archiver(Store { dies: true, ..site.store() });
    assert_eq!(site.round(&dying).await, (0, 1));
    assert!(site.there(id).await);
    let left = std::fs::read(&file).unwrap();
    // Nor does it matter what the one before left aside.
    std::fs::write(site.folder.path().join("archive/.new"), "torn").unwrap();
    drop(dying);

    // Meanwhile the key was exchanged. Whoever does not know the old one cannot tell who wrote that file.
    let new = Arc::new(BeaconSigner::generate("audit-2", &mut rand::rng()));
    let forgetful = site.archiver_with(site.store(), new.clone(), BeaconVerifier::default());
    assert_eq!(site.round(&forgetful).await, (0, 1));
    assert!(site.there(id).await);
    let next = site.archiver_with(site.store(), new.clone(), site.signer.verifier());
    assert_eq!(site.round(&next).await, (1, 0));
    assert!(!site.there(id).await);
    assert_eq!(std::fs::read(&file).unwrap(), left, "it was not written again");
    let stub = site.ledger.stub(id).await.unwrap().unwrap();
    assert_eq!((stub.entry.sha256, stub.key_id.as_str()), (sha256(&left), "audit-2"));
}

#[tokio::test]
async fn another_file_under_the_name_is_neither_taken_nor_replaced() {
    let site = Site::new().await;
    let id = site.ended("web01").await;
    let (file, document) = (site.file(id).await, site.ledger.whole(id).await.unwrap().unwrap());
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    let good = seal(&document, &site.signer).unwrap();
    let mut other = document.clone();
    other.targets.insert("dns.main".parse().unwrap(), serde_json::json!(["another"]));
    let text = String::from_utf8(good.clone()).unwrap();
    let archiver = site.archiver(site.store());
    for bytes in [
        seal(&other, &site.signer).unwrap(),
        text.replacen("no longer needed", "no longer wanted", 1).into_bytes(),
        text.replacen("\"signature\":\"", "\"signature\":\"A", 1).into_bytes(),
        good[..good.len() - 10].to_vec(),
        Vec::new(),
    ] {
        std::fs::write(&file, &bytes).unwrap();
        assert_eq!(site.round(&archiver).await, (0, 1), "{}", String::from_utf8_lossy(&bytes));
        assert!(site.there(id).await);
        assert_eq!(std::fs::read(&file).unwrap(), bytes);
    }
    std::fs::write(&file, &good).unwrap();
    assert_eq!(site.round(&archiver).await, (1, 0));
}

#[tokio::test]
async fn what_is_broken_or_goes_on_stays_and_stops_nobody_else() {
    let site = Site::new().await;
    let (id, live) = (site.ended("web01").await, site.live("web02").await);
    let broken = site.archiver(Store { spoil: |d| d.events[0].body.push(' '), ..site.store() });
    assert_eq!(site.round(&broken).await, (0, 1));
    assert!(site.there(id).await);
    assert_eq!(site.files(), 0, "no file is written of it");
    // The job table itself is asked to name a live one; it is refused, and the next one goes.
    let also = Some(Ended { at: Timestamp(0), deletion: live });
    let eager = site.archiver(Store { also, ..site.store() });
    assert!(eager.go_on(&*site.ledger, Round::default()).await.unwrap().is_none());
    let counted = |of: &std::sync::atomic::AtomicU64| of.load(Ordering::Relaxed);
    assert_eq!((counted(&eager.counters.archived), counted(&eager.counters.refused)), (1, 1));
    assert!(site.there(live).await && !site.there(id).await);
    assert_eq!(site.files(), 1);
}

#[tokio::test]
async fn under_review_nothing_is_archived() {
    let site = Site::new().await;
    let id = site.ended("web01").await;
    let mut later = site.ledger.known();
    later.mark.number += 1;
    let review = site.ledger.confront(&later).await.unwrap().unwrap();
    let archiver = site.archiver(site.store());
    assert_eq!(site.round(&archiver).await, (0, 0));
    assert_eq!(site.files(), 0);
    let by = "ops".parse().unwrap();
    assert!(site.ledger.accept_review(review.epoch, &by, "compared").await.unwrap());
    assert_eq!(site.round(&archiver).await, (1, 0));
    assert!(!site.there(id).await);
}

/// Whoever asks for an archived record is told where it is, whatever is asked of it.
#[tokio::test]
async fn an_archived_record_says_where_it_is() {
    let site = Site::new().await;
    let id = site.ended("web01").await;
    let ledger: Arc<dyn Ledger> = site.ledger.clone();
    let witness = Witness::open(&site.folder.path().join("witness"), &*ledger, true).await.unwrap();
    let engine = Engine::new(sexton_coordinator::Options {
        ledger,
        bus: Arc::new(Local::new()),
        keyring: Arc::new(Keyring::generate([Holder::Scheduler], &mut rand::rng())),
        signer: site.signer.clone(),
        unpacked: Vec::new(),
        witness: Arc::new(witness),
    });
    let engine = Arc::new(engine.archiving(Some(site.archiver(site.store()))));
    let plans = Arc::new(Plans::of(&[], &[("vm.toml", PLAN)], true).unwrap());
    let api = Api { engine: engine.clone(), plans, token: None };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, router(Arc::new(api))).await });
    let client = Client::new(&url, None, "ops".parse::<sexton_model::Actor>().unwrap()).unwrap();

    assert_eq!(client.deletion(&id.to_string()).await.unwrap().id, id);
    assert!(
        matches!(client.archived(&id.to_string()).await, Err(ClientError::Problem(p)) if p.status == 404)
    );
    assert_eq!(site.round(engine.archiver().unwrap()).await, (1, 0));
    let stub = site.ledger.stub(id).await.unwrap().unwrap();
    let asked = [
        client.deletion(&id.to_string()).await.map(drop),
        client.deletion("vm/web01").await.map(drop),
        client.hold(id, "wait").await.map(drop),
    ];
    for answer in asked {
        let error = answer.unwrap_err();
        assert!(error.is_gone(), "{error}");
        let said = error.to_string();
        let digest = sexton_model::audit::hex(&stub.entry.sha256);
        for part in [stub.entry.file.as_str(), &digest, "cancelled", &stub.entry.archived_at.to_string()] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    for what in [id.to_string(), "vm/web01".to_owned()] {
        let info = client.archived(&what).await.unwrap();
        assert_eq!((info.id, info.signed.as_str(), &info.file), (id, "verified", &stub.entry.file));
    }
    assert_eq!(client.deletions(&ListQuery::default()).await.unwrap().items.len(), 0);
    assert_eq!(client.all_archived(&ListQuery::default()).await.unwrap().items.len(), 1);
    let by_scope = ListQuery { scope: Some("tenants/acme".parse().unwrap()), ..ListQuery::default() };
    assert!(client.all_archived(&by_scope).await.unwrap_err().to_string().starts_with("scope: "));
    let name = client.name(&"vm/web01".parse().unwrap()).await.unwrap();
    assert_eq!(
        name.taken_by.as_deref(),
        Some("a registered resource"),
        "it came back, and is there as before"
    );
    serving.abort();
}

/// An answer to an order of an archived record is late, and no proof that the job table went back; one to an order of a
/// record that never was is.
#[tokio::test]
async fn a_late_answer_about_an_archived_record_proves_nothing() {
    let site = Site::new().await;
    let id = site.ended("web01").await;
    let instance: sexton_model::Instance = "dns.main".parse().unwrap();
    let bus = Local::with_topology(Topology::for_instances(std::slice::from_ref(&instance)));
    let keyring = Arc::new(Keyring::generate([Holder::Instance(instance.clone())], &mut rand::rng()));
    let ledger: Arc<dyn Ledger> = site.ledger.clone();
    let witness = Witness::open(&site.folder.path().join("witness"), &*ledger, true).await.unwrap();
    let engine = Engine::new(sexton_coordinator::Options {
        ledger,
        bus: Arc::new(bus.clone()),
        keyring: keyring.clone(),
        signer: site.signer.clone(),
        unpacked: Vec::new(),
        witness: Arc::new(witness),
    });
    assert_eq!(site.round(&site.archiver(site.store())).await, (1, 0));
    let mut outcomes = bus.consume(&Queue::Outcomes, 1).await.unwrap();
    for (deletion, reviewed) in [(id, false), (DeletionId(id.0 + 1), true)] {
        let report: Report = OutcomeReport {
            job: JobId::of(deletion, 0),
            fence: Fence { epoch: 1, number: 1 },
            instance: instance.clone(),
            outcome: Outcome::done(Presence::Absent, "seen"),
        }
        .into();
        let packed = Pack::one(Envelope::new("/test", Timestamp(0), report)).encode().unwrap();
        let seal =
            keyring.sign(&Holder::Instance(instance.clone()), Report::DIRECTION, &packed.body).unwrap();
        let message = Outgoing {
            target: Target::Queue(Queue::Outcomes),
            body: packed.body,
            key_id: seal.key_id,
            mac: seal.mac,
            message_id: packed.message_id,
            ttl: None,
        };
        let sent = bus.as_user("dns.main").publish(vec![message]).await;
        assert!(sent.iter().all(Result::is_ok), "{sent:?}");
        let deliveries = outcomes.next_batch(1, std::time::Duration::from_millis(1)).await;
        engine.on_reports(&deliveries).await.unwrap();
        assert_eq!(site.ledger.review().await.unwrap().is_some(), reviewed, "{deletion}");
        outcomes.ack(deliveries.into_iter().map(|d| d.tag).collect()).await;
    }
}
