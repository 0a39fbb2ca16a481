//! Names of signed requests, each taken once.
//!
//! A name is remembered for as long as its request's time stamp could be taken again. When it is forgotten, the
//! *floor* of its key goes up in the same transaction: nothing that was signed up to then is taken any more. So no
//! clock that is set back makes a forgotten name free again. A store that may not remember everything (a restored
//! one) has a floor for all keys.

use std::collections::HashMap;

use deia::time::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::engine::Engine;
use super::fault::Fault;
use super::meta;
use super::sum::{Sum, Table};
use crate::store::{Nonce, Outcome, SignerKey};

/// A row of `signers`.
#[derive(Debug, Clone, Copy)]
struct Signer {
    floor: i64,
    held: i64,
}

impl Signer {
    const NEW: Self = Self {
        floor: i64::MIN,
        held: 0,
    };
}

impl Engine {
    pub(super) fn nonce(
        &mut self,
        key: SignerKey,
        id: &str,
        signed_at: Timestamp,
        most: u64,
    ) -> Result<Outcome, Fault> {
        let signed = signed_at.as_micros();
        let of_all = meta::get(&self.conn, meta::NONCES_FLOOR)?.unwrap_or(i64::MIN);
        let signer = signer(&self.conn, key)?.unwrap_or(Signer::NEW);
        if signed <= of_all.max(signer.floor) {
            return Ok(Outcome::Nonce(Nonce::Forgotten));
        }
        let is_known = self
            .conn
            .prepare_cached("SELECT 1 FROM nonces WHERE key = ?1 AND id = ?2")?
            .exists((key, id))?;
        if is_known {
            return Ok(Outcome::Nonce(Nonce::Repeated));
        }
        if signer.held.cast_unsigned() >= most {
            return Ok(Outcome::Nonce(Nonce::TooMany));
        }
        self.conn
            .prepare_cached("INSERT INTO nonces (key, id, signed_at, sum) VALUES (?1, ?2, ?3, ?4)")?
            .execute((key, id, signed, sum_of_nonce(key, id, signed).finish()))?;
        let held = signer.held + 1;
        keep(&self.conn, key, Signer { held, ..signer })?;
        Ok(Outcome::Nonce(Nonce::Fresh))
    }

    pub(super) fn guard_nonces(&mut self, floor: Timestamp) -> Result<Outcome, Fault> {
        let epoch = self.epoch.cast_signed();
        if meta::get(&self.conn, meta::NONCES_OF)? == Some(epoch) {
            return Ok(Outcome::NoncesGuarded { floor: None });
        }
        let known = meta::get(&self.conn, meta::NONCES_FLOOR)?.unwrap_or(i64::MIN);
        let floor = known.max(floor.as_micros());
        meta::set(&self.conn, meta::NONCES_FLOOR, floor)?;
        meta::set(&self.conn, meta::NONCES_OF, epoch)?;
        let floor = Some(Timestamp::from_micros(floor));
        Ok(Outcome::NoncesGuarded { floor })
    }

    pub(super) fn retain_nonces(
        &mut self,
        signed_before: Timestamp,
        keys: &[SignerKey],
        limit: usize,
    ) -> Result<Outcome, Fault> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let old: Vec<(SignerKey, String, i64)> = self
            .conn
            .prepare_cached(
                "SELECT key, id, signed_at FROM nonces WHERE signed_at < ?1 \
                 ORDER BY signed_at LIMIT ?2",
            )?
            .query_map((signed_before.as_micros(), limit), |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?
            .collect::<Result<_, _>>()?;
        let mut changed: HashMap<SignerKey, Signer> = HashMap::new();
        for (key, id, signed) in &old {
            self.conn
                .prepare_cached("DELETE FROM nonces WHERE key = ?1 AND id = ?2")?
                .execute((key, id))?;
            let signer = match changed.get_mut(key) {
                Some(signer) => signer,
                None => {
                    let known = signer(&self.conn, *key)?.unwrap_or(Signer::NEW);
                    changed.entry(*key).or_insert(known)
                }
            };
            signer.held = (signer.held - 1).max(0);
            signer.floor = signer.floor.max(*signed);
        }
        for (key, signer) in changed {
            if signer.held == 0 && !keys.contains(&key) {
                self.conn
                    .prepare_cached("DELETE FROM signers WHERE key = ?1")?
                    .execute([key])?;
            } else {
                keep(&self.conn, key, signer)?;
            }
        }
        let count = old.len() as u64;
        Ok(Outcome::Removed { count })
    }
}

/// Each row against its sum.
pub(super) fn verify(conn: &Connection) -> Result<(), Fault> {
    let mut statement = conn.prepare("SELECT key, floor, held, sum FROM signers")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (key, floor, held) = (row.get(0)?, row.get(1)?, row.get(2)?);
        sum_of_signer(key, Signer { floor, held })
            .check(row.get(3)?, || format!("signers {key}"))?;
    }
    let mut statement = conn.prepare("SELECT key, id, signed_at, sum FROM nonces")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (key, id, signed): (_, String, _) = (row.get(0)?, row.get(1)?, row.get(2)?);
        sum_of_nonce(key, &id, signed).check(row.get(3)?, || format!("nonces of {key}"))?;
    }
    Ok(())
}

fn signer(conn: &Connection, key: SignerKey) -> Result<Option<Signer>, Fault> {
    let found = conn
        .prepare_cached("SELECT floor, held, sum FROM signers WHERE key = ?1")?
        .query_row([key], |row| {
            let (floor, held) = (row.get(0)?, row.get(1)?);
            Ok((Signer { floor, held }, row.get(2)?))
        })
        .optional()?;
    let Some((signer, sum)) = found else {
        return Ok(None);
    };
    sum_of_signer(key, signer).check(sum, || format!("signers {key}"))?;
    Ok(Some(signer))
}

fn keep(conn: &Connection, key: SignerKey, signer: Signer) -> Result<(), Fault> {
    conn.prepare_cached(
        "INSERT INTO signers (key, floor, held, sum) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (key) \
         DO UPDATE SET floor = excluded.floor, held = excluded.held, sum = excluded.sum",
    )?
    .execute((
        key,
        signer.floor,
        signer.held,
        sum_of_signer(key, signer).finish(),
    ))?;
    Ok(())
}

fn sum_of_signer(key: SignerKey, signer: Signer) -> Sum {
    Sum::new(Table::Signers)
        .int(key)
        .int(signer.floor)
        .int(signer.held)
}

fn sum_of_nonce(key: SignerKey, id: &str, signed: i64) -> Sum {
    Sum::new(Table::Nonces).int(key).text(id).int(signed)
}
