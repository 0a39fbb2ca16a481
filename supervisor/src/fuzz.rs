//! Every reader of foreign bytes, as a function of bytes.
//!
//! For the fuzzers in `fuzz/`, which look for new inputs, and for the tests below, which try what was found and
//! many variations of it with every run. A reader may refuse what it is given in whatever way it has; it must
//! not panic, and what it accepts must mean the same when it is written and read once more.

use std::fmt::Debug;
use std::path::Path;

use axum::http::Uri;
use deia::api::{
    BotMessageRequest, BroadcastRequest, ConversationQuery, EvaluateRequest, HistoryQuery,
    InboxQuery, LimitsRequest, RecordRequest, ScaleQuery, SendRequest, SubmitRequest, TaskQuery,
    UpgradeRequest, ValidationError,
};
use deia::config::Config;
use deia::time::Timestamp;
use deia::wire::{self, Bootstrap, ToSupervisor, ToWorker};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backup;
use crate::brain::content;
use crate::brain::demand::Demand;
use crate::daemon::intake::intake;
use crate::hive;
use crate::http::error::ApiFailure;
use crate::http::extract::{parse_body, parse_query};
use crate::http::fields::Fields;

/// A reader.
pub type Target = fn(&[u8]);

/// Every one, by the name of its corpus in `fuzz/corpus/`.
pub const TARGETS: [(&str, Target); 6] = [
    ("wire", wire_frame),
    ("config", configuration),
    ("request", request),
    ("task_file", task_file),
    ("ledger", ledger),
    ("archive", archive),
];

/// A frame of either side, chosen by the first byte.
pub fn wire_frame(bytes: &[u8]) {
    let Some((which, frame)) = bytes.split_first() else {
        return;
    };
    match which % 3 {
        0 => again::<ToSupervisor>(frame),
        1 => again::<ToWorker>(frame),
        _ => again::<Bootstrap>(frame),
    }
}

/// What decodes, encodes to what decodes to the same. Compared as text: numbers that are none are equal there.
fn again<T: DeserializeOwned + Serialize + Debug>(frame: &[u8]) {
    let Ok(first) = wire::decode::<T>(frame) else {
        return;
    };
    let mut bytes = Vec::new();
    // What is longer written canonically than a frame may be is refused.
    if wire::encode(&first, &mut bytes).is_ok() {
        let second = wire::decode::<T>(bytes.get(4..).unwrap_or_default());
        let same = second.is_ok_and(|second| format!("{second:?}") == format!("{first:?}"));
        assert!(
            same,
            "a frame means something else when it is read again: {first:?}"
        );
    }
}

/// A configuration file.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let read = |text: &str| deia::config::parse(text, Path::new("bot-config.yaml"), None);
    match read(text) {
        Ok(loaded) => {
            for problem in loaded.problems.iter().chain(&loaded.warnings) {
                assert!(!problem.to_string().is_empty(), "a problem without words");
            }
            let shown = deia::config::to_json(&loaded.config).to_string();
            let same = read(&shown).is_ok_and(|second| second.config == loaded.config);
            assert!(
                same,
                "a configuration is another one when it is read again: {shown}"
            );
        }
        Err(refusal) => assert!(!refusal.to_string().is_empty(), "refused without a word"),
    }
}

/// A request's body or query, of the type that the first byte chooses; a task goes on to what takes tasks.
pub fn request(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else {
        return;
    };
    match which % 13 {
        0 => {
            if let Some(request) = body::<SubmitRequest>(rest)
                && let Ok(taken) = intake(request, &Config::default(), Timestamp::from_micros(0))
            {
                let demand = Demand::from_text(&taken.task.demand);
                assert_eq!(
                    demand.as_ref(),
                    Some(&taken.demand),
                    "a demand is read as another"
                );
                let _ = content::find(&taken.task.content).to_string();
            }
        }
        1 => drop(body::<LimitsRequest>(rest)),
        2 => drop(body::<UpgradeRequest>(rest)),
        3 => drop(body::<EvaluateRequest>(rest)),
        4 => drop(body::<RecordRequest>(rest)),
        5 => drop(body::<SendRequest>(rest)),
        6 => drop(body::<BroadcastRequest>(rest)),
        7 => drop(body::<BotMessageRequest>(rest)),
        8 => query::<ScaleQuery>(rest),
        9 => query::<HistoryQuery>(rest),
        10 => query::<InboxQuery>(rest),
        11 => query::<ConversationQuery>(rest),
        _ => query::<TaskQuery>(rest),
    }
}

fn body<T: DeserializeOwned + Fields>(bytes: &[u8]) -> Option<T> {
    match parse_body::<T>(bytes) {
        Ok(request) => Some(request),
        Err(errors) => {
            refused(errors);
            None
        }
    }
}

fn query<T: DeserializeOwned + Fields>(bytes: &[u8]) {
    let mut path = b"/x?".to_vec();
    path.extend_from_slice(bytes);
    if let Ok(uri) = Uri::try_from(path)
        && let Err(errors) = parse_query::<T>(&uri)
    {
        refused(errors);
    }
}

/// A refusal says something, and can be sent.
fn refused(errors: Vec<ValidationError>) {
    assert!(!errors.is_empty(), "refused without a word");
    let answer = ApiFailure::invalid(errors).to_json();
    let sent = serde_json::from_slice::<serde_json::Value>(&answer);
    assert!(sent.is_ok(), "an answer that is no JSON");
}

/// A task file.
pub fn task_file(bytes: &[u8]) {
    hive::fuzz::task_file(bytes);
}

/// The list of taken task files.
pub fn ledger(bytes: &[u8]) {
    hive::fuzz::ledger(bytes);
}

/// A backup archive, what is in one before it is compressed, or its manifest: the first byte chooses.
pub fn archive(bytes: &[u8]) {
    backup::fuzz::archive(bytes);
}

#[cfg(test)]
mod tests;
