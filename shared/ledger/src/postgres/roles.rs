//! Roles with no more rights than their work takes. Log-in roles are made members of them by whoever runs the
//! database; making them here needs `CREATEROLE`, and without it they are left to that person.
use sqlx::PgConnection;

use super::error::doing;
use crate::LedgerError;

const MAY_CREATE: &str = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user";
const THERE: &str = "SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)";
const GRANTED: &str = "SELECT has_table_privilege('sexton_scheduler', 'due_jobs', 'SELECT') \
     AND has_table_privilege('sexton_coordinator', '_sqlx_migrations', 'SELECT')";
/// Two databases of one server may be opened at the same moment: the second finds the role made.
const MAKE_SCHEDULER: &str = "DO $$ BEGIN CREATE ROLE sexton_scheduler NOLOGIN; \
     EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";
const MAKE_COORDINATOR: &str = "DO $$ BEGIN CREATE ROLE sexton_coordinator NOLOGIN; \
     EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";
const GRANTS: [&str; 9] = [
    "GRANT SELECT ON due_jobs TO sexton_scheduler, sexton_coordinator",
    "GRANT SELECT, INSERT, UPDATE ON ledger, resources, deletions, jobs, targets, pauses, instances \
     TO sexton_coordinator",
    "GRANT SELECT, INSERT ON plans, records, manifests, waivers TO sexton_coordinator",
    "GRANT SELECT, INSERT, DELETE ON holds TO sexton_coordinator",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON copies TO sexton_coordinator",
    "GRANT SELECT, USAGE ON SEQUENCE fence, deletion_id, waivers_number_seq TO sexton_coordinator",
    "GRANT SELECT, INSERT ON audit, ledger_audit, signed_checkpoints TO sexton_coordinator",
    "GRANT SELECT, INSERT, UPDATE ON attested TO sexton_coordinator",
    // Last, because it is what is looked at to see whether this was ever done.
    "GRANT SELECT ON _sqlx_migrations TO sexton_coordinator",
];

/// Make the roles and give them their rights, if this connection may. What was done, a line each.
pub(super) async fn set_up(db: &mut PgConnection) -> Result<Vec<String>, LedgerError> {
    let part = || doing("setting up roles");
    let mut done = Vec::new();
    let may: bool = sqlx::query_scalar(MAY_CREATE).fetch_one(&mut *db).await.map_err(part())?;
    for (role, make) in [("sexton_scheduler", MAKE_SCHEDULER), ("sexton_coordinator", MAKE_COORDINATOR)] {
        let there: bool = sqlx::query_scalar(THERE).bind(role).fetch_one(&mut *db).await.map_err(part())?;
        if there {
            continue;
        }
        if !may {
            tracing::warn!(
                role,
                "the role is missing and this user may not create it; every service uses the rights of its \
                 own user"
            );
            return Ok(done);
        }
        sqlx::query(make).execute(&mut *db).await.map_err(part())?;
        done.push(format!("made the role {role}"));
    }
    let granted: bool = sqlx::query_scalar(GRANTED).fetch_one(&mut *db).await.map_err(part())?;
    for grant in GRANTS {
        if let Err(error) = sqlx::query(grant).execute(&mut *db).await {
            tracing::warn!(error = %error, grant, "the rights of a role could not be given");
            return Ok(done);
        }
    }
    if !granted {
        done.push("gave the roles their rights".to_owned());
    }
    Ok(done)
}
