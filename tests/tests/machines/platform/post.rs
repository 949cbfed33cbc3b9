//! Notices by mail. Looked at is the mailbox in which the mail server put them.
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::machine::{Fate, Machine};
use crate::platform::Allowed;
use crate::program::wanted;

pub struct Post {
    mailbox: PathBuf,
    spool: PathBuf,
    /// What lay there already.
    old: BTreeSet<OsString>,
}

/// How many mails of each sort somebody got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Told {
    announced: usize,
    retracted: usize,
}

impl Post {
    pub fn set_up(folder: &Path) -> Self {
        let mailbox = Path::new(&wanted("SEXTON_TEST_MAILDIR")).join("new");
        let mut this = Self { mailbox, spool: folder.join("notifier"), old: BTreeSet::new() };
        this.old = this.files().into_iter().collect();
        this
    }

    pub fn configuration(&self) -> String {
        format!(
            "[consumers.\"notifier.main\"]\ndriver = \"smtp\"\ninstance = \"notifier.main\"\nurl = {:?}\n\
             from = \"Sexton <sexton@example.org>\"\nstate = {:?}\n",
            wanted("SEXTON_TEST_SMTP_URL"),
            self.spool
        )
    }

    fn files(&self) -> Vec<OsString> {
        // The folder is made with the first mail.
        std::fs::read_dir(&self.mailbox).into_iter().flatten().map(|e| e.unwrap().file_name()).collect()
    }

    /// By recipient.
    fn told(&self) -> BTreeMap<String, Told> {
        let mut all: BTreeMap<String, Told> = BTreeMap::new();
        for file in self.files().into_iter().filter(|file| !self.old.contains(file)) {
            let text = std::fs::read(self.mailbox.join(file)).unwrap();
            let text = String::from_utf8_lossy(&text).replace("\r\n", "\n");
            let header = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
            let told = all.entry(header("X-Envelope-To: ").to_owned()).or_default();
            let subject = header("Subject: ");
            let calendar = |method: &str| text.contains(&format!("METHOD:{method}"));
            if subject.contains("will be deleted") && calendar("REQUEST") {
                told.announced += 1;
            } else if subject.contains("stays") && calendar("CANCEL") {
                told.retracted += 1;
            } else {
                panic!("neither an announcement nor a retraction:\n{text}");
            }
        }
        all
    }

    /// Everybody was told what became of their machine, once unless more is allowed, and nobody of another's.
    pub fn mistakes(&self, machines: &[Machine], allowed: &Allowed) -> Vec<String> {
        let mut told = self.told();
        let mut mistakes = Vec::new();
        for machine in machines {
            let mut seen = told.remove(&machine.owner()).unwrap_or_default();
            if allowed.changed.contains(&machine.name) {
                continue;
            }
            if allowed.told_again {
                seen = Told { announced: seen.announced.min(1), retracted: seen.retracted.min(1) };
            }
            let fine = match machine.fate {
                Fate::Retired => seen == Told { announced: 1, retracted: 0 },
                // Whoever was not told yet need not be told otherwise.
                Fate::Cancelled => seen == Told::default() || seen == Told { announced: 1, retracted: 1 },
                Fate::LeftAlone => seen == Told::default(),
            };
            if !fine {
                mistakes.push(format!("{} ({:?}): mail: its owner got {seen:?}", machine.name, machine.fate));
            }
        }
        mistakes.extend(told.into_iter().map(|(to, told)| format!("mail: {to} got {told:?}")));
        mistakes
    }
}
