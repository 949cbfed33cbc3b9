//! Backups in a restic repository.
//!
//! The proof of place is the repository's id (`restic cat config`), read between two listings that must agree:
//! the program leaves out what it cannot read and ends with 0. Snapshots are deleted by their whole ids, one
//! by one pinned, and only if their `uuid=` tag is the resource's. Exit code 0 is no evidence: `forget` of an
//! absent id has it too. What counts is a fresh, complete listing.
//!
//! *What fences cannot stop here*: a repository holds no fence. A consumer that slept through its lease may
//! still make a final backup or delete pinned snapshots of a record that is past its point of no return; both
//! only repeat what was ordered. Locks are restic's own, and are never removed here.
//!
//! *A backup that runs*: an inspection waits while a lock of the repository was taken on the machine itself (its host
//! name is the resource's name, with or without a domain), or names no host at all. A lock says no more than its host: which
//! machine a backup is of that a server makes is not known, so the evidence names how many other locks there are. One that a
//! crash has left counts until somebody removes it (`restic unlock`).
//!
//! *What the store keeps* (object lock, append only) cannot be seen before a deletion: the repository does not show it, so no
//! date is named. The deletion fails until a person waives it, and says in the evidence until when it is present.
//!
//! *Data of deleted snapshots*: between `forget` and the end of `prune` a mark stands in the repository, a tiny
//! snapshot with the tag `sexton-deleting`. While it is there the archives count as present, so a deletion that
//! was interrupted in between is finished by the next attempt.
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use sexton_consumer::driver::{Done, Driver, Found, Inspection, Obstacle, Place, StepContext};
use sexton_consumer::permit::Permit;
use sexton_model::step::{FINDING_MAX_BYTES, Presence};

use crate::action::{Action, only_looks};

mod archive;
mod program;
mod schedule;
mod snapshot;
mod turns;

use program::{Call, Program};
use snapshot::{Listing, Pinned, SnapshotId, lock_host, lock_ids, repository_id};
use turns::Turns;

/// Most locks that are looked at: each takes a run of the program.
const LOCKS_MAX: usize = 16;

/// Where the repository is, and how it is reached.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The program; `restic` from the search path if not given.
    #[serde(default = "restic")]
    pub program: PathBuf,
    /// The repository, as restic writes it. It may contain a password, so it is kept out of logs.
    pub repository: SecretString,
    /// The file with the repository's password.
    pub password_file: PathBuf,
    /// Further environment of the program, such as `AWS_SECRET_ACCESS_KEY`. It inherits nothing but `PATH`,
    /// `HOME` and `TMPDIR`.
    #[serde(default)]
    pub environment: BTreeMap<String, SecretString>,
    /// Where the program keeps its cache; it keeps none if not given.
    #[serde(default)]
    pub cache_dir: Option<PathBuf>,
    /// The folder of schedules; see the module's page of them.
    pub schedules_dir: PathBuf,
    /// How much deleted data may stay in the repository (`prune --max-unused`). 0, so that deleted means
    /// deleted; a large shared repository may prefer `5%` and a prune of its own.
    #[serde(default = "nothing")]
    pub max_unused: String,
    /// Longest run of a backup or of a deletion, in minutes. It ends earlier if no extension comes.
    #[serde(default = "a_day")]
    pub longest_run_minutes: u64,
}

fn restic() -> PathBuf {
    PathBuf::from("restic")
}

fn nothing() -> String {
    "0".into()
}

fn a_day() -> u64 {
    24 * 60
}

/// The driver.
#[derive(Debug)]
pub struct Restic {
    program: Program,
    schedules_dir: PathBuf,
    max_unused: String,
    longest_run: Duration,
    turns: Turns,
}

