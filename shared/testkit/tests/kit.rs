//! The kit passes a sound driver and finds out each unsound one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::{Value, json};
use sexton_consumer::{
    CensusContext, Done, Driver, Found, Inspection, Listed, Obstacle, Permit, Place, StepContext,
};
use sexton_model::belts::census::listing::Entry;
use sexton_model::catalogue::SubsystemActions;
use sexton_model::resource::Identity;
use sexton_model::step::Presence;
use sexton_model::{ActionName, Fence};
use sexton_testkit::consumer::{
    CannotBe, FENCE_AT_TARGET, Fixture, Template, Violations, World, assert_promises_kept, run_kit,
};

const ACTIONS: &str = r#"
subsystem = "hypervisor"
compares_place = ["place"]
lists = ["vm"]
[actions.inspect]
nature = "inspect"
earliest = "announce"
deadline_ms = 30000
longest_call_ms = 10000
about = "looks"
[actions.off]
nature = "check"
earliest = "soft"
deadline_ms = 30000
longest_call_ms = 10000
about = "looks whether it is off"
[actions.stop]
nature = "reversible"
earliest = "soft"
deadline_ms = 30000
longest_call_ms = 10000
about = "switches off"
[actions.final]
nature = "adds"
earliest = "soft"
deadline_ms = 30000
longest_call_ms = 10000
about = "makes a backup"
[actions.undefine]
nature = "destructive"
earliest = "hard"
deadline_ms = 30000
longest_call_ms = 10000
about = "removes"
"#;

/// What is wrong with the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    IgnoresIdentity,
    UndoesToDefault,
    CountsUp,
    SaysGone,
    LooksAndTouches,
    UndoesToOff,
    SaysRestored,
    VerifiesAnother,
    PassesWhatIsGone,
    TakesAnyPlace,
    TakesAnyName,
    TellsWhatIsPinned,
    ListsHalf,
    CountsWhatIsGone,
    TrustsItsPermit,
    CountsLooks,
    CapturesOnce,
    UndoesToWhatItCapturedLast,
}

#[derive(Debug, Clone, PartialEq)]
struct Vm {
    uuid: String,
    on: bool,
    autostart: bool,
    backups: Vec<String>,
}

#[derive(Debug)]
struct Memory {
    vm: Mutex<Option<Vm>>,
    /// Asked is another server, which knows nothing.
    elsewhere: AtomicBool,
    looks: AtomicU64,
    captured: Mutex<Option<Value>>,
    flaw: Flaw,
}

impl Memory {
    fn place() -> Place {
        Place("memory".into())
    }

    fn look(&self, step: &StepContext) -> Found {
        if self.is_elsewhere() {
            return Found::Different("another place".into());
        }
        if let Some(pinned) = step.targets.get("place")
            && *pinned != json!(Self::place().0)
            && self.flaw != Flaw::TakesAnyName
        {
            return Found::Different(format!("pinned in {pinned}, but this is {}", Self::place().0));
        }
        match &*self.vm.lock().unwrap() {
            None => Found::Absent(Self::place()),
            Some(vm) if step.identity.get("uuid") == Some(&vm.uuid) => Found::Same,
            Some(_) if self.flaw == Flaw::IgnoresIdentity => Found::Same,
            Some(vm) => Found::Different(format!("uuid is {}", vm.uuid)),
        }
    }

    fn is_elsewhere(&self) -> bool {
        self.flaw != Flaw::TakesAnyPlace && self.elsewhere.load(Ordering::Relaxed)
    }

    /// Whichever look this is, if it tells that.
    fn count(&self) -> Option<Value> {
        (self.flaw == Flaw::CountsLooks).then(|| json!(self.looks.fetch_add(1, Ordering::Relaxed)))
    }

    fn ask(&self, permit: &Permit) -> Result<(), Obstacle> {
        if self.flaw == Flaw::TrustsItsPermit { Ok(()) } else { permit.again().map(drop) }
    }

    fn change(&self, what: impl FnOnce(&mut Vm)) -> Result<(), Obstacle> {
        let mut vm = self.vm.lock().unwrap();
        what(vm.as_mut().ok_or(Obstacle::Refuse("no machine".into()))?);
        Ok(())
    }
}

