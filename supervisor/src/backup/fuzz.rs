//! The readers of this folder, for [`crate::fuzz`].

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::manifest::{Manifest, Member, is_allowed};
use super::read::{self, Target, Visitor};

/// Bytes of a block of an archive, and where its header's sum stands in it.
const BLOCK: usize = 512;
const SUM: std::ops::Range<usize> = 148..156;

/// The first byte chooses: an archive as it is, what is in one before it is compressed (no change finds its way
/// through deflate and its checksum), the same with every header's sum put right, or a manifest.
pub fn archive(bytes: &[u8]) {
    let Some((which, rest)) = bytes.split_first() else {
        return;
    };
    match which % 4 {
        0 => walk(rest),
        1 => walk(&compressed(rest)),
        2 => drop(Manifest::parse(rest).inspect(same_again)),
        _ => {
            let mut bytes = rest.to_vec();
            bytes.chunks_exact_mut(BLOCK).for_each(put_right);
            walk(&compressed(&bytes));
        }
    }
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    let written = encoder.write_all(bytes);
    written.and_then(|()| encoder.finish()).unwrap_or_default()
}

/// The sum of a block, if it is a header.
fn put_right(block: &mut [u8]) {
    if block.get(257..262) == Some(b"ustar")
        && let Some(place) = block.get_mut(SUM)
    {
        place.fill(b' ');
        let sum: u32 = block.iter().copied().map(u32::from).sum();
        let digits = format!("{sum:06o}\0 ");
        if let Some(place) = block.get_mut(SUM) {
            place.copy_from_slice(digits.as_bytes());
        }
    }
}

/// Nothing is given out but what the manifest says, in its order, and no more of it.
fn walk(archive: &[u8]) {
    let mut seen = Seen::default();
    let walked = read::walk(archive, &mut seen);
    assert!(
        seen.read <= seen.announced,
        "more was given out than its manifest says"
    );
    if let Ok(manifest) = walked {
        let paths: Vec<_> = manifest.members.iter().map(|one| &one.path).collect();
        assert!(
            paths.iter().copied().eq(&seen.paths),
            "other members than it names"
        );
        assert_eq!(seen.read, manifest.content_bytes(), "less than it says");
        same_again(&manifest);
    }
}

fn same_again(manifest: &Manifest) {
    let text = serde_json::to_vec(manifest).unwrap_or_default();
    let same = Manifest::parse(&text).is_ok_and(|second| second == *manifest);
    assert!(
        same,
        "a manifest is another one when it is read again: {manifest:?}"
    );
}

#[derive(Default)]
struct Seen {
    paths: Vec<String>,
    announced: u64,
    read: u64,
}

impl Visitor for Seen {
    fn begin(&mut self, manifest: &Manifest) -> Result<(), String> {
        self.announced = manifest.content_bytes();
        Ok(())
    }

    fn member(&mut self, member: &Member) -> io::Result<Box<dyn Target>> {
        assert!(
            is_allowed(&member.path),
            "not part of a backup: {}",
            member.path
        );
        self.paths.push(member.path.clone());
        Ok(Box::new(io::sink()))
    }

    fn progress(&mut self, bytes: u64) {
        self.read += bytes;
    }
}
