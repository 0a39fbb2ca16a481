//! The audit trail: appended to inside the transaction of what it records, never changed.
//!
//! Where the chain ends is kept in memory (`Chain`), goes ahead of the disk within a transaction, and is
//! written once before its commit. A row that somebody else put at the next place does not stop the daemon:
//! it is passed over, and the chain shows it.

use deia::api::{AuditAction, AuditLevel, AuditResult, AuditSource};
use deia::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::engine::Engine;
use super::fault::Fault;
use super::sum::{Sum, Table};
use super::sweep::bound;
use crate::audit::{Actor, Anchor, Check, Entry, Hash, Link, Pruned, Who, hash_of};
use crate::store::audit::entries_of;
use crate::store::{AuditFilter, AuditPage, AuditRecord, AuditTally, Audited, Outcome, Recorded};

/// Rows that one question looks at where no index leads to them.
const LOOKED_AT: i64 = 100_000;

macro_rules! columns {
    () => {
        "seq, at, action, level, source, result, actor, target, details, error, remote, hash"
    };
}

/// Where the chain begins and ends.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Chain {
    pub(super) anchor: Anchor,
    pub(super) head: Link,
    /// Not written yet.
    changed: bool,
}

impl Chain {
    /// As the store has it. It is taken for what it is, also where it is not what was written: a daemon that
    /// did not start because of it would help nobody, and a verification finds it.
    pub(super) fn load(conn: &Connection) -> Result<Self, Fault> {
        let newest: Option<(i64, Vec<u8>)> = conn
            .prepare("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let mut chain = match read_chain(conn) {
            Ok(Some(chain)) => chain,
            Ok(None) if newest.is_none() => Self::default(),
            found => {
                let why = found
                    .err()
                    .map_or("it is missing".to_owned(), |e| e.to_string());
                tracing::error!(event = "audit_damaged", error = %why, "where the audit trail ends is not known; it goes on after its last record. `deiactl audit verify` says what is wrong");
                let (seq, hash) = newest.clone().unwrap_or_default();
                let hash = hash.try_into().unwrap_or_default();
                Self {
                    head: Link { seq, hash },
                    changed: true,
                    ..Self::default()
                }
            }
        };
        if let Some((seq, _)) = newest.filter(|(seq, _)| *seq > chain.head.seq) {
            tracing::error!(
                event = "audit_damaged",
                seq,
                head = chain.head.seq,
                "the audit trail has records behind its end; it goes on after them. `deiactl audit verify` names the first"
            );
            chain.head.seq = seq;
        }
        Ok(chain)
    }

    /// In place of what stood there.
    pub(super) fn write(&self, conn: &Connection) -> Result<(), Fault> {
        let Self { anchor, head, .. } = self;
        conn.prepare_cached(
                "INSERT INTO audit_chain (id, anchor_seq, anchor_hash, removed, head_seq, head_hash, sum) \
                 VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO UPDATE SET \
                 anchor_seq = excluded.anchor_seq, anchor_hash = excluded.anchor_hash, \
                 removed = excluded.removed, head_seq = excluded.head_seq, \
                 head_hash = excluded.head_hash, sum = excluded.sum",
            )?
            .execute(rusqlite::params![
                anchor.link.seq,
                anchor.link.hash.as_slice(),
                anchor.removed.cast_signed(),
                head.seq,
                head.hash.as_slice(),
                sum_of(anchor, head).finish(),
            ])?;
        Ok(())
    }
}

/// What the writer needs for records besides its connection.
#[derive(Debug, Default)]
pub(super) struct Trail {
    pub(super) chain: Chain,
    scratch: Vec<u8>,
}

impl Trail {
    pub(super) fn of(chain: Chain) -> Self {
        Self {
            chain,
            scratch: Vec::new(),
        }
    }
}

impl Engine {
    pub(super) fn audited(&mut self, audited: &Audited) -> Result<Outcome, Fault> {
        let outcome = self.apply(&audited.op)?;
        let mut recorded = Ok(());
        entries_of(&audited.entry, &outcome, |entry| {
            if recorded.is_ok() {
                recorded = self.append(entry).map(drop);
            }
        });
        recorded.map(|()| outcome)
    }

    pub(super) fn record(&mut self, entry: &Entry) -> Result<Outcome, Fault> {
        let link = self.append(entry)?;
        Ok(Outcome::Recorded(Recorded { link }))
    }

