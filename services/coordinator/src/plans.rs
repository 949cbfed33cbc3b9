//! The plans and the catalogue, as they lie in `deploy/`.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use sexton_model::catalogue::Catalogue;
use sexton_model::plan::Plan;
use sexton_model::resource::instance_of;
use sexton_model::{Instance, Kind, Subsystem};

/// Largest plan or catalogue file, in bytes.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// One plan per kind of resource.
#[derive(Debug, Clone, Default)]
pub struct Plans {
    by_kind: BTreeMap<Kind, Arc<Plan>>,
    catalogue: Catalogue,
}

impl Plans {
    /// Load every `*.toml` of both folders and lint the plans.
    ///
    /// # Errors
    /// Naming file, line and reason of everything that is wrong.
    pub fn load(plans: &Path, subsystems: &Path, rehearsal: bool) -> anyhow::Result<Self> {
        let mut catalogue = Catalogue::default();
        for file in toml_files(subsystems)? {
            catalogue.add(&file.display().to_string(), &read(&file)?)?;
        }
        let mut loaded = Self { by_kind: BTreeMap::new(), catalogue };
        for file in toml_files(plans)? {
            loaded.add(&file.display().to_string(), &read(&file)?, rehearsal)?;
        }
        anyhow::ensure!(!loaded.by_kind.is_empty(), "{}: no plan (*.toml) in there", plans.display());
        Ok(loaded)
    }

    /// Plans from texts that are part of the program.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn of(subsystems: &[(&str, &str)], plans: &[(&str, &str)], rehearsal: bool) -> anyhow::Result<Self> {
        let mut catalogue = Catalogue::default();
        for (file, text) in subsystems {
            catalogue.add(file, text)?;
        }
        let mut loaded = Self { by_kind: BTreeMap::new(), catalogue };
        for (file, text) in plans {
            loaded.add(file, text, rehearsal)?;
        }
        Ok(loaded)
    }

    fn add(&mut self, file: &str, text: &str, rehearsal: bool) -> anyhow::Result<()> {
        let plan = Plan::parse(file, text, &self.catalogue, rehearsal)?;
        let kind = plan.kind.clone();
        anyhow::ensure!(
            self.by_kind.insert(kind.clone(), Arc::new(plan)).is_none(),
            "{file}: there is another plan for {kind} already"
        );
        Ok(())
    }

    /// The plan for a kind of resource.
    pub fn of_kind(&self, kind: &Kind) -> Option<&Arc<Plan>> {
        self.by_kind.get(kind)
    }

    /// The actions of every subsystem.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The subsystems that plans need and of which no instance is among `known`, each as the instance that is meant where
    /// a resource names none. No record that needs one is taken, since its jobs would wait for ever. A plan of which none
    /// of the subsystems is there is for a kind that is not dealt with here: its subsystems are not missed.
    pub fn unserved<'a>(&self, known: impl Iterator<Item = &'a Instance>) -> BTreeSet<Instance> {
        let served: BTreeSet<_> = known.map(|instance| &instance.subsystem).collect();
        let plans = self.by_kind.values().map(|plan| plan.subsystems().collect::<Vec<_>>());
        let dealt_with = plans.filter(|needed| needed.iter().any(|s| served.contains(s)));
        let needed = dealt_with.flatten();
        needed.filter(|s| !served.contains(s)).map(|s| instance_of(&BTreeMap::new(), s)).collect()
    }

    /// Say in the log which subsystems are [unserved](Self::unserved).
    pub fn warn_of_the_unknown<'a>(&self, known: impl Iterator<Item = &'a Instance>) {
        for Instance { subsystem, .. } in self.unserved(known) {
            tracing::warn!(%subsystem, "a plan needs a subsystem of which no instance is known");
        }
    }

    /// All subsystems of the catalogue.
    pub fn subsystems(&self) -> impl Iterator<Item = &Subsystem> {
        self.catalogue.subsystems()
    }

    /// All kinds that have a plan.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.by_kind.keys()
    }
}

fn toml_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listing = fs::read_dir(folder).with_context(|| format!("reading the folder {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in listing {
        let path = entry.with_context(|| format!("reading the folder {}", folder.display()))?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> anyhow::Result<String> {
    let doing = || format!("reading {}", file.display());
    let length = fs::metadata(file).with_context(doing)?.len();
    anyhow::ensure!(length <= FILE_MAX_BYTES, "{}: larger than {FILE_MAX_BYTES} bytes", file.display());
    fs::read_to_string(file).with_context(doing)
}
