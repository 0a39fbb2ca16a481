//! Messages. What is sent is written once; only status and times change, and they stand apart from the
//! text. Where many are gone through, their texts are not read.

use std::collections::BTreeSet;

use deia::message::MessageStatus;
use deia::task::Priority;
use deia::time::Timestamp;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, Row};

use super::codes;
use super::engine::Engine;
use super::fault::Fault;
use super::names::{NameId, Names};
use super::sum::{Sum, Table};
use super::sweep::bound;
use crate::brain::clock::Reckoning;
use crate::store::{MAX_MESSAGES_BYTES, MessageCounts, MessageRecord, NewMessage, Outcome};

macro_rules! columns {
    () => {
        "seq, id, status, priority, from_bot, to_bot, created_at, expires_at, delivered_at, read_at, \
         ttl_seconds, bytes, sum"
    };
}

/// See the columns in `migrations/0003_messages.sql`.
#[derive(Clone)]
struct MessageRow {
    seq: i64,
    id: String,
    status: MessageStatus,
    priority: Priority,
    from_bot: NameId,
    to_bot: NameId,
    created_at: Timestamp,
    expires_at: Timestamp,
    delivered_at: Option<Timestamp>,
    read_at: Option<Timestamp>,
    ttl_seconds: u64,
    bytes: u64,
}

impl Engine {
    pub(super) fn send(
        &mut self,
        messages: &[NewMessage],
        (up, at): (&BTreeSet<String>, Timestamp),
        max_unread: u64,
    ) -> Result<Outcome, Fault> {
        for message in messages {
            let to_bot = self.names.intern(&self.conn, &message.to_bot)?;
            if unread(&self.conn, to_bot, max_unread)? >= max_unread {
                // The others of a broadcast are not sent either.
                return Ok(Outcome::InboxFull {
                    bot: message.to_bot.clone(),
                });
            }
        }
        for message in messages {
            let metadata = message.metadata.as_ref().map_or(0, String::len);
            let (status, delivered_at) = match up.contains(&message.to_bot) {
                true => (MessageStatus::Delivered, Some(at)),
                false => (MessageStatus::Pending, None),
            };
            let row = MessageRow {
                seq: next_seq(&self.conn)?,
                id: message.id.clone(),
                status,
                priority: message.priority,
                from_bot: self.names.intern(&self.conn, &message.from_bot)?,
                to_bot: self.names.intern(&self.conn, &message.to_bot)?,
                created_at: message.created_at,
                expires_at: message.expires_at(),
                delivered_at,
                read_at: None,
                ttl_seconds: message.ttl_seconds,
                bytes: (message.content.len() + metadata) as u64,
            };
            row.insert(&self.conn)?;
            insert_text(&self.conn, row.seq, message)?;
        }
        Ok(Outcome::Sent)
    }

    /// What waits for a bot that is up is in its inbox now.
    pub(super) fn deliver(
        &mut self,
        bot: &str,
        at: &Reckoning,
        limit: usize,
    ) -> Result<Outcome, Fault> {
        let (mut ids, mut expired, mut more) = (Vec::new(), Vec::new(), false);
        if let Some(bot) = self.names.find(&self.conn, bot)? {
            let statement = self.conn.prepare_cached(concat!(
                "SELECT ",
                columns!(),
                " FROM messages INDEXED BY messages_pending WHERE status = 0 AND to_bot = ?1 \
                 ORDER BY seq"
            ))?;
            let (rows, looked_at) = sound(&self.conn, statement, [bot], limit, |_| true)?;
            more = looked_at >= limit;
            for mut row in rows {
                // Its time is over.
                if at.is_over(row.created_at, row.expires_at) {
                    row.status = MessageStatus::Expired;
                    expired.push(row.id.clone());
                } else {
                    row.status = MessageStatus::Delivered;
                    row.delivered_at = Some(at.now);
                    ids.push(row.id.clone());
                }
                row.update(&self.conn)?;
            }
        }
        Ok(Outcome::Delivered { ids, expired, more })
    }