#[async_trait]
impl Driver for Memory {
    async fn inspect(&self, step: &StepContext) -> Result<Inspection, Obstacle> {
        if self.flaw == Flaw::LooksAndTouches {
            self.change(|vm| vm.on = false)?;
        }
        let pinned = step.targets.clone();
        let told = self.flaw == Flaw::TellsWhatIsPinned && !pinned.is_null();
        let place = Self::place().0;
        let seen = json!({"place": place, "domain": step.resource.name, "volumes": ["root"]});
        let mut targets = if told { pinned } else { seen };
        if let Some(count) = self.count() {
            targets["looks"] = count;
        }
        Ok(Inspection { found: self.look(step), targets, protected: None, evidence: "seen".into() })
    }

    async fn find(&self, step: &StepContext) -> Result<Found, Obstacle> {
        Ok(self.look(step))
    }

    async fn capture(&self, _: &StepContext) -> Result<Value, Obstacle> {
        let vm = self.vm.lock().unwrap();
        let now = vm.as_ref().map_or(Value::Null, |vm| json!({"on": vm.on, "autostart": vm.autostart}));
        match self.captured.lock().unwrap().replace(now.clone()) {
            Some(_) if self.flaw == Flaw::CapturesOnce => Err(Obstacle::Refuse("captured already".into())),
            Some(_) | None => Ok(now),
        }
    }

    async fn perform(&self, step: &StepContext, _: Option<&Value>, permit: Permit) -> Result<Done, Obstacle> {
        self.ask(&permit)?;
        match step.action.as_str() {
            "stop" => self.change(|vm| (vm.on, vm.autostart) = (false, false))?,
            "final" => self.change(|vm| {
                let name = if self.flaw == Flaw::CountsUp {
                    format!("final-{}", permit.fence())
                } else {
                    "final".to_owned()
                };
                if !vm.backups.contains(&name) {
                    vm.backups.push(name);
                }
            })?,
            "undefine" if self.flaw == Flaw::SaysGone => {}
            "undefine" => *self.vm.lock().unwrap() = None,
            other => return Err(Obstacle::Refuse(format!("{other} changes nothing"))),
        }
        Ok(Done::saw("did it"))
    }

    async fn undo(&self, _: &StepContext, manifest: &Value, permit: Permit) -> Result<Done, Obstacle> {
        let flaw = self.flaw;
        self.ask(&permit)?;
        let last = self.captured.lock().unwrap().clone();
        let last = last.filter(|_| flaw == Flaw::UndoesToWhatItCapturedLast);
        let manifest = last.as_ref().unwrap_or(manifest);
        self.change(|vm| {
            vm.on = manifest["on"] == json!(true);
            vm.autostart = flaw != Flaw::UndoesToDefault && manifest["autostart"] == json!(true);
            if flaw == Flaw::UndoesToOff {
                vm.on = false;
            }
        })?;
        Ok(Done::saw("as it was"))
    }

    async fn presence(&self, step: &StepContext) -> Result<(Presence, String), Obstacle> {
        let vm = self.vm.lock().unwrap();
        let there = match (step.action.as_str(), &*vm) {
            (_, None) => false,
            ("stop", Some(vm)) => !vm.on && !vm.autostart,
            ("undefine", Some(_)) => self.flaw != Flaw::SaysGone,
            (_, Some(_)) => true,
        };
        Ok((if there { Presence::Present } else { Presence::Absent }, format!("{vm:?}")))
    }

    async fn restored(&self, step: &StepContext, manifest: &Value) -> Result<String, Obstacle> {
        if self.flaw != Flaw::VerifiesAnother
            && let Found::Different(why) = self.look(step)
        {
            return Err(Obstacle::Refuse(why));
        }
        let vm = self.vm.lock().unwrap();
        let now = vm.as_ref().map_or(Value::Null, |vm| json!({"on": vm.on, "autostart": vm.autostart}));
        if now == *manifest || self.flaw != Flaw::None {
            return Ok("looks fine".into());
        }
        Err(Obstacle::Refuse(format!("it is {now}")))
    }

