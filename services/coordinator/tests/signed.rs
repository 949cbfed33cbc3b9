//! Signed checkpoints in the running coordinator: what is kept outside the job table, and when nothing is signed.
#![expect(clippy::unwrap_used, reason = "a test says what it expected by failing")]
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sexton_bus::local::Local;
use sexton_coordinator::attester::{Attester, Options, Round};
use sexton_coordinator::{Engine, Hindrance, Witness};
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Ledger, Limits};
use sexton_model::attest::{Head, Lost, Newest, Sequence, SignedCheckpoint};
use sexton_model::belts::Policy;
use sexton_model::checkpoint::Checkpoint;
use sexton_model::resource::Resource;
use sexton_model::time::Day;
use sexton_protocol::{BeaconSigner, BeaconVerifier, Holder, Keyring};
use sexton_testkit::job_table;
use tokio_util::sync::CancellationToken;

/// One job table, and a coordinator's file beside it.
struct Stage {
    folder: tempfile::TempDir,
    ledger: Arc<dyn Ledger>,
    signer: Arc<BeaconSigner>,
}

impl Stage {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(&folder.path().join("sexton.db")).await;
        let signer = Arc::new(BeaconSigner::generate("beacon", &mut rand::rng()));
        Self { folder, ledger, signer }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("coordinator.checkpoints")
    }

    fn attester(&self) -> Attester {
        self.attester_with(self.signer.clone(), BeaconVerifier::default())
    }

    fn attester_with(&self, signer: Arc<BeaconSigner>, known: BeaconVerifier) -> Attester {
        Attester::new(Options { file: self.file(), every: Duration::from_secs(300), signer, known })
    }

    /// One whole round; why it ended early, if it did.
    async fn round(&self, attester: &Attester) -> Option<String> {
        let mut left = Some(Round::default());
        while let Some(round) = left {
            left = attester.go_on(self.ledger.as_ref(), round).await;
        }
        attester.trouble()
    }

    async fn register(&self, name: &str) {
        let text = format!(
            r#"{{"id": "vm/{name}", "scope": "lab", "identity": {{"uuid": "{name}"}}, "criticality": "reproducible"}}"#
        );
        let resource: Resource = serde_json::from_str(&text).unwrap();
        let by = "ops".parse().unwrap();
        assert_eq!(self.ledger.register(vec![resource], &by, true).await.unwrap(), [Ok(())]);
    }

    fn lines(&self) -> Vec<SignedCheckpoint> {
        let text = std::fs::read_to_string(self.file()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Change the job table behind the back of whoever has it open.
    fn alter(&self, sql: &str) {
        job_table::alter(&self.folder.path().join("sexton.db"), sql);
    }

    /// The file says that a record of this number was signed.
    async fn sign_record(&self, number: u32) {
        let facts = self.ledger.facts().await.unwrap();
        let heads = ["d-9".to_owned(), format!("d-{number}"), "vm/one".to_owned()].map(|chain| Head {
            chain,
            seq: 1,
            hash: [7; 32],
        });
        let lost = Sequence::default().next(facts.ledger, facts.epoch, facts.now, heads.to_vec());
        let line = serde_json::to_string(&self.signer.sign_checkpoint(&lost).unwrap()).unwrap();
        std::fs::write(self.file(), line + "\n").unwrap();
    }

    /// Another coordinator, which knows of no record, has seen more of the job table than there is.
    async fn is_behind(&self) {
        let mut later = self.ledger.known();
        later.mark.number += 1;
        later.records = 0;
        assert!(self.ledger.confront(&later).await.unwrap().is_some());
    }

    /// How many signed checkpoints the job table holds.
    async fn stored(&self) -> usize {
        self.ledger.attested_after(0, 64).await.unwrap().len()
    }
}

async fn open(file: &Path) -> Arc<dyn Ledger> {
    let options =
        sexton_ledger::Options { day: Day::Calendar, limits: Limits::default(), policy: Policy::default() };
    Arc::new(SqliteLedger::open(file, options).await.unwrap())
}

/// The chains that are in the file, if all of it holds.
fn signed(lines: &[SignedCheckpoint], verifier: &BeaconVerifier) -> Vec<String> {
    let (mut sequence, mut newest) = (Sequence::default(), Newest::default());
    for line in lines {
        verifier.verify_checkpoint(line).unwrap();
        assert_eq!(newest.see(sequence.see(&line.body).unwrap()), []);
    }
    newest.into_heads().map(|Head { chain, .. }| chain).collect()
}

#[tokio::test]
async fn what_has_grown_is_signed_and_kept_outside() {
    let on = Stage::new().await;
    let attester = on.attester();
    assert_eq!(on.round(&attester).await, None);
    assert_eq!(on.lines(), [], "nothing has grown");
    on.register("one").await;
    assert_eq!(on.round(&attester).await, None);
    assert_eq!(on.round(&attester).await, None);
    on.register("two").await;
    assert_eq!(on.round(&attester).await, None);
    assert_eq!(signed(&on.lines(), &on.signer.verifier()), ["vm/one", "vm/two"]);
    assert_eq!(on.lines().len(), 2);
    // Another coordinator's file is made of what the job table holds, whoever signed it.
    let before = on.lines();
    std::fs::rename(on.file(), on.folder.path().join("first")).unwrap();
    let next = Arc::new(BeaconSigner::generate("next", &mut rand::rng()));
    on.register("three").await;
    let other = on.attester_with(next.clone(), on.signer.verifier());
    assert_eq!(on.round(&other).await, None);
    assert_eq!(on.lines()[..2], before);
    let both = on.signer.verifier().and(next.verifier());
    assert_eq!(signed(&on.lines(), &both), ["vm/one", "vm/three", "vm/two"]);
    // And the first one's lacks one line, that somebody else has signed.
    std::fs::rename(on.folder.path().join("first"), on.file()).unwrap();
    let why = on.round(&attester).await.unwrap();
    assert!(why.contains("number 3") || why.contains("checkpoint 3 is not authentic"), "{why}");
    assert_eq!(on.round(&on.attester_with(on.signer.clone(), next.verifier())).await, None);
    assert_eq!(on.lines().len(), 3);
}

/// A job table that is an earlier one, or another line of time: nothing is signed, nothing is overwritten, and a person
/// can have it go on.
#[tokio::test]
async fn a_job_table_that_is_not_the_files_is_not_signed() {
    let mut on = Stage::new().await;
    on.register("one").await;
    let attester = on.attester();
    assert_eq!(on.round(&attester).await, None);
    let (db, copy) = (on.folder.path().join("sexton.db"), on.folder.path().join("copy.db"));
    on = reopened(on, &db, |db| std::fs::copy(db, &copy).map(|_| ()).unwrap()).await;
    on.register("two").await;
    assert_eq!(on.round(&attester).await, None);
    let kept = std::fs::read(on.file()).unwrap();
    on = reopened(on, &db, |db| std::fs::copy(&copy, db).map(|_| ()).unwrap()).await;
    for further in ["three", "four"] {
        on.register(further).await;
        let why = on.round(&attester).await.unwrap();
        assert!(why.contains("its last line, number 2, is not what the job table holds"), "{why}");
        assert_eq!((on.stored().await, std::fs::read(on.file()).unwrap()), (1, kept.clone()));
    }
    std::fs::rename(on.file(), on.folder.path().join("kept")).unwrap();
    assert_eq!(on.round(&attester).await, None);
    assert_eq!(signed(&on.lines(), &on.signer.verifier()), ["vm/four", "vm/one", "vm/three"]);
}

/// Whoever reviews a job table that was set back is told which chains have lost what was signed of them.
#[tokio::test]
async fn what_was_signed_and_is_lost_is_named() {
    let mut on = Stage::new().await;
    on.register("one").await;
    let attester = on.attester();
    assert_eq!(on.round(&attester).await, None);
    let (db, copy) = (on.folder.path().join("sexton.db"), on.folder.path().join("copy.db"));
    on = reopened(on, &db, |db| std::fs::copy(db, &copy).map(|_| ()).unwrap()).await;
    for name in ["three", "two"] {
        on.register(name).await;
    }
    assert_eq!(on.round(&attester).await, None);
    let lost = async |on: &Stage| attester.lost(on.ledger.as_ref()).await.unwrap();
    assert!(lost(&on).await.is_empty());
    on = reopened(on, &db, |db| std::fs::copy(&copy, db).map(|_| ()).unwrap()).await;
    let of = |chain: &str, another: bool| Lost { chain: chain.to_owned(), seq: 1, another };
    assert_eq!(lost(&on).await, [of("vm/three", false), of("vm/two", false)]);
    on.register("two").await;
    assert_eq!(lost(&on).await, [of("vm/three", false), of("vm/two", true)], "on another line of time");
    let forged = String::from_utf8(std::fs::read(on.file()).unwrap()).unwrap().replace("vm/two", "vm/new");
    std::fs::write(on.file(), forged).unwrap();
    let why = attester.lost(on.ledger.as_ref()).await.unwrap_err().to_string();
    assert!(why.contains("line 2"), "{why}");
}

/// Close the job table, do something to its file, and open it again.
async fn reopened(on: Stage, db: &Path, between: impl FnOnce(&Path)) -> Stage {
    let Stage { folder, ledger, signer } = on;
    drop(ledger);
    // The writer that was dropped ends by itself; it holds the lock until then.
    let lock = std::fs::File::options().write(true).open(folder.path().join("sexton.db.lock")).unwrap();
    tokio::task::spawn_blocking(move || lock.lock().unwrap()).await.unwrap();
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", db.display()));
    }
    between(db);
    Stage { ledger: open(db).await, folder, signer }
}

