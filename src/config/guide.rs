//! The tables of docs/CONFIGURATION-GUIDE.md, made from the tables of keys.

use serde_json::Value;

use super::key::Key;
use super::keys::{ALIASES, KEYS};
use super::pool_keys::{COMMAND, ECHO, MODEL_SERVER, POOL};
use super::pools::default_command;
use super::render::flow;
use super::{BackendSpec, Config, EchoSpec, ModelServer, Pool};

/// Markdown: one table for the keys of each section.
pub fn guide_tables() -> String {
    let defaults = Config::default();
    let mut out = String::new();
    let mut section = None;
    for key in KEYS {
        let of = key.path.split_once('.').map_or("", |(section, _)| section);
        if section != Some(of) {
            section = Some(of);
            let title = match of {
                "" => "At the top".to_owned(),
                of => format!("`{of}`"),
            };
            out += &heading(&title);
        }
        row(&mut out, key, &(key.get)(&defaults), "");
        for (alias, _) in ALIASES.iter().filter(|(_, path)| *path == key.path) {
            out += &format!("| `{alias}` | | | | Another name for `{}`. |\n", key.path);
        }
    }
    out += "\n### `custom`\n\nAny keys of your own: shown by the API, never interpreted.\n";

    let pool = Pool::new("", BackendSpec::Echo(EchoSpec::default()));
    out += &heading("A pool: an item of `bots`");
    out += "| `name` | 1-50 letters, digits, `-` or `_` | (required) | at once | Its bots are `name`, `name-2`, `name-3`, ... |\n";
    out += "| `backend` | a section with a `kind` | (required) | at once | What does the work: `ollama`, `openai`, `command` or `echo`, with the keys below. |\n";
    out += "| `fallback` | a list of at most 8 backends | [] | at once | What to try, in order, when the backend is down. |\n";
    for key in POOL {
        row(&mut out, key, &(key.get)(&pool), "");
    }

    out += &heading("`backends.ollama`, and `backend: {kind: ollama}`");
    let server = ModelServer::ollama();
    for key in MODEL_SERVER {
        row(&mut out, key, &(key.get)(&server), "");
    }
    out += "\n`backends.openai`, and `backend: {kind: openai}`: the same keys, with these defaults instead:\n";
    let openai = ModelServer::openai();
    for key in MODEL_SERVER {
        let value = (key.get)(&openai);
        if value != (key.get)(&server) {
            out += &format!("`{}: {}`\n", key.path, flow(&value));
        }
    }
    out += &heading("`backend: {kind: command}`");
    let command = default_command();
    for key in COMMAND {
        row(&mut out, key, &(key.get)(&command), "");
    }
    out += &heading("`backend: {kind: echo}`");
    for key in ECHO {
        row(&mut out, key, &(key.get)(&EchoSpec::default()), "");
    }
    out
}

fn heading(title: &str) -> String {
    format!(
        "\n### {title}\n\n| key | value | default | a change is used | |\n|---|---|---|---|---|\n"
    )
}

fn row<T>(out: &mut String, key: &Key<T>, default: &Value, prefix: &str) {
    let remark = key
        .status
        .remark()
        .map_or_else(String::new, |remark| format!(" **{}.**", capital(&remark)));
    *out += &format!(
        "| `{prefix}{}` | {} | `{}` | {} | {}{remark} |\n",
        key.path,
        key.rule,
        flow(default),
        key.takes_effect.as_str(),
        key.doc,
    );
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}
