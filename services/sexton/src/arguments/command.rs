//! The commands, each with its arguments.
use std::path::PathBuf;

use chrono::NaiveDate;
use clap::Subcommand;
use sexton_api::CeilingTo;
use sexton_model::belts::one_shot::Passable;
use sexton_model::deletion::Zone;
use sexton_model::job::Stage;
use sexton_model::{Actor, Kind, ResourceId, Scope, Subsystem};

use super::{AlarmsCommand, CanariesCommand, CensusCommand, DrillCommand, ListArguments, TokenCommand};
#[cfg(feature = "serve")]
use super::{KeysArguments, KeysCommand};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Register one resource, described as JSON in a file ('-': standard input).
    Register {
        /// The file.
        file: PathBuf,
    },
    /// Register an inventory: JSON lines (*.jsonl, *.json, '-') or CSV (*.csv). All of it, or nothing; whatever is wrong
    /// with it is said in one run, line by line.
    Import {
        /// The file.
        file: PathBuf,
        /// Register the good lines and report the bad ones, rather than nothing.
        #[arg(long)]
        skip_bad: bool,
        /// Only check it, as registering it would.
        #[arg(long)]
        dry_run: bool,
    },
    /// Make a deletion record: the resource goes, stage by stage, on that date.
    Delete {
        /// The resource, such as vm/web01.
        resource: ResourceId,
        /// The date its soft stage is due (YYYY-MM-DD). There is no default.
        #[arg(long, value_parser = sexton_api::date::parse)]
        on: NaiveDate,
        /// Why.
        #[arg(long)]
        reason: String,
        /// Whose calendar, such as Europe/Berlin; if not given, that of `[policy] zone` at the coordinator, or UTC. It is named
        /// in the answer.
        #[arg(long)]
        zone: Option<Zone>,
        /// By when it must be gone; shown with the record.
        #[arg(long, value_parser = sexton_api::date::parse)]
        gone_by: Option<NaiveDate>,
    },
    /// Show what deleting a resource would do, step by step, what would stop it now, and exactly what each subsystem would
    /// delete: they are asked, and only look. Makes nothing.
    Plan {
        /// The resource, such as vm/web01.
        resource: ResourceId,
        /// The date its soft stage would be due (YYYY-MM-DD). There is no default.
        #[arg(long, value_parser = sexton_api::date::parse)]
        on: NaiveDate,
        /// Whose calendar, such as Europe/Berlin; if not given, that of `[policy] zone` at the coordinator, or UTC. It is named
        /// in the answer.
        #[arg(long)]
        zone: Option<Zone>,
        /// By when it would have to be gone.
        #[arg(long, value_parser = sexton_api::date::parse)]
        gone_by: Option<NaiveDate>,
        /// Do not ask the subsystems what they hold of it.
        #[arg(long)]
        no_look: bool,
        /// How many seconds to wait for them: 1 to 120, and 20 if not given.
        #[arg(long, value_name = "SECONDS", conflicts_with = "no_look")]
        within: Option<u64>,
    },
    /// List deletion records, newest first.
    List(ListArguments),
    /// Show one record: timeline, next step, what can still be undone and until when.
    Show {
        /// A record (d-17) or its resource (vm/web01).
        what: String,
        /// With the whole audit trail.
        #[arg(long)]
        trail: bool,
    },
    /// Show the receipt of a record whose purge is over: what was seen of each subsystem, when, and what remains. With
    /// -o json: signed, as `sexton verify --receipt` checks it.
    Receipt {
        /// A record or its resource.
        what: String,
    },
    /// Bring the resource back. Until the hard stage begins. Or all of a scope, in the order of their priority.
    Cancel {
        /// A record or its resource.
        #[arg(required_unless_present = "scope")]
        what: Option<String>,
        /// Instead, all live records of this scope and of those below it. What is too late, or fails, is listed; it may be
        /// repeated.
        #[arg(long, conflicts_with = "what")]
        scope: Option<Scope>,
        /// Only show what would come back, in which order, and until when.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask before a scope is cancelled.
        #[arg(long, requires = "scope")]
        yes: bool,
        /// Why.
        #[arg(long, required_unless_present = "dry_run")]
        reason: Option<String>,
    },
    /// Say when a resource is restored: lower goes first. Also while restores wait for their turn.
    #[command(allow_negative_numbers = true)]
    Priority {
        /// The resource, such as vm/web01.
        resource: ResourceId,
        /// From -32768 to 32767; 100 unless it was registered with another.
        priority: i16,
    },
    /// Place a hold: a reason not to go on. Any number may stand. On the record that a resource has now, and no longer
    /// than that; or with --resource on the resource itself, whatever record it has or gets.
    Hold {
        /// A record or its resource.
        what: String,
        /// Hold the resource itself: there need be no record, every deletion of it is stopped, and the hold stands
        /// until it is released.
        #[arg(long)]
        resource: bool,
        /// With --resource: who or what holds, such as legal; you, if it is left out. All of an origin can be released
        /// together.
        #[arg(long, requires = "resource")]
        origin: Option<Actor>,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Release a hold: of a record, or with --resource of the resource itself.
    Release {
        /// A record or its resource.
        what: String,
        /// Its number, as `show` names it; may be left out if there is only one.
        hold: Option<i64>,
        /// A hold on the resource itself, as `hold --resource` places them.
        #[arg(long)]
        resource: bool,
        /// With --resource: all of this origin, such as legal.
        #[arg(long, requires = "resource", conflicts_with = "hold")]
        origin: Option<Actor>,
    },
    /// Stop: by stage, kind, scope, subsystem, or everything. In force when this returns.
    Pause {
        /// Only this stage.
        #[arg(long)]
        stage: Option<Stage>,
        /// Only this kind.
        #[arg(long)]
        kind: Option<Kind>,
        /// Only this scope and those below it.
        #[arg(long)]
        scope: Option<Scope>,
        /// Only steps of this subsystem.
        #[arg(long)]
        subsystem: Option<Subsystem>,
        /// Why. Without it: lists the pauses in force.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Say how far deletions of a scope may go: observe, announce, soft, hard, purge. Raised stage by stage.
    Ceiling {
        /// Of which scope, with those below it that have none of their own.
        #[arg(long, conflicts_with = "everywhere")]
        scope: Option<Scope>,
        /// Of every scope that has none of its own.
        #[arg(long)]
        everywhere: bool,
        /// How far; `inherit`: as the scope around it. Without it: lists the ceilings.
        #[arg(long)]
        to: Option<CeilingTo>,
        /// Why.
        #[arg(long, requires = "to")]
        reason: Option<String>,
        /// Only show what would go on, and what would be held as a batch.
        #[arg(long, requires = "to")]
        dry_run: bool,
        /// Do not ask before it is set.
        #[arg(long, requires = "to", conflicts_with = "dry_run")]
        yes: bool,
        /// Approve that exactly those begin at once whose digest is shown: for who requested none of them.
        #[arg(long, value_name = "DIGEST", requires = "to", conflicts_with = "dry_run")]
        approve: Option<String>,
    },
    /// Batches that exceed a budget: how many deletions may begin a stage within a day. Or one of them, with its members.
    Batches {
        /// Its number. Without it: lists them.
        batch: Option<i64>,
    },
    /// Let a batch that exceeds a budget go: once, within seven days, and exactly the set that you have looked at.
    Approve {
        /// Its number.
        batch: i64,
        /// The set's digest, as `sexton batches NUMBER` shows it.
        #[arg(long)]
        digest: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Let one stage of one deletion pass one belt, once, within a day: its scope's ceiling, working hours, or the budget.
    /// Somebody else than who requested it has to say so. Without WHAT: lists the overrides of the last week.
    Override {
        /// A record or its resource.
        #[arg(requires_all = ["stage", "belt", "reason"], conflicts_with = "take_back")]
        what: Option<String>,
        /// Which stage may begin.
        #[arg(long)]
        stage: Option<Stage>,
        /// What it may pass: ceiling, window or budget.
        #[arg(long)]
        belt: Option<Passable>,
        /// Why.
        #[arg(long)]
        reason: Option<String>,
        /// You requested the deletion yourself, and nobody else can be asked: it is told everybody who looks at the health.
        #[arg(long)]
        break_glass: bool,
        /// Take back the override of this number.
        #[arg(long)]
        take_back: Option<i64>,
    },
    /// Hand in a census: a complete listing of what is there, as JSON. Nothing is deleted because it lacks something; what
    /// does not fit the inventory is found, and budgets by percent are opened. Or have one taken. Without FILE: lists them.
    #[command(args_conflicts_with_subcommands = true)]
    Census {
        /// The census (README.md, Censuses).
        file: Option<PathBuf>,
        #[command(subcommand)]
        command: Option<CensusCommand>,
    },
    /// What is there, by the last censuses, and nobody has registered: of each what is known of it, since when, and the commands
    /// that would have it deleted, but for what a person has to give: the date, always. Makes nothing.
    Findings {
        /// Only of this kind.
        #[arg(long)]
        kind: Option<Kind>,
        /// Only of this scope and those below it.
        #[arg(long)]
        scope: Option<Scope>,
    },
    /// What must be refused, asked of every consumer once a day, and whether it is. Fails if a person has to look.
    Canaries {
        /// What to do; without it the last run is shown.
        #[command(subcommand)]
        command: Option<CanariesCommand>,
    },
    /// Whether a cancel brings back what was switched off: seen once a week of resources that are there for nothing else
    /// (README.md, Drills). Fails if a person has to look.
    Drill {
        /// What to do; without it the last ones are shown.
        #[command(subcommand)]
        command: Option<DrillCommand>,
    },
    /// Show what would go on without a pause, and lift it.
    Resume {
        /// Its number.
        pause: i64,
        /// Only show what would go on, and what would be held as a batch.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask before it is lifted.
        #[arg(long, conflicts_with = "dry_run")]
        yes: bool,
        /// Approve that exactly those begin at once whose digest is shown: for who requested none of them.
        #[arg(long, value_name = "DIGEST", conflicts_with = "dry_run")]
        approve: Option<String>,
    },
    /// Park a job that is in line or backs off, so that it can be retried or waived.
    Park {
        /// A record or its resource.
        what: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// What is known of a job table that went back in time; or accept it as it is, so that it goes on.
    Review {
        /// Accept it: from then on it dispatches again. That takes the configured token, as no other is known not to be revoked.
        #[arg(long, requires = "reason")]
        accept: bool,
        /// What was compared, and why it may go on.
        #[arg(long, requires = "accept")]
        reason: Option<String>,
    },
    /// Check all chains of the audit trail: of records, resources, pauses, tokens and refusals.
    Audit {
        /// Instead, list the latest tokens that were issued or revoked, and who was refused what.
        #[arg(long)]
        access: bool,
        /// Instead, copy the chain of this record or resource; with -o json to a file that `sexton verify --chain` checks.
        #[arg(long, value_name = "WHAT", conflicts_with = "access")]
        of: Option<String>,
    },
    /// Tokens that others show to the API: issue, list, revoke.
    Token {
        /// What to do.
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Who you are to the coordinator, and what you may do there.
    Whoami,
    /// Check a file of signed checkpoints, kept outside the job table: that each is signed and follows from the one
    /// before; and that the job table's chains still hold, and still say what was signed.
    Verify {
        /// The file: a coordinator's, or a copy of it.
        #[arg(required_unless_present = "receipt")]
        file: Option<PathBuf>,
        /// Instead, check a receipt, as `sexton receipt -o json` writes it, without asking anybody.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["file", "offline"])]
        receipt: Option<PathBuf>,
        /// The public keys that may have signed it: keys/beacon.public.toml, or of `sexton serve`
        /// FILE.audit.public.toml beside the job table. Better a copy that was kept elsewhere.
        #[arg(long)]
        key: PathBuf,
        /// Check the file only, and ask nobody.
        #[arg(long)]
        offline: bool,
        /// Also check this copy of a record's chain, as `sexton audit --of WHAT -o json` writes it, without asking anybody:
        /// that it holds, and that it is what the checkpoints say.
        #[arg(long, value_name = "FILE", requires = "offline")]
        chain: Option<PathBuf>,
    },
    /// Check a file of the archive without asking anybody: its signature, its chain; and tell its story.
    Archived {
        /// The file.
        file: PathBuf,
        /// A file of public keys, such as keys/beacon.public.toml.
        #[arg(long)]
        key: PathBuf,
        /// With the whole audit trail.
        #[arg(long)]
        trail: bool,
    },
    /// Try the step of a parked job again.
    Retry {
        /// A record or its resource.
        what: String,
    },
    /// Let the step of a parked job pass, on evidence; or state that what has appeared belongs to the deletion. Somebody else
    /// than who requested it has to say so.
    #[command(group = clap::ArgGroup::new("claim").required(true))]
    Waive {
        /// A record or its resource.
        what: String,
        /// It is gone: what depends on it runs.
        #[arg(long, group = "claim")]
        absent: bool,
        /// It may still be there: what depends on it is waived too.
        #[arg(long, group = "claim")]
        may_remain: bool,
        /// What has appeared since the targets were pinned, and is shown as the reason why the job is parked, belongs
        /// to the deletion: it is DELETED WITH THE REST, if it is still the same when it is read again. MARK stands in
        /// brackets in that reason.
        #[arg(long, group = "claim", value_name = "MARK")]
        belongs: Option<String>,
        /// The mark of what you have looked at, as `sexton show` gives it: it is stated of nothing else. Without it: shows
        /// what is parked now, and asks.
        #[arg(long, conflicts_with = "belongs")]
        mark: Option<String>,
        /// On what evidence.
        #[arg(long)]
        evidence: String,
    },
    /// State that everybody was told otherwise, after the notice could not be delivered for three days. The notice period
    /// begins now. Somebody else than who requested it has to say so.
    Acknowledge {
        /// A record or its resource.
        what: String,
        /// The mark of what you have looked at, as `sexton show` gives it: whom the notice did not reach, by then. Without it:
        /// shows that, and asks.
        #[arg(long)]
        mark: Option<String>,
        /// Who was told, and how.
        #[arg(long)]
        reason: String,
    },
    /// State that a notice came back after it was sent, as a mail that bounced: soft waits until somebody acknowledges
    /// that everybody was told otherwise. For people, and for what reads the mail that comes back.
    Bounced {
        /// A record or its resource.
        what: String,
        /// Whom it did not reach, and why.
        #[arg(long)]
        reason: String,
    },
    /// End a record whose resource you saved by hand, between hard and purge.
    Rescue {
        /// A record or its resource.
        what: String,
        /// How it was saved.
        #[arg(long)]
        evidence: String,
    },
    /// Follow records until they are over, or one record's timeline.
    Watch {
        /// A record or its resource; all live ones if not given.
        what: Option<String>,
    },
    /// Whether a name is free.
    Name {
        /// The name, such as vm/web01.
        resource: ResourceId,
    },
    /// What a person has to know of now: alarms that hold, the newest first. Or say that you have seen one.
    #[command(args_conflicts_with_subcommands = true)]
    Alarms {
        /// With those of the last month that are over.
        #[arg(long)]
        all: bool,
        /// At most so many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        #[command(subcommand)]
        command: Option<AlarmsCommand>,
    },
    /// The daily digest, as it would be now: what is due in the next 7 days, what stands out, what stands still and why,
    /// and what is overdue.
    Digest,
    /// How it is going: jobs by state, instances, pauses, review.
    Health,
    /// Run everything in one process, on SQLite.
    #[cfg(feature = "serve")]
    Serve {
        /// The configuration file.
        #[arg(long, short, env = "SEXTON_CONFIG", default_value = "sexton.toml")]
        config: PathBuf,
        /// Make a new witness where one is missing: the job table is known to be the latest one.
        #[arg(long)]
        new_witness: bool,
    },
    /// Retire a virtual machine and cancel another, in a sandbox where a day lasts a second.
    #[cfg(feature = "serve")]
    Demo {
        /// Keep the sandbox in this folder, which must not exist; a temporary one if not given.
        #[arg(long)]
        folder: Option<PathBuf>,
    },
    /// Make a sandbox platform of running machines in a folder, and print its inventory; or describe one.
    #[cfg(feature = "serve")]
    Sandbox {
        /// The folder.
        folder: PathBuf,
        /// How many machines to make.
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=2000))]
        machines: u16,
        /// Make nothing: print what the subsystems show of this machine.
        #[arg(long, conflicts_with = "machines")]
        describe: Option<String>,
        /// Make nothing: end the processes that stand for its running machines. Its files stay.
        #[arg(long, conflicts_with_all = ["machines", "describe"])]
        stop: bool,
    },
    /// Make the keys that processes prove themselves with, and the broker's definitions; or add those that are
    /// missing. What is there stays as it is.
    #[cfg(feature = "serve")]
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Keys {
        #[command(flatten)]
        make: Option<KeysArguments>,
        #[command(subcommand)]
        command: Option<KeysCommand>,
    },
    /// Print the completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}