impl Restic {
    /// The driver for the repository that `config` names.
    ///
    /// # Errors
    /// If `max_unused` is not a number with a suffix.
    pub fn new(config: Config) -> anyhow::Result<Self> {
        let limit = &config.max_unused;
        anyhow::ensure!(
            limit.starts_with(|c: char| c.is_ascii_digit())
                && limit.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'%' || b == b'.'),
            "max_unused = {limit:?}: expected a size or a percentage, such as \"0\" or \"5%\""
        );
        Ok(Self {
            program: Program {
                program: config.program,
                repository: config.repository,
                password_file: config.password_file,
                environment: config.environment,
                cache_dir: config.cache_dir,
            },
            schedules_dir: config.schedules_dir,
            max_unused: config.max_unused,
            longest_run: Duration::from_secs(config.longest_run_minutes.saturating_mul(60)),
            turns: Turns::default(),
        })
    }

    /// A short call on behalf of `step`. It ends before the step does: a repository that is away is asked again and again by
    /// the program, and of one that only looks it can still be said then that nothing was changed.
    fn call<'a>(&self, step: &'a StepContext, doing: &str, arguments: &[&str]) -> Call<'a> {
        Call {
            what: format!("{}: {doing}", step.resource),
            arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
            stdin: None,
            limit: step.time_left() * 3 / 4,
            progress: None,
        }
    }

    /// A call that may take long, and tells that it goes on.
    fn long_call<'a>(&self, step: &'a StepContext, doing: &str, arguments: &[&str]) -> Call<'a> {
        let short = self.call(step, doing, arguments);
        Call { limit: self.longest_run, progress: Some(&step.progress), ..short }
    }

    async fn listing(&self, step: &StepContext) -> Result<Listing, Obstacle> {
        let run = async |doing: &str, arguments: &[&str]| {
            self.program.look(&self.call(step, doing, arguments)).await
        };
        let list = ["list", "snapshots", "--no-lock", "--quiet"];
        let files = run("listing snapshots", &list).await?;
        let config = run("reading the repository's id", &["cat", "config", "--no-lock", "--quiet"]).await?;
        let json = run("reading snapshots", &["snapshots", "--json", "--no-lock"]).await?;
        let repository = repository_id(&config)
            .ok_or_else(|| Obstacle::Unclear(format!("{}: the repository tells no id", step.resource)))?;
        let unclear = |why| Obstacle::Unclear(format!("{}: listing snapshots: {why}", step.resource));
        let listing = Listing::of(repository, &json).map_err(unclear)?;
        let unread = listing.unread(&files).map_err(unclear)?;
        if !unread.is_empty() {
            // Those of other records may have been deleted between the two looks; what is still there was not read.
            let files = run("listing snapshots again", &list).await?;
            if let Some(file) = listing.unread(&files).map_err(unclear)?.intersection(&unread).next() {
                return Err(unclear(format!("snapshot {file} is in the repository but cannot be read")));
            }
        }
        Ok(listing)
    }

    /// Refuses while a backup runs on the machine itself; how many other locks there are.
    async fn not_running(&self, step: &StepContext) -> Result<usize, Obstacle> {
        let list = async || {
            let arguments = ["list", "locks", "--no-lock", "--quiet"];
            let listed = self.program.look(&self.call(step, "listing locks", &arguments)).await?;
            let unclear = |why| Obstacle::Unclear(format!("{}: listing locks: {why}", step.resource));
            lock_ids(&listed).map_err(unclear)
        };
        let locks = list().await?;
        if locks.len() > LOCKS_MAX {
            let found = locks.len();
            return Err(Obstacle::Busy(format!(
                "{}: {found} locks are in the repository, too many to tell whether a backup of it runs",
                step.resource
            )));
        }
        for id in &locks {
            let look = self.call(step, "reading a lock", &["cat", "lock", id, "--no-lock", "--quiet"]);
            let lock = match self.program.look(&look).await {
                Ok(lock) => lock,
                Err(why) => {
                    // It may have been released between the two looks.
                    if list().await?.contains(id) {
                        return Err(why);
                    }
                    continue;
                }
            };
            let host = lock_host(&lock)
                .ok_or_else(|| Obstacle::Unclear(format!("{}: lock {id} names no host", step.resource)))?;
            if is_host(&host, step.resource.name.as_str()) {
                return Err(Obstacle::Busy(format!(
                    "{} is in use: a backup runs on it, which holds lock {id}",
                    step.resource
                )));
            }
        }
        Ok(locks.len())
    }

    /// The schedule, looked at aside: a hanging file system must not stop everything.
    async fn schedule(&self, step: &StepContext, repository: &str) -> Result<Found, Obstacle> {
        let (folder, resource) = (self.schedules_dir.clone(), step.resource.clone());
        let (uuid, repository) = (uuid(step)?.to_owned(), repository.to_owned());
        aside(step, move || schedule::find(&folder, &resource, &uuid, &repository)).await
    }

    /// From now on no more are made: those that were since the targets were pinned join them.
    async fn remove_schedule(
        &self,
        step: &StepContext,
        repository: &str,
        permit: Permit,
    ) -> Result<Done, Obstacle> {
        if self.schedule(step, repository).await? == Found::Same {
            let (folder, resource) = (self.schedules_dir.clone(), step.resource.clone());
            let (uuid, repository) = (uuid(step)?.to_owned(), repository.to_owned());
            aside(step, move || {
                // Here, and not before: a file system may have hung until now.
                permit.again()?;
                schedule::remove(&folder, &resource, &uuid, &repository)
            })
            .await?;
        }
        let pinned = pinned(step)?;
        let newer = self.listing(step).await?.not_pinned(uuid(step)?, &pinned);
        let evidence =
            format!("there is no schedule any more; {} newer snapshots join the targets", newer.len());
        let snapshots: BTreeSet<SnapshotId> = pinned.snapshots.into_iter().chain(newer).collect();
        Ok(Done { evidence, created: Some(json!({ "snapshots": snapshots })) })
    }

    /// What is there for `action`, in the repository that `listing` is of.
    async fn found(&self, step: &StepContext, action: Action, listing: &Listing) -> Result<Found, Obstacle> {
        let pinned = pinned(step)?;
        if let Err(why) = same_repository(step, &pinned, listing) {
            return Ok(Found::Different(why));
        }
        let uuid = uuid(step)?;
        match action {
            Action::Inspect => Ok(Found::Same),
            Action::Final => {
                // There were backups, and every one of them has gone since: somebody else is deleting.
                let lost = !pinned.snapshots.is_empty() && listing.of_resource(uuid).next().is_none();
                Ok(if lost { Found::Absent(place(listing)) } else { Found::Same })
            }
            Action::RemoveSchedule => Ok(match self.schedule(step, &listing.repository).await? {
                Found::Absent(_) if !listing.not_pinned(uuid, &pinned).is_empty() => Found::Same,
                found @ (Found::Same | Found::Absent(_) | Found::Different(_)) => found,
            }),
            Action::DeleteArchives => Ok(match listing.left(uuid, &pinned) {
                Err(why) => Found::Different(why),
                Ok(_) if !listing.not_pinned(uuid, &pinned).is_empty() => Found::Different(format!(
                    "{}: {} snapshots of it were made after the targets were pinned; look at them, and move or \
                     forget them by hand",
                    step.resource,
                    listing.not_pinned(uuid, &pinned).len()
                )),
                Ok(left) if left.is_empty() && listing.marks(uuid).is_empty() => {
                    Found::Absent(place(listing))
                }
                Ok(_) => Found::Same,
            }),
        }
    }
}

