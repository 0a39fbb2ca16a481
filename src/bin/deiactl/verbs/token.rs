//! `deiactl token create|list|revoke`.

use clap::{Args, Subcommand};
use deia::api::{MAX_TOKEN_SECONDS, Scope, TokenRequest, TokenView};
use deia::time::Timestamp;

use crate::context::Context;
use crate::failure::Failure;
use crate::human;
use crate::output::Out;
use crate::table::Table;

/// Create, list and revoke API tokens, for `Authorization: Bearer` over TCP.
#[derive(Debug, Args)]
pub struct Token {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a token and print it, this once
    Create(Create),
    /// List the tokens, never the tokens themselves
    List,
    /// End a token at once
    Revoke {
        /// Its id, as listed
        id: String,
    },
}

#[derive(Debug, Args)]
struct Create {
    /// What it may do: read, submit, bot or admin; may be given several times
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    scopes: Vec<Scope>,
    /// Whose it is, or what for
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How long it lasts: 90s, 45m, 12h, 30d, 8w [default: until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    expires: Option<u64>,
}

impl Token {
    /// Does it.
    pub async fn run(&self, context: &Context) -> Result<(), Failure> {
        let out = &context.out;
        match &self.verb {
            Verb::Create(create) => create.run(context).await,
            Verb::List => {
                let reply = context.client()?.tokens().await?;
                out.reply(&reply, |list| show(out, &list.tokens))
            }
            Verb::Revoke { id } => {
                let reply = context.announced().await?.revoke_token(id).await?;
                out.reply(&reply, |answer| {
                    out.line(&format!("token {} is revoked", answer.view.id))
                })
            }
        }
    }
}

impl Create {
    /// The token alone goes to standard output: `TOKEN=$(deiactl token create --scope read)`.
    async fn run(&self, context: &Context) -> Result<(), Failure> {
        let request = TokenRequest {
            scopes: self.scopes.clone(),
            name: self.name.clone(),
            expires_in_seconds: self.expires,
        };
        let reply = context.announced().await?.create_token(&request).await?;
        context.note(&format!(
            "token {} may {}{}; it is shown this once",
            reply.view.id,
            scopes(&reply.view),
            match reply.view.expires_at {
                Some(at) => format!(" until {}", human::time(at)),
                None => " until it is revoked".to_owned(),
            }
        ));
        context
            .out
            .reply(&reply, |answer| context.out.line(&answer.token))
    }
}

fn show(out: &Out, tokens: &[TokenView]) -> Result<(), Failure> {
    let header = ["ID", "SCOPES", "NAME", "CREATED", "EXPIRES", "LAST USED"];
    let mut table = Table::new(out, &header);
    let time = |at: Option<Timestamp>| at.map_or(human::NOTHING.to_owned(), human::time);
    for token in tokens {
        table.row(vec![
            (&token.id).into(),
            scopes(token).into(),
            token.name.as_deref().unwrap_or(human::NOTHING).into(),
            human::time(token.created_at).into(),
            match token.expired {
                true => "expired".into(),
                false => time(token.expires_at).into(),
            },
            time(token.last_used_at).into(),
        ]);
    }
    out.text(&table.render())
}

fn scopes(token: &TokenView) -> String {
    let names: Vec<&str> = token.scopes.iter().map(|scope| scope.as_str()).collect();
    names.join(", ")
}

/// `30d` in seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let units = [
        ("s", 1),
        ("m", 60),
        ("h", 3600),
        ("d", 86_400),
        ("w", 604_800),
    ];
    let found = units.into_iter().find_map(|(unit, seconds)| {
        let count = text.strip_suffix(unit)?.parse::<u64>().ok()?;
        count.checked_mul(seconds)
    });
    match found {
        Some(seconds) if (1..=MAX_TOKEN_SECONDS).contains(&seconds) => Ok(seconds),
        Some(_) => Err("a token lasts from 1s to ten years, or until it is revoked".to_owned()),
        None => Err("write a number and s, m, h, d or w, as in 30d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(seconds("30d"), Ok(2_592_000));
        assert_eq!(seconds("1s"), Ok(1));
        assert_eq!(seconds("2w"), Ok(1_209_600));
        for bad in [
            "",
            "30",
            "d",
            "-1d",
            "1.5h",
            "0s",
            "9999w",
            "99999999999999999999d",
            "1y",
        ] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