    pub(super) fn read_message(
        &mut self,
        id: &str,
        by: Option<&str>,
        at: &Reckoning,
    ) -> Result<Outcome, Fault> {
        let Some(mut row) = by_id(&self.conn, id)? else {
            return Ok(Outcome::Gone);
        };
        let to_bot = self.names.name(&self.conn, row.to_bot)?;
        if by.is_some_and(|bot| bot != &*to_bot) {
            return Ok(Outcome::Gone);
        }
        match row.status {
            MessageStatus::Pending | MessageStatus::Delivered
                if at.is_over(row.created_at, row.expires_at) =>
            {
                row.status = MessageStatus::Expired;
                row.update(&self.conn)?;
            }
            MessageStatus::Pending | MessageStatus::Delivered => row.read(&self.conn, at.now)?,
            // The first receipt counts.
            MessageStatus::Read | MessageStatus::Failed | MessageStatus::Expired => {}
        }
        Ok(Outcome::Message {
            emptied: nothing_waits(&self.conn, row.to_bot)?,
            message: Box::new(row.record(&self.conn, &mut self.names)?),
        })
    }

    pub(super) fn drain(
        &mut self,
        bot: &str,
        at: &Reckoning,
        limit: usize,
    ) -> Result<Outcome, Fault> {
        let mut read = Vec::new();
        for mut row in within(unread_of(
            &self.conn,
            &mut self.names,
            bot,
            None,
            at,
            limit,
        )?) {
            let Some(record) = passed_over(row.clone().record(&self.conn, &mut self.names))? else {
                continue;
            };
            row.read(&self.conn, at.now)?;
            read.push(MessageRecord {
                status: row.status,
                delivered_at: row.delivered_at,
                read_at: row.read_at,
                ..record
            });
        }
        Ok(Outcome::Messages(read))
    }

    pub(super) fn expire_messages(
        &mut self,
        now: &Reckoning,
        limit: usize,
    ) -> Result<Outcome, Fault> {
        let statement = self.conn.prepare_cached(concat!(
            "SELECT ",
            columns!(),
            " FROM messages INDEXED BY messages_expiry WHERE status < 2 AND expires_at <= ?1 \
             ORDER BY expires_at, seq"
        ))?;
        let (mut expired, mut bots) = (Vec::new(), BTreeSet::new());
        let until = [now.maybe_over().as_micros()];
        let is_over = |row: &MessageRow| now.is_over(row.created_at, row.expires_at);
        let (rows, _) = sound(&self.conn, statement, until, limit, is_over)?;
        for mut row in rows {
            row.status = MessageStatus::Expired;
            row.update(&self.conn)?;
            match self.names.name(&self.conn, row.to_bot) {
                Ok(to) => {
                    expired.push((row.id, to.to_string()));
                    bots.insert(row.to_bot);
                }
                // Whose it was can't be told; over it is.
                Err(fault) if fault.is_of_row() => {
                    tracing::error!(event = "store_row_damaged", error = %fault, "the name of a message's receiver is not as it was written");
                }
                Err(fault) => return Err(fault),
            }
        }
        let mut emptied = Vec::new();
        for bot in bots {
            if nothing_waits(&self.conn, bot)? {
                emptied.push(self.names.name(&self.conn, bot)?.to_string());
            }
        }
        let next = next_expiry(&self.conn, now)?;
        Ok(Outcome::MessagesExpired {
            expired,
            emptied,
            next,
        })
    }