#[tokio::test]
async fn what_nobody_here_has_signed_is_not_gone_on_with() {
    let on = Stage::new().await;
    on.register("one").await;
    let mallory = on.attester_with(
        Arc::new(BeaconSigner::generate("beacon", &mut rand::rng())),
        BeaconVerifier::default(),
    );
    assert_eq!(on.round(&mallory).await, None);
    let forged = std::fs::read(on.file()).unwrap();
    on.register("two").await;
    let attester = on.attester();
    let why = on.round(&attester).await.unwrap();
    assert!(why.contains("checkpoint 1 is not authentic"), "{why}");
    assert_eq!((on.stored().await, std::fs::read(on.file()).unwrap()), (1, forged));
    std::fs::remove_file(on.file()).unwrap();
    let why = on.round(&attester).await.unwrap();
    assert!(why.contains("checkpoint 1 is not authentic"), "{why}");
    assert_eq!((on.stored().await, on.lines()), (1, vec![]));
}

#[tokio::test]
async fn a_torn_line_is_completed_and_rubbish_is_not() {
    let on = Stage::new().await;
    let attester = on.attester();
    for name in ["one", "two"] {
        on.register(name).await;
        assert_eq!(on.round(&attester).await, None);
    }
    let whole = std::fs::read(on.file()).unwrap();
    for length in [0, 10, whole.len() / 2, whole.len() - 1] {
        std::fs::write(on.file(), &whole[..length]).unwrap();
        assert_eq!(on.round(&attester).await, None);
        assert_eq!(std::fs::read(on.file()).unwrap(), whole, "{length}");
    }
    on.register("three").await;
    for torn in [&b"{\"body\":\"x"[..], &b"\0\0\0"[..]] {
        let damaged = [&whole[..], torn].concat();
        std::fs::write(on.file(), &damaged).unwrap();
        let why = on.round(&attester).await.unwrap();
        assert!(why.contains("cut short"), "{why}");
        assert_eq!((on.stored().await, std::fs::read(on.file()).unwrap()), (2, damaged));
    }
    std::fs::write(on.file(), &whole).unwrap();
    assert_eq!(on.round(&attester).await, None);
    assert_eq!(on.lines().len(), 3);
}

