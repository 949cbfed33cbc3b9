-- How far deletions of a scope may go; what is not listed here is only observed.
CREATE TABLE ceilings (
    scope TEXT NOT NULL PRIMARY KEY,              -- '': every scope
    body  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A ledger with records was at work before there were ceilings, and goes on; so does a rehearsal.
INSERT INTO ceilings SELECT '', json_object('ceiling', 'purge', 'by', 'sexton',
    'reason', 'this job table was in use before there were ceilings',
    'since', unixepoch() * 1000000)
FROM ledger WHERE day <> '{"day":"calendar"}' OR EXISTS (SELECT 1 FROM deletions) OR EXISTS (SELECT 1 FROM stubs);
