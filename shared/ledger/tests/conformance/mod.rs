//! What both footings must do. A footing's test file makes a [`Fixture`] and names this module's scenarios
//! through [`conformance_tests!`]; every scenario gets a ledger of its own.
//!
//! Nothing here sleeps for luck: a rehearsal's day is a few milliseconds, and whoever waits for a moment polls
//! the ledger's own clock, for a bounded time.
mod access;
mod alarms;
mod archive;
mod attested;
mod belts;
mod bounds;
mod budgets;
mod canaries;
mod cancel;
mod censuses;
mod chains;
mod claims;
mod drills;
mod exclusive;
mod foreign;
mod handed_in;
mod healthy;
mod in_use;
mod inventory;
mod keys;
mod life;
mod listing;
mod notice;
mod overrides;
mod people;
mod receipts;
mod restores;
mod review;
pub mod stage;
mod surveys;
mod taken;

use std::sync::Arc;

use async_trait::async_trait;
use sexton_ledger::{Archive, Ledger, Options};
use sexton_model::DeletionId;
use sexton_model::audit::Hash;

pub use self::access::*;
pub use self::alarms::*;
pub use self::archive::*;
pub use self::attested::*;
pub use self::belts::*;
pub use self::bounds::*;
pub use self::budgets::*;
pub use self::canaries::*;
pub use self::cancel::*;
pub use self::censuses::*;
pub use self::chains::*;
pub use self::claims::*;
pub use self::drills::*;
pub use self::exclusive::*;
pub use self::foreign::*;
pub use self::handed_in::*;
pub use self::healthy::*;
pub use self::in_use::*;
pub use self::inventory::*;
pub use self::keys::*;
pub use self::life::*;
pub use self::listing::*;
pub use self::notice::*;
pub use self::overrides::*;
pub use self::people::*;
pub use self::receipts::*;
pub use self::restores::*;
pub use self::review::*;
pub use self::surveys::*;
pub use self::taken::*;

