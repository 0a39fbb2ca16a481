//! How far bots can be confined on this host: asked once, at the start.

use deia::api::{Confinement, Missing};
use deia_worker::confine::layer::{self, Kernel};

use super::cgroup::Cgroups;

/// What the kernel and the cgroups come to; `cgroups` as [`Cgroups::detect`] found them.
pub fn look(cgroups: &Result<Cgroups, String>) -> Confinement {
    let found = match cgroups {
        Ok(cgroups) => {
            let (root, has) = (cgroups.root().display().to_string(), cgroups.controllers());
            Ok((root, has.memory, has.pids))
        }
        Err(why) => Err(why.as_str()),
    };
    rendered(Kernel::ask(), found)
}

/// The pure part: a cgroup is its path and whether it has the controllers `memory` and `pids`.
fn rendered(kernel: Kernel, cgroup: Result<(String, bool, bool), &str>) -> Confinement {
    let mut missing = Vec::new();
    let mut add = |what: &str, effect: &str, remedy: &str| {
        missing.push(Missing {
            what: what.to_owned(),
            effect: effect.to_owned(),
            remedy: remedy.to_owned(),
        });
    };
    let (landlock, keeps) = match kernel {
        Kernel::Version(version) => {
            let (keeps, passes) = layer::words(version);
            if version < layer::WHOLE {
                add(
                    &format!("Landlock {}", layer::WHOLE),
                    &format!("commands are not kept from: {}", passes.join(", ")),
                    "use Linux 6.12 or newer (Debian 13); until then, run nothing else as the daemon's user",
                );
            }
            (Some(version), keeps)
        }
        Kernel::Without(why) => {
            add(
                "Landlock",
                "commands may read and write what the daemon's user may",
                why,
            );
            (None, Vec::new())
        }
    };
    let (path, controllers) = match cgroup {
        Ok((path, memory, pids)) => {
            let controllers = [("memory", memory), ("pids", pids)];
            for (name, _) in controllers.iter().filter(|(_, has)| !has) {
                add(
                    &format!("cgroup controller {name}"),
                    "the limit is held by looking twice a second",
                    "boot with cgroup v2 alone (systemd.unified_cgroup_hierarchy=1)",
                );
            }
            let has = controllers.into_iter().filter(|(_, has)| *has);
            (Some(path), has.map(|(name, _)| name.to_owned()).collect())
        }
        Err(why) => {
            add(
                "a cgroup to divide",
                "memory and processes are held to their limits by looking twice a second",
                why,
            );
            (None, Vec::new())
        }
    };
    let summary = summary(landlock, path.is_some(), &controllers);
    Confinement {
        summary,
        landlock,
        landlock_keeps: keeps.into_iter().map(str::to_owned).collect(),
        cgroup: path,
        cgroup_controllers: controllers,
        missing,
    }
}

fn summary(landlock: Option<u32>, cgroup: bool, controllers: &[String]) -> String {
    let landlock = match landlock {
        Some(version) if version >= layer::WHOLE => format!("Landlock {version}"),
        Some(version) => format!("Landlock {version} (in part)"),
        None => "no Landlock".to_owned(),
    };
    format!("{landlock}, {}", in_words(cgroup, controllers))
}

/// What a bot's cgroup does, for people.
pub fn in_words(cgroup: bool, controllers: &[String]) -> String {
    match (cgroup, controllers) {
        (false, _) => "no cgroup (limits by looking)".to_owned(),
        (true, []) => "cgroup without controllers (limits by looking)".to_owned(),
        (true, some) => format!("cgroup {}", some.join("+")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_has_everything_lacks_nothing() {
        let all = rendered(Kernel::Version(7), Ok(("/c".into(), true, true)));
        assert_eq!(all.missing, []);
        assert_eq!(all.summary, "Landlock 7, cgroup memory+pids");
        assert_eq!(all.cgroup_controllers, ["memory", "pids"]);
    }

    #[test]
    fn what_is_missing_comes_with_its_effect_and_a_remedy() {
        let old = rendered(Kernel::Version(2), Err("it is not delegated: ..."));
        assert_eq!(
            old.summary,
            "Landlock 2 (in part), no cgroup (limits by looking)"
        );
        let [landlock, cgroup] = old.missing.as_slice() else {
            panic!("{old:?}");
        };
        assert!(landlock.effect.contains("signals"), "{landlock:?}");
        assert!(landlock.remedy.contains("6.12"), "{landlock:?}");
        assert_eq!(cgroup.remedy, "it is not delegated: ...");

        let none = rendered(
            Kernel::Without("no Landlock: use ..."),
            Ok(("/c".into(), false, true)),
        );
        assert_eq!(none.summary, "no Landlock, cgroup pids");
        assert_eq!(none.missing.len(), 2);
        assert_eq!(none.missing[1].what, "cgroup controller memory");
    }

    #[test]
    fn this_host_is_looked_at() {
        let here = look(&Err("not asked".into()));
        assert!(here.landlock.is_none_or(|version| version > 0));
        assert!(!here.summary.is_empty());
    }
}
