//! Roles with no more rights than their work takes. Log-in roles are made members of them by whoever runs the
//! database; making them here needs `CREATEROLE`, and without it they are left to that person.
use sqlx::PgConnection;

use super::error::doing;
use crate::LedgerError;

const MAY_CREATE: &str = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user";
const THERE: &str = "SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)";
const GRANTED: &str = "SELECT has_table_privilege($1, $2, 'SELECT')";
/// Two databases of one server may be opened at the same moment: the second finds the role made.
const MAKE_SCHEDULER: &str = "DO $$ BEGIN CREATE ROLE sexton_scheduler NOLOGIN; \
     EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";
const MAKE_COORDINATOR: &str = "DO $$ BEGIN CREATE ROLE sexton_coordinator NOLOGIN; \
     EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";
const MAKE_ARCHIVER: &str = "DO $$ BEGIN CREATE ROLE sexton_archiver NOLOGIN; \
     EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";

/// A role, and what it may do.
struct Role {
    name: &'static str,
    make: &'static str,
    grants: &'static [&'static str],
    /// The table of the last grant: what is looked at to see whether this was ever done.
    last: &'static str,
}

const ROLES: [Role; 3] = [
    Role {
        name: "sexton_scheduler",
        make: MAKE_SCHEDULER,
        grants: &["GRANT SELECT ON due_jobs TO sexton_scheduler"],
        last: "due_jobs",
    },
    Role {
        name: "sexton_coordinator",
        make: MAKE_COORDINATOR,
        grants: &[
            "GRANT SELECT, INSERT, UPDATE ON ledger, resources, deletions, jobs, targets, pauses, instances \
             TO sexton_coordinator",
            "GRANT SELECT, INSERT ON plans, records, manifests, waivers TO sexton_coordinator",
            "GRANT SELECT, INSERT, DELETE ON holds, resource_holds, redundancy_groups, claims, outages TO sexton_coordinator",
            "GRANT SELECT, INSERT, UPDATE ON batches, one_shots, exclusives, claimable TO sexton_coordinator",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON copies, ceilings, admissions, admitted, batch_members, censuses, \
             latest_censuses, strangers, request_keys, request_actors, canaries, drills, surveys, listings, listing_pages TO sexton_coordinator",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON alarms, tellings, digests TO sexton_coordinator",
            "GRANT SELECT, USAGE ON SEQUENCE fence, deletion_id, waivers_number_seq TO sexton_coordinator",
            "GRANT SELECT, INSERT ON audit, ledger_audit, signed_checkpoints, receipts TO sexton_coordinator",
            "GRANT SELECT, INSERT, UPDATE ON attested, tokens TO sexton_coordinator",
            "GRANT SELECT, UPDATE ON access, alarm_rounds TO sexton_coordinator",
            "GRANT SELECT ON due_jobs, stubs, _sqlx_migrations TO sexton_coordinator",
        ],
        last: "_sqlx_migrations",
    },
    // What belongs to a record goes with it, by the rights of the tables' owner; what makes the stub fit is a trigger.
    Role {
        name: "sexton_archiver",
        make: MAKE_ARCHIVER,
        grants: &[
            "GRANT SELECT ON ledger, plans, records, jobs, holds, waivers, targets, manifests, audit, attested, fence, \
             receipts TO sexton_archiver",
            "GRANT SELECT, INSERT ON stubs TO sexton_archiver",
            "GRANT SELECT, DELETE ON deletions TO sexton_archiver",
            "GRANT SELECT ON _sqlx_migrations TO sexton_archiver",
        ],
        last: "_sqlx_migrations",
    },
];

/// Make the roles and give them their rights, if this connection may. What was done, a line each.
pub(super) async fn set_up(db: &mut PgConnection) -> Result<Vec<String>, LedgerError> {
    let part = || doing("setting up roles");
    let mut done = Vec::new();
    let may: bool = sqlx::query_scalar(MAY_CREATE).fetch_one(&mut *db).await.map_err(part())?;
    for role in &ROLES {
        let there = sqlx::query_scalar(THERE).bind(role.name).fetch_one(&mut *db).await;
        if !there.map_err(part())? {
            if !may {
                tracing::warn!(
                    role = role.name,
                    "the role is missing and this user may not create it; whoever should be its member uses the \
                     rights of its own user"
                );
                continue;
            }
            sqlx::query(role.make).execute(&mut *db).await.map_err(part())?;
            done.push(format!("made the role {}", role.name));
        }
        if grant(db, role).await? {
            done.push(format!("gave the role {} its rights", role.name));
        }
    }
    Ok(done)
}

/// Give a role its rights; whether it had none before.
async fn grant(db: &mut PgConnection, role: &Role) -> Result<bool, LedgerError> {
    let granted = sqlx::query_scalar(GRANTED).bind(role.name).bind(role.last).fetch_one(&mut *db).await;
    let granted: bool = granted.map_err(doing("setting up roles"))?;
    for grant in role.grants {
        if let Err(error) = sqlx::query(*grant).execute(&mut *db).await {
            tracing::warn!(error = %error, grant, "the rights of a role could not be given");
            return Ok(false);
        }
    }
    Ok(!granted)
}
