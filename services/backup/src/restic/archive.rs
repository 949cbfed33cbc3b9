//! The two actions that change a repository.
use std::collections::BTreeSet;

use serde_json::{Value, json};
use sexton_consumer::driver::{Done, Obstacle, StepContext};
use sexton_consumer::permit::Permit;

use super::program::{self, Purpose, complaint, is_locked};
use super::snapshot::{CANDIDATE, FINAL, Listing, MARK, SnapshotId, made_id};
use super::turns::Lock;
use super::{Restic, pinned, uuid};

/// Ids in one `forget`: 100 of 65 bytes are far below what a command line can hold.
const IDS_IN_ONE_CALL: usize = 100;

/// What to back up, as the platform registered it.
fn paths(step: &StepContext) -> Result<Vec<String>, Obstacle> {
    let wrong = || {
        let said: String = step.attributes.to_string().chars().take(200).collect();
        Obstacle::Refuse(format!(
            "{}: the final backup needs the attribute paths, a list of absolute paths; found {said}",
            step.resource
        ))
    };
    let paths: Vec<String> = step
        .attributes
        .get("paths")
        .and_then(|paths| serde_json::from_value(paths.clone()).ok())
        .ok_or_else(wrong)?;
    let plain = |path: &String| {
        let mut parts = path.split('/').skip(1);
        path.starts_with('/') && !path.contains('\0') && parts.all(|p| !matches!(p, "" | "." | ".."))
    };
    if paths.is_empty() || !paths.iter().all(plain) {
        return Err(wrong());
    }
    Ok(paths)
}

impl Restic {
    /// One last backup, unless this deletion has one. A snapshot is a candidate until it has been seen to hold
    /// all paths, for an incomplete one looks no different afterwards.
    pub(super) async fn back_up(
        &self,
        step: &StepContext,
        listing: &Listing,
        permit: &Permit,
    ) -> Result<Done, Obstacle> {
        let uuid = uuid(step)?;
        let pinned = pinned(step)?;
        let paths = paths(step)?;
        if let Some(last) = listing.finals(uuid, &pinned).first() {
            return Ok(created(&last.id, listing, uuid, &pinned.snapshots, "already made"));
        }
        let made = self.run_backup(step, uuid, &paths, permit).await?;
        let after = self.listing(step).await?;
        let candidate = after
            .of_resource(uuid)
            .find(|s| s.has(CANDIDATE) && s.id.to_string().starts_with(&made))
            .ok_or_else(|| {
                Obstacle::Unclear(format!("{}: the new backup {made} is not listed", step.resource))
            })?;
        if !candidate.covers(&paths) {
            let held = candidate.paths.clone().unwrap_or_default().join(", ");
            return Err(Obstacle::Unclear(format!(
                "{}: the new backup holds {held}, expected {}",
                step.resource,
                paths.join(", ")
            )));
        }
        let id = candidate.id.to_string();
        let promote = ["tag", "--add", FINAL, "--remove", CANDIDATE, "--", &id];
        self.locked_call(step, Lock::Exclusive, "marking the final backup as complete", &promote, permit)
            .await?;
        let after = self.listing(step).await?;
        match after.finals(uuid, &pinned).first() {
            Some(last) => Ok(created(&last.id, &after, uuid, &pinned.snapshots, "made")),
            None => Err(Obstacle::Unclear(format!("{}: the final backup is not listed", step.resource))),
        }
    }

    async fn run_backup(
        &self,
        step: &StepContext,
        uuid: &str,
        paths: &[String],
        permit: &Permit,
    ) -> Result<String, Obstacle> {
        let tag = format!("uuid={uuid}");
        let host = step.resource.name.as_str();
        let mut arguments = vec!["backup", "--json", "--host", host, "--tag", &tag, "--tag", CANDIDATE, "--"];
        arguments.extend(paths.iter().map(String::as_str));
        let stdout = self.locked_call(step, Lock::Shared, "the final backup", &arguments, permit).await?;
        made_id(&stdout).ok_or_else(|| {
            Obstacle::Unclear(format!("{}: the final backup ended without telling its id", step.resource))
        })
    }

