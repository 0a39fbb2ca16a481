//! From files that are due to tasks that may be submitted. Blocks, as the rest of the desk does.

use std::collections::{HashSet, VecDeque};

use deia::api::SubmitRequest;
use deia::config::Config;
use deia::time::Timestamp;
use serde_json::json;

use super::desk::Desk;
use super::due::Due;
use super::folder::{self, Reading};
use super::ledger::Origin;
use super::name::{self, Target, target};
use super::parse::{TaskFile, parse};
use crate::audit::{Actor, Entry};
use crate::brain::Millis;
use crate::daemon::intake::{Intake, NotATask, intake};
use crate::daemon::validation::Way;

/// Files that are submitted at once, and bytes in them.
const MAX_PORTION: usize = 64;
const MAX_PORTION_BYTES: u64 = 8 << 20;

/// A file that is about to be submitted.
#[derive(Debug)]
pub struct Loaded {
    /// The file.
    pub due: Due,
    /// The task.
    pub intake: Intake,
}

impl Desk {
    /// The next of the files that are due: read again, and noted as about to be submitted. The second value
    /// says whether some were left out for now.
    pub fn load(
        &mut self,
        due: &mut VecDeque<Due>,
        config: &Config,
        now: Millis,
    ) -> (Vec<Loaded>, bool) {
        let (mut loaded, mut meant): (Vec<Loaded>, _) = (Vec::new(), Vec::new());
        let (mut bytes, mut left_out) = (0, false);
        let (mut ids, mut refused) = (HashSet::new(), Vec::new());
        while loaded.len() < MAX_PORTION
            && due
                .front()
                .is_some_and(|due| bytes == 0 || bytes + due.stamp.size <= MAX_PORTION_BYTES)
            && let Some(next) = due.pop_front()
        {
            // Two files of the same content are one task: the second look finds it done.
            if !ids.insert(next.id.clone()) {
                left_out = true;
                continue;
            }
            match self.load_one(&next, config) {
                Ok(Some((intake, origin))) => {
                    bytes += next.stamp.size;
                    meant.push((next.id.clone(), origin));
                    loaded.push(Loaded { due: next, intake });
                }
                Ok(None) => left_out = true,
                Err(NotTaken { why, entry: None }) => self.reject(&next, &why),
                Err(NotTaken {
                    why,
                    entry: Some(entry),
                }) => {
                    let recorder = &self.validation.recorder;
                    let on_record = recorder.put_blocking(Actor::task_files(), *entry);
                    refused.push((next, why, on_record));
                }
            }
        }
        // Set aside once that is on record; else looked at again.
        for (due, why, on_record) in refused {
            match on_record.wait_blocking() {
                Ok(_) => self.reject(&due, &why),
                Err(_) => {
                    self.put_off([due], now);
                    left_out = true;
                }
            }
        }
        let ledger = self.ledger.as_mut();
        let written = match ledger {
            Some(ledger) if !meant.is_empty() => ledger.mean(meant),
            _ => Ok(()),
        };
        if let Err(e) = written {
            tracing::warn!(event = "hive_ledger_not_written", error = %e, "the list of taken task files could not be written: none is taken for now");
            let off: Vec<Due> = loaded.drain(..).map(|loaded| loaded.due).collect();
            self.put_off(off, now);
            left_out = true;
        }
        (loaded, left_out)
    }

    /// Reads a file once more; `None` when it is not as it was, or not to be taken any more.
    fn load_one(&self, due: &Due, config: &Config) -> Result<Option<(Intake, Origin)>, NotTaken> {
        let most = config.tasks.max_content_bytes;
        let controls = folder::open(&self.hive.join("controls"));
        if controls.is_ok_and(|dir| folder::is_there(&dir, &name::pause_of(&due.folder))) {
            return Ok(None);
        }
        let read = folder::open(&self.tasks())
            .and_then(|root| folder::open_in(&root, &due.folder))
            .and_then(|opened| folder::read(&opened, &due.name, due.stamp, most));
        let Ok(Reading::Bytes(bytes)) = read else {
            return Ok(None);
        };
        let (Ok(file), Some(target)) = (parse(&bytes), target(&due.folder, config)) else {
            return Ok(None);
        };
        if name::task_id(&due.folder, &bytes) != due.id {
            return Ok(None);
        }
        let stem = due.name.strip_suffix(".md").unwrap_or(&due.name);
        let origin = Origin {
            folder: due.folder.clone(),
            file: due.name.clone(),
            task_id: file.task_id.clone().unwrap_or_else(|| stem.to_owned()),
            from: file.from.clone(),
        };
        let request = request(due, &origin, file, target);
        match intake(request, config, Timestamp::now()) {
            Ok(intake) => Ok(Some((intake, origin))),
            Err(NotATask::Dangerous(refusal)) => Err(NotTaken {
                entry: Some(Box::new(self.validation.refused(
                    Way::File,
                    &due.place(),
                    &refusal,
                ))),
                why: refusal.to_string(),
            }),
            Err(NotATask::TooLarge(bytes, most)) => Err(NotTaken {
                entry: None,
                why: format!(
                    "the task has {bytes} bytes, tasks.max_content_bytes allows {most}: make it shorter, or raise the limit"
                ),
            }),
            Err(NotATask::Invalid(wrong)) => {
                let wrong: Vec<String> = wrong.into_iter().map(|error| error.msg).collect();
                Err(NotTaken {
                    entry: None,
                    why: wrong.join("; "),
                })
            }
        }
    }
}

/// Why a file is no task, and the record of it, where it gets one.
struct NotTaken {
    why: String,
    entry: Option<Box<Entry>>,
}

fn request(due: &Due, origin: &Origin, file: TaskFile, target: Target) -> SubmitRequest {
    let (pool, bot_id) = match target {
        Target::Pool(pool) => (Some(pool), None),
        Target::Bot(bot) => (None, Some(bot)),
    };
    let said = json!({
        "folder": origin.folder,
        "file": origin.file,
        "form": file.form.as_str(),
        "task_id": origin.task_id,
        "from": file.from,
        "to": file.to,
        "created_at": file.created_at,
    });
    let mut metadata = serde_json::Map::new();
    metadata.insert("task_file".into(), said);
    SubmitRequest {
        content: file.content,
        task_id: Some(due.id.to_string()),
        priority: Some(file.urgency.priority),
        pool,
        bot_id,
        metadata: Some(metadata),
        ..SubmitRequest::default()
    }
}
