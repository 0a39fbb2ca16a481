//! Messages. What is sent is written once; only status and times change.

use deia::message::MessageStatus;
use deia::task::Priority;
use deia::time::Timestamp;
use rusqlite::{CachedStatement, Connection, Params, Row};

use super::codes;
use super::engine::Engine;
use super::fault::Fault;
use super::names::{NameId, Names};
use super::sum::{Sum, Table};
use super::sweep::bound;
use crate::store::{MessageCounts, MessageRecord, NewMessage, Outcome};

macro_rules! columns {
    () => {
        "seq, id, status, priority, from_bot, to_bot, created_at, expires_at, delivered_at, read_at, \
         ttl_seconds, metadata, sum, content_sum, content"
    };
}

/// See the columns in `migrations/0003_messages.sql`.
struct MessageRow {
    seq: i64,
    from_bot: NameId,
    to_bot: NameId,
    message: MessageRecord,
}

impl Engine {
    pub(super) fn send(
        &mut self,
        messages: &[NewMessage],
        max_unread: u64,
    ) -> Result<Outcome, Fault> {
        for message in messages {
            let to_bot = self.names.intern(&self.conn, &message.to_bot)?;
            if unread(&self.conn, to_bot, max_unread)? >= max_unread {
                // The others of a broadcast are undone with it.
                return Ok(Outcome::InboxFull {
                    bot: message.to_bot.clone(),
                });
            }
        }
        for message in messages {
            let row = MessageRow {
                seq: next_seq(&self.conn)?,
                from_bot: self.names.intern(&self.conn, &message.from_bot)?,
                to_bot: self.names.intern(&self.conn, &message.to_bot)?,
                message: MessageRecord {
                    sent: message.clone(),
                    status: MessageStatus::Pending,
                    delivered_at: None,
                    read_at: None,
                },
            };
            row.insert(&self.conn)?;
        }
        Ok(Outcome::Sent)
    }

    /// What waits for a bot that is up is in its inbox now.
    pub(super) fn deliver(
        &mut self,
        bot: &str,
        at: Timestamp,
        limit: usize,
    ) -> Result<Outcome, Fault> {
        let mut delivered = Vec::new();
        if let Some(bot) = self.names.find(&self.conn, bot)? {
            let statement = self.conn.prepare_cached(concat!(
                "SELECT ",
                columns!(),
                " FROM messages INDEXED BY messages_pending WHERE status = 0 AND to_bot = ?1 \
                 ORDER BY seq LIMIT ?2"
            ))?;
            let rows =
                MessageRow::all(statement, &self.conn, &mut self.names, (bot, bound(limit)))?;
            for mut row in rows {
                // Its time is over: it is expired in its turn.
                if row.message.sent.expires_at() <= at {
                    row.message.status = MessageStatus::Expired;
                } else {
                    row.message.status = MessageStatus::Delivered;
                    row.message.delivered_at = Some(at);
                    delivered.push(row.message.sent.id.clone());
                }
                row.update(&self.conn)?;
            }
        }
        Ok(Outcome::Delivered { ids: delivered })
    }

    pub(super) fn read_message(
        &mut self,
        id: &str,
        by: Option<&str>,
        at: Timestamp,
    ) -> Result<Outcome, Fault> {
        let Some(mut row) = by_id(&self.conn, &mut self.names, id)? else {
            return Ok(Outcome::Gone);
        };
        if by.is_some_and(|bot| bot != row.message.sent.to_bot) {
            return Ok(Outcome::Gone);
        }
        let over = row.message.sent.expires_at() <= at;
        match row.message.status {
            MessageStatus::Pending | MessageStatus::Delivered if over => {
                row.message.status = MessageStatus::Expired;
                row.update(&self.conn)?;
            }
            MessageStatus::Pending | MessageStatus::Delivered => {
                row.message.status = MessageStatus::Read;
                row.message.delivered_at.get_or_insert(at);
                row.message.read_at = Some(at);
                row.update(&self.conn)?;
            }
            // The first receipt counts.
            MessageStatus::Read | MessageStatus::Failed | MessageStatus::Expired => {}
        }
        Ok(Outcome::Message(Box::new(row.message)))
    }

    /// Reads all that a bot has unread, the most urgent first.
    pub(super) fn drain(
        &mut self,
        bot: &str,
        at: Timestamp,
        limit: usize,
    ) -> Result<Outcome, Fault> {
        let mut read = Vec::new();
        for mut row in unread_of(&self.conn, &mut self.names, bot, at, limit)? {
            row.message.status = MessageStatus::Read;
            row.message.delivered_at.get_or_insert(at);
            row.message.read_at = Some(at);
            row.update(&self.conn)?;
            read.push(row.message);
        }
        Ok(Outcome::Messages(read))
    }

