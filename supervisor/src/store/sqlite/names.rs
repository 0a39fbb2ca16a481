//! Demands and bots by number, with a bounded cache of both directions. A name is never changed and
//! never removed, so a cached one is true for as long as its transaction is.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::fault::Fault;
use super::sum::{Sum, Table};

/// A row of `names`.
pub(super) type NameId = i64;

/// Names kept in memory. Beyond it the cache starts anew.
const MAX_CACHED_NAMES: usize = 4_096;

#[derive(Debug, Default)]
pub(super) struct Names {
    by_name: HashMap<Arc<str>, NameId>,
    by_id: HashMap<NameId, Arc<str>>,
}

impl Names {
    /// The number of a name, if any task or bot ever had it.
    pub(super) fn find(&mut self, conn: &Connection, name: &str) -> Result<Option<NameId>, Fault> {
        if let Some(id) = self.by_name.get(name) {
            return Ok(Some(*id));
        }
        let found = conn
            .prepare_cached("SELECT id, sum FROM names WHERE name = ?1")?
            .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((id, sum)) = found else {
            return Ok(None);
        };
        sum_of(id, name).check(sum, || format!("names {id}"))?;
        self.keep(id, name.into());
        Ok(Some(id))
    }

    /// The number of a name, new if need be.
    pub(super) fn intern(&mut self, conn: &Connection, name: &str) -> Result<NameId, Fault> {
        if let Some(id) = self.find(conn, name)? {
            return Ok(id);
        }
        let id: NameId = conn
            .prepare_cached("SELECT coalesce(max(id), 0) + 1 FROM names")?
            .query_row([], |row| row.get(0))?;
        conn.prepare_cached("INSERT INTO names (id, name, sum) VALUES (?1, ?2, ?3)")?
            .execute((id, name, sum_of(id, name).finish()))?;
        self.keep(id, name.into());
        Ok(id)
    }

    /// The name with this number.
    pub(super) fn name(&mut self, conn: &Connection, id: NameId) -> Result<Arc<str>, Fault> {
        if let Some(name) = self.by_id.get(&id) {
            return Ok(Arc::clone(name));
        }
        let (name, sum): (Arc<str>, i64) = conn
            .prepare_cached("SELECT name, sum FROM names WHERE id = ?1")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?
            .ok_or_else(|| Fault::damaged(format!("names {id} is missing")))?;
        sum_of(id, &name).check(sum, || format!("names {id}"))?;
        self.keep(id, Arc::clone(&name));
        Ok(name)
    }

    /// After a rollback: names made in that transaction are gone.
    pub(super) fn forget(&mut self) {
        self.by_name.clear();
        self.by_id.clear();
    }

    fn keep(&mut self, id: NameId, name: Arc<str>) {
        if self.by_id.len() >= MAX_CACHED_NAMES {
            self.forget();
        }
        self.by_name.insert(Arc::clone(&name), id);
        self.by_id.insert(id, name);
    }
}

fn sum_of(id: NameId, name: &str) -> Sum {
    Sum::new(Table::Names).int(id).text(name)
}
