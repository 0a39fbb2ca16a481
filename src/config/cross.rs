//! Rules between keys. No single key is to blame for one that is broken, so none can fall back: the
//! file is refused whole.

use super::keys::{ALIASES, MAX_BOTS};
use super::reader::Reader;
use super::tree::{At, Node, Tree};
use super::{Config, Pool};

/// Checks `config`, which was read from `root`; refuses the file for each rule that is broken.
pub(super) fn check(reader: &mut Reader<'_>, config: &Config, root: &Node) {
    less(
        reader,
        root,
        (
            "thresholds.cpu_warning_percent",
            config.thresholds.cpu_warning_percent,
        ),
        (
            "thresholds.cpu_critical_percent",
            config.thresholds.cpu_critical_percent,
        ),
    );
    less(
        reader,
        root,
        (
            "thresholds.memory_warning_percent",
            config.thresholds.memory_warning_percent,
        ),
        (
            "thresholds.memory_critical_percent",
            config.thresholds.memory_critical_percent,
        ),
    );
    let limits = &config.bot_limits;
    less(
        reader,
        root,
        (
            "bot_limits.port_range_start",
            f64::from(limits.port_range_start),
        ),
        (
            "bot_limits.port_range_end",
            f64::from(limits.port_range_end),
        ),
    );
    if limits.max_bots > 0 && limits.min_bots > limits.max_bots {
        let path = "bot_limits.min_bots";
        let value = limits.min_bots.to_string();
        let rule = format!(
            "must be at most bot_limits.max_bots, which is {}",
            limits.max_bots
        );
        reader.refuse(
            place(root, path, "bot_limits.max_bots"),
            path,
            Some(&value),
            &rule,
        );
    }
    check_port(reader, config, root);
    check_pools(reader, config, root);
}

fn check_port(reader: &mut Reader<'_>, config: &Config, root: &Node) {
    let (listen, tls) = ("http.listen", &config.http.tls);
    if let Some(why) = config.http.refusal() {
        let at = place(root, listen, listen);
        reader.refuse(at, listen, None, &why);
    }
    let (cert, key) = ("http.tls.cert_file", "http.tls.key_file");
    for (there, one, other) in [
        (tls.cert_file.is_some() && tls.key_file.is_none(), cert, key),
        (tls.key_file.is_some() && tls.cert_file.is_none(), key, cert),
    ] {
        if there {
            let rule = format!("is of no use without {other}: set both or neither");
            reader.refuse(place(root, one, other), one, None, &rule);
        }
    }
}

fn check_pools(reader: &mut Reader<'_>, config: &Config, root: &Node) {
    let max_bots = config.bot_limits.max_bots;
    let wanted: u64 = config.bots.iter().map(|pool| u64::from(pool.min)).sum();
    if max_bots > 0 && wanted > u64::from(max_bots) {
        let at = root.find("bots").map_or(At::default(), |entry| entry.at);
        let rule = format!(
            "the pools want at least {wanted} bots in all (the sum of their `min`), but \
             bot_limits.max_bots is {max_bots}; raise it or lower a `min`"
        );
        reader.refuse(at, "bots", None, &rule);
    }
    for pool in &config.bots {
        let path = format!("bots.{}", pool.name);
        if let Some(max) = pool.max
            && pool.min > max
        {
            let at = pool_at(root, &pool.name, "min");
            let rule = format!("must be at most the pool's max, which is {max}");
            let value = pool.min.to_string();
            reader.refuse(at, &format!("{path}.min"), Some(&value), &rule);
        }
        for other in &config.bots {
            if let Some(n) = bot_number(other, &pool.name) {
                let at = pool_at(root, &pool.name, "name");
                let rule = format!(
                    "is also the id of bot {n} of the pool '{}'; rename one of them, or set the \
                     other's max below {n}",
                    other.name
                );
                reader.refuse(at, &format!("{path}.name"), Some(&pool.name), &rule);
            }
        }
    }
}

/// Which bot of `pool` has the id `id`, past the first.
fn bot_number(pool: &Pool, id: &str) -> Option<u64> {
    let digits = id.strip_prefix(&pool.name)?.strip_prefix('-')?;
    let n: u64 = digits.parse().ok()?;
    let most = pool.max.map_or(MAX_BOTS, u64::from);
    (n.to_string() == digits && (2..=most).contains(&n)).then_some(n)
}

fn less(reader: &mut Reader<'_>, root: &Node, small: (&str, f64), large: (&str, f64)) {
    if small.1 < large.1 {
        return;
    }
    let rule = format!("must be less than {}, which is {}", large.0, large.1);
    let at = place(root, small.0, large.0);
    reader.refuse(at, small.0, Some(&small.1.to_string()), &rule);
}

/// Where the first key stands, else the second.
fn place(root: &Node, first: &str, second: &str) -> At {
    let find = |path: &str| {
        let alias = ALIASES.iter().find(|(_, of)| *of == path);
        root.find(path)
            .or_else(|| root.find(alias?.0))
            .map(|entry| entry.node.at)
    };
    find(first).or_else(|| find(second)).unwrap_or_default()
}

fn pool_at(root: &Node, name: &str, key: &str) -> At {
    let Some(entry) = root.find("bots") else {
        return At::default();
    };
    let Tree::List(items) = &entry.node.tree else {
        return entry.at;
    };
    items
        .iter()
        .find(|item| {
            item.find("name")
                .is_some_and(|entry| entry.node.tree == Tree::Text(name.to_owned()))
        })
        .map_or(entry.at, |item| {
            item.find(key).map_or(item.at, |entry| entry.node.at)
        })
}
