//! Schedules of backups: one file per resource, `SCHEDULES_DIR/NAME.json`, an object with the key `uuid` and
//! whatever else the scheduler of backups reads. Removing the file removes the schedule.
//!
//! `SCHEDULES_DIR/.place`, `{"repository": ID}`, says for which repository these schedules are. So an
//! empty folder, where a disk is not mounted, is not taken for one without schedules.
use std::path::Path;

use sexton_consumer::conditional;
use sexton_consumer::driver::{Found, Obstacle, Place};
use sexton_model::ResourceId;

/// Refuses to believe a folder that does not say it belongs to `repository`.
fn place(folder: &Path, repository: &str) -> Result<Place, Obstacle> {
    let path = folder.join(".place");
    let unclear = |why: &str| Obstacle::Unclear(format!("{}: {why}", path.display()));
    let text = conditional::read(&path)?.ok_or_else(|| unclear("missing: not a folder of schedules"))?;
    let said: serde_json::Value = serde_json::from_str(&text).map_err(|e| unclear(&e.to_string()))?;
    if said["repository"] != repository {
        return Err(unclear(&format!("is for the repository {}, expected {repository}", said["repository"])));
    }
    Ok(Place(format!("{} for repository {repository}", folder.display())))
}

fn compare(text: &str, uuid: &str) -> Result<(), String> {
    let schedule: serde_json::Value =
        serde_json::from_str(text).map_err(|e| format!("is no schedule: {e}"))?;
    if schedule["uuid"] == uuid {
        return Ok(());
    }
    Err(format!("is for uuid {}, expected {uuid}", schedule["uuid"]))
}

/// Whether the schedule is there and this resource's.
///
/// # Errors
/// [`Obstacle::Unclear`] if that cannot be seen.
pub(super) fn find(
    folder: &Path,
    resource: &ResourceId,
    uuid: &str,
    repository: &str,
) -> Result<Found, Obstacle> {
    let place = place(folder, repository)?;
    let path = folder.join(format!("{}.json", resource.name));
    Ok(match conditional::read_either(&path)? {
        None => Found::Absent(place),
        Some(text) => match compare(&text, uuid) {
            Ok(()) => Found::Same,
            Err(why) => Found::Different(format!("the schedule {} {why}", path.display())),
        },
    })
}

/// Remove the schedule if it is this resource's.
///
/// # Errors
/// [`Obstacle::Refuse`] if it is another's.
pub(super) fn remove(
    folder: &Path,
    resource: &ResourceId,
    uuid: &str,
    repository: &str,
) -> Result<(), Obstacle> {
    place(folder, repository)?;
    let path = folder.join(format!("{}.json", resource.name));
    conditional::remove_if(&path, |text| {
        compare(text, uuid).map_err(|why| format!("the schedule {} {why}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use sexton_testkit::fuzz::{Form, Fuzz};

    use super::*;

    #[test]
    fn fuzz_schedules() {
        let schedule = r#"{"uuid":"u1","at":"03:00","keep":[7,4],"paths":{"root":"/srv"}}"#;
        Fuzz::new("restic-schedules", Form::Json).seed(schedule).run(|bytes| {
            let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
            compare(text, "u1")
        });
        let folder = tempfile::tempdir().unwrap();
        Fuzz::new("restic-places", Form::Json).seed(r#"{"repository":"r1"}"#).slow(2).run(|bytes| {
            std::fs::write(folder.path().join(".place"), bytes).unwrap();
            place(folder.path(), "r1").map(drop).map_err(|error| error.to_string())
        });
    }

    #[test]
    fn a_schedule_goes_only_at_its_place_and_with_its_uuid() {
        let folder = tempfile::tempdir().unwrap();
        let web01: ResourceId = "vm/web01".parse().unwrap();
        assert!(matches!(find(folder.path(), &web01, "u1", "r1"), Err(Obstacle::Unclear(_))));
        std::fs::write(folder.path().join(".place"), r#"{"repository":"r1"}"#).unwrap();
        assert!(matches!(find(folder.path(), &web01, "u1", "r1"), Ok(Found::Absent(_))));
        assert!(matches!(find(folder.path(), &web01, "u1", "r2"), Err(Obstacle::Unclear(_))));
        std::fs::write(folder.path().join("web01.json"), r#"{"uuid":"u2"}"#).unwrap();
        assert!(matches!(find(folder.path(), &web01, "u1", "r1"), Ok(Found::Different(_))));
        assert!(matches!(remove(folder.path(), &web01, "u1", "r1"), Err(Obstacle::Refuse(_))));
        assert_eq!(find(folder.path(), &web01, "u2", "r1"), Ok(Found::Same));
        remove(folder.path(), &web01, "u2", "r1").unwrap();
        assert!(matches!(find(folder.path(), &web01, "u2", "r1"), Ok(Found::Absent(_))));
    }
}
