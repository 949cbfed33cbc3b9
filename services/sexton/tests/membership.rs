//! The story of 2014 in a served program: a machine leaves a cluster, and joins another one only when its key is gone in the
//! cluster and on the machine. Storage servers that were moved kept their old key, and it opened the wrong cluster.
#![cfg(feature = "serve")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod site;
mod waiting;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use sexton_model::ResourceId;
use sexton_model::resource::Identity;
use site::Site;
use waiting::until;

const DAY_MS: u32 = 500;

/// Two clusters are two instances; one reaches the machines.
const KEYS: &str = r#"
[audit]
checkpoint_secs = 1
[consumers."cluster.a"]
driver = "sandbox"
root = "platform"
instance = "cluster.a"
[consumers."cluster.b"]
driver = "sandbox"
root = "platform"
instance = "cluster.b"
[consumers."machine.main"]
driver = "sandbox"
root = "platform"
instance = "machine.main"
"#;

fn identity(cluster: &str) -> Identity {
    let of = [("cluster", format!("fsid-{cluster}")), ("machine", "serial-7".to_owned())];
    let of: BTreeMap<String, String> = of.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    of.try_into().unwrap()
}

fn membership(cluster: &str) -> Value {
    json!({
        "id": format!("membership/storage07-{cluster}"), "scope": "storage", "criticality": "credential",
        "identity": identity(cluster), "instances": {"cluster": cluster}, "exclusive": "machine/storage07",
    })
}

/// Its key lies in the cluster and on the machine.
fn make_keys(site: &Site, cluster: &str) {
    let root = site.folder.path().join("platform");
    let id: ResourceId = format!("membership/storage07-{cluster}").parse().unwrap();
    for instance in [format!("cluster.{cluster}"), "machine.main".to_owned()] {
        sexton_hook::sandbox::create(&root, &instance.parse().unwrap(), &id, &identity(cluster)).unwrap();
    }
}

/// What the program says to whoever wants to register it.
fn join(site: &Site, resource: &Value) -> (bool, String) {
    let file = site.folder.path().join("membership.json");
    std::fs::write(&file, resource.to_string()).unwrap();
    site.says(&["register", file.to_str().unwrap()])
}

fn refused(site: &Site, resource: &Value, why: &str) {
    let (good, said) = join(site, resource);
    // Lines are broken where they are shown.
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(!good && said.contains(why), "expected {why:?}: {said}");
    let id = resource["id"].as_str().unwrap();
    let known = site::get(site.api, &format!("/v1/resources/{id}")).map(|(status, _)| status);
    assert!(known != Some(200), "{id} is registered all the same");
}