#[tokio::test]
async fn a_ledger_under_review_is_not_signed() {
    let on = Stage::new().await;
    on.register("one").await;
    let mut later = on.ledger.known();
    later.mark.number += 1;
    let review = on.ledger.confront(&later).await.unwrap().unwrap();
    let attester = on.attester();
    assert_eq!(on.round(&attester).await, None);
    assert_eq!(on.stored().await, 0);
    assert!(on.ledger.accept_review(review.epoch, &"ops".parse().unwrap(), "compared").await.unwrap());
    assert_eq!(on.round(&attester).await, None);
    assert_eq!(signed(&on.lines(), &on.signer.verifier()), ["pauses", "vm/one"]);
}

/// A coordinator that signs, on this bus.
async fn coordinator(on: &Stage, bus: Arc<Local>) -> Arc<Engine> {
    Arc::new(unsigning(on, bus).await.signing(Some(on.attester())))
}

/// One that signs nothing.
async fn unsigning(on: &Stage, bus: Arc<Local>) -> Engine {
    let witness = Witness::open(&on.folder.path().join("witness"), on.ledger.as_ref(), false).await.unwrap();
    Engine::new(sexton_coordinator::Options {
        ledger: on.ledger.clone(),
        bus,
        keyring: Arc::new(Keyring::generate([Holder::Scheduler], &mut rand::rng())),
        signer: on.signer.clone(),
        unpacked: Vec::new(),
        witness: Arc::new(witness),
    })
}

