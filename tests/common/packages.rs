//! Debian's packages, as `.ci/run` builds them.

use std::path::PathBuf;

use super::Machine;

/// The packages, the older one first; or why there are none.
pub fn packages() -> Result<[PathBuf; 2], String> {
    let Some(directory) = std::env::var_os("DEIA_TEST_PACKAGES") else {
        return Err(
            "DEIA_TEST_PACKAGES names no directory with packages (.ci/run builds them)".into(),
        );
    };
    let directory = PathBuf::from(directory);
    let named = |name: &str| {
        let path = directory.join(name);
        let found = path.is_file().then_some(path.clone());
        found.ok_or(format!("{} is not there", path.display()))
    };
    Ok([named("deia.deb")?, named("deia-next.deb")?])
}

/// Installs one that is in the machine's `/root`.
#[track_caller]
pub fn install(machine: &Machine, package: &str) {
    // As it is done by hand, and without a terminal to ask on.
    machine.sh_ok(&format!(
        "DEBIAN_FRONTEND=noninteractive apt-get install -y -q /root/{package}"
    ));
}