#[test]
fn a_machine_joins_another_cluster_when_its_old_key_is_gone_in_both_places() {
    let site = Site::start_with_days_of(DAY_MS, 1, KEYS);
    let at = |place: &str| -> PathBuf { site.folder.path().join("platform").join(place) };
    make_keys(&site, "a");
    let mut incomplete = membership("a");
    incomplete.as_object_mut().unwrap().remove("exclusive");
    refused(&site, &incomplete, "exclusive: missing");
    let (good, said) = join(&site, &membership("a"));
    assert!(good, "{said}");
    let b = membership("b");
    make_keys(&site, "b");
    refused(&site, &b, "machine/storage07 is taken: membership/storage07-a is registered for it");

    // Nobody is told of it, and whoever looks reads why.
    let why = "Nobody but the operators of both clusters uses the key";
    let tomorrow = (chrono::Utc::now().date_naive() + chrono::Days::new(1)).to_string();
    let (good, said) = site.says(&["plan", "membership/storage07-a", "--on", &tomorrow, "--no-look"]);
    assert!(good && said.contains(&format!("nobody would be told in time to say no: {why}")), "{said}");

    // It leaves: both keys are disabled, and then revoked in the cluster. Somebody else has the key on the machine.
    assert!(site.says(&["pause", "--stage", "hard", "--reason", "a test"]).0);
    let (good, said) =
        site.says(&["delete", "membership/storage07-a", "--on", &tomorrow, "--reason", "it moves"]);
    assert!(good, "{said}");
    let key = at("machine/main/objects/storage07-a.json");
    let read = || serde_json::from_slice::<Value>(&std::fs::read(&key).unwrap()).unwrap();
    let shown = || {
        let (_, said) = site.says(&["-o", "json", "show", "membership/storage07-a"]);
        serde_json::from_str::<Value>(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    };
    let state = |stage: &str| {
        let shown = shown();
        let jobs = shown["jobs"].as_array().unwrap().clone();
        let job = jobs.into_iter().find(|job| job["job"] == stage || job["job"]["stage"] == stage);
        job.unwrap_or_else(|| panic!("{stage}: {shown}"))["state"].as_str().unwrap().to_owned()
    };
    let (_, said) = site.says(&["show", "membership/storage07-a", "--trail"]);
    assert!(said.contains(&format!("told        nobody in time to say no: {why}")), "{said}");
    assert!(said.contains("it moves; nobody is told in time: Nobody but the operators"), "{said}");
    let created = shown()["trail"][0]["event"].clone();
    assert!(
        created["what"] == "created" && created["unannounced"].as_str().unwrap().starts_with(why),
        "{created}"
    );
    until("soft is over", || state("soft") == "done");
    assert_eq!(read()["active"], false);
    refused(&site, &b, "has not taken it apart yet");
    let mut tampered = read();
    let fence = std::mem::replace(&mut tampered["fence"], json!([1, 1_000_000_000]));
    std::fs::write(&key, tampered.to_string()).unwrap();
    assert!(site.says(&["resume", "1", "--yes"]).0);
    until("hard parks", || state("hard") == "parked");
    assert!(!at("cluster/a/objects/storage07-a.json").exists(), "it is revoked in the cluster");
    assert!(key.exists(), "and lies on the machine");
    refused(&site, &b, "has not taken it apart yet");

    // The machine does not answer: nobody knows whether the key is there.
    let (place, aside) = (at("machine/main/place.json"), at("machine/main/place.aside"));
    std::fs::rename(&place, &aside).unwrap();
    std::fs::remove_file(&key).unwrap();
    assert!(site.says(&["retry", "membership/storage07-a"]).0);
    until("it is asked for in vain", || shown().to_string().contains("not a place"));
    assert_ne!(state("hard"), "done");
    refused(&site, &b, "has not taken it apart yet");

    // Another one answers in its place, with such a key: that one is not touched.
    tampered["fence"] = fence;
    std::fs::write(&key, tampered.to_string()).unwrap();
    std::fs::write(&place, json!({ "place": "sandbox:machine.other" }).to_string()).unwrap();
    until("hard parks", || state("hard") == "parked");
    let said = shown().to_string();
    assert!(said.contains("but this is sandbox:machine.other"), "{said}");
    assert_eq!(read(), tampered);
    refused(&site, &b, "has not taken it apart yet");

    // It does itself, and the key is there after all.
    std::fs::rename(&aside, &place).unwrap();
    until("its receipt is signed", || {
        site.says(&["retry", "membership/storage07-a"]);
        let signed = site.says(&["receipt", "membership/storage07-a"]).0;
        if !signed {
            let (good, said) = join(&site, &b);
            // It may be signed at this moment.
            assert!(!good || site.says(&["receipt", "membership/storage07-a"]).0, "{said}");
            return good;
        }
        signed
    });
    assert!(!key.exists() && !at("cluster/a/objects/storage07-a.json").exists());
    let (good, said) = join(&site, &b);
    assert!(good, "{said}");
    assert!(at("machine/main/objects/storage07-b.json").exists(), "the new one's key is another's");
    // And now it is in the way of whoever wants to go back.
    let a = membership("a");
    let (good, said) = join(&site, &a);
    assert!(!good, "{said}");
}

#[test]
fn whoever_approves_a_batch_reads_why_nobody_is_told() {
    let site = Site::start(1, &format!("[budgets]\na_day = 1\n{KEYS}"));
    assert!(site.says(&["pause", "--reason", "until both are there"]).0);
    let tomorrow = (chrono::Utc::now().date_naive() + chrono::Days::new(1)).to_string();
    for cluster in ["a", "b"] {
        make_keys(&site, cluster);
        let mut of_another_machine = membership(cluster);
        of_another_machine["exclusive"] = json!(format!("machine/of-{cluster}"));
        let (good, said) = join(&site, &of_another_machine);
        assert!(good, "{said}");
        let id = format!("membership/storage07-{cluster}");
        let (good, said) = site.says(&["delete", &id, "--on", &tomorrow, "--reason", "it moves"]);
        assert!(good, "{said}");
    }
    let held = || site.says(&["list", "--state", "held"]).1.matches("membership/storage07-").count();
    until("both are held", || held() == 2);
    assert!(site.says(&["resume", "1", "--yes"]).0);
    let why = "Nobody but the operators of both clusters uses the key";
    let told = format!("of 2 of these nobody is told in time to say no: {why}");
    until("whoever looks at their batch reads why", || site.says(&["batches", "1"]).1.contains(&told));
}
