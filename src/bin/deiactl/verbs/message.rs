//! `deiactl message send|inbox|read|conversation|broadcast`.
//!
//! In a task, `$DEIA_SOCKET` is set: then it speaks as the task's own bot, and for that bot alone.

use clap::{Args, Subcommand};
use deia::api::{BroadcastRequest, ConversationQuery, InboxQuery, MessageView, SendRequest};
use deia::bot::BotType;
use deia::message::{MAX_MESSAGE_BYTES, MessageStatus};
use deia::task::Priority;
use deia::time::Timestamp;

use crate::context::Context;
use crate::failure::Failure;
use crate::human;
use crate::output::{Out, one_line};
use crate::table::{Field, Table};

/// Send and read messages between bots.
#[derive(Debug, Args)]
pub struct Message {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Send a message to a bot
    Send(Send),
    /// List a bot's messages, the most urgent first
    Inbox(Inbox),
    /// Say that a message was read
    Read(Read),
    /// Show the messages between two bots
    Conversation(Conversation),
    /// Send a message to every bot of a type
    Broadcast(Broadcast),
}

#[derive(Debug, Args)]
struct Letter {
    /// In whose name; a bot's own in a task [default: the first pool's]
    #[arg(long, value_name = "BOT")]
    from: Option<String>,
    /// How urgent: P0, P1, P2 or P3 [default: P2]
    #[arg(long, short, value_name = "P")]
    priority: Option<Priority>,
    /// Seconds it may wait to be read [default: timeouts.message_ttl_seconds]
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
}

#[derive(Debug, Args)]
struct Send {
    /// Who is to have it
    bot: String,
    /// The text; `-` reads it from standard input
    text: String,
    #[command(flatten)]
    letter: Letter,
}

#[derive(Debug, Args)]
struct Broadcast {
    /// To the bots of this type: general, developer, analyzer, writer, planner, validator
    #[arg(long = "type", value_name = "TYPE")]
    to_type: BotType,
    /// The text; `-` reads it from standard input
    text: String,
    #[command(flatten)]
    letter: Letter,
}

#[derive(Debug, Args)]
struct Inbox {
    /// Whose; a bot's own in a task [default: the first pool's]
    #[arg(long, value_name = "BOT")]
    bot: Option<String>,
    /// Only these
    #[arg(long, short, value_name = "P")]
    priority: Option<Priority>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
}

#[derive(Debug, Args)]
struct Read {
    /// The message's name
    id: String,
}

#[derive(Debug, Args)]
struct Conversation {
    /// The other bot
    other: String,
    /// The one; a bot's own in a task [default: the first pool's]
    #[arg(long, value_name = "BOT")]
    bot: Option<String>,
    /// The newest so many
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
}

impl Message {
    /// Does it.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        let client = context.client()?;
        let out = &context.out;
        match &self.verb {
            Verb::Send(send) => {
                let request = SendRequest {
                    to_bot: send.bot.clone(),
                    content: text(&send.text)?,
                    from_bot: send.letter.from.clone(),
                    priority: send.letter.priority,
                    ttl_seconds: send.letter.ttl,
                    metadata: None,
                };
                let reply = client.send_message(&request).await?;
                out.reply(&reply, |answer| {
                    let (id, to) = (&answer.message_id, one_line(&answer.to_bot));
                    out.line(&format!("{id} sent to {to}"))
                })
            }
            Verb::Broadcast(broadcast) => {
                let request = BroadcastRequest {
                    to_type: broadcast.to_type,
                    content: text(&broadcast.text)?,
                    from_bot: broadcast.letter.from.clone(),
                    priority: broadcast.letter.priority,
                    ttl_seconds: broadcast.letter.ttl,
                    metadata: None,
                };
                let reply = client.broadcast(&request).await?;
                out.reply(&reply, |answer| {
                    for sent in &answer.messages {
                        let (id, to) = (&sent.message_id, one_line(&sent.to_bot));
                        out.line(&format!("{id} sent to {to}"))?;
                    }
                    Ok(())
                })
            }
            Verb::Inbox(inbox) => {
                let query = InboxQuery {
                    bot_id: inbox.bot.clone(),
                    priority: inbox.priority,
                    limit: inbox.limit,
                };
                let reply = client.inbox(&query).await?;
                out.reply(&reply, |inbox| show(out, &inbox.messages))
            }
            Verb::Read(read) => {
                let reply = client.read_message(&read.id).await?;
                out.reply(&reply, |answer| {
                    out.line(&format!("{} {}", answer.message_id, answer.status))
                })?;
                match reply.status {
                    MessageStatus::Read => Ok(()),
                    status => Err(Failure::Failed(format!("message {} is {status}", read.id))),
                }
            }
            Verb::Conversation(with) => {
                let query = ConversationQuery {
                    bot_id: with.bot.clone(),
                    limit: with.limit,
                };
                let reply = client.conversation(&with.other, &query).await?;
                out.reply(&reply, |found| show(out, &found.messages))
            }
        }
    }
}

fn show(out: &Out, messages: &[MessageView]) -> Result<(), Failure> {
    if messages.is_empty() {
        return out.line("no messages");
    }
    let now = Timestamp::now();
    let header = ["MESSAGE", "FROM", "TO", "PRIORITY", "STATUS", "AGE", "TEXT"];
    let mut table = Table::new(out, &header);
    for message in messages {
        table.row(vec![
            Field::from(&message.message_id),
            Field::from(&message.from_bot),
            Field::from(&message.to_bot),
            message.priority.as_str().into(),
            message.status.as_str().into(),
            human::age(message.created_at, now).into(),
            Field::from(&message.content),
        ]);
    }
    out.text(&table.render())
}

fn text(given: &str) -> Result<String, Failure> {
    use std::io::Read as _;
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut text = String::new();
    // One byte more than there may be: the daemon says what is wrong with it.
    std::io::stdin()
        .lock()
        .take(MAX_MESSAGE_BYTES as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| Failure::Failed(format!("standard input: {error}")))?;
    Ok(text)
}
