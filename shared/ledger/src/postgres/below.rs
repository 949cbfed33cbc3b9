//! What is of some scopes and those below them, found by the index on scopes and ids: no row of another scope is read, however
//! many there are. Where nothing else is asked for, a page reads of each scope at most one row more than it shows.
//!
//! Why not one range of the index: a page is in the order of ids, and all that is in the range would be read to find its
//! beginning. Why each scope by its place, `scope >= s AND (scope, id) < (s, x)` in the order of both, and not `scope = s`: with that
//! the planner takes the order of ids from their own index where it believes that most rows are of `s`, and goes through all there
//! are if they are not.
use sexton_model::Scope;
use sqlx::{Postgres, QueryBuilder};

use super::census::texts;

/// The scopes that [`own`] has found, as `s`.
pub(super) const EACH: &str = "(SELECT DISTINCT o.scope FROM own o WHERE o.scope IS NOT NULL) s";

/// Begin a statement with `own`: `scopes`, and whatever is below them in the table, which has an index that begins with its
/// scopes. From one to the next it looks once into that index. Below `a` is what begins with `a/`, and so lies before `a0`.
pub(super) fn own(query: &mut QueryBuilder<Postgres>, table: &'static str, scopes: &[Scope]) {
    query.push("WITH RECURSIVE own (top, scope) AS (SELECT n.scope, n.scope COLLATE \"C\" FROM unnest(");
    query
        .push_bind(texts(scopes))
        .push("::text[]) AS n (scope) UNION ALL SELECT o.top, (SELECT t.scope FROM ");
    query.push(table).push(" t WHERE t.scope > greatest(o.scope, o.top || '/') AND t.scope < o.top || '0' ");
    query.push("ORDER BY t.scope LIMIT 1) FROM own o WHERE o.scope IS NOT NULL) ");
}