    pub(super) fn expire_messages(
        &mut self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Outcome, Fault> {
        let statement = self.conn.prepare_cached(concat!(
            "SELECT ",
            columns!(),
            " FROM messages INDEXED BY messages_expiry WHERE status < 2 AND expires_at <= ?1 \
             ORDER BY expires_at, seq LIMIT ?2"
        ))?;
        let parameters = (now.as_micros(), bound(limit));
        let mut expired = Vec::new();
        for mut row in MessageRow::all(statement, &self.conn, &mut self.names, parameters)? {
            row.message.status = MessageStatus::Expired;
            row.update(&self.conn)?;
            expired.push(row.message);
        }
        let next = next_expiry(&self.conn)?;
        Ok(Outcome::MessagesExpired { expired, next })
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
        let excess = done.cast_unsigned().saturating_sub(max_kept);
        let excess = usize::try_from(excess).unwrap_or(usize::MAX).min(limit);
        let count = self
            .conn
            .prepare_cached(
                "DELETE FROM messages WHERE seq IN (SELECT seq FROM messages INDEXED BY messages_done \
                 WHERE status >= 2 AND created_at < ?1 ORDER BY created_at, seq LIMIT ?2) \
                 OR seq IN (SELECT seq FROM messages INDEXED BY messages_done \
                 WHERE status >= 2 ORDER BY created_at, seq LIMIT ?3)",
            )?
            .execute((before.as_micros(), bound(limit), bound(excess)))?;
        Ok(Outcome::Removed {
            count: count as u64,
        })
    }
}

/// Messages of a bot that are not over, the most urgent first; those it has read after them.
pub(super) fn inbox(
    conn: &Connection,
    names: &mut Names,
    bot: &str,
    priority: Option<Priority>,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<MessageRecord>, Fault> {
    let mut found: Vec<MessageRecord> = unread_of(conn, names, bot, now, usize::MAX)?
        .into_iter()
        .map(|row| row.message)
        .filter(|message| priority.is_none_or(|p| p == message.sent.priority))
        .take(limit)
        .collect();
    let left = limit - found.len();
    if let Some(bot) = names.find(conn, bot)? {
        let statement = conn.prepare_cached(concat!(
            "SELECT ",
            columns!(),
            " FROM messages INDEXED BY messages_read WHERE status = 2 AND to_bot = ?1 \
             AND (?2 IS NULL OR priority = ?2) ORDER BY seq DESC LIMIT ?3"
        ))?;
        let parameters = (bot, priority.map(codes::priority), bound(left));
        let read = MessageRow::all(statement, conn, names, parameters)?;
        found.extend(read.into_iter().map(|row| row.message));
    }
    Ok(found)
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
    let statement = conn.prepare_cached(concat!(
        "SELECT ",
        columns!(),
        " FROM messages INDEXED BY messages_pair WHERE from_bot = ?1 AND to_bot = ?2 \
         ORDER BY seq DESC LIMIT ?3"
    ))?;
    let mut rows = MessageRow::all(statement, conn, names, (a, b, bound(limit)))?;
    if a != b {
        let statement = conn.prepare_cached(concat!(
            "SELECT ",
            columns!(),
            " FROM messages INDEXED BY messages_pair WHERE from_bot = ?1 AND to_bot = ?2 \
             ORDER BY seq DESC LIMIT ?3"
        ))?;
        rows.extend(MessageRow::all(
            statement,
            conn,
            names,
            (b, a, bound(limit)),
        )?);
    }
    rows.sort_by_key(|row| row.seq);
    let from = rows.len().saturating_sub(limit);
    Ok(rows.into_iter().skip(from).map(|row| row.message).collect())
}

/// One message.
pub(super) fn message(
    conn: &Connection,
    names: &mut Names,
    id: &str,
) -> Result<Option<MessageRecord>, Fault> {
    Ok(by_id(conn, names, id)?.map(|row| row.message))
}

pub(super) fn counts(conn: &Connection, names: &mut Names) -> Result<MessageCounts, Fault> {
    let mut counts = MessageCounts::default();
    let mut of_bots: Vec<(NameId, u64, u64)> = Vec::new();
    let mut statement = conn.prepare_cached(
        "SELECT to_bot, status, priority, count(*) FROM messages GROUP BY to_bot, status, priority \
         ORDER BY to_bot",
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
    let names = bots.into_iter().map(|bot| names.name(conn, bot));
    names.map(|name| Ok(name?.to_string())).collect()
}

/// When the next one is over.
pub(super) fn next_expiry(conn: &Connection) -> Result<Option<Timestamp>, Fault> {
    let next: Option<i64> = conn
        .prepare_cached(
            "SELECT min(expires_at) FROM messages INDEXED BY messages_expiry WHERE status < 2",
        )?
        .query_row([], |row| row.get(0))?;
    Ok(next.map(Timestamp::from_micros))
}

/// Each row against its sums.
pub(super) fn verify(conn: &Connection, names: &mut Names) -> Result<(), Fault> {
    let sql = concat!("SELECT ", columns!(), " FROM messages ORDER BY seq");
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        MessageRow::read(row, conn, names)?;
    }
    Ok(())
}

fn unread_of(
    conn: &Connection,
    names: &mut Names,
    bot: &str,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<MessageRow>, Fault> {
    let Some(bot) = names.find(conn, bot)? else {
        return Ok(Vec::new());
    };
    let statement = conn.prepare_cached(concat!(
        "SELECT ",
        columns!(),
        " FROM messages INDEXED BY messages_unread WHERE status < 2 AND to_bot = ?1 \
         AND expires_at > ?2 ORDER BY priority, seq LIMIT ?3"
    ))?;
    MessageRow::all(statement, conn, names, (bot, now.as_micros(), bound(limit)))
}

fn by_id(conn: &Connection, names: &mut Names, id: &str) -> Result<Option<MessageRow>, Fault> {
    let sql = concat!("SELECT ", columns!(), " FROM messages WHERE id = ?1");
    let mut rows = MessageRow::all(conn.prepare_cached(sql)?, conn, names, [id])?;
    Ok(rows.pop())
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

/// Used again only where the newest was removed: nothing refers to it.
fn next_seq(conn: &Connection) -> Result<i64, Fault> {
    let next = conn
        .prepare_cached("SELECT coalesce(max(seq), 0) + 1 FROM messages")?
        .query_row([], |row| row.get(0))?;
    Ok(next)
}

impl MessageRow {
    fn all(
        mut statement: CachedStatement<'_>,
        conn: &Connection,
        names: &mut Names,
        parameters: impl Params,
    ) -> Result<Vec<Self>, Fault> {
        let mut rows = statement.query(parameters)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(Self::read(row, conn, names)?);
        }
        Ok(all)
    }

    fn read(row: &Row<'_>, conn: &Connection, names: &mut Names) -> Result<Self, Fault> {
        let seq: i64 = row.get(0)?;
        let (from_bot, to_bot): (NameId, NameId) = (row.get(4)?, row.get(5)?);
        let time = |column| -> Result<Option<Timestamp>, Fault> {
            Ok(row
                .get::<_, Option<i64>>(column)?
                .map(Timestamp::from_micros))
        };
        let read = Self {
            seq,
            from_bot,
            to_bot,
            message: MessageRecord {
                sent: NewMessage {
                    id: row.get(1)?,
                    from_bot: names.name(conn, from_bot)?.to_string(),
                    to_bot: names.name(conn, to_bot)?.to_string(),
                    content: row.get(14)?,
                    priority: codes::to_priority(row.get(3)?)?,
                    metadata: row.get(11)?,
                    created_at: Timestamp::from_micros(row.get(6)?),
                    ttl_seconds: row.get::<_, i64>(10)?.cast_unsigned(),
                },
                status: codes::to_message_status(row.get(2)?)?,
                delivered_at: time(8)?,
                read_at: time(9)?,
            },
        };
        let named = || format!("messages {seq}");
        read.sum().check(row.get(12)?, named)?;
        read.content_sum().check(row.get(13)?, named)?;
        if row.get::<_, i64>(7)? != read.message.sent.expires_at().as_micros() {
            return Err(Fault::damaged(named()));
        }
        Ok(read)
    }

    fn insert(&self, conn: &Connection) -> Result<(), Fault> {
        let sent = &self.message.sent;
        conn.prepare_cached(concat!(
            "INSERT INTO messages (",
            columns!(),
            ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"
        ))?
        .execute(rusqlite::params![
            self.seq,
            sent.id,
            codes::message_status(self.message.status),
            codes::priority(sent.priority),
            self.from_bot,
            self.to_bot,
            sent.created_at.as_micros(),
            sent.expires_at().as_micros(),
            self.message.delivered_at.map(Timestamp::as_micros),
            self.message.read_at.map(Timestamp::as_micros),
            sent.ttl_seconds.cast_signed(),
            sent.metadata,
            self.sum().finish(),
            self.content_sum().finish(),
            sent.content,
        ])?;
        Ok(())
    }

    fn update(&self, conn: &Connection) -> Result<(), Fault> {
        conn.prepare_cached(
            "UPDATE messages SET status = ?2, delivered_at = ?3, read_at = ?4, sum = ?5 WHERE seq = ?1",
        )?
        .execute((
            self.seq,
            codes::message_status(self.message.status),
            self.message.delivered_at.map(Timestamp::as_micros),
            self.message.read_at.map(Timestamp::as_micros),
            self.sum().finish(),
        ))?;
        Ok(())
    }

    fn sum(&self) -> Sum {
        let sent = &self.message.sent;
        Sum::new(Table::Messages)
            .int(self.seq)
            .text(&sent.id)
            .int(codes::message_status(self.message.status))
            .int(codes::priority(sent.priority))
            .int(self.from_bot)
            .int(self.to_bot)
            .int(sent.created_at.as_micros())
            .opt_int(self.message.delivered_at.map(Timestamp::as_micros))
            .opt_int(self.message.read_at.map(Timestamp::as_micros))
            .int(sent.ttl_seconds.cast_signed())
            .opt_text(sent.metadata.as_deref())
    }

    fn content_sum(&self) -> Sum {
        Sum::new(Table::MessageContents)
            .int(self.seq)
            .text(&self.message.sent.content)
    }
}