    /// Delete exactly what is pinned and left, and its data.
    pub(super) async fn delete_archives(
        &self,
        step: &StepContext,
        listing: &Listing,
        permit: &Permit,
    ) -> Result<Done, Obstacle> {
        let uuid = uuid(step)?;
        let left = listing.left(uuid, &pinned(step)?).map_err(Obstacle::Refuse)?;
        if listing.marks(uuid).is_empty() {
            self.mark(step, uuid, permit).await?;
        }
        self.forget(step, &left, permit).await?;
        let prune = ["prune", "--max-unused", &self.max_unused];
        self.locked_call(step, Lock::Exclusive, "deleting the data of deleted snapshots", &prune, permit)
            .await?;
        let after = self.listing(step).await?;
        let still = after.left(uuid, &pinned(step)?).map_err(Obstacle::Refuse)?;
        if !still.is_empty() {
            return Err(Obstacle::Unclear(format!(
                "{}: {} snapshots are still listed",
                step.resource,
                still.len()
            )));
        }
        self.forget(step, &after.marks(uuid), permit).await?;
        Ok(Done::saw(format!("{} snapshots and their data deleted", left.len())))
    }

    async fn mark(&self, step: &StepContext, uuid: &str, permit: &Permit) -> Result<(), Obstacle> {
        let tag = format!("uuid={uuid}");
        let arguments = [
            "backup",
            "--json",
            "--host",
            "sexton",
            "--tag",
            &tag,
            "--tag",
            MARK,
            "--stdin",
            "--stdin-filename",
            MARK,
        ];
        let call = self.call(step, "marking the repository", &arguments);
        let call = program::Call { stdin: Some("deleting\n"), ..call };
        self.refuse_unless_free(step, Lock::Shared, call, permit).await.map(drop)
    }

    async fn forget(&self, step: &StepContext, ids: &[SnapshotId], permit: &Permit) -> Result<(), Obstacle> {
        let ids: Vec<String> = ids.iter().map(SnapshotId::to_string).collect();
        for some in ids.chunks(IDS_IN_ONE_CALL) {
            let mut arguments = vec!["forget", "--"];
            arguments.extend(some.iter().map(String::as_str));
            self.locked_call(step, Lock::Exclusive, "forgetting snapshots", &arguments, permit).await?;
        }
        Ok(())
    }

    /// A long call that takes a lock.
    async fn locked_call(
        &self,
        step: &StepContext,
        lock: Lock,
        doing: &str,
        arguments: &[&str],
        permit: &Permit,
    ) -> Result<String, Obstacle> {
        self.refuse_unless_free(step, lock, self.long_call(step, doing, arguments), permit).await
    }

    /// Run `call`, after those of this consumer that it cannot share the repository with. If somebody else has it
    /// locked, say by which locks; they are never removed here: a lock that looks stale may belong to a machine
    /// that hangs.
    async fn refuse_unless_free(
        &self,
        step: &StepContext,
        lock: Lock,
        call: program::Call<'_>,
        permit: &Permit,
    ) -> Result<String, Obstacle> {
        let _turn = self.turns.take(lock, &call).await?;
        // What was read before took seconds, each call and each turn may take an hour.
        permit.again()?;
        let output = self.program.run(&call).await?;
        if output.success {
            return Ok(output.stdout);
        }
        if !is_locked(&output) {
            return Err(complaint(&call.what, Purpose::Change, &output));
        }
        let look = self.call(step, "listing locks", &["list", "locks", "--no-lock", "--quiet"]);
        let locks = match self.program.look(&look).await {
            Ok(ids) => ids.lines().take(5).map(|id| id.chars().take(10).collect()).collect::<Vec<String>>(),
            Err(e) => vec![e.to_string()],
        };
        Err(Obstacle::Busy(format!(
            "{}: the repository is locked, locks now: [{}]: {}",
            call.what,
            locks.join(", "),
            output.stderr.trim()
        )))
    }
}

/// Everything of the resource that was not pinned as older and bears one of our tags: the last backup, and
/// candidates that were given up. All of it is deleted with the archives.
fn created(
    last: &SnapshotId,
    listing: &Listing,
    uuid: &str,
    before: &BTreeSet<SnapshotId>,
    how: &str,
) -> Done {
    let ours = |s: &&super::snapshot::Snapshot| s.has(FINAL) || s.has(CANDIDATE);
    let ids: BTreeSet<&SnapshotId> =
        listing.of_resource(uuid).filter(ours).map(|s| &s.id).filter(|id| !before.contains(*id)).collect();
    let created: Value = json!({ "final": ids });
    Done { evidence: format!("final backup {last} ({how})"), created: Some(created) }
}