    /// The next record.
    fn append(&mut self, entry: &Entry) -> Result<Link, Fault> {
        let before = self.trail.chain.head;
        let mut seq = before.seq + 1;
        loop {
            let hash = hash_of(&before.hash, seq, entry, &mut self.trail.scratch);
            let inserted = self
                .conn
                .prepare_cached(concat!(
                    "INSERT INTO audit (",
                    columns!(),
                    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
                     ON CONFLICT DO NOTHING"
                ))?
                .execute(rusqlite::params![
                    seq,
                    entry.at.as_micros(),
                    entry.action as i64,
                    entry.level as i64,
                    entry.source as i64,
                    entry.result as i64,
                    entry.actor.name(),
                    &*entry.target,
                    entry.details,
                    entry.error,
                    entry.actor.remote.as_deref(),
                    hash.as_slice(),
                ])?;
            if inserted == 1 {
                let head = Link { seq, hash };
                self.trail.chain.head = head;
                self.trail.chain.changed = true;
                return Ok(head);
            }
            // Somebody else put a row there.
            let newest: i64 = self
                .conn
                .query_row("SELECT max(seq) FROM audit", [], |row| row.get(0))?;
            seq = newest + 1;
        }
    }

    /// Before a commit: where the chain ends now.
    pub(super) fn keep_chain(&mut self) -> Result<(), Fault> {
        match std::mem::take(&mut self.trail.chain.changed) {
            true => self.trail.chain.write(&self.conn),
            false => Ok(()),
        }
    }

    /// Removes the oldest records, as far as they are past their time.
    pub(super) fn prune(
        &mut self,
        (before, overdue): (Timestamp, Timestamp),
        limit: usize,
        at: Timestamp,
    ) -> Result<Outcome, Fault> {
        let mut old: Vec<(i64, Timestamp, Vec<u8>)> = Vec::new();
        {
            let mut statement = self
                .conn
                .prepare_cached("SELECT seq, at, hash FROM audit ORDER BY seq LIMIT ?1")?;
            let mut rows = statement.query([bound(limit)])?;
            while let Some(row) = rows.next()? {
                let time = Timestamp::from_micros(row.get(1)?);
                if time >= before {
                    break;
                }
                old.push((row.get(0)?, time, row.get(2)?));
            }
        }
        let is_due = old.len() >= limit || old.iter().any(|(_, at, _)| *at < overdue);
        let Some((seq, _, hash)) = old.last().filter(|_| is_due) else {
            return Ok(Outcome::Removed { count: 0 });
        };
        // Its successor goes on from here. A hash that is no hash can't be one's predecessor.
        let hash: Hash = hash
            .as_slice()
            .try_into()
            .map_err(|_| Fault::damaged(format!("audit {seq}")))?;
        let count = old.len() as u64;
        self.conn
            .prepare_cached("DELETE FROM audit WHERE seq <= ?1")?
            .execute([seq])?;
        let chain = &mut self.trail.chain;
        chain.anchor = Anchor {
            link: Link { seq: *seq, hash },
            removed: chain.anchor.removed + count,
        };
        let pruned = Pruned {
            link: chain.anchor.link,
            removed: chain.anchor.removed,
        };
        let mut entry = Entry::new(at, AuditAction::AuditPruned, Actor::DAEMON, "audit");
        entry.details = Some(pruned.to_text());
        self.append(&entry)?;
        Ok(Outcome::Removed { count })
    }
}

pub(super) fn read_chain(conn: &Connection) -> Result<Option<Chain>, Fault> {
    let found = conn
        .prepare(
            "SELECT anchor_seq, anchor_hash, removed, head_seq, head_hash, sum FROM audit_chain \
             WHERE id = 1",
        )?
        .query_row([], |row| {
            let hashes: (Vec<u8>, Vec<u8>) = (row.get(1)?, row.get(4)?);
            let numbers: (i64, i64, i64, i64) =
                (row.get(0)?, row.get(2)?, row.get(3)?, row.get(5)?);
            Ok((hashes, numbers))
        })
        .optional()?;
    let Some(((anchor_hash, head_hash), (anchor_seq, removed, head_seq, sum))) = found else {
        return Ok(None);
    };
    let damaged = || Fault::damaged("audit_chain");
    let link = |seq, hash: Vec<u8>| {
        let hash = hash.try_into().map_err(|_| damaged())?;
        Ok::<_, Fault>(Link { seq, hash })
    };
    let anchor = Anchor {
        link: link(anchor_seq, anchor_hash)?,
        removed: removed.cast_unsigned(),
    };
    let head = link(head_seq, head_hash)?;
    sum_of(&anchor, &head).check(sum, || "audit_chain".into())?;
    Ok(Some(Chain {
        anchor,
        head,
        changed: false,
    }))
}

fn sum_of(anchor: &Anchor, head: &Link) -> Sum {
    Sum::new(Table::AuditChain)
        .int(anchor.link.seq)
        .bytes(&anchor.link.hash)
        .int(anchor.removed.cast_signed())
        .int(head.seq)
        .bytes(&head.hash)
}