    pub(super) fn retain_messages(
        &mut self,
        before: Timestamp,
        max_kept: u64,
        limit: usize,
    ) -> Result<Outcome, Fault> {
        let done: i64 = self
            .conn
            .prepare_cached(
                "SELECT count(*) FROM messages INDEXED BY messages_done WHERE status >= 2",
            )?
            .query_row([], |row| row.get(0))?;
        let mut excess = done.cast_unsigned().saturating_sub(max_kept);
        let mut statement = self.conn.prepare_cached(
            "SELECT seq, created_at FROM messages INDEXED BY messages_done WHERE status >= 2 \
             ORDER BY created_at, seq LIMIT ?1",
        )?;
        let oldest = statement.query_map([bound(limit)], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let oldest: Vec<(i64, i64)> = oldest.collect::<Result<_, _>>()?;
        let mut count = 0;
        for (seq, created_at) in oldest {
            if excess == 0 && created_at >= before.as_micros() {
                break;
            }
            excess = excess.saturating_sub(1);
            for delete in [
                "DELETE FROM messages WHERE seq = ?1",
                "DELETE FROM message_texts WHERE seq = ?1",
            ] {
                self.conn.prepare_cached(delete)?.execute([seq])?;
            }
            count += 1;
        }
        Ok(Outcome::Removed { count })
    }
}

/// Messages of a bot that are not over, the most urgent first; those it has read after them.
pub(super) fn inbox(
    conn: &Connection,
    names: &mut Names,
    bot: &str,
    priority: Option<Priority>,
    now: &Reckoning,
    limit: usize,
) -> Result<Vec<MessageRecord>, Fault> {
    let mut rows = unread_of(conn, names, bot, priority, now, limit)?;
    let left = limit - rows.len();
    if let Some(bot) = names.find(conn, bot)? {
        let statement = conn.prepare_cached(concat!(
            "SELECT ",
            columns!(),
            " FROM messages INDEXED BY messages_read WHERE status = 2 AND to_bot = ?1 \
             AND (?2 IS NULL OR priority = ?2) ORDER BY seq DESC LIMIT ?3"
        ))?;
        let parameters = (bot, priority.map(codes::priority), bound(left));
        rows.extend(MessageRow::all(statement, parameters)?);
    }
    records(conn, names, within(rows))
}

/// The newest messages between two bots, oldest first.
pub(super) fn conversation(
    conn: &Connection,
    names: &mut Names,
    (one, other): (&str, &str),
    limit: usize,
) -> Result<Vec<MessageRecord>, Fault> {
    let (Some(a), Some(b)) = (names.find(conn, one)?, names.find(conn, other)?) else {
        return Ok(Vec::new());
    };
    let mut rows = Vec::new();
    let ways = if a == b {
        vec![(a, b)]
    } else {
        vec![(a, b), (b, a)]
    };
    for (from, to) in ways {
        let statement = conn.prepare_cached(concat!(
            "SELECT ",
            columns!(),
            " FROM messages INDEXED BY messages_pair WHERE from_bot = ?1 AND to_bot = ?2 \
             ORDER BY seq DESC LIMIT ?3"
        ))?;
        rows.extend(MessageRow::all(statement, (from, to, bound(limit)))?);
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.seq));
    rows.truncate(limit);
    let mut rows = within(rows);
    rows.reverse();
    records(conn, names, rows)
}

/// One message.
pub(super) fn message(
    conn: &Connection,
    names: &mut Names,
    id: &str,
) -> Result<Option<MessageRecord>, Fault> {
    let row = by_id(conn, id)?;
    row.map(|row| row.record(conn, names)).transpose()
}

pub(super) fn counts(conn: &Connection, names: &mut Names) -> Result<MessageCounts, Fault> {
    let mut counts = MessageCounts::default();
    let mut of_bots: Vec<(NameId, u64, u64)> = Vec::new();
    let mut statement = conn.prepare_cached(
        "SELECT to_bot, status, priority, count(*) FROM messages INDEXED BY messages_counts \
         GROUP BY to_bot, status, priority ORDER BY to_bot, status, priority",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let bot: NameId = row.get(0)?;
        let status = codes::to_message_status(row.get(1)?)?;
        let priority = codes::to_priority(row.get(2)?)?;
        let count = row.get::<_, i64>(3)?.cast_unsigned();
        if let Some(slot) = counts.by_status.get_mut(status as usize) {
            *slot += count;
        }
        if let Some(slot) = counts.by_priority.get_mut(priority.index()) {
            *slot += count;
        }
        if of_bots.last().is_none_or(|(last, ..)| *last != bot) {
            of_bots.push((bot, 0, 0));
        }
        if let Some((_, all, unread)) = of_bots.last_mut() {
            *all += count;
            *unread += if status.is_final() { 0 } else { count };
        }
    }
    for (bot, all, unread) in of_bots {
        let name = names.name(conn, bot)?;
        counts.by_bot.push((name.to_string(), all, unread));
    }
    Ok(counts)
}

