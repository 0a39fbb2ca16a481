//! Whether a log that has to be recovered is damaged, or only ends in the middle of a commit.
//!
//! SQLite reads a log up to the first frame that is not sound and takes the rest for a commit that never
//! came to its end. After a power cut that is so. After a byte has changed by itself it is not: commits
//! that were acknowledged stand behind it, and would be gone without a word.
//!
//! Each commit is synced before the next one is written, so a power cut can spoil the last one only. Two
//! whole commits behind a frame that is not sound are the proof that it was on disk and has changed.
//! (Format: SQLite's "WAL-mode File Format", section 4.)

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::Path;

use super::error::OpenError;
use super::files;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// The last bit says in which order the checksum reads its words.
const MAGIC: u32 = 0x377f_0682;
const PAGE_BYTES_MAX: u32 = 65_536;

/// Refuses a log that is damaged before its end; `path` is the store's.
pub(super) fn check(path: &Path) -> Result<(), OpenError> {
    let log = files::wal_of(path);
    let file = File::open(&log).map_err(OpenError::io(&log, "open"))?;
    let damage = look(BufReader::with_capacity(1 << 16, file));
    match damage.map_err(OpenError::io(&log, "read"))? {
        None => Ok(()),
        Some(what) => Err(OpenError::Damaged {
            path: path.to_owned(),
            detail: format!("its log (-wal) has changed by itself: {what}"),
        }),
    }
}

/// What is wrong, if something is.
fn look(mut log: impl io::Read) -> io::Result<Option<String>> {
    let mut header = Vec::new();
    log.by_ref()
        .take(HEADER_BYTES as u64)
        .read_to_end(&mut header)?;
    if header.len() < HEADER_BYTES || header.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let magic = word(&header, 0);
    let order = if magic & 1 == 0 {
        u32::from_le_bytes
    } else {
        u32::from_be_bytes
    };
    let mut sum = (0, 0);
    add(&mut sum, order, header.get(..24).unwrap_or_default());
    let page_bytes = word(&header, 8);
    if magic & !1 != MAGIC
        || page_bytes > PAGE_BYTES_MAX
        || sum != (word(&header, 24), word(&header, 28))
    {
        // One write within one sector: no power cut does that.
        return Ok(Some("its header is damaged".into()));
    }
    let salts = (word(&header, 16), word(&header, 20));
    let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes as usize];
    let room = frame.clone();
    let (mut spoiled, mut whole_commits_behind) = (None, 0);
    for number in 1_u64.. {
        match log.read_exact(&mut frame) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => break,
            read => read?,
        }
        if frame == room {
            // Written before there was a log here, or lost: no frame, and most of a log that is not full.
            spoiled = spoiled.or(Some(number));
            sum = (0, 0);
            continue;
        }
        // Each frame's sum goes on from the one before it, as that says it: so what stands behind a frame
        // that has changed can be told from what never was a log.
        add(&mut sum, order, frame.get(..8).unwrap_or_default());
        let page = frame.get(FRAME_HEADER_BYTES..).unwrap_or_default();
        add(&mut sum, order, page);
        let said = (word(&frame, 16), word(&frame, 20));
        let sound = sum == said && salts == (word(&frame, 8), word(&frame, 12));
        sum = said;
        let commits = word(&frame, 4) != 0;
        match spoiled {
            None if !sound => spoiled = Some(number),
            Some(first) if sound && commits => {
                whole_commits_behind += 1;
                if whole_commits_behind == 2 {
                    return Ok(Some(format!(
                        "frame {first} is damaged, and commits stand behind it"
                    )));
                }
            }
            _ => {}
        }
    }
    Ok(None)
}

/// The number at this place; all are written with the high byte first.
fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map_or(0, u32::from_be_bytes)
}

fn add(sum: &mut (u32, u32), order: fn([u8; 4]) -> u32, bytes: &[u8]) {
    let (pairs, _) = bytes.as_chunks::<8>();
    for [a, b, c, d, e, f, g, h] in pairs {
        sum.0 = sum
            .0
            .wrapping_add(order([*a, *b, *c, *d]))
            .wrapping_add(sum.1);
        sum.1 = sum
            .1
            .wrapping_add(order([*e, *f, *g, *h]))
            .wrapping_add(sum.0);
    }
}