    async fn census(&self, page: &CensusContext) -> Result<Listed, Obstacle> {
        if page.kind.as_str() != "vm" {
            return Err(page.no_census());
        }
        let vm = self.vm.lock().unwrap();
        let mut entries = Vec::new();
        for (name, uuid) in [("web01", vm.as_ref().map(|vm| vm.uuid.as_str())), ("web02", Some("other"))] {
            let left_out = self.flaw == Flaw::ListsHalf && name == "web01";
            let Some(uuid) = uuid.filter(|_| !left_out) else { continue };
            let identity = BTreeMap::from([("uuid".to_owned(), uuid.to_owned())]);
            let id = format!("vm/{name}").parse().unwrap();
            entries.push(Entry { id, identity: Some(Identity::try_from(identity).unwrap()) });
        }
        let total = if self.flaw == Flaw::CountsWhatIsGone { 3 } else { entries.len() as u64 };
        entries.retain(|entry| page.after.as_ref().is_none_or(|after| entry.id > *after));
        let more = entries.len() > page.most;
        entries.truncate(page.most);
        Ok(Listed { entries, more, total, credential: "the test".into(), place: Self::place() })
    }

    async fn check(&self, step: &StepContext) -> Result<Done, Obstacle> {
        match self.look(step) {
            Found::Absent(_) if self.flaw != Flaw::PassesWhatIsGone => {
                Err(Obstacle::Refuse("is gone".into()))
            }
            Found::Different(why) => Err(Obstacle::Refuse(why)),
            Found::Absent(_) | Found::Same => Ok(Done { created: self.count(), ..Done::saw("is off") }),
        }
    }
}

struct Tiny(Flaw);
struct TinyWorld(Arc<Memory>);

#[async_trait]
impl Fixture for Tiny {
    fn instance(&self) -> sexton_model::Instance {
        "hypervisor.main".parse().unwrap()
    }

    fn actions(&self) -> SubsystemActions {
        SubsystemActions::parse("tiny.toml", ACTIONS).unwrap()
    }

    async fn fresh(&self, _: &ActionName) -> Box<dyn World> {
        let vm = Vm { uuid: "one".into(), on: true, autostart: true, backups: vec![] };
        Box::new(TinyWorld(Arc::new(Memory {
            vm: Mutex::new(Some(vm)),
            elsewhere: AtomicBool::new(false),
            looks: AtomicU64::new(0),
            captured: Mutex::new(None),
            flaw: self.0,
        })))
    }
}

#[async_trait]
impl World for TinyWorld {
    fn driver(&self) -> Arc<dyn Driver> {
        self.0.clone()
    }

    fn template(&self) -> Template {
        let identity = BTreeMap::from([("uuid".to_owned(), "one".to_owned())]);
        Template {
            resource: "vm/web01".parse().unwrap(),
            identity: Identity::try_from(identity).unwrap(),
            attributes: Value::Null,
            targets: None,
            params: BTreeMap::new(),
        }
    }

    async fn snapshot(&self) -> Value {
        json!(format!("{:?}", self.0.vm.lock().unwrap()))
    }

    async fn other_identity(&self) {
        self.0.change(|vm| vm.uuid = "two".into()).unwrap();
    }

    async fn make_absent(&self) {
        *self.0.vm.lock().unwrap() = None;
    }

    async fn lose_place(&self) -> Result<(), CannotBe> {
        self.0.elsewhere.store(true, Ordering::Relaxed);
        self.make_absent().await;
        Ok(())
    }

    async fn raise_fence(&self, _fence: Fence) -> Result<(), CannotBe> {
        Err(CannotBe("it lies in memory"))
    }
}

#[tokio::test]
async fn a_sound_driver_passes() {
    let kept = run_kit(&Tiny(Flaw::None)).await.unwrap_or_else(|violations| panic!("{violations}"));
    assert!(kept.shown > 50, "only {} cases", kept.shown);
    // What a world cannot show is said, and counts as nothing.
    let left_out: Vec<_> =
        kept.not_shown.iter().map(|one| (one.action.as_str(), one.case, one.why)).collect();
    assert_eq!(left_out, HOLDS_NO_FENCE.map(|(action, promise)| (action, promise, "it lies in memory")));
    assert_promises_kept(&Tiny(Flaw::None), &HOLDS_NO_FENCE).await;
}

/// What its world cannot show.
const HOLDS_NO_FENCE: [(&str, &str); 3] =
    [("final", FENCE_AT_TARGET), ("stop", FENCE_AT_TARGET), ("undefine", FENCE_AT_TARGET)];

