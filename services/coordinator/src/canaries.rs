//! Canaries as they are configured: whom to ask what. When, and what follows, is the engine's (`engine/canaries`).
use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;
use sexton_ledger::ResourceView;
use sexton_model::belts::budget::Budgets;
use sexton_model::canary::{Probe, Verdict, another, fitting, rehearsal};
use sexton_model::catalogue::Nature;
use sexton_model::drill;
use sexton_model::job::Stage;
use sexton_model::plan::{Performer, Plan, Step};
use sexton_model::resource::{Presence, instance_of};
use sexton_model::{ActionName, Instance, Kind, ResourceId, Subsystem};
use sexton_service::Config;

use crate::Plans;

/// Most resources that are kept for canaries: each is looked at four times a day by every instance that has a part of it. A
/// machine by the plan that is delivered is asked about 26 times, and a run has room for a thousand.
const RESOURCES_MAX: usize = 32;
/// How long a canary may take to be answered unless configured, and at the most, in seconds: longer than a busy consumer
/// takes to get to it, and as long as nobody minds to wait for the alarm.
const ANSWER_SECS: u64 = 300;
const ANSWER_SECS_MAX: u64 = 3_600;
/// Longest reason why there are none, in bytes.
const REASON_MAX_BYTES: usize = 500;

/// The section `[canaries]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    /// Why there are none.
    #[serde(default)]
    off: Option<String>,
    /// Resources that are there for nothing else.
    #[serde(default)]
    resources: Vec<ResourceId>,
    #[serde(default)]
    answer_within_secs: Option<u64>,
    /// Resources that are there for drills, and for nothing else.
    #[serde(default)]
    drill: Vec<ResourceId>,
}

/// Whom to ask what.
#[derive(Debug, Clone)]
pub struct Canaries {
    /// Why nobody is asked, if so.
    off: Option<String>,
    resources: Vec<ResourceId>,
    within_ms: u64,
    drill: Vec<ResourceId>,
    plans: Arc<Plans>,
}

impl Canaries {
    /// What the section says; without one every instance is asked about a forged order.
    ///
    /// # Errors
    /// Naming the key that is wrong.
    pub fn read(config: &Config, plans: Arc<Plans>) -> anyhow::Result<Self> {
        let Section { off, resources, answer_within_secs, drill } = config.section("canaries")?;
        let wrong = |reason: String| Err(config.mistake("canaries", reason).into());
        if off.as_ref().is_some_and(|why| why.trim().is_empty() || why.len() > REASON_MAX_BYTES) {
            return wrong(format!("off: expected a reason of 1 to {REASON_MAX_BYTES} bytes"));
        }
        if resources.len() > RESOURCES_MAX {
            let found = resources.len();
            return wrong(format!("resources: {found} are named: expected at most {RESOURCES_MAX}"));
        }
        let secs = answer_within_secs.unwrap_or(ANSWER_SECS);
        if !(1..=ANSWER_SECS_MAX).contains(&secs) {
            return wrong(format!("answer_within_secs = {secs}: expected 1 to {ANSWER_SECS_MAX}"));
        }
        if drill.len() > drill::RESOURCES_MAX {
            let (found, most) = (drill.len(), drill::RESOURCES_MAX);
            return wrong(format!("drill: {found} are named: expected at most {most}"));
        }
        let canaries = Self { off, resources, within_ms: secs * 1000, drill, plans };
        for resource in &canaries.drill {
            if canaries.resources.contains(resource) {
                return wrong(format!("drill: {resource} is among the resources, which must have no record"));
            }
            let plan = canaries.plan(&resource.kind);
            if !plan
                .is_some_and(|plan| plan.stage(Stage::Soft).steps.iter().any(|step| step.nature.captures()))
            {
                let kind = &resource.kind;
                return wrong(format!(
                    "drill: {resource}: no plan for {kind} has anything in soft to be taken back"
                ));
            }
        }
        for resource in &canaries.resources {
            if canaries.inspections(&resource.kind).next().is_none() {
                let kind = &resource.kind;
                return wrong(format!(
                    "resources: {resource}: no plan for {kind} has it inspected by whoever compares identities or places"
                ));
            }
        }
        Ok(canaries)
    }