/// One store, which can be opened again and tampered with.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// Open the ledger, creating it the first time. The handle that was opened before is dropped, without any
    /// farewell, before it is opened again.
    async fn open(&self, options: Options) -> Arc<dyn Ledger>;

    /// Open it, and say why it could not be.
    async fn try_open(&self, options: Options) -> Result<Arc<dyn Ledger>, sexton_ledger::LedgerError>;

    /// Try to UPDATE and to DELETE every event of the audit trail (and of the ledger's own chains) through a
    /// handle of one's own: what the database says to each attempt.
    async fn try_to_change_history(&self) -> Vec<Result<u64, String>>;

    /// Drop the guards and change one event's body, in a place that stays well-formed.
    async fn change_event(&self, deletion: DeletionId, seq: i64);

    /// Drop the guards and change one event of the ledger's own chains, in a place that stays well-formed.
    async fn change_ledger_event(&self, chain: &str, seq: i64);

    /// Drop the guards and remove one event.
    async fn remove_event(&self, deletion: DeletionId, seq: i64);

    /// Drop the guards, and put these bodies and hashes in the place of events that are there; the last hash becomes the
    /// head.
    async fn rewrite(&self, deletion: DeletionId, events: &[(i64, String, Hash)]);

    /// Run SQL of one statement, the same in both dialects, through a handle of one's own.
    async fn execute(&self, sql: &'static str);

    /// Run SQL as [`Self::execute`] does: how many rows it changed, or what the database says.
    async fn attempt(&self, sql: &'static str) -> Result<u64, String>;

    /// The one number that this SQL asks for, the same in both dialects.
    async fn count(&self, sql: &'static str) -> i64;

    /// Have the store lose what two belts go by, as it is written: that a resource is protected, and how many were
    /// admitted.
    async fn break_belts(&self);

    /// The archive's side of the ledger that is open.
    async fn archive(&self) -> Arc<dyn Archive>;

    /// Keep a copy of the whole store as it is now.
    async fn copy(&self);

    /// Put the copy back in the place of the store. Handles that were opened before are dropped, unless the store is
    /// a server that they find again.
    async fn put_back(&self);

    /// Whether what the footing remembers besides the store equals it; `Ok` if it remembers nothing.
    async fn compare(&self) -> Result<(), String>;
}

/// One test per scenario, on the fixture that the expression (awaited) makes.
#[macro_export]
macro_rules! conformance_tests {
    ($fixture:expr) => {
        $crate::conformance_tests!($fixture;
            the_whole_life_from_announce_to_recycle,
            a_stale_outcome_changes_nothing,
            a_duplicated_outcome_is_taken_once,
            a_lease_that_ran_out_is_dispatched_again_under_a_greater_fence,
            fences_grow_over_all_dispatches,
            a_reopened_ledger_goes_on,
            the_first_manifest_wins,
            the_table_itself_refuses_a_second_lock,
            one_bad_item_fails_alone,
            what_cannot_be_read_fails_alone,
            no_lease_starves_what_is_held_or_blocked,
            remembered_equals_stored_after_a_random_workload,
            cancelled_before_anything_happened,
            cancelled_while_running_is_undone_in_reverse_order,
            too_late_to_cancel,
            one_live_record_per_resource,
            a_name_is_protected_until_recycle,
            registering_follows_its_rules,
            what_has_a_record_stays_in_its_scope,
            a_check_says_what_registering_would_and_writes_nothing,
            whoever_may_set_no_priority_leaves_the_one_that_is_found,
            a_registration_with_older_facts_undoes_nothing_that_was_set_meanwhile,
            what_is_set_at_the_instant_of_a_registration_stands,
            a_record_needs_a_fitting_resource_and_plan,
            what_is_reproducible_needs_a_proof_of_it,
            a_day_is_never_changed,
            a_hold_stops_and_its_release_goes_on,
            a_pause_stops_claims_and_dispatch_but_no_restore,
            a_resume_looks_at_what_it_stopped,
            a_ceiling_stops_what_is_above_it,
            a_new_ledger_only_observes,
            over_the_limit_not_one_begins,
            what_fits_begins_and_slow_drips_count,
            the_oldest_batch_gets_what_becomes_free_of_a_shared_number,
            many_that_come_one_by_one_are_a_crowd,
            a_crowd_is_one_wherever_the_pieces_end,
            what_is_still_held_by_a_ceiling_is_of_no_crowd,
            what_was_held_is_one_crowd_in_however_many_pieces,
            what_has_not_begun_in_time_asks_anew_and_is_charged_once,
            an_approval_is_of_exactly_one_set_and_by_somebody_else,
            an_approval_runs_out,
            what_has_piled_up_is_counted_whatever_its_stage,
            what_has_piled_up_under_a_pause_is_told_as_a_batch,
            a_batch_that_everybody_left_ends,
            a_census_is_believed_if_it_is_complete,
            one_that_was_not_believed_stands_though_none_is_listed_after_it,
            what_was_removed_here_makes_none_too_small,
            what_is_registered_by_now_makes_none_too_small,
            none_is_handed_in_where_sexton_takes_it,
            one_that_has_grown_is_refused_until_that_is_said,
            what_nobody_has_registered_enlarges_no_share,
            a_share_is_of_what_is_listed_where_it_is_registered,
            one_that_lists_too_few_is_kept_with_the_names_of_what_is_missing,
            many_deletions_by_others_pause_their_scope,
            many_deletions_by_others_pause_where_no_budget_counts_any,
            few_deletions_by_others_in_each_of_many_scopes_pause_their_kind,
            many_deletions_by_others_in_one_scope_pause_no_other,
            what_refused_censuses_lack_is_summed_up_too,
            only_what_is_being_removed_may_be_gone,
            a_budget_by_percent_is_closed_before_a_census,
            censuses_are_listed_by_the_page_newest_first,
            what_was_listed_is_judged_once_and_put_away,
            what_nobody_has_registered_is_kept_of_the_last_census_only,
            what_a_record_is_removing_is_no_stranger,
            an_override_lets_one_deletion_pass,
            an_override_is_taken_back_and_outlives_a_restart,
            what_a_pause_stops_is_told_before_it_is_lifted,
            a_pause_is_lifted_for_exactly_the_crowd_that_was_looked_at,
            what_stands_midway_is_of_the_crowd_that_goes_on,
            a_ceiling_is_raised_for_exactly_the_crowd_that_was_looked_at,
            what_is_announced_is_told_by_scope_and_moment,
            later_stages_are_counted_by_themselves,
            what_is_frozen_stays_so_whatever_is_counted_by_now,
            what_nobody_could_have_cancelled_in_is_no_grace,
            without_a_heartbeat_no_stage_with_a_grace_begins,
            outages_are_kept_over_a_restart,
            after_an_outage_nothing_bursts,
            protection_stops_a_live_record,
            what_the_configuration_protects_is_not_deleted,
            a_hold_on_a_resource_stops_every_record_of_it_until_it_is_released,
            holds_on_a_resource_are_bounded,
            whoever_requested_it_reaches_no_hold_of_anothers,
            whoever_requested_it_takes_it_out_of_no_group,
            whoever_requested_one_takes_no_other_out_of_its_group,
            holds_on_a_record_are_bounded,
            pauses_are_bounded_and_stop_is_always_possible,
            one_of_a_redundancy_group_goes_at_a_time,
            who_is_not_retired_now_is_not_retired_with_the_group,
            what_the_configuration_protects_is_not_retired_with_the_group,
            who_is_stopped_by_anything_else_is_not_retired_with_the_group,
            who_is_paused_stays_before_anybody_has_looked_at_it,
            who_is_parked_or_was_not_told_stays,
            who_is_one_of_a_batch_stays_before_anybody_has_looked_at_it,
            who_was_parked_in_the_same_batch_is_not_retired_with_the_group,
            what_is_registered_later_is_a_member_at_once,
            nothing_is_claimed_for_what_is_down,
            credit_is_never_exceeded,
            what_is_in_line_at_an_instance_that_is_gone_parks,
            credit_is_what_the_consumers_can_do_in_time,
            pulses_tell_who_works,
            a_held_job_that_is_looked_at_writes_nothing,
            parked_and_tried_again,
            waived_as_absent_lets_dependents_run,
            waived_as_remaining_waives_dependents,
            what_may_remain_keeps_its_name,
            a_waiver_is_about_what_was_looked_at_alone,
            what_belongs_joins_the_targets,
            a_notice_is_tried_for_days_and_soft_waits_for_it,
            an_acknowledgement_replaces_a_notice_after_three_days,
            a_notice_that_comes_back_holds_soft,
            rescue_has_its_rules,
            refused_parks,
            unknown_or_present_is_never_done,
            every_decision_is_one_event_and_the_chain_holds,
            tampering_is_found,
            all_chains_are_checked,
            a_long_chain_ends_its_page,
            history_cannot_be_changed,
            what_has_grown_is_signed_once,
            a_number_is_kept_once_and_none_is_left_out,
            a_chain_that_became_shorter_is_told,
            what_has_grown_has_pages,
            what_has_grown_is_found_in_whatever_order_it_came,
            a_rewritten_chain_holds_and_is_found_by_what_was_signed,
            hashes_are_told_in_order,
            what_is_over_is_archived_whole_and_leaves_its_stub,
            what_is_not_over_or_not_as_its_stub_says_stays,
            what_is_not_signed_yet_stays,
            rows_go_only_whole_and_with_their_stub,
            an_archived_decision_is_no_step_back,
            nothing_is_archived_under_review,
            what_was_put_back_makes_the_same_document,
            it_is_archived_once,
            a_receipt_is_due_when_purge_is_over_and_kept_once,
            a_receipt_rests_on_the_chain_and_is_never_changed,
            what_was_purged_is_archived_with_its_receipt,
            a_thousand_are_restored_in_parallel,
            who_waits_for_credit_is_restored_by_priority,
            whose_wait_is_over_together_is_restored_by_priority,
            a_scope_ends_where_another_begins,
            a_ledger_that_went_back_dispatches_nothing_until_it_is_accepted,
            a_ledger_that_is_newer_than_its_witness_goes_on,
            a_lost_pause_is_noticed,
            a_lost_decision_that_is_no_records_is_noticed,
            the_numbers_of_lost_records_are_not_given_again,
            an_answer_that_nobody_asked_for_gives_an_older_ledger_away,
            another_ledger_is_no_older_one,
            a_call_that_asks_for_too_much_is_refused_whole,
            targets_that_grow_too_large_park_the_job,
            a_finding_that_is_too_large_parks_the_job,
            what_a_cancelled_step_created_is_kept_though_it_is_too_large,
            a_run_of_canaries_is_begun_once_and_each_is_judged_once,
            a_canary_that_is_accepted_pauses_everything_with_its_verdict,
            a_canary_that_nobody_answers_is_told_once,
            an_acceptance_counts_after_a_newer_run_was_begun,
            what_the_right_place_shows_is_kept_for_the_wrong_one,
            whatever_is_said_to_a_canary_can_be_written_down,
            what_would_prove_nothing_is_not_waited_for,
            what_the_job_table_must_refuse_is_tried_and_leaves_nothing,
            what_cannot_be_tried_is_told,
            a_belt_that_is_broken_is_found_by_its_canary,
            who_counts_nothing_finds_no_budget_broken,
            a_trial_that_fails_leaves_its_canary_open,
            of_two_that_try_a_canary_at_once_one_does,
            a_drill_is_kept_by_who_has_seen_what_stands,
            a_survey_is_begun_once_and_each_answer_counts_once,
            what_has_a_record_is_not_surveyed_and_a_record_goes_before_a_survey,
            a_survey_that_nobody_answers_is_sent_again_and_ends,
            surveys_are_bounded_and_forgotten,
            nothing_is_surveyed_under_review,
            what_canaries_look_at_is_not_surveyed_and_neither_hears_the_others_answers,
            a_listing_is_heard_page_by_page_and_put_away,
            one_listing_of_a_kind_and_scope_is_open_and_few_in_all,
            a_census_that_is_due_is_begun_once_and_noted_once,
            nothing_is_listed_under_review,
            listings_have_pages,
            listings_stay_within_scopes,
            health_counts,
            what_there_is_of_a_scope_is_counted,
            instances_and_what_waits,
            a_token_is_issued_once_and_revoked_once,
            a_token_is_found_by_its_hash_and_kept_without_its_secret,
            only_so_many_tokens_are_good,
            refusals_are_written_down_in_a_chain_that_is_checked_and_signed,
            a_key_is_held_answered_and_forgotten,
            what_was_sent_before_is_known,
            keys_are_bounded_and_swept_in_pieces,
            of_many_at_one_instant_one_changes,
            an_attempt_that_was_overtaken_changes_nothing,
            each_change_is_noted_with_itself,
            a_refusal_notes_nothing,
            one_at_a_time_is_registered_for_what_is_exclusive,
            what_is_exclusive_stays_in_its_scope_until_it_left,
            what_was_recycled_keeps_its_place_until_its_receipt,
            what_may_remain_keeps_its_place,
            a_list_is_gone_through_in_order,
            of_two_that_join_at_one_instant_one_does,
            no_record_is_made_while_another_claims_the_same,
            nobody_claims_what_is_being_deleted,
            what_is_purged_claims_nothing_unless_something_may_remain,
            what_has_been_shared_since_earlier_may_be_updated,
            whoever_goes_by_other_files_forgets_no_claim,
            what_was_registered_earlier_claims_the_same,
            a_check_goes_by_the_priorities_that_registering_would,
            what_a_live_record_does_not_go_by_is_free,
            what_cannot_be_told_of_a_live_record_stays_claimed,
            an_alarm_is_raised_once_and_ends,
            what_was_seen_earlier_changes_nothing,
            what_is_over_is_ended_though_whoever_told_it_is_gone,
            one_looks_at_a_time,
            an_alarm_is_told_once_by_each_route,
            what_could_not_be_told_is_told_again,
            an_acknowledgement_is_written_down,
            what_ended_long_ago_is_forgotten_and_its_number_is_not_given_again,
            a_digest_is_kept_once_a_day_and_told_once,
            what_may_alarm_is_found_by_the_page,
            one_that_cannot_be_read_keeps_no_other_from_alarming,
            what_is_ahead_and_what_is_held_is_counted,
            what_is_held_in_another_scope_takes_nobodys_place,
            what_is_stopped_between_two_steps_is_held_too,
            a_notice_that_is_not_delivered_is_watched,
            what_comes_back_is_watched_until_it_has,
        );
    };
    ($fixture:expr; $($name:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let fixture = $fixture.await;
                $crate::conformance::$name(&fixture).await;
                if let Err(difference) = $crate::conformance::Fixture::compare(&fixture).await {
                    panic!("what is remembered differs from the store: {difference}");
                }
            }
        )*
    };
}
