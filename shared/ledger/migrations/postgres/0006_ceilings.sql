-- How far deletions of a scope may go; what is not listed here is only observed.
CREATE TABLE ceilings (
    scope text COLLATE "C" PRIMARY KEY,                  -- '': every scope
    body  text NOT NULL
);

-- A ledger with records was at work before there were ceilings, and goes on; so does a rehearsal.
INSERT INTO ceilings SELECT '', json_build_object('ceiling', 'purge', 'by', 'sexton',
    'reason', 'this job table was in use before there were ceilings',
    'since', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)::text
FROM ledger WHERE day <> '{"day":"calendar"}' OR EXISTS (SELECT 1 FROM deletions) OR EXISTS (SELECT 1 FROM stubs);