/// What was signed of a record under its number is evidence of it, whatever the witness knows: the number is given to no other.
#[tokio::test]
async fn under_review_records_are_numbered_behind_those_that_were_signed() {
    let on = Stage::new().await;
    let engine = coordinator(&on, Arc::new(Local::new())).await;
    engine.checkpoint().await.unwrap();
    on.sign_record(40).await;
    engine.checkpoint().await.unwrap();
    assert_eq!(on.ledger.known().records, 0, "nothing was lost");
    on.is_behind().await;
    // The second reads what the first has done.
    engine.checkpoint().await.unwrap();
    engine.checkpoint().await.unwrap();
    assert_eq!(on.ledger.known().records, 40);
}

/// Numbering them may take long, and fail: that is tried again, and nothing else waits for it.
#[tokio::test]
async fn a_review_is_noticed_before_records_are_numbered_behind_lost_ones() {
    let on = Stage::new().await;
    let engine = coordinator(&on, Arc::new(Local::new())).await;
    on.sign_record(40).await;
    on.alter(
        "CREATE TRIGGER stuck BEFORE UPDATE OF last_deletion ON ledger BEGIN SELECT RAISE(ABORT, 'a test'); END",
    );
    on.is_behind().await;
    for _ in 0..2 {
        engine.checkpoint().await.unwrap();
        assert_eq!(engine.hindrances(), [Hindrance::Review]);
        let kept = std::fs::read(on.folder.path().join("witness")).unwrap();
        let kept: Checkpoint = serde_json::from_slice(&kept).unwrap();
        assert_eq!((kept.mark, kept.records), (on.ledger.known().mark, 0), "it is kept all the same");
    }
    on.alter("DROP TRIGGER stuck");
    // The second reads what the first has done.
    engine.checkpoint().await.unwrap();
    engine.checkpoint().await.unwrap();
    assert_eq!(on.ledger.known().records, 40);
    assert_eq!(engine.hindrances(), [Hindrance::Review]);
}

/// What it has seen itself, too, whoever was the first to find that the job table went back.
#[tokio::test]
async fn without_a_file_records_are_numbered_behind_those_that_were_seen() {
    let on = Stage::new().await;
    let engine = unsigning(&on, Arc::new(Local::new())).await;
    on.alter("UPDATE ledger SET last_deletion = 7");
    engine.checkpoint().await.unwrap();
    assert_eq!(on.ledger.known().records, 7);
    on.alter("UPDATE ledger SET last_deletion = 2");
    on.is_behind().await;
    engine.checkpoint().await.unwrap();
    drop(engine);
    // Whoever opens it anew has seen nothing, and reads how far it is.
    let db = on.folder.path().join("sexton.db");
    let on = reopened(on, &db, |_| {}).await;
    assert_eq!(on.ledger.checkpoint().await.unwrap().records, 7);
}

/// The loop signs at its start and at a clean shutdown, and what goes wrong is told.
#[tokio::test]
async fn a_coordinator_signs_at_its_start_and_at_its_end() {
    let on = Stage::new().await;
    on.register("one").await;
    let bus = Arc::new(Local::new());
    let engine = coordinator(&on, bus.clone()).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(sexton_coordinator::run(engine.clone(), bus, stop.clone()));
    while on.stored().await == 0 {
        assert!(!running.is_finished());
        tokio::task::yield_now().await;
    }
    on.register("two").await;
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(signed(&on.lines(), &on.signer.verifier()), ["vm/one", "vm/two"]);
    assert_eq!(engine.hindrances(), []);
    std::fs::write(on.file(), "rubbish\n").unwrap();
    let why = on.round(engine.attester().unwrap()).await.unwrap();
    assert!(why.contains("is no signed checkpoint"), "{why}");
    let hindrance = Hindrance::Checkpoints { why };
    assert_eq!(hindrance.label(), "checkpoints");
    assert_eq!(engine.hindrances(), [hindrance]);
}
