//! What is of some scopes and those below them, found by the indexes on scopes and ids: no row of another scope is read, however
//! many there are.
//!
//! `own` are the scopes that are asked for, and whatever is below them: from one to the next it looks once into the index. Below
//! `a` is what begins with `a/`, and so lies before `a0`.

/// Resources of the scopes `?5`, of the kind `?1` if there is one, behind `?3`, ascending.
pub(super) const RESOURCES: &str = "WITH RECURSIVE own (top, scope) AS (SELECT n.value, n.value FROM json_each(?5) AS n \
       UNION ALL SELECT o.top, (SELECT t.scope FROM resources AS t WHERE t.scope > max(o.scope, o.top || '/') \
         AND t.scope < o.top || '0' ORDER BY t.scope LIMIT 1) FROM own AS o WHERE o.scope IS NOT NULL) \
     SELECT x.id FROM (SELECT DISTINCT o.scope FROM own AS o WHERE o.scope IS NOT NULL) AS s \
       CROSS JOIN resources AS x ON x.scope = s.scope AND x.id > ?3 \
     WHERE (?1 IS NULL OR x.kind = ?1) ORDER BY x.id LIMIT ?4";

/// Deletions of the scopes `?8`, before `?1`, descending; for the rest as whoever lists them without scopes asks for.
pub(super) const DELETIONS: &str = "WITH RECURSIVE own (top, scope) AS (SELECT n.value, n.value FROM json_each(?8) AS n \
       UNION ALL SELECT o.top, (SELECT t.scope FROM records AS t WHERE t.scope > max(o.scope, o.top || '/') \
         AND t.scope < o.top || '0' ORDER BY t.scope LIMIT 1) FROM own AS o WHERE o.scope IS NOT NULL) \
     SELECT d.id FROM (SELECT DISTINCT o.scope FROM own AS o WHERE o.scope IS NOT NULL) AS s \
       CROSS JOIN records AS r ON r.scope = s.scope AND r.deletion_id < ?1 \
       CROSS JOIN deletions AS d ON d.id = r.deletion_id \
     WHERE (?6 IS NULL OR r.kind = ?6) AND (?3 IS NULL OR d.status = ?3) \
       AND (?4 IS NULL OR EXISTS (SELECT 1 FROM jobs AS j WHERE j.id >= d.id * 8 AND j.id < d.id * 8 + 8 \
         AND (j.state = ?4 OR (?7 AND j.locks AND j.state = 2 AND j.queued = 0)))) \
     ORDER BY r.deletion_id DESC LIMIT ?2";
