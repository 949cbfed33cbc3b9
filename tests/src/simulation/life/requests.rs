//! What people ask for by requests under keys, which are carried out by handlers that may die midway.
use sexton_ledger::{Intent, NewDeletion};
use sexton_model::decide::Event;

use super::somebody;
use crate::simulation::script::{Fate, Wish};
use crate::simulation::world::World;
use crate::simulation::world::requests::{Body, asker, reason};

impl World {
    /// Ask for this, of the machine of that number if it is about one. Whether there was anything to ask for.
    pub(super) async fn request(&mut self, wish: Wish, number: usize, fate: Fate) -> bool {
        let vm = self.script.machine(number);
        let request = self.next_request();
        let (by, reason) = (asker(request), reason(request));
        let event = match wish {
            Wish::Delete(in_ms) => {
                let (by, due, plan) = (somebody(), self.due(in_ms), self.plan(&vm));
                let new = NewDeletion { resource: vm, due, gone_by: None, by, reason, plan };
                self.send(request, (wish, Body::Create(new)), fate);
                return true;
            }
            Wish::Pause(covers) => {
                self.send(request, (wish, Body::Pause(covers.selector())), fate);
                return true;
            }
            Wish::Approve(by) => {
                let Some(seen) = self.seen.clone() else { return false };
                self.send(request, (wish, Body::Approve(seen, by)), fate);
                return true;
            }
            Wish::Cancel => Event::Cancel { by, reason },
            Wish::Hold => Event::PlaceHold { by, reason },
            Wish::Retry => Event::Retry { by },
            Wish::Release => {
                let view = self.record_of(&vm).await;
                let first = view.as_ref().and_then(|view| view.deletion.holds.first());
                let Some(hold) = first.map(|hold| hold.id) else { return false };
                Event::ReleaseHold { hold, by }
            }
        };
        let Some(view) = self.record_of(&vm).await else { return false };
        let intent = Intent { deletion: view.deletion.id, event };
        self.send(request, (wish, Body::Decide(intent)), fate);
        true
    }
}