/// Bots for which something waits.
pub(super) fn awaited(conn: &Connection, names: &mut Names) -> Result<Vec<String>, Fault> {
    let mut statement = conn.prepare_cached(
        "SELECT DISTINCT to_bot FROM messages INDEXED BY messages_pending WHERE status = 0",
    )?;
    let bots = statement.query_map([], |row| row.get::<_, NameId>(0))?;
    let bots: Vec<NameId> = bots.collect::<Result<_, _>>()?;
    let mut awaited = Vec::with_capacity(bots.len());
    for bot in bots {
        match names.name(conn, bot) {
            Ok(name) => awaited.push(name.to_string()),
            // Whose they are can't be told: they expire.
            Err(fault) if fault.is_of_row() => {
                tracing::error!(event = "store_row_damaged", error = %fault, "the name of messages' receiver is not as it was written");
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(awaited)
}

/// When the next one is over, by the wall clock.
pub(super) fn next_expiry(conn: &Connection, now: &Reckoning) -> Result<Option<Timestamp>, Fault> {
    if !now.was_set() {
        let mut statement = conn.prepare_cached(
            "SELECT min(expires_at) FROM messages INDEXED BY messages_expiry WHERE status < 2",
        )?;
        let first: Option<i64> = statement.query_row([], |row| row.get(0))?;
        return Ok(first.map(Timestamp::from_micros));
    }
    // Not in the order of the index any more.
    let mut statement = conn.prepare_cached(
        "SELECT created_at, expires_at FROM messages INDEXED BY messages_expiry WHERE status < 2",
    )?;
    let mut rows = statement.query([])?;
    let mut first = None;
    while let Some(row) = rows.next()? {
        // What is damaged is found when it is looked at.
        let (Ok(begun), Ok(end)) = (row.get(0), row.get(1)) else {
            continue;
        };
        let [begun, end] = [begun, end].map(Timestamp::from_micros);
        let end = now.end_now(begun, end);
        first = Some(first.map_or(end, |first: Timestamp| first.min(end)));
    }
    Ok(first)
}

/// Each row against its sums.
pub(super) fn verify(conn: &Connection, names: &mut Names) -> Result<(), Fault> {
    let sql = concat!("SELECT ", columns!(), " FROM messages ORDER BY seq");
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        MessageRow::from(row)?.record(conn, names)?;
    }
    Ok(())
}

/// The first of them whose texts are no more than an answer holds; one may always be.
fn within(rows: Vec<MessageRow>) -> Vec<MessageRow> {
    let mut bytes = 0;
    let fits = |row: &MessageRow| {
        let first = bytes == 0;
        bytes += row.bytes.max(1);
        first || bytes <= MAX_MESSAGES_BYTES
    };
    rows.into_iter().take_while(fits).collect()
}

fn unread_of(
    conn: &Connection,
    names: &mut Names,
    bot: &str,
    priority: Option<Priority>,
    now: &Reckoning,
    limit: usize,
) -> Result<Vec<MessageRow>, Fault> {
    let Some(bot) = names.find(conn, bot)? else {
        return Ok(Vec::new());
    };
    let mut statement = conn.prepare_cached(concat!(
        "SELECT ",
        columns!(),
        " FROM messages INDEXED BY messages_unread WHERE status < 2 AND to_bot = ?1 \
         AND (?2 IS NULL OR priority = ?2) \
         AND expires_at > ?3 ORDER BY priority, seq"
    ))?;
    let priority = priority.map(codes::priority);
    let mut rows = statement.query((bot, priority, now.surely_over().as_micros()))?;
    let mut unread = Vec::new();
    while unread.len() < limit
        && let Some(row) = rows.next()?
    {
        if let Some(row) = passed_over(MessageRow::from(row))?
            && !now.is_over(row.created_at, row.expires_at)
        {
            unread.push(row);
        }
    }
    Ok(unread)
}

fn by_id(conn: &Connection, id: &str) -> Result<Option<MessageRow>, Fault> {
    let sql = concat!("SELECT ", columns!(), " FROM messages WHERE id = ?1");
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([id])?;
    rows.next()?.map(MessageRow::from).transpose()
}

/// Of several, one that is damaged hides no other: it is passed over, and said. Whoever asks for it is told.
fn passed_over<T>(read: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match read {
        Err(fault) if fault.is_of_row() => {
            tracing::error!(event = "store_row_damaged", error = %fault, "a message that is not as it was sent is not shown; the others are");
            Ok(None)
        }
        read => read.map(Some),
    }
}

fn records(
    conn: &Connection,
    names: &mut Names,
    rows: Vec<MessageRow>,
) -> Result<Vec<MessageRecord>, Fault> {
    let rows = rows.into_iter();
    let read = rows.map(|row| passed_over(row.record(conn, names)));
    read.filter_map(Result::transpose).collect()
}

/// No more than `enough` are counted.
fn unread(conn: &Connection, bot: NameId, enough: u64) -> Result<u64, Fault> {
    let count: i64 = conn
        .prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM messages INDEXED BY messages_unread \
             WHERE status < 2 AND to_bot = ?1 LIMIT ?2)",
        )?
        .query_row((bot, enough.cast_signed()), |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

fn nothing_waits(conn: &Connection, bot: NameId) -> Result<bool, Fault> {
    let waits: bool = conn
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM messages INDEXED BY messages_pending \
             WHERE status = 0 AND to_bot = ?1)",
        )?
        .query_row([bot], |row| row.get(0))?;
    Ok(!waits)
}

