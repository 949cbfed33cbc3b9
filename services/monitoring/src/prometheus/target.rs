//! The folder of target files.
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use sexton_consumer::driver::{Done, Found, Obstacle, Place, StepContext};

use super::file;
use sexton_consumer::conditional;
use sexton_consumer::permit::Permit;

/// A folder, and what its `.place` must say.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) place: String,
}

impl Folder {
    /// The text of the resource's file, or what a crash left of its removal.
    pub(super) async fn read(&self, step: &StepContext) -> Result<Option<String>, Obstacle> {
        self.aside(step, |folder, file| {
            folder.prove()?;
            conditional::read_either(file)
        })
        .await
    }

    /// Whether the resource's file is there and its own.
    pub(super) async fn find(&self, step: &StepContext, uuid: &str) -> Result<Found, Obstacle> {
        Ok(match self.read(step).await? {
            None => Found::Absent(Place(self.path.display().to_string())),
            Some(text) => match file::compare(&text, uuid) {
                Ok(()) => Found::Same,
                Err(why) => Found::Different(format!("{}: the target file {why}", step.resource)),
            },
        })
    }

    /// Remove the resource's file if it is its own.
    pub(super) async fn remove(
        &self,
        step: &StepContext,
        uuid: &str,
        permit: Permit,
    ) -> Result<Done, Obstacle> {
        let uuid = uuid.to_owned();
        self.aside(step, move |folder, path| {
            folder.prove()?;
            // Here, and not before: a file system may have hung until now.
            permit.again()?;
            conditional::remove_if(path, |text| {
                file::compare(text, &uuid).map_err(|why| format!("the target file {} {why}", path.display()))
            })
        })
        .await?;
        Ok(Done::saw("the target file is removed"))
    }

    /// Make the file `to`, if it is `from` or `to`; refused if it is anything else.
    pub(super) async fn change(
        &self,
        step: &StepContext,
        from: String,
        to: String,
        permit: Permit,
    ) -> Result<Done, Obstacle> {
        self.aside(step, move |folder, path| {
            folder.prove()?;
            let now = conditional::read(path)?;
            if now.as_ref() == Some(&to) {
                return Ok(Done::saw("the target file is so already"));
            }
            if now.as_ref() != Some(&from) {
                let how = if now.is_some() { "was changed by others" } else { "was removed by others" };
                return Err(Obstacle::Refuse(format!("the target file {} {how}", path.display())));
            }
            // As above.
            permit.again()?;
            write(path, &to)
                .map_err(|e| Obstacle::Unclear(format!("writing the target file {}: {e}", path.display())))?;
            Ok(Done::saw("the target file is rewritten"))
        })
        .await
    }

    /// Nothing was captured, so nothing must be there.
    pub(super) async fn must_be_absent(&self, step: &StepContext) -> Result<Done, Obstacle> {
        match self.read(step).await? {
            None => Ok(Done::saw("there was no target, and there is none")),
            Some(_) => Err(Obstacle::Refuse(format!(
                "{}: a target has appeared since there was none to capture",
                step.resource
            ))),
        }
    }

    /// Refuses to believe a folder that does not say which server it belongs to.
    fn prove(&self) -> Result<(), Obstacle> {
        let path = self.path.join(".place");
        let unclear = |why: &str| Obstacle::Unclear(format!("{}: {why}", path.display()));
        let text = conditional::read(&path)?.ok_or_else(|| unclear("missing: not a folder of targets"))?;
        let said: serde_json::Value = serde_json::from_str(&text).map_err(|e| unclear(&e.to_string()))?;
        if said["place"] != self.place.as_str() {
            return Err(unclear(&format!("is for {}, expected {}", said["place"], self.place)));
        }
        Ok(())
    }

    /// Do file work on a thread of its own, for as long as the step has time: a hanging file system must not
    /// stop everything.
    async fn aside<T: Send + 'static>(
        &self,
        step: &StepContext,
        work: impl FnOnce(&Self, &Path) -> Result<T, Obstacle> + Send + 'static,
    ) -> Result<T, Obstacle> {
        let folder = self.clone();
        let file = self.path.join(format!("{}.json", step.resource.name));
        let unclear =
            |why: String| Obstacle::Unclear(format!("{}: the folder of targets: {why}", step.resource));
        let work = tokio::task::spawn_blocking(move || work(&folder, &file));
        tokio::time::timeout(step.time_left(), work)
            .await
            .map_err(|_| unclear("does not answer".into()))?
            .map_err(|e| unclear(e.to_string()))?
    }
}

/// Write a file whole or not at all, with the permissions it had.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.new"));
    let mut new = fs::File::create(&temporary)?;
    new.write_all(text.as_bytes())?;
    new.set_permissions(fs::metadata(path)?.permissions())?;
    new.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use sexton_testkit::fuzz::{Form, Fuzz};

    use super::*;

    /// A folder is believed only if its mark says what is configured; else the mark is named, and nothing is known.
    #[test]
    fn fuzz_marks() {
        let targets = tempfile::tempdir().unwrap();
        let mark = targets.path().join(".place");
        let folder = Folder { path: targets.path().to_owned(), place: "cluster=main".to_owned() };
        Fuzz::new("prometheus-marks", Form::Json).seed(r#"{"place":"cluster=main"}"#).slow(2).run(|bytes| {
            fs::write(&mark, bytes).unwrap();
            if let Err(obstacle) = folder.prove() {
                let why = obstacle.to_string();
                assert!(matches!(obstacle, Obstacle::Unclear(_)) && why.contains(".place"), "{why}");
                return Err(why);
            }
            let said: serde_json::Value = serde_json::from_slice(bytes).unwrap();
            assert_eq!(said["place"], "cluster=main");
            Ok(())
        });
    }
}
