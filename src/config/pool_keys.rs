//! The keys of a pool (an item of `bots`) and of backends.

use std::path::PathBuf;

use super::key::{Key, Status, TakesEffect, key};
use super::keys::{MAX_BOTS, SECONDS, whole};
use super::rule::{Ends, MAX_SECONDS, Rule};
use super::{CommandSpec, EchoSpec, ModelServer, Pool, Workdir};

/// The keys of a pool but `name`, `backend` and `fallback`, which have a shape of their own.
pub static POOL: &[Key<Pool>] = &[
    key!(Pool; "type" => bot_type, Rule::Word { words: &["general", "developer", "analyzer", "writer", "planner", "validator"], refused: &[] }, "What its bots are good at."),
    key!(Pool; specializations, Rule::Texts, "Capabilities its bots offer, as tasks require them."),
    key!(Pool; min, whole(0, MAX_BOTS), "Bots of it that run at least; counts within `bot_limits`. 0: the first task that only this pool can take starts one."),
    key!(Pool; max, Rule::Optional(&whole(0, MAX_BOTS)), "Bots of it that run at most; null: as many as `bot_limits.max_bots` leaves."),
    key!(Pool; max_concurrent_tasks, Rule::Optional(&whole(1, 1000)), "Tasks at once in one bot; null: `bot_limits.max_concurrent_tasks_per_bot`."),
    Key {
        path: "workdir",
        rule: Rule::Path,
        takes_effect: TakesEffect::Now,
        status: Status::Active,
        doc: "Where a command runs: `fresh`, a new directory per task, or a path.",
        get: |pool| match &pool.workdir {
            Workdir::Fresh => "fresh".into(),
            Workdir::Path(path) => serde_json::to_value(path).unwrap_or_default(),
        },
        set: |pool, value| {
            pool.workdir = if value == "fresh" {
                Workdir::Fresh
            } else {
                Workdir::Path(serde_json::from_value::<PathBuf>(value)?)
            };
            Ok(())
        },
    },
    key!(Pool; paths.read, Rule::Paths, "Paths its bots may read and execute, besides the sandbox's own; relative to HOME."),
    key!(Pool; paths.write, Rule::Paths, "Paths its bots may read, execute and write, besides the sandbox's own; relative to HOME."),
    key!(Pool; env_files, Rule::VariableFiles, "Environment variables of a command, each with the file (0600) that holds its value."),
    key!(Pool; limits.memory_mb, whole(16, 1_000_000_000), "MiB of memory of a bot and all it starts; one that takes more is ended."),
    key!(Pool; limits.processes, whole(1, 1_000_000), "Processes of a bot and all it starts; where a cgroup counts them, threads too."),
    key!(Pool; limits.open_files, whole(32, 1_000_000), "Files and sockets each of its processes may have open."),
    key!(Pool; limits.output_mb, whole(1, 1024), "MiB of output kept of one task; more is cut, and said."),
    key!(Pool; limits.landlock, Rule::Word { words: &["best_effort", "required", "off"], refused: &[] }, "How Landlock confines its bots: as far as the kernel goes; the same, and no start without; or not at all."),
    key!(Pool; limits.disk_mb, whole(16, 1_000_000_000), "MiB that a task's working directory, its bot's own directory and a single file may have; a bot that writes more is ended."),
    key!(Pool; limits.listen_ports, Rule::Ports, "TCP ports that commands may listen on, besides those the kernel picks."),
    key!(Pool; request_validation, Rule::Word { words: &["block", "audit", "off"], refused: &[] }, "Tasks and messages with dangerous content: refuse them, note them, or do not look."),
    key!(Pool; budget.tokens_per_day, Rule::Optional(&whole(1, u64::MAX)), "Tokens one bot may use in a UTC day; null: no limit.").not_yet("comes with token budgets"),
    key!(Pool; budget.seconds_per_task, Rule::Optional(&whole(1, MAX_SECONDS)), "Seconds one attempt may take; null: the task's own time-out only."),
];

/// The keys of a `kind: ollama` or `kind: openai` backend.
pub static MODEL_SERVER: &[Key<ModelServer>] = &[
    key!(ModelServer; url, Rule::Url, "Address of the server; for `openai` with its `/v1`."),
    key!(ModelServer; model, Rule::Text, "The model's name there."),
    key!(ModelServer; max_tokens, whole(1, 10_000_000), "Tokens one answer may have."),
    key!(ModelServer; temperature, Rule::Number { min: 0.0, max: 2.0, ends: Ends::Included }, "Sampling temperature."),
    key!(ModelServer; num_ctx, whole(1, 100_000_000), "Context window, in tokens (`ollama` only); fixed per bot, as a change loads the model anew."),
    key!(ModelServer; keep_alive, Rule::Written, "How long the model stays loaded (`ollama` only): `5m`, `-1` for ever, `0` not at all."),
    key!(ModelServer; connect_timeout_seconds, SECONDS, "Seconds to connect."),
    key!(ModelServer; first_token_timeout_seconds, SECONDS, "Seconds until the first token."),
    key!(ModelServer; idle_timeout_seconds, SECONDS, "Seconds between two tokens."),
    key!(ModelServer; max_in_flight, whole(1, 100_000), "Requests at once to this server, over all bots that use it."),
    key!(ModelServer; api_key_file, Rule::Optional(&Rule::Path), "A file (0600) whose text is sent as bearer token."),
];

/// The keys of a `kind: command` backend.
pub static COMMAND: &[Key<CommandSpec>] = &[
    key!(CommandSpec; argv, Rule::Argv, "Program and arguments; never given to a shell. Required."),
    key!(CommandSpec; input, Rule::Word { words: &["stdin", "argv"], refused: &[] }, "How the task's text reaches it: on standard input, or as the last argument."),
    key!(CommandSpec; env, Rule::Variables, "Names of the daemon's environment variables it may see; HOME and TMPDIR are the bot's own, whether named or not."),
];

/// The keys of a `kind: echo` backend.
pub static ECHO: &[Key<EchoSpec>] = &[key!(EchoSpec;
    delay_ms,
    whole(0, 86_400_000),
    "Milliseconds an answer takes."
)];