/// Whether a host calls itself like the resource, with or without a domain.
fn is_host(host: &str, name: &str) -> bool {
    let within = |long: &str, short: &str| {
        long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let (host, name) = (host.to_ascii_lowercase(), name.to_ascii_lowercase());
    !host.is_empty() && (within(&host, &name) || within(&name, &host))
}

fn place(listing: &Listing) -> Place {
    Place(format!("restic repository {}", listing.repository))
}

fn same_repository(step: &StepContext, pinned: &Pinned, listing: &Listing) -> Result<(), String> {
    if pinned.repository == listing.repository {
        return Ok(());
    }
    Err(format!(
        "{}: pinned in the restic repository {}, but this is {}",
        step.resource, pinned.repository, listing.repository
    ))
}

/// The resource's uuid, in the alphabet that a tag can hold: a comma would mean two tags.
fn uuid(step: &StepContext) -> Result<&str, Obstacle> {
    step.identity
        .get("uuid")
        .filter(|uuid| uuid.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b)))
        .ok_or_else(|| {
            Obstacle::Refuse(format!("{}: backups need an identity with a plain uuid", step.resource))
        })
}

fn pinned(step: &StepContext) -> Result<Pinned, Obstacle> {
    serde_json::from_value(step.targets.clone()).map_err(|e| {
        Obstacle::Refuse(format!("{}: no usable targets are pinned, inspect first: {e}", step.resource))
    })
}