    /// These, and answers within so many milliseconds.
    pub fn new(plans: Arc<Plans>, resources: Vec<ResourceId>, within_ms: u64) -> Self {
        Self { off: None, resources, within_ms, drill: Vec::new(), plans }
    }

    /// And drills with these.
    pub fn drilling(self, drill: Vec<ResourceId>) -> Self {
        Self { drill, ..self }
    }

    /// Why nobody is asked, if so.
    pub fn off(&self) -> Option<&str> {
        self.off.as_deref()
    }

    /// What nobody finds out because nothing is configured for it, and no reason is given.
    pub fn lacks(&self) -> Vec<String> {
        let all = [
            (self.resources.is_empty(), "no canaries of identity are configured: see [canaries] resources"),
            (self.drill.is_empty(), "no drill resource is configured: see [canaries] drill"),
        ];
        let lacking = all.into_iter().filter(|(lacks, _)| *lacks && self.off.is_none());
        lacking.map(|(_, why)| why.to_owned()).collect()
    }

    /// Resources that are there for canaries.
    pub(crate) fn resources(&self) -> &[ResourceId] {
        &self.resources
    }

    /// Resources that drills are held with.
    pub(crate) fn drills(&self) -> &[ResourceId] {
        &self.drill
    }

    /// How long an answer may take, in milliseconds.
    pub(crate) fn within_ms(&self) -> u64 {
        self.within_ms
    }

    /// The steps of a kind's plan that look before anything else happens, of subsystems that tell whether it is the one, or
    /// whether it was pinned in their place.
    fn inspections(&self, kind: &Kind) -> impl Iterator<Item = (&Step, &Performer)> {
        let steps = self.plans.of_kind(kind).map(|plan| plan.stage(Stage::Announce).steps.as_slice());
        let steps = steps.unwrap_or_default();
        let compares = |by: &Performer| match by {
            Performer::Subsystem { subsystem, .. } => {
                let catalogue = self.plans.catalogue();
                catalogue.compares_identity(subsystem) || catalogue.compares_place(subsystem).is_some()
            }
            Performer::Coordinator(_) => false,
        };
        let looks = steps.iter().filter(|step| step.nature == Nature::Inspect);
        looks.filter(move |step| compares(&step.performer)).map(|step| (step, &step.performer))
    }

    /// The step that has `instance` look at what is registered.
    pub(crate) fn inspection(&self, view: &ResourceView, instance: &Instance) -> Option<(&Step, ActionName)> {
        self.inspections(&view.resource.id.kind).find_map(|(step, performer)| match performer {
            Performer::Subsystem { subsystem, action } => {
                (view.resource.instance_of(subsystem) == *instance).then(|| (step, action.clone()))
            }
            Performer::Coordinator(_) => None,
        })
    }