/// What a row says, and the hash it has.
fn read(row: &Row<'_>) -> Result<(Entry, Hash), Fault> {
    let seq: i64 = row.get(0)?;
    let damaged = |what: &str| Fault::damaged(format!("audit {seq}: {what}"));
    fn word<T: Copy>(all: &[T], code: i64) -> Option<T> {
        all.get(usize::try_from(code).ok()?).copied()
    }
    let actor: String = row.get(6)?;
    let remote: Option<String> = row.get(10)?;
    let entry = Entry {
        at: Timestamp::from_micros(row.get(1)?),
        action: word(AuditAction::ALL, row.get(2)?).ok_or_else(|| damaged("no such action"))?,
        level: word(AuditLevel::ALL, row.get(3)?).ok_or_else(|| damaged("no such level"))?,
        source: word(AuditSource::ALL, row.get(4)?).ok_or_else(|| damaged("no such source"))?,
        result: word(AuditResult::ALL, row.get(5)?).ok_or_else(|| damaged("no such result"))?,
        actor: Actor {
            who: Who::Named(actor.into()),
            remote: remote.map(Into::into),
        },
        target: row.get::<_, String>(7)?.into(),
        details: row.get(8)?,
        error: row.get(9)?,
    };
    let hash: Vec<u8> = row.get(11)?;
    let hash = hash
        .try_into()
        .map_err(|_| damaged("its hash is no hash"))?;
    Ok((entry, hash))
}

/// The hash before a record: that of the row before, or the anchor's.
fn previous_of(conn: &Connection, anchor: &Anchor, seq: i64) -> Result<Option<Hash>, Fault> {
    if seq - 1 == anchor.link.seq {
        return Ok(Some(anchor.link.hash));
    }
    let found: Option<Vec<u8>> = conn
        .prepare_cached("SELECT hash FROM audit WHERE seq = ?1")?
        .query_row([seq - 1], |row| row.get(0))
        .optional()?;
    Ok(found.and_then(|hash| hash.try_into().ok()))
}

fn chain(conn: &Connection) -> Result<Chain, Fault> {
    // What is wrong with it a verification finds.
    match read_chain(conn) {
        Ok(chain) => Ok(chain.unwrap_or_default()),
        Err(Fault::Damaged(_)) => Ok(Chain::default()),
        Err(fault) => Err(fault),
    }
}

/// Records, newest first.
pub(super) fn query(
    conn: &Connection,
    filter: &AuditFilter,
    before: Option<i64>,
    limit: usize,
) -> Result<AuditPage, Fault> {
    let chain = chain(conn)?;
    let newest: Option<i64> = conn.query_row("SELECT max(seq) FROM audit", [], |row| row.get(0))?;
    let before = before.unwrap_or_else(|| newest.unwrap_or_default().saturating_add(1));
    let (sql, is_led) = query_sql(filter);
    let floor = match is_led {
        true => i64::MIN,
        false => before.saturating_sub(LOOKED_AT),
    };
    let mut page = AuditPage::default();
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query(rusqlite::params![
        before,
        floor,
        filter.action.map(|action| action as i64),
        filter.actor,
        filter.target,
        filter.level.map(|level| level as i64),
        filter.result.map(|result| result as i64),
        filter.since.map(Timestamp::as_micros),
        bound(limit),
    ])?;
    let (mut scratch, mut found, mut last) = (Vec::new(), 0, None);
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        (found, last) = (found + 1, Some(seq));
        let (Ok((entry, hash)), Some(previous)) =
            (read(row), previous_of(conn, &chain.anchor, seq)?)
        else {
            page.damaged.push(seq);
            continue;
        };
        if hash_of(&previous, seq, &entry, &mut scratch) == hash {
            page.records.push(AuditRecord {
                seq,
                entry,
                previous,
                hash,
            });
        } else {
            page.damaged.push(seq);
        }
    }
    page.next = match found >= limit {
        true => last,
        false => (floor > chain.anchor.link.seq).then_some(floor),
    };
    Ok(page)
}

