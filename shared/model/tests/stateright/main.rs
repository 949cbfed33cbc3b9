//! The state machine, checked exhaustively: every order of events on small deletions, within bounds.
//!
//! It is the one function `decide`, and `budget::admit` where budgets count. Around one deletion ([`world`]):
//!
//! - **Coordinators** with any outdated view: every event is tried on every job and with every fence that is
//!   still remembered, in every state. That covers two of them, and more.
//! - **The network** delivers orders and answers in any order, twice, late, or never: what is not delivered
//!   before its deadline is lost.
//! - **Consumers** that act as late as their order's deadline allows, and whose calls land up to the longest
//!   call later. They store no fence, the worst case that the design allows; or they sleep past everything, and what
//!   they change holds a fence.
//! - **People**: one cancel, in every state; a retry of what is parked; holds, pauses, an older copy of the job table.
//! - **Time** in steps of half a deadline. Only differences count, so it is kept relative to now, and there is no
//!   end of time. Fences are renumbered likewise, in their order.
//!
//! Around a [`crowd`] of deletions whose hard stage is due there is what admits them, and people who approve.
//!
//! Always has to hold what [`model`] says of one deletion and [`batches`] of a crowd, and every rule in `world/rules.rs`
//! and `crowd/mod.rs`, of every single decision. Besides, an end stays within reach of every state ([`reach`]): with
//! holds released, pauses lifted, a review accepted, what is parked tried again, and nothing more going wrong, it comes.
//!
//! The bounds ([`world::Bounds`], [`crowd::Bounds`]) stand at the top of each file, with how many states have to be seen at
//! least; each test prints how many there were. There are many small worlds rather than one, whose states nobody could
//! count:
//!
//! | file | what is in it | bounds |
//! | --- | --- | --- |
//! | `spine.rs`, duplicates | five stages with five steps | 1 repeated order, 1 lease, 1 outdated answer kept |
//! | `spine.rs`, failures | the same | 1 lease, 2 failures |
//! | `spine.rs`, late calls | the same | 1 repeated order, 1 lease, 1 failure; calls land a step of time late |
//! | `restores.rs` | two reversible steps, one destructive | 1 repeated order, 1 lease; calls land up to two steps late |
//! | `holds.rs` | one reversible step, one destructive | 1 lease, 1 failure, 2 holds on the record |
//! | `pauses.rs` | the same | 1 lease, 2 pauses, of everything, soft or hard |
//! | `reviews.rs` | the same | the job table is put back once, and 1 lease after that |
//! | `together.rs` | the same | 1 hold, 1 pause, and the job table is put back once |
//! | `sleepers.rs`, one sleeps | the same; what is deleted holds a fence | a consumer falls asleep, 1 repeated order, 1 lease |
//! | `sleepers.rs`, two sleep | the same | two fall asleep, 2 leases |
//! | `batches.rs`, approvals | three deletions, each asked for by somebody else, of which one may begin in a span; one comes later | 2 batches, 1 look at one, 1 cancel |
//! | `batches.rs`, turns | the same, and two come later | 2 batches, 1 hold |
//! | `batches.rs`, approved and held | two of them | 2 batches, 1 look, 1 hold |
//!
//! What is not in it: that credit runs out, waivers, rescues, parking by hand, notices, drift, holds on the resource,
//! protection, ceilings, hours and redundancy. Those are in the random histories beside the code. That a consumer remembers
//! the highest fence, and refuses an order that is older than a pause, is not part of this either, nor are subsystems that
//! hold a fence and cannot compare it and change in one.
mod batches;
mod crowd;
mod holds;
mod model;
mod pauses;
mod reach;
mod restores;
mod reviews;
mod sleepers;
mod spine;
mod together;
mod world;