/// Used again only where the newest was removed: nothing refers to it.
fn next_seq(conn: &Connection) -> Result<i64, Fault> {
    let next = conn
        .prepare_cached("SELECT coalesce(max(seq), 0) + 1 FROM messages")?
        .query_row([], |row| row.get(0))?;
    Ok(next)
}

/// The first of the rows that are wanted and as they were written, and how many were taken or damaged. One that is
/// damaged would hold up all behind it for ever: it counts as expired, and is never served.
fn sound(
    conn: &Connection,
    mut statement: CachedStatement<'_>,
    parameters: impl Params,
    limit: usize,
    is_wanted: impl Fn(&MessageRow) -> bool,
) -> Result<(Vec<MessageRow>, usize), Fault> {
    let mut rows = statement.query(parameters)?;
    let (mut sound, mut damaged) = (Vec::new(), Vec::new());
    while sound.len() + damaged.len() < limit
        && let Some(row) = rows.next()?
    {
        match MessageRow::from(row) {
            Ok(row) if is_wanted(&row) => sound.push(row),
            Ok(_) => {}
            Err(fault) if fault.is_of_row() => {
                tracing::error!(event = "store_row_damaged", error = %fault, "a message that is not as it was sent is not delivered");
                damaged.push(row.get::<_, i64>(0)?);
            }
            Err(fault) => return Err(fault),
        }
    }
    drop(rows);
    let looked_at = sound.len() + damaged.len();
    for seq in damaged {
        conn.prepare_cached("UPDATE messages SET status = 4 WHERE seq = ?1")?
            .execute([seq])?;
    }
    Ok((sound, looked_at))
}

fn insert_text(conn: &Connection, seq: i64, message: &NewMessage) -> Result<(), Fault> {
    conn.prepare_cached(
        "INSERT INTO message_texts (seq, metadata, content, sum) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute((
        seq,
        &message.metadata,
        &message.content,
        text_sum(seq, message.metadata.as_deref(), &message.content).finish(),
    ))?;
    Ok(())
}

/// Its metadata and its content.
fn text(conn: &Connection, seq: i64) -> Result<(Option<String>, String), Fault> {
    let found: Option<(Option<String>, String, i64)> = conn
        .prepare_cached("SELECT metadata, content, sum FROM message_texts WHERE seq = ?1")?
        .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let (metadata, content, sum) =
        found.ok_or_else(|| Fault::damaged(format!("message_texts {seq} is missing")))?;
    text_sum(seq, metadata.as_deref(), &content).check(sum, || format!("message_texts {seq}"))?;
    Ok((metadata, content))
}