/// The text of a question, and whether an index leads to the rows. Conditions that are not asked for
/// still name their parameter, so that each text takes the same ones.
fn query_sql(filter: &AuditFilter) -> (String, bool) {
    let frequent = |action: &AuditAction| {
        matches!(
            action,
            AuditAction::TaskSubmitted | AuditAction::TaskCompleted
        )
    };
    let rare = filter.action.is_some_and(|action| !frequent(&action));
    let unusual = filter.level.is_some_and(|level| level != AuditLevel::Info);
    let source = match filter {
        AuditFilter {
            target: Some(_), ..
        } => "INDEXED BY audit_target",
        _ if unusual => "INDEXED BY audit_level",
        _ if rare => "INDEXED BY audit_action",
        AuditFilter { actor: Some(_), .. } => "INDEXED BY audit_actor",
        _ => "NOT INDEXED",
    };
    let equals = |is_asked: bool, column: &str, n: u8| match is_asked {
        true => format!("{column} = ?{n}"),
        false => format!("?{n} IS NULL"),
    };
    let mut conditions = vec![
        "seq < ?1 AND seq >= ?2".to_owned(),
        equals(filter.action.is_some(), "action", 3),
        equals(filter.actor.is_some(), "actor", 4),
        equals(filter.target.is_some(), "target", 5),
        equals(filter.level.is_some(), "level", 6),
        equals(filter.result.is_some(), "result", 7),
        "(?8 IS NULL OR at >= ?8)".to_owned(),
    ];
    // A partial index is used only where the question says literally that it keeps to it.
    if rare {
        conditions.push("action <> 2 AND action <> 3".to_owned());
    }
    if unusual {
        conditions.push("level <> 0".to_owned());
    }
    let sql = format!(
        "SELECT {} FROM audit {source} WHERE {} ORDER BY seq DESC LIMIT ?9",
        columns!(),
        conditions.join(" AND ")
    );
    (sql, source != "NOT INDEXED")
}

/// Records after a place, oldest first, as they are.
pub(super) fn after(
    conn: &Connection,
    after: i64,
    limit: usize,
) -> Result<Vec<AuditRecord>, Fault> {
    let chain = chain(conn)?;
    let mut records = Vec::new();
    let mut before: Option<Link> = None;
    each_after(conn, after, limit, |seq, row| {
        // What is not what was written is not served here either; a verification names it.
        let Ok((entry, hash)) = row else {
            before = None;
            return Ok(());
        };
        let previous = match before.filter(|before| before.seq + 1 == seq) {
            Some(before) => Some(before.hash),
            None => previous_of(conn, &chain.anchor, seq)?,
        };
        before = Some(Link { seq, hash });
        if let Some(previous) = previous {
            records.push(AuditRecord {
                seq,
                entry,
                previous,
                hash,
            });
        }
        Ok(())
    })?;
    Ok(records)
}

/// Goes on with a verification.
pub(super) fn check(conn: &Connection, check: &mut Check, limit: usize) -> Result<bool, Fault> {
    let chain = match read_chain(conn) {
        Ok(chain) => chain.unwrap_or_default(),
        // Without it there is no telling where the trail ends: whatever it ends with is too much.
        Err(Fault::Damaged(_)) => Chain::default(),
        Err(fault) => return Err(fault),
    };
    let after = check.portion(chain.anchor, chain.head);
    let looked_at = each_after(conn, after, limit, |seq, row| {
        match row {
            Ok((entry, hash)) => check.take(seq, &entry, hash),
            Err((hash, why)) => check.take_unreadable(seq, hash, &why),
        }
        Ok(())
    })?;
    let is_done = looked_at < limit;
    if is_done {
        check.finish();
    }
    Ok(is_done)
}

/// Goes on with a count.
pub(super) fn tally(conn: &Connection, tally: &mut AuditTally, limit: usize) -> Result<(), Fault> {
    let looked_at = each_after(conn, tally.after, limit, |seq, row| {
        match row {
            Ok((entry, _)) => tally.count(seq, &entry),
            Err(_) => tally.after = seq,
        }
        Ok(())
    })?;
    tally.complete = looked_at < limit;
    Ok(())
}

type Read = Result<(Entry, Hash), (Option<Hash>, String)>;

fn each_after(
    conn: &Connection,
    after: i64,
    limit: usize,
    mut each: impl FnMut(i64, Read) -> Result<(), Fault>,
) -> Result<usize, Fault> {
    let mut statement = conn.prepare_cached(concat!(
        "SELECT ",
        columns!(),
        " FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2"
    ))?;
    let mut rows = statement.query((after, bound(limit)))?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        count += 1;
        let found = read(row).map_err(|fault| {
            let hash: Option<Vec<u8>> = row.get(11).ok();
            let hash = hash.and_then(|hash| hash.try_into().ok());
            (hash, format!("it can't be read: {fault}"))
        });
        each(row.get(0)?, found)?;
    }
    Ok(count)
}

/// The whole trail of a store that nobody writes to.
pub(super) fn verify(conn: &Connection) -> Result<(), Fault> {
    let mut state = Check::default();
    while !check(conn, &mut state, 10_000)? {}
    match state.bad().first() {
        None => Ok(()),
        Some(bad) => Err(Fault::damaged(format!("audit {}: {}", bad.seq, bad.why))),
    }
}
