//! The ledger's own audit chains: one per resource, and one for its pauses.
use sexton_model::audit::{self, Hash};
use sqlx::postgres::PgConnection;

use super::error::doing;
use crate::LedgerError;
use crate::rules::{LedgerEvent, text};

const APPEND: &str = "INSERT INTO ledger_audit (chain, seq, body, hash) \
     SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bytea[])";

/// The end of a chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// Number of the last event.
    pub(super) seq: i64,
    /// Its hash.
    pub(super) hash: Hash,
}

impl Head {
    /// Before the first event.
    pub(super) const NEW: Self = Self { seq: 0, hash: audit::GENESIS };
}

/// Events that are to be appended together.
#[derive(Debug, Default)]
pub(super) struct Appended {
    chains: Vec<String>,
    seqs: Vec<i64>,
    bodies: Vec<String>,
    hashes: Vec<Hash>,
}

impl Appended {
    /// One more event; the chain's new end.
    pub(super) fn add(
        &mut self,
        chain: String,
        head: Head,
        event: &LedgerEvent,
    ) -> Result<Head, LedgerError> {
        let body = text(event)?;
        let seq = head.seq + 1;
        let hash = audit::link(&head.hash, seq, body.as_bytes());
        self.chains.push(chain);
        self.seqs.push(seq);
        self.bodies.push(body);
        self.hashes.push(hash);
        Ok(Head { seq, hash })
    }

    /// The end of the chain that was appended to last.
    pub(super) fn end(&self) -> Option<(String, Head)> {
        let (chain, (seq, hash)) = self.chains.last().zip(self.seqs.last().zip(self.hashes.last()))?;
        Some((chain.clone(), Head { seq: *seq, hash: *hash }))
    }

    /// Write them.
    pub(super) async fn write(self, db: &mut PgConnection) -> Result<(), LedgerError> {
        if self.chains.is_empty() {
            return Ok(());
        }
        sqlx::query(APPEND)
            .bind(self.chains)
            .bind(self.seqs)
            .bind(self.bodies)
            .bind(self.hashes)
            .execute(db)
            .await
            .map_err(doing("writing the ledger's audit trail"))?;
        Ok(())
    }
}
