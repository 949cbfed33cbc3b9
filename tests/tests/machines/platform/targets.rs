//! Targets and history in Prometheus. Asked is its HTTP API.
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::facts::{Facts, NOBODY};
use crate::machine::Machine;
use crate::program::{curl, wanted};
use crate::waiting::wait_until;

/// How far back the history is counted: longer than the test takes.
const RANGE: &str = "1h";
/// Things of a machine here; the second goes on with its address.
const FILE: &str = "monitoring: target file";
const TARGET: &str = "monitoring: target ";
const OLD_SAMPLES: &str = "monitoring: samples from before the test";
const SAMPLES: &str = "monitoring: samples at all";

pub struct Targets {
    url: String,
    folder: PathBuf,
    /// Until when the history is counted that nothing may change any more, in seconds.
    before: u64,
}

impl Targets {
    /// `exporter` serves the measurements, at an address with a path for each machine.
    pub fn set_up(machines: &[Machine], exporter: &str) -> Self {
        let url = wanted("SEXTON_TEST_PROMETHEUS_URL").trim_end_matches('/').to_owned();
        let mut this = Self { url, folder: wanted("SEXTON_TEST_PROMETHEUS_TARGETS").into(), before: 0 };
        this.write(".place", &json!({ "place": format!("storage.tsdb.path={}", this.storage()) }));
        for machine in machines {
            this.write(
                &format!("{}.json", machine.name),
                &json!([{ "targets": [exporter], "labels": {
                    "uuid": machine.uuid, "instance": machine.name, "__metrics_path__": format!("/metrics/{}", machine.name),
                    // Two hundred targets a second would be work.
                    "__scrape_interval__": "5s", "__scrape_timeout__": "2s",
                }}]),
            );
        }
        wait_until("every machine is measured", 60, || {
            let measured = this.history(now());
            machines.iter().all(|m| measured.contains_key(&m.uuid.to_string()))
        });
        // What is measured just now comes a moment later.
        let measured = now();
        wait_until("the last measurement has arrived", 10, || now() > measured + 2);
        this.before = measured;
        this
    }

    pub fn configuration(&self) -> String {
        format!(
            "[consumers.\"monitoring.main\"]\ndriver = \"prometheus\"\nurl = {:?}\ntargets_dir = {:?}\n\
             place = {{ flag = {{ name = \"storage.tsdb.path\", value = {:?} }} }}\n",
            self.url,
            self.folder,
            self.storage()
        )
    }

    /// As the server's owner would: whole or not at all.
    fn write(&self, name: &str, content: &Value) {
        let new = self.folder.join(format!(".{name}.new"));
        std::fs::write(&new, content.to_string()).unwrap();
        std::fs::rename(new, self.folder.join(name)).unwrap();
    }

    fn ask(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let mut arguments = vec!["-G".to_owned(), format!("{}/api/v1/{path}", self.url)];
        for (name, value) in query {
            arguments.extend(["--data-urlencode".to_owned(), format!("{name}={value}")]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let answer = curl(&arguments);
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    fn storage(&self) -> String {
        self.ask("status/flags", &[])["storage.tsdb.path"].as_str().unwrap().to_owned()
    }

    /// How many samples there are of each UUID, in the range that ends at `time`.
    fn history(&self, time: u64) -> BTreeMap<String, String> {
        let query = format!("sum by (uuid) (count_over_time(machine_works{{uuid!=\"\"}}[{RANGE}]))");
        let found = self.ask("query", &[("query", &query), ("time", &time.to_string())]);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let all = found["result"].as_array().unwrap().iter();
        all.map(|one| (text(&one["metric"]["uuid"]), text(&one["value"][1]))).collect()
    }

    /// How the names of any machine's things begin.
    pub fn things() -> Vec<String> {
        let target = format!("{TARGET}\"http");
        vec![FILE.to_owned(), target, OLD_SAMPLES.to_owned(), SAMPLES.to_owned()]
    }

    /// Machines that are to be measured just now.
    pub fn glimpse(&self, machines: &[Machine]) -> BTreeSet<String> {
        let there = |machine: &&Machine| self.folder.join(format!("{}.json", machine.name)).exists();
        machines.iter().filter(there).map(|machine| machine.name.clone()).collect()
    }

    pub fn look(&self, machines: &[Machine]) -> Facts {
        let mut facts = Facts::default();
        for machine in machines {
            let file = self.folder.join(format!("{}.json", machine.name));
            if let Ok(text) = std::fs::read_to_string(file) {
                facts.add(&machine.name, FILE, text);
            }
        }
        let owner = |uuid: &str| machines.iter().find(|m| m.uuid.to_string() == uuid);
        let targets = self.ask("targets", &[("state", "active")]);
        for target in targets["activeTargets"].as_array().unwrap() {
            let labels = &target["labels"];
            // The server may know others, of other tests.
            if let Some(machine) = owner(labels["uuid"].as_str().unwrap_or_default()) {
                facts.add(&machine.name, format!("{TARGET}{}", target["scrapeUrl"]), labels.to_string());
            } else if target["scrapeUrl"].as_str().unwrap().contains("/metrics/vm") {
                facts.add(NOBODY, format!("{TARGET}{}", target["scrapeUrl"]), labels.to_string());
            }
        }
        for (uuid, samples) in self.history(self.before) {
            if let Some(machine) = owner(&uuid) {
                facts.add(&machine.name, OLD_SAMPLES, samples);
            }
        }
        for (uuid, _) in self.history(now()) {
            if let Some(machine) = owner(&uuid) {
                facts.add(&machine.name, SAMPLES, "there are");
            }
        }
        facts
    }
}

/// The targets go with the test; the server goes on.
impl Drop for Targets {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("vm") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
