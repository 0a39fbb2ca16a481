//! The mounted disk does what a file system does, and forgets what `disk.rs` says.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};

use fastrand::Rng;

use super::common::{PATIENCE, skipped};
use super::mount::PowerDisk;

#[test]
fn a_mounted_disk_is_a_file_system() {
    let disk = match PowerDisk::new() {
        Ok(disk) => disk,
        Err(why) => return skipped("a_mounted_disk_is_a_file_system", &why),
    };
    let at = |name: &str| disk.path().join(name);
    fs::create_dir(at("d")).unwrap();
    fs::write(at("d/a"), "one").unwrap();
    let mut file = File::options().append(true).open(at("d/a")).unwrap();
    file.write_all(b" two").unwrap();
    fs::hard_link(at("d/a"), at("d/b")).unwrap();
    fs::rename(at("d/a"), at("c")).unwrap();
    assert_eq!(fs::read(at("c")).unwrap(), b"one two");
    assert_eq!(fs::read(at("d/b")).unwrap(), b"one two");
    assert!(fs::remove_dir(at("d")).is_err(), "it is not empty");
    file.set_len(3).unwrap();
    assert_eq!(fs::read(at("c")).unwrap(), b"one");
    let closed = fs::Permissions::from_mode(0o600);
    fs::set_permissions(at("c"), closed).unwrap();
    assert_eq!(
        fs::metadata(at("c")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    std::os::unix::fs::symlink("c", at("l")).unwrap();
    assert_eq!(fs::read(at("l")).unwrap(), b"one");
    let listener = UnixListener::bind(at("s")).unwrap();
    UnixStream::connect(at("s")).unwrap();
    listener.accept().unwrap();
    let mut names: Vec<_> = fs::read_dir(disk.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["c", "d", "l", "s"]);
    fs::remove_dir_all(at("d")).unwrap();
    assert!(!at("d").exists());
    assert!(disk.changes() > 10);
}

#[test]
fn a_mounted_disk_forgets_what_was_not_synced() {
    let mut forgotten = [0; 3];
    for seed in 0..20 {
        let mut disk = match PowerDisk::new() {
            Ok(disk) => disk,
            Err(why) => return skipped("a_mounted_disk_forgets_what_was_not_synced", &why),
        };
        let place = disk.path().to_owned();
        let at = |name: &str| place.join(name);

        let mut kept = File::create(at("kept")).unwrap();
        kept.write_all(b"synced").unwrap();
        kept.sync_data().unwrap();
        File::open(&place).unwrap().sync_all().unwrap();
        kept.write_all(b", and this not").unwrap();
        File::create(at("nameless")).unwrap().sync_all().unwrap();
        fs::write(at("next"), "next").unwrap();
        File::open(at("next")).unwrap().sync_all().unwrap();
        fs::write(at("old"), "old").unwrap();
        File::open(at("old")).unwrap().sync_all().unwrap();
        // As kept as the two names before it are.
        fs::rename(at("next"), at("old")).unwrap();
        // Whoever writes now waits until there is no power any more.
        disk.hold_after(1);
        let image = std::thread::scope(|scope| {
            let late = scope.spawn(|| fs::write(at("late"), "late"));
            assert!(disk.wait_held(PATIENCE));
            let image = disk.cut(&mut Rng::with_seed(seed));
            assert!(late.join().unwrap().is_err());
            image
        });
        assert!(fs::read(at("kept")).is_err(), "there is no power");
        disk.on(image).unwrap();
        let read = |name: &str| fs::read_to_string(at(name)).ok();
        let text = read("kept").unwrap();
        assert!(text == "synced" || text == "synced, and this not", "{text}");
        assert!(!at("late").exists());
        let old = read("old");
        assert!(
            [None, Some("old"), Some("next")].contains(&old.as_deref()),
            "{old:?}"
        );
        forgotten[0] += u32::from(text == "synced");
        forgotten[1] += u32::from(read("nameless").is_none());
        forgotten[2] += u32::from(old.as_deref() != Some("next"));
        // And goes on as a file system.
        fs::write(at("after"), "after").unwrap();
        assert_eq!(read("after").as_deref(), Some("after"));
    }
    assert!(
        forgotten.iter().all(|n| (1..20).contains(n)),
        "{forgotten:?}"
    );
}