    /// What to ask: what is tried in the job table, then each instance that is known, and each that looks at a resource. With
    /// a verdict where it cannot be asked. If the run has no room for everything, what is about resources stands back.
    pub(crate) fn probes<'a>(
        &self,
        tried: Vec<(Probe, Option<Verdict>)>,
        known: impl Iterator<Item = &'a Instance>,
        views: &[(ResourceId, Option<ResourceView>)],
    ) -> Vec<(Probe, Option<Verdict>)> {
        let known: BTreeSet<&Instance> = known.collect();
        let forged = |instance: &&Instance| (Probe::ForgedOrder { instance: (*instance).clone() }, None);
        let mut probes = tried;
        probes.extend(known.iter().map(forged));
        let about =
            views.iter().map(|(resource, view)| self.about(resource, view.as_ref(), &known)).collect();
        let about = fitting(probes.len(), about);
        probes.extend(about);
        probes
    }

    /// What to ask about one resource.
    fn about(
        &self,
        resource: &ResourceId,
        view: Option<&ResourceView>,
        known: &BTreeSet<&Instance>,
    ) -> Vec<(Probe, Option<Verdict>)> {
        let unfit = unfit(resource, view);
        let mut probes = Vec::new();
        for instance in self.lookers(resource, view) {
            let unfit = match known.contains(&instance) {
                true => unfit.clone(),
                false => Some(format!("there is no key of {instance}")),
            };
            let verdict = unfit.map(|why| Verdict::Unclear { why });
            let of = self.of_one(&instance, resource);
            probes.extend(of.into_iter().map(|probe| (probe, verdict.clone())));
        }
        probes
    }

    /// What an instance is asked about a resource, in this order. Of whoever goes by an address, or by whom to tell, no wrong
    /// identity: to them it is none.
    fn of_one(&self, instance: &Instance, resource: &ResourceId) -> Vec<Probe> {
        let (catalogue, subsystem) = (self.plans.catalogue(), &instance.subsystem);
        let of = || (instance.clone(), resource.clone());
        let mut probes = Vec::new();
        if catalogue.compares_identity(subsystem) {
            let ((instance, resource), (other, about)) = (of(), of());
            probes.push(Probe::RightIdentity { instance, resource });
            probes.push(Probe::WrongIdentity { instance: other, resource: about });
        }
        if let Some(under) = catalogue.compares_place(subsystem) {
            let ((instance, resource), (other, about)) = (of(), of());
            probes.push(Probe::RightPlace { instance, resource, under: under.clone() });
            probes.push(Probe::WrongPlace { instance: other, resource: about });
        }
        probes
    }

    /// What to try in the job table, which counts by these budgets: of each kind that has a plan. Where no stage is
    /// counted there is no budget to be over: whoever has switched it off is not told each day that it is off.
    pub(crate) fn tried(&self, budgets: &Budgets) -> Vec<(Probe, Option<Verdict>)> {
        let stage = rehearsal::counted_stage(budgets);
        let of_kind = |of: &Kind| {
            let over = stage.map(|stage| Probe::OverBudget { of: of.clone(), stage });
            [Some(Probe::Protected { of: of.clone() }), over]
        };
        self.plans.kinds().flat_map(of_kind).flatten().map(|probe| (probe, None)).collect()
    }

    /// The plan of a kind.
    pub(crate) fn plan(&self, of: &Kind) -> Option<&Arc<Plan>> {
        self.plans.of_kind(of)
    }

    /// The instances that would look at a resource. Where its platform says that there is nothing of it, there is nothing
    /// that another one could be told from.
    fn lookers(&self, resource: &ResourceId, view: Option<&ResourceView>) -> BTreeSet<Instance> {
        let instances = view.map(|view| view.resource.instances.clone()).unwrap_or_default();
        let nothing = |subsystem: &Subsystem| {
            let stated = view.and_then(|view| view.resource.attributes.get(subsystem.as_str()));
            stated.is_some_and(|part| part.get("none") == Some(&serde_json::Value::Bool(true)))
        };
        let looks = |(_, performer): (&Step, &Performer)| match performer {
            Performer::Subsystem { subsystem, .. } if !nothing(subsystem) => {
                Some(instance_of(&instances, subsystem))
            }
            Performer::Subsystem { .. } | Performer::Coordinator(_) => None,
        };
        self.inspections(&resource.kind).filter_map(looks).collect()
    }
}

