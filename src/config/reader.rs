//! Reads a section of the file by a table of keys: checks, falls back, notices what is unknown.

use super::key::Key;
use super::problem::{Problem, Source};
use super::tree::{At, Node, Tree};

/// How alike a known name must be to be suggested, 0-1.
const ALIKE: f64 = 0.6;

/// Collects what is found while a file is read.
pub(super) struct Reader<'t> {
    pub source: Source<'t>,
    /// Values that fell back.
    pub problems: Vec<Problem>,
    /// What is odd, but changes nothing.
    pub warnings: Vec<Problem>,
    /// What makes the whole file unusable.
    pub refusals: Vec<Problem>,
}

/// One section that is being read into a `T`.
pub(super) struct Section<'a, T: 'static> {
    /// Its keys.
    pub table: &'static [Key<T>],
    /// Its dotted path in messages: empty for the top.
    pub path: &'a str,
    /// Names that somebody else reads.
    pub others: &'a [&'a str],
    /// Holds the defaults, and afterwards what was read.
    pub target: &'a mut T,
    /// Where a bad value falls back to; without it, to the default.
    pub last_good: Option<&'a T>,
}

impl<'t> Reader<'t> {
    pub fn new(source: Source<'t>) -> Self {
        Self {
            source,
            problems: Vec::new(),
            warnings: Vec::new(),
            refusals: Vec::new(),
        }
    }

    /// Reads `node`, which should be a map, by the section's table.
    pub fn read<T>(&mut self, node: &Node, section: &mut Section<'_, T>) {
        self.read_level(node, section, "");
    }

    fn read_level<T>(&mut self, node: &Node, section: &mut Section<'_, T>, prefix: &str) {
        let shown = |path: &str| join(section.path, path);
        let entries = match &node.tree {
            Tree::Map(entries) => entries,
            Tree::Null => return,
            _ => {
                let rule = format!("must be a section of settings; this is {}", node.kind());
                let value = node.to_json().to_string();
                let mut problem = self
                    .source
                    .problem(node.at, &shown(prefix), Some(&value), &rule);
                problem.used = Some(match section.last_good {
                    Some(_) => "its last good values".to_owned(),
                    None => "its defaults".to_owned(),
                });
                self.problems.push(problem);
                section.fall_back(prefix);
                return;
            }
        };
        for entry in entries {
            let path = join(prefix, &entry.key);
            // `a.b: 1` is not `a: {b: 1}`: one way to write a key, so that it is written once.
            if entry.key.contains('.') {
                let rule = "is ignored: a setting of a section is written below it, not with a dot";
                let warning = self.source.problem(entry.at, &shown(&path), None, rule);
                self.warnings.push(warning);
            } else if let Some(key) = section.table.iter().find(|key| key.path == path) {
                self.read_value(&entry.node, key, section);
            } else if section.others.contains(&path.as_str()) {
                // Somebody else's.
            } else if section.table.iter().any(|key| is_under(key.path, &path)) {
                self.read_level(&entry.node, section, &path);
            } else {
                let known = section.table.iter().map(|key| key.path);
                let known = known.chain(section.others.iter().copied());
                self.unknown(entry.at, section.path, &path, known);
            }
        }
    }

    fn read_value<T>(&mut self, node: &Node, key: &Key<T>, section: &mut Section<'_, T>) {
        let path = join(section.path, key.path);
        let checked = key.rule.check(node, self.source.text);
        let set = checked.and_then(|value| {
            (key.set)(section.target, value).map_err(|error| format!("cannot be used: {error}"))
        });
        if let Err(rule) = set {
            if let Some(last_good) = section.last_good {
                // What was read once can be set again: a failure would keep the default.
                let _ = (key.set)(section.target, (key.get)(last_good));
            }
            let used = (key.get)(section.target).to_string();
            self.fell_back(node, &path, &rule, &used);
        }
    }

    /// Notes that the value at `node` is not used, but `used` is.
    pub fn fell_back(&mut self, node: &Node, path: &str, rule: &str, used: &str) {
        let value = node.to_json().to_string();
        let mut problem = self.source.problem(node.at, path, Some(&value), rule);
        problem.used = Some(super::secret::redact(used));
        self.problems.push(problem);
    }