/// Otherwise whoever says of everything that it cannot be would pass.
#[tokio::test]
#[should_panic(expected = "not shown is not what was expected")]
async fn what_cannot_be_shown_has_to_be_expected() {
    assert_promises_kept(&Tiny(Flaw::None), &HOLDS_NO_FENCE[1..]).await;
}

#[tokio::test]
#[should_panic(expected = "not shown is not what was expected")]
async fn what_is_shown_must_not_be_left_out() {
    let more = [&HOLDS_NO_FENCE[..], &[("off", FENCE_AT_TARGET)]].concat();
    assert_promises_kept(&Tiny(Flaw::None), &more).await;
}

const CENSUS: &str = "a census lists everything that is there, page after page, and changes nothing; of another kind it is refused";

const UNDER_PERMIT: &str = "slept under its permit: nothing is done, and a later order does it";

const LOOKS: &str = "looking changes nothing, and twice finds the same";

const LOOKS_AGAIN: &str = "a look that failed, or whose answer was lost, is repeated and finds the same";

async fn broken(flaw: Flaw) -> Violations {
    run_kit(&Tiny(flaw)).await.expect_err("the kit let it pass")
}

#[tokio::test]
async fn each_flaw_is_found() {
    for (flaw, action, promise) in [
        (Flaw::IgnoresIdentity, "undefine", "another identity is refused"),
        (Flaw::IgnoresIdentity, "off", "another identity is refused"),
        (Flaw::IgnoresIdentity, "stop", "another identity is not undone"),
        (Flaw::UndoesToDefault, "stop", "an undo restores the exact world, twice too"),
        (Flaw::UndoesToOff, "stop", "an undo is exact though the answer was lost and the step repeated"),
        (Flaw::CountsUp, "final", "performed twice is the same as once"),
        (Flaw::CountsUp, "final", "failed after the effect, then tried again"),
        (Flaw::SaysRestored, "stop", "verifying an undo that never was does not say that it holds"),
        (Flaw::VerifiesAnother, "stop", "of another identity it is not said that its undo holds"),
        (Flaw::SaysGone, "undefine", "performed twice is the same as once"),
        (Flaw::TrustsItsPermit, "stop", UNDER_PERMIT),
        (Flaw::TrustsItsPermit, "final", UNDER_PERMIT),
        (Flaw::TrustsItsPermit, "undefine", UNDER_PERMIT),
        (
            Flaw::TrustsItsPermit,
            "stop",
            "slept under the permit of an undo: nothing is done, and a later order does it",
        ),
        (Flaw::PassesWhatIsGone, "off", "gone already: done if that was wanted, refused before hard"),
        (Flaw::TakesAnyPlace, "undefine", "what is not seen in another place is not gone"),
        (Flaw::IgnoresIdentity, "inspect", "another identity is refused when targets are read again"),
        (Flaw::TakesAnyPlace, "inspect", "what is seen in another place is not the resource's"),
        (
            Flaw::TakesAnyName,
            "inspect",
            "what is pinned in a place of another name is refused because of that name",
        ),
        (
            Flaw::TellsWhatIsPinned,
            "inspect",
            "something that was not there when targets were pinned is reported",
        ),
        (Flaw::CountsLooks, "inspect", LOOKS),
        (Flaw::CountsLooks, "off", LOOKS),
        (Flaw::LooksAndTouches, "inspect", LOOKS),
        (Flaw::CountsLooks, "inspect", LOOKS_AGAIN),
        (Flaw::CountsLooks, "off", LOOKS_AGAIN),
        (Flaw::CapturesOnce, "stop", "a capture that failed, or whose answer was lost, is repeated"),
        (
            Flaw::UndoesToWhatItCapturedLast,
            "stop",
            "a capture repeated after the effect does not spoil the manifest that counts",
        ),
        (Flaw::ListsHalf, "final", CENSUS),
        (Flaw::CountsWhatIsGone, "final", CENSUS),
        (
            Flaw::LooksAndTouches,
            "inspect",
            "reading targets again finds nothing new and changes nothing, however often",
        ),
    ] {
        let violations = broken(flaw).await;
        let found = violations.0.iter().any(|v| v.action.as_str() == action && v.case == promise);
        assert!(found, "{flaw:?}: {action}: {promise} was not found among\n{violations}");
    }
    assert!(!broken(Flaw::LooksAndTouches).await.0.is_empty());
}