/// Why nobody can be asked about a resource.
fn unfit(id: &ResourceId, view: Option<&ResourceView>) -> Option<String> {
    let Some(view) = view.filter(|view| view.presence == Presence::Registered) else {
        return Some(format!("{id} is not registered"));
    };
    if let Some(record) = view.live {
        return Some(format!("{id} has a deletion record, {record}: its orders must not be disturbed"));
    }
    another(&view.resource.identity)
        .is_none()
        .then(|| format!("nothing in the identity of {id} can be changed: it has neither letters nor digits"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> Result<Canaries, String> {
        let config = Config::parse(Path::new("sexton.toml"), text, &["canaries"]).unwrap();
        Canaries::read(&config, Arc::default()).map_err(|why| why.to_string())
    }

    #[test]
    fn forged_orders_are_sent_unless_it_is_said_why_not() {
        let canaries = read("").unwrap();
        assert_eq!((canaries.off(), canaries.within_ms()), (None, 300_000));
        let known = ["dns.main", "ipam.main"].map(|name| name.parse::<Instance>().unwrap());
        let probes = canaries.probes(Vec::new(), known.iter(), &[]);
        let forged = known.map(|instance| (Probe::ForgedOrder { instance }, None));
        assert_eq!(probes, forged);
        let lacks = canaries.lacks();
        assert!(lacks.len() == 2 && lacks[0].contains("canaries of identity") && lacks[1].contains("drill"));
        let off = read("[canaries]\noff = \"a test\"").unwrap();
        assert_eq!((off.off(), off.lacks()), (Some("a test"), Vec::new()));
    }

    /// Of each subsystem that is delivered.
    #[test]
    fn whom_it_asks_what_stands_in_the_readme() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let deploy = top.join("deploy");
        let plans = Plans::load(&deploy.join("plans"), &deploy.join("subsystems"), false).unwrap();
        let subsystems: Vec<Subsystem> = plans.catalogue().subsystems().cloned().collect();
        let canaries = Canaries::new(Arc::new(plans), Vec::new(), 1);
        let resources = ["vm/canary01", "membership/canary01"].map(|id| (id.parse().unwrap(), None));
        let probes = canaries.probes(Vec::new(), std::iter::empty(), &resources);
        let row = |subsystem: &Subsystem| {
            let yes = |word: &str| {
                let of = |probe: &Probe| {
                    let asked = probe.instance().is_some_and(|instance| instance.subsystem == *subsystem);
                    asked && probe.word() == word
                };
                if probes.iter().any(|(probe, _)| of(probe)) { "yes" } else { "no" }
            };
            assert_eq!(
                (yes("wrong identity"), yes("wrong place")),
                (yes("right identity"), yes("right place"))
            );
            format!("| `{subsystem}` | {} | {} |", yes("wrong identity"), yes("wrong place"))
        };
        let asked: BTreeSet<String> = subsystems.iter().map(row).collect();
        let readme = std::fs::read_to_string(top.join("README.md")).unwrap();
        let is_row = |line: &&str| {
            line.starts_with("| `") && [" yes |", " no |"].iter().any(|end| line.ends_with(end))
        };
        let told: BTreeSet<String> = readme.lines().filter(is_row).map(str::to_owned).collect();
        assert_eq!(told, asked);
    }

    /// As many resources as may be named, of the plan that is asked about most, beside everything else that is delivered.
    #[test]
    fn what_may_be_configured_has_room_in_a_run() {
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
        let plans = Plans::load(&deploy.join("plans"), &deploy.join("subsystems"), false).unwrap();
        let subsystems: Vec<Subsystem> = plans.catalogue().subsystems().cloned().collect();
        let known: Vec<Instance> =
            subsystems.iter().map(|subsystem| format!("{subsystem}.main").parse().unwrap()).collect();
        let canaries = Canaries::new(Arc::new(plans), Vec::new(), 1);
        let shielded = Probe::Protected { of: "vm".parse().unwrap() };
        let tried = vec![(shielded.clone(), None); 2 * canaries.plans.kinds().count()];
        let few = canaries.probes(tried.clone(), known.iter(), &[]);
        assert_eq!(few.len(), tried.len() + known.len());
        let of_each = canaries.about(&"vm/a".parse().unwrap(), None, &known.iter().collect()).len();
        let resources: Vec<(ResourceId, Option<ResourceView>)> =
            (0..RESOURCES_MAX).map(|n| (format!("vm/canary{n}").parse().unwrap(), None)).collect();
        let all = canaries.probes(tried, known.iter(), &resources);
        assert_eq!((of_each, all.len()), (26, few.len() + RESOURCES_MAX * of_each));
        assert_eq!(all.first().map(|(probe, _)| probe), Some(&shielded));
    }

    #[test]
    fn a_mistake_names_the_key() {
        let many = format!("resources = [{}]", "\"vm/a\", ".repeat(33));
        for (text, part) in [
            ("off = \"\"", "[canaries]: off: expected a reason"),
            ("answer_within_secs = 0", "[canaries]: answer_within_secs = 0: expected 1 to 3600"),
            ("resources = [\"vm/canary01\"]", "[canaries]: resources: vm/canary01: no plan for vm"),
            ("resources = [\"canary01\"]", "canary01"),
            ("drill = [\"vm/drill01\"]", "[canaries]: drill: vm/drill01: no plan for vm"),
            (many.as_str(), "[canaries]: resources: 33 are named: expected at most 32"),
            ("of = \"why\"", "of"),
        ] {
            let error = read(&format!("[canaries]\n{text}\n")).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
