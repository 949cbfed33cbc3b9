-- How far chains of resources and deletions stand in signed checkpoints is looked up for each of them whenever heads are signed.
-- By number that takes less than by name, and resources are then looked through in the order in which they lie.
CREATE TABLE attested_resources (
    number INTEGER PRIMARY KEY REFERENCES resources (number),
    seq    INTEGER NOT NULL CHECK (seq >= 1)
) STRICT;
INSERT INTO attested_resources (number, seq)
    SELECT r.number, a.seq FROM attested AS a JOIN resources AS r ON r.id = a.chain;
-- Without a reference: what was signed of a record is known after it was archived.
CREATE TABLE attested_deletions (
    id  INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL CHECK (seq >= 1)
) STRICT;
INSERT INTO attested_deletions (id, seq)
    SELECT CAST(substr(chain, 3) AS INTEGER), seq FROM attested
    WHERE chain GLOB 'd-[0-9]*' AND instr(chain, '/') = 0;
-- What stays there are the two chains that are nobody's.
DELETE FROM attested WHERE chain NOT IN ('pauses', 'access');

DROP TRIGGER stubs_are_of_what_is_signed;
CREATE TRIGGER stubs_are_of_what_is_signed BEFORE INSERT ON stubs
    WHEN NOT EXISTS (SELECT 1 FROM attested_deletions WHERE id = NEW.deletion_id AND seq = NEW.events)
    BEGIN SELECT RAISE(ABORT, 'a record is archived once a signed checkpoint holds the end of its chain'); END;