/// Do file work on a thread of its own, for as long as the step has time.
async fn aside<T: Send + 'static>(
    step: &StepContext,
    work: impl FnOnce() -> Result<T, Obstacle> + Send + 'static,
) -> Result<T, Obstacle> {
    let unclear =
        |why: String| Obstacle::Unclear(format!("{}: the folder of schedules: {why}", step.resource));
    tokio::time::timeout(step.time_left(), tokio::task::spawn_blocking(work))
        .await
        .map_err(|_| unclear("does not answer".into()))?
        .map_err(|e| unclear(e.to_string()))?
}

#[async_trait]
impl Driver for Restic {
    async fn inspect(&self, step: &StepContext) -> Result<Inspection, Obstacle> {
        let uuid = uuid(step)?;
        let locks = self.not_running(step).await?;
        let listing = self.listing(step).await?;
        let before = (!step.targets.is_null()).then(|| pinned(step)).transpose()?;
        let elsewhere = before.as_ref().and_then(|before| same_repository(step, before, &listing).err());
        let schedule = self.schedule(step, &listing.repository).await?;
        // What this deletion made itself stands under a key of its own.
        let made = before.map(|before| before.made).unwrap_or_default();
        let snapshots = listing.of_resource(uuid).map(|s| s.id.clone());
        let snapshots: BTreeSet<_> = snapshots.filter(|id| !made.contains(id)).collect();
        let count = snapshots.len();
        let pins = Pinned {
            repository: listing.repository.clone(),
            snapshots,
            schedule: schedule == Found::Same,
            made: BTreeSet::new(),
        };
        let targets = json!(pins);
        if targets.to_string().len() > FINDING_MAX_BYTES {
            return Err(Obstacle::Refuse(format!(
                "{}: {count} snapshots are too many to pin; thin them out first",
                step.resource
            )));
        }
        let mut evidence = format!("{}: {count} snapshots, scheduled: {}", place(&listing).0, pins.schedule);
        if locks > 0 {
            evidence.push_str(&format!(", {locks} locks of others"));
        }
        let found = match (elsewhere, schedule) {
            (Some(why), _) | (None, Found::Different(why)) => Found::Different(why),
            (None, Found::Absent(_)) if count == 0 && !step.none_expected() => Found::Absent(place(&listing)),
            (None, Found::Same | Found::Absent(_)) => Found::Same,
        };
        Ok(Inspection { found, targets, protected: None, evidence })
    }

    async fn find(&self, step: &StepContext) -> Result<Found, Obstacle> {
        match Action::of(&step.action)? {
            Action::Inspect => Ok(self.inspect(step).await?.found),
            action @ (Action::Final | Action::RemoveSchedule | Action::DeleteArchives) => {
                let listing = self.listing(step).await?;
                self.found(step, action, &listing).await
            }
        }
    }

