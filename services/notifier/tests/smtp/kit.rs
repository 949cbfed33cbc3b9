//! The consumer kit against a real mail server: each world is a machine of its own, and all of them write to one
//! mailbox.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use sexton_consumer::Driver;
use sexton_model::catalogue::SubsystemActions;
use sexton_model::{ActionName, Fence, Instance};
use sexton_notifier::spool::{Announcement, Spool, State};
use sexton_testkit::bench::identity;
use sexton_testkit::consumer::{
    CannotBe, Fixture, Template, World, assert_promises_kept, raise_fence_in, replace_place,
};

use super::*;

struct Offices;

struct Machine {
    office: Office,
    /// Where the spool remembers what was sent.
    file: PathBuf,
}

fn instance() -> Instance {
    "notifier.main".parse().unwrap()
}

#[async_trait]
impl Fixture for Offices {
    fn instance(&self) -> Instance {
        instance()
    }

    fn actions(&self) -> SubsystemActions {
        actions()
    }

    /// There was an announcement before, which was retracted.
    async fn fresh(&self, _action: &ActionName) -> Box<dyn World> {
        let office = Office::new();
        let bench = office.announcing(json!(["owner@example.org"])).await;
        let uid = bench.targets["uid"].as_str().unwrap().to_owned();
        let earlier = Announcement {
            uid: uid.parse().unwrap(),
            resource: "vm/web01".into(),
            identity: identity(&office.uuid),
            due: None,
            zone: None,
            window: None,
            to: vec!["owner@example.org".into()],
            state: State::Retracted,
            sequence: 2,
            tried: Default::default(),
            accepted: Default::default(),
            rejected: Default::default(),
        };
        let root = office.state.path().to_owned();
        Spool::at(&root, &instance()).write(&earlier, Fence::default()).unwrap();
        let file = root.join(format!("notifier/main/announcements/{uid}.json"));
        Box::new(Machine { office, file })
    }
}

#[async_trait]
impl World for Machine {
    fn driver(&self) -> Arc<dyn Driver> {
        self.office.driver()
    }

    fn template(&self) -> Template {
        Template {
            resource: "vm/web01".parse().unwrap(),
            identity: identity(&self.office.uuid),
            attributes: json!({ "contacts": ["owner@example.org", "Second <second@example.org>"] }),
            targets: None,
            params: BTreeMap::from([("due".to_owned(), json!("2026-12-01"))]),
        }
    }

    /// What people believe who read their mail: what was sent stays sent. And whether anybody got a message
    /// twice.
    async fn snapshot(&self) -> Value {
        let mut expecting = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut repeated = Vec::new();
        for text in self.office.mail() {
            let to = header(&text, "To");
            if !seen.insert((to.clone(), header(&text, "Message-ID"))) {
                repeated.push(to.clone());
            }
            // In the order of their numbers.
            if entry(&text).contains("METHOD:CANCEL") {
                expecting.remove(&to);
            } else {
                expecting.insert(to);
            }
        }
        let spooled: Option<Value> =
            std::fs::read(&self.file).ok().map(|text| serde_json::from_slice(&text).unwrap());
        let own = spooled.map(|spooled| spooled["identity"] == json!(identity(&self.office.uuid)));
        json!({ "expecting": expecting, "repeated": repeated, "own": own })
    }

    async fn other_identity(&self) {
        let mut spooled: Value = serde_json::from_slice(&std::fs::read(&self.file).unwrap()).unwrap();
        spooled["identity"] = json!({ "uuid": "another" });
        std::fs::write(&self.file, spooled.to_string()).unwrap();
    }

    async fn make_absent(&self) {
        std::fs::remove_file(&self.file).unwrap();
    }

    /// Another spool lies there.
    async fn lose_place(&self) -> Result<(), CannotBe> {
        replace_place(&self.office.state.path().join("notifier/main"));
        Ok(())
    }

    async fn raise_fence(&self, fence: Fence) -> Result<(), CannotBe> {
        raise_fence_in(&self.file, fence);
        Ok(())
    }
}

#[tokio::test]
async fn the_smtp_driver_keeps_every_promise() {
    assert_promises_kept(&Offices, &[]).await;
}
