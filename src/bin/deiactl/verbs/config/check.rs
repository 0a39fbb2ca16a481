//! `config validate` and `config diff`: a file on its own, and against what is in force.

use std::path::{Path, PathBuf};

use deia::config::{self, LoadError, Loaded, Problem};
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;

/// Where a home keeps its configuration, in the order the daemon looks.
const FILES_IN_HOME: [&str; 4] = [
    "bot-config.yaml",
    ".deia/config/bot-config.yaml",
    ".deia/config/bot-config.yml",
    ".deia/config/bot-config.json",
];

/// Where the system's daemon has it.
const SYSTEM_FILE: &str = "/etc/deia/bot-config.yaml";

/// Fails if any value of the file would not be used.
pub async fn validate(context: &Context, file: Option<&Path>) -> Result<(), Failure> {
    let file = match file {
        Some(file) => file.to_owned(),
        None => own_file(context).await?,
    };
    let out = &context.out;
    let (problems, warnings) = match config::validate(&file) {
        Ok(loaded) => (loaded.problems, loaded.warnings),
        Err(LoadError::Refused(refusal)) => (refusal.problems, Vec::new()),
        Err(LoadError::Missing) => return Err(missing(&file)),
    };
    if out.json {
        out.json(&json!({
            "file": file,
            "valid": problems.is_empty(),
            "problems": problems.iter().map(document).collect::<Vec<_>>(),
            "warnings": warnings.iter().map(document).collect::<Vec<_>>(),
        }))?;
    } else {
        for problem in &problems {
            out.line(&format!("error: {problem}"))?;
        }
        for warning in &warnings {
            out.line(&format!("warning: {warning}"))?;
        }
    }
    let name = file.display();
    match problems.len() {
        0 if out.json => Ok(()),
        0 => out.line(&format!("{name} is valid")),
        count => Err(Failure::Failed(format!(
            "{name}: {count} {}",
            if count == 1 { "problem" } else { "problems" }
        ))),
    }
}

/// Prints `key: old -> new` for what a reload would change, and when it takes effect.
pub async fn diff(context: &Context, file: Option<&Path>) -> Result<(), Failure> {
    let client = context.client()?;
    let file = match file {
        Some(file) => file.to_owned(),
        None => match client.status().await?.value.config.file {
            Some(file) => PathBuf::from(file),
            None => {
                return Err(Failure::Usage(
                    "the daemon runs on built-in defaults: name the file to compare them with"
                        .into(),
                ));
            }
        },
    };
    let running = client.config_current().await?;
    // What the daemon shows has the shape of the file, and JSON is YAML.
    let running = config::parse(&running.value.to_string(), Path::new("(in force)"), None)
        .map_err(|refusal| {
            Failure::Failed(format!(
                "the daemon's configuration can't be read by deiactl {}: {}",
                deia::VERSION,
                refusal.one_line()
            ))
        })?
        .config;
    let Loaded {
        config: wanted,
        problems,
        warnings,
        ..
    } = config::load(&file, Some(&running)).map_err(|error| match error {
        LoadError::Missing => missing(&file),
        LoadError::Refused(refusal) => Failure::Failed(format!(
            "a reload would refuse the file: {}",
            refusal.one_line()
        )),
    })?;
    for problem in problems.iter().chain(&warnings) {
        context.note(&format!("warning: {}", problem.one_line()));
    }
    let changes = config::diff(&running, &wanted);
    let out = &context.out;
    if out.json {
        let changes: Vec<_> = changes
            .iter()
            .map(|change| {
                json!({"key": change.key, "old": change.old, "new": change.new,
                       "takes_effect": change.takes_effect.as_str()})
            })
            .collect();
        return out.json(&json!({"file": file, "changes": changes}));
    }
    if changes.is_empty() {
        return out.line(&format!("{} is what is in force", file.display()));
    }
    for change in &changes {
        let line = format!("{change} ({})\n", change.takes_effect.as_str());
        out.foreign(&line)?;
    }
    Ok(())
}

/// The daemon's file; without a daemon, the one it would read in the home at hand.
async fn own_file(context: &Context) -> Result<PathBuf, Failure> {
    if let Ok(client) = context.client()
        && let Ok(status) = client.status().await
        && let Some(file) = status.value.config.file
    {
        return Ok(file.into());
    }
    let home = context.home();
    let candidates = FILES_IN_HOME.iter().map(|name| home.join(name));
    candidates
        .chain([PathBuf::from(SYSTEM_FILE)])
        .find(|path| path.exists())
        .ok_or_else(|| {
            Failure::Failed(format!(
                "no configuration: neither {} nor {SYSTEM_FILE} is there; name one, or write samples \
                 with `deiactl config init`",
                home.join(FILES_IN_HOME[0]).display()
            ))
        })
}

fn missing(file: &Path) -> Failure {
    Failure::Failed(format!("{}: there is no such file", file.display()))
}

fn document(problem: &Problem) -> serde_json::Value {
    json!({
        "line": problem.line, "column": problem.column, "key": problem.key,
        "value": problem.value, "rule": problem.rule, "used": problem.used,
    })
}