impl MessageRow {
    /// Those that are as they were written.
    fn all(
        mut statement: CachedStatement<'_>,
        parameters: impl Params,
    ) -> Result<Vec<Self>, Fault> {
        let mut rows = statement.query(parameters)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.extend(passed_over(Self::from(row))?);
        }
        Ok(all)
    }

    fn from(row: &Row<'_>) -> Result<Self, Fault> {
        let time = |column| -> Result<Option<Timestamp>, Fault> {
            Ok(row
                .get::<_, Option<i64>>(column)?
                .map(Timestamp::from_micros))
        };
        let read = Self {
            seq: row.get(0)?,
            id: row.get(1)?,
            status: codes::to_message_status(row.get(2)?)?,
            priority: codes::to_priority(row.get(3)?)?,
            from_bot: row.get(4)?,
            to_bot: row.get(5)?,
            created_at: Timestamp::from_micros(row.get(6)?),
            expires_at: Timestamp::from_micros(row.get(7)?),
            delivered_at: time(8)?,
            read_at: time(9)?,
            ttl_seconds: row.get::<_, i64>(10)?.cast_unsigned(),
            bytes: row.get::<_, i64>(11)?.cast_unsigned(),
        };
        read.sum()
            .check(row.get(12)?, || format!("messages {}", read.seq))?;
        Ok(read)
    }

    fn record(self, conn: &Connection, names: &mut Names) -> Result<MessageRecord, Fault> {
        let (metadata, content) = text(conn, self.seq)?;
        Ok(MessageRecord {
            sent: NewMessage {
                id: self.id,
                from_bot: names.name(conn, self.from_bot)?.to_string(),
                to_bot: names.name(conn, self.to_bot)?.to_string(),
                content,
                priority: self.priority,
                metadata,
                created_at: self.created_at,
                ttl_seconds: self.ttl_seconds,
            },
            status: self.status,
            delivered_at: self.delivered_at,
            read_at: self.read_at,
        })
    }

    fn read(&mut self, conn: &Connection, at: Timestamp) -> Result<(), Fault> {
        self.status = MessageStatus::Read;
        self.delivered_at.get_or_insert(at);
        self.read_at = Some(at);
        self.update(conn)
    }

    fn insert(&self, conn: &Connection) -> Result<(), Fault> {
        conn.prepare_cached(concat!(
            "INSERT INTO messages (",
            columns!(),
            ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
        ))?
        .execute(rusqlite::params![
            self.seq,
            self.id,
            codes::message_status(self.status),
            codes::priority(self.priority),
            self.from_bot,
            self.to_bot,
            self.created_at.as_micros(),
            self.expires_at.as_micros(),
            self.delivered_at.map(Timestamp::as_micros),
            self.read_at.map(Timestamp::as_micros),
            self.ttl_seconds.cast_signed(),
            self.bytes.cast_signed(),
            self.sum().finish(),
        ])?;
        Ok(())
    }

    fn update(&self, conn: &Connection) -> Result<(), Fault> {
        conn.prepare_cached(
            "UPDATE messages SET status = ?2, delivered_at = ?3, read_at = ?4, sum = ?5 WHERE seq = ?1",
        )?
        .execute((
            self.seq,
            codes::message_status(self.status),
            self.delivered_at.map(Timestamp::as_micros),
            self.read_at.map(Timestamp::as_micros),
            self.sum().finish(),
        ))?;
        Ok(())
    }

    fn sum(&self) -> Sum {
        Sum::new(Table::Messages)
            .int(self.seq)
            .text(&self.id)
            .int(codes::message_status(self.status))
            .int(codes::priority(self.priority))
            .int(self.from_bot)
            .int(self.to_bot)
            .int(self.created_at.as_micros())
            .int(self.expires_at.as_micros())
            .opt_int(self.delivered_at.map(Timestamp::as_micros))
            .opt_int(self.read_at.map(Timestamp::as_micros))
            .int(self.ttl_seconds.cast_signed())
            .int(self.bytes.cast_signed())
    }
}

fn text_sum(seq: i64, metadata: Option<&str>, content: &str) -> Sum {
    Sum::new(Table::MessageTexts)
        .int(seq)
        .opt_text(metadata)
        .text(content)
}