    async fn perform(
        &self,
        step: &StepContext,
        _manifest: Option<&Value>,
        permit: Permit,
    ) -> Result<Done, Obstacle> {
        let action = Action::of(&step.action)?;
        if action == Action::Inspect {
            return Err(only_looks(step));
        }
        let listing = self.listing(step).await?;
        match self.found(step, action, &listing).await? {
            Found::Different(why) => return Err(Obstacle::Refuse(why)),
            Found::Absent(place) => return Ok(Done::saw(format!("{}: nothing is left", place.0))),
            Found::Same => {}
        }
        match action {
            Action::Inspect => Err(only_looks(step)),
            Action::Final => self.back_up(step, &listing, &permit).await,
            Action::RemoveSchedule => self.remove_schedule(step, &listing.repository, permit).await,
            Action::DeleteArchives => self.delete_archives(step, &listing, &permit).await,
        }
    }

    async fn presence(&self, step: &StepContext) -> Result<(Presence, String), Obstacle> {
        let action = Action::of(&step.action)?;
        let listing = self.listing(step).await?;
        let place = place(&listing).0;
        if action == Action::Final {
            let pinned = pinned(step)?;
            same_repository(step, &pinned, &listing).map_err(Obstacle::Refuse)?;
            return Ok(match listing.finals(uuid(step)?, &pinned).first() {
                Some(last) => (Presence::Present, format!("{place}: final backup {}", last.id)),
                None => (Presence::Absent, format!("{place}: no final backup")),
            });
        }
        let found = match action {
            // The schedule alone: what joins the targets is no part of its being gone.
            Action::RemoveSchedule => {
                same_repository(step, &pinned(step)?, &listing).map_err(Obstacle::Refuse)?;
                self.schedule(step, &listing.repository).await?
            }
            Action::Inspect | Action::Final | Action::DeleteArchives => {
                self.found(step, action, &listing).await?
            }
        };
        match found {
            Found::Same => Ok((Presence::Present, format!("{place}: not all is gone"))),
            Found::Absent(seen) => Ok((Presence::Absent, format!("{}: nothing pinned is left", seen.0))),
            Found::Different(why) => Err(Obstacle::Refuse(why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use sexton_testkit::fuzz::{Form, Fuzz};

    use super::{is_host, lock_host};

    /// A machine that does not know its own name may be the one that is asked about.
    #[test]
    fn a_lock_of_a_nameless_host_names_none() {
        for lock in [r#"{"hostname":""}"#, r#"{"hostname":null}"#, "{}"] {
            assert_eq!(lock_host(lock), None, "{lock}");
        }
        assert_eq!(lock_host(r#"{"hostname":"web01"}"#).as_deref(), Some("web01"));
    }

    /// Whatever a lock says: a host that it names is the machine by its name before the first dot, and by nothing else.
    #[test]
    fn fuzz_locks() {
        let lock = r#"{"time":"2026-12-01T03:00:00Z","exclusive":false,"hostname":"web01.lab.test","username":"root","pid":7}"#;
        Fuzz::new("restic-locks", Form::Json).seed(lock).run(|bytes| {
            let host = lock_host(&String::from_utf8_lossy(bytes)).ok_or("it names no host")?;
            assert!(!host.is_empty(), "an empty host names none");
            let first = host.split('.').next().unwrap_or_default();
            assert_eq!(is_host(&host, "web01"), first.eq_ignore_ascii_case("web01"), "{host}");
            Ok(())
        });
    }

    #[test]
    fn a_host_is_the_machine_with_or_without_a_domain() {
        for (host, name) in [("web01", "web01"), ("WEB01.lab.test", "web01"), ("web01", "web01.lab.test")] {
            assert!(is_host(host, name), "{host} {name}");
        }
        for (host, name) in
            [("web011", "web01"), ("web01", "web011"), ("", "web01"), ("web01.lab.test", "web01.lab.other")]
        {
            assert!(!is_host(host, name), "{host} {name}");
        }
    }
}
