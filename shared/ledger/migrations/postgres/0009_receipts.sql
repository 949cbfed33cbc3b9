-- What proves that a purge is complete: drawn up and signed once it is over. Append-only; it leaves with its record.
CREATE TABLE receipts (
    deletion_id bigint PRIMARY KEY,
    seq         bigint NOT NULL,                         -- the event of the record's chain that it rests on
    head        bytea  NOT NULL CHECK (length(head) = 32),
    body        text   NOT NULL,
    key_id      text   NOT NULL,
    signature   text   NOT NULL
);
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON receipts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER only_archived BEFORE DELETE ON receipts FOR EACH ROW EXECUTE FUNCTION only_archived();

-- Where these look for other tables is fixed: see 0005.
DO $make$
BEGIN
    EXECUTE format($text$
        CREATE FUNCTION receipt_fits() RETURNS trigger LANGUAGE plpgsql SET search_path = %1$I, pg_temp AS $$
        BEGIN
            IF NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = NEW.deletion_id * 8 + 3 AND j.state = 7)
                OR NOT EXISTS (SELECT 1 FROM audit a
                    WHERE a.deletion_id = NEW.deletion_id AND a.seq = NEW.seq AND a.hash = NEW.head) THEN
                RAISE EXCEPTION 'a receipt is of a record whose purge is over, and rests on its chain'
                    USING ERRCODE = 'restrict_violation';
            END IF;
            RETURN NEW;
        END
        $$;
        CREATE FUNCTION stub_has_receipt() RETURNS trigger LANGUAGE plpgsql SET search_path = %1$I, pg_temp AS $$
        BEGIN
            IF EXISTS (SELECT 1 FROM jobs j WHERE j.id = NEW.deletion_id * 8 + 3 AND j.state = 7)
                AND NOT EXISTS (SELECT 1 FROM receipts r WHERE r.deletion_id = NEW.deletion_id) THEN
                RAISE EXCEPTION 'what was purged is archived with its receipt' USING ERRCODE = 'restrict_violation';
            END IF;
            RETURN NEW;
        END
        $$;
        -- With the rights of the tables' owner: whoever archives may remove a record, and none of its parts.
        CREATE FUNCTION receipt_goes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
            SET search_path = %1$I, pg_temp AS $$
        BEGIN
            DELETE FROM receipts WHERE deletion_id = OLD.id;
            RETURN OLD;
        END
        $$;
    $text$, current_schema());
END
$make$;

CREATE TRIGGER receipt_fits BEFORE INSERT ON receipts FOR EACH ROW EXECUTE FUNCTION receipt_fits();
-- What was purged is archived with its receipt. Triggers of one event fire in the order of their names: behind `stub_fits`.
CREATE TRIGGER stub_has_receipt BEFORE INSERT ON stubs FOR EACH ROW EXECUTE FUNCTION stub_has_receipt();
CREATE TRIGGER c_receipt_goes BEFORE DELETE ON deletions FOR EACH ROW EXECUTE FUNCTION receipt_goes();
