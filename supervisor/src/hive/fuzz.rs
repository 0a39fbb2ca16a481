//! The readers of this folder, for [`crate::fuzz`].

use std::path::Path;

use deia::time::Timestamp;

use super::ledger::Ledger;
use super::name;
use super::parse::parse;

/// Longest name a file may have.
const MAX_NAME_BYTES: usize = 255;

/// What a file says becomes names of others: they must be such, and stay in their folder.
pub fn task_file(bytes: &[u8]) {
    let Ok(file) = parse(bytes) else { return };
    let own_id = file.task_id.as_deref().unwrap_or("task");
    let answer = name::response(Timestamp::from_micros(0), "coder", &file.from, own_id, true);
    for name in [answer, name::safe_part(&file.from), name::safe_part(own_id)] {
        let plain = !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.starts_with('.');
        assert!(
            plain && !name.contains(['/', '\0']),
            "no name of a file: {name:?}"
        );
    }
}

/// A damaged list loses lines, and nothing else.
pub fn ledger(bytes: &[u8]) {
    let Ok(file) = tempfile::tempfile() else {
        return;
    };
    let (ledger, damaged) = Ledger::read(Path::new("ledger.jsonl"), file, bytes);
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    let owed = ledger.all_owed();
    assert!(
        owed.len() + damaged <= lines.max(1),
        "more than there are lines"
    );
    for id in owed {
        assert!(ledger.owed(&id).is_some(), "owed and not owed: {id}");
    }
}