    /// Warns about a key that does not exist, with the nearest one that does.
    pub fn unknown<'k>(
        &mut self,
        at: At,
        section: &str,
        path: &str,
        known: impl Iterator<Item = &'k str>,
    ) {
        match self.warnings.len() {
            0..MAX_WARNINGS => {}
            MAX_WARNINGS => {
                let rule = "is not a known setting, nor are others that follow";
                let warning = self.source.problem(at, &join(section, path), None, rule);
                self.warnings.push(warning);
                return;
            }
            _ => return,
        }
        // Not 'key': a log line with that word is masked, and this one has to be read.
        let mut rule = "is not a known setting, and is ignored".to_owned();
        if let Some(name) = nearest(path, known) {
            rule += &format!("; did you mean {}?", join(section, name));
        }
        let warning = self.source.problem(at, &join(section, path), None, &rule);
        self.warnings.push(warning);
    }

    /// Refuses the whole file.
    pub fn refuse(&mut self, at: At, path: &str, value: Option<&str>, rule: &str) {
        let problem = self.source.problem(at, path, value, rule);
        self.refusals.push(problem);
    }
}

impl<T> Section<'_, T> {
    /// Every key under `prefix` takes its last good value.
    fn fall_back(&mut self, prefix: &str) {
        let Some(last_good) = self.last_good else {
            return;
        };
        for key in self.table {
            if prefix.is_empty() || is_under(key.path, prefix) {
                // As in `read_value`.
                let _ = (key.set)(self.target, (key.get)(last_good));
            }
        }
    }
}

/// `a.b` of `a` and `b`; empty parts are left out.
pub(super) fn join(section: &str, path: &str) -> String {
    match (section.is_empty(), path.is_empty()) {
        (true, _) => path.to_owned(),
        (_, true) => section.to_owned(),
        _ => format!("{section}.{path}"),
    }
}

fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.starts_with('.'))
}

/// Settings that are not known and are named; of more it is said that there are more.
const MAX_WARNINGS: usize = 100;

/// A longer name is like none that is known. To compare takes time that grows with it.
const MAX_LIKE_BYTES: usize = 100;

/// The known path that is most like `path`: first by its last name (also in another section, and
/// then the section must not be spelt like it), then by all of it.
pub(super) fn nearest<'k>(path: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    if path.len() > MAX_LIKE_BYTES {
        return None;
    }
    let name = |path: &str| path.rsplit('.').next().unwrap_or(path).to_lowercase();
    let wanted = name(path);
    let mut best: Option<(f64, &str)> = None;
    let mut sections: Vec<&str> = Vec::new();
    let mut consider = |candidate: &'k str, alike: f64, bonus: f64| {
        if alike >= ALIKE && best.is_none_or(|(most, _)| alike + bonus > most) {
            best = Some((alike + bonus, candidate));
        }
    };
    let path = path.to_lowercase();
    for candidate in known {
        let whole = strsim::normalized_damerau_levenshtein(&path, candidate);
        let last = strsim::normalized_damerau_levenshtein(&wanted, &name(candidate));
        // A name in its own section wins over the same name elsewhere.
        consider(candidate, whole.min(last), 0.1);
        consider(candidate, last, 0.0);
        // `threshold:` is a section that is misspelt.
        if let Some((section, _)) = candidate.split_once('.')
            && !path.contains('.')
            && !sections.contains(&section)
        {
            sections.push(section);
            let alike = strsim::normalized_damerau_levenshtein(&path, section);
            consider(section, alike, 0.0);
        }
    }
    best.map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::KEYS;

    #[test]
    fn the_nearest_name_is_found_here_elsewhere_and_among_sections() {
        let near = |path| nearest(path, KEYS.iter().map(|key| key.path));
        assert_eq!(near("bot_limits.max_bot"), Some("bot_limits.max_bots"));
        assert_eq!(near("bot_limits.maxbots"), Some("bot_limits.max_bots"));
        assert_eq!(near("max_bots"), Some("bot_limits.max_bots"));
        assert_eq!(near("threshold"), Some("thresholds"));
        assert_eq!(near("loglevel"), Some("log_level"));
        assert_eq!(near("http.listne"), Some("http.listen"));
        assert_eq!(near("zzzzqqqq"), None);
        assert_eq!(near("x"), None);
    }
}
