//! Nothing outside this folder writes SQL or holds a database's handle.

use std::fs;
use std::path::{Path, PathBuf};

/// Words that, in this order on neighbouring lines, make a statement.
const STATEMENTS: [&[&str]; 4] = [
    &["INSERT ", "INTO "],
    &["SELECT ", " FROM "],
    &["UPDATE ", " SET "],
    &["DELETE ", "FROM "],
];

const ENGINES: [&str; 3] = ["rusqlite", "tokio_postgres", "sqlx"];

#[test]
fn nothing_outside_the_store_writes_sql() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in ["src", "worker/src", "supervisor/src"] {
        collect(&root.join(folder), &mut files);
    }
    assert!(files.len() > 10, "found only {files:?}");
    let store = root.join("supervisor/src/store");
    assert!(files.iter().any(|file| file.starts_with(&store)));
    for file in files.iter().filter(|file| !file.starts_with(&store)) {
        let text = fs::read_to_string(file).unwrap();
        let found = find_sql(&text);
        assert_eq!(found, None, "in {}: move it to store/", file.display());
    }
}

#[test]
fn the_search_finds_what_it_looks_for() {
    assert!(find_sql("let q = \"SELECT a,\n b FROM t\";").is_some());
    assert!(find_sql("conn.execute(\"UPDATE t SET a = 1\")").is_some());
    assert!(find_sql("use rusqlite::Connection;").is_some());
    assert_eq!(
        find_sql("// Select a bot from the pool, update it, set it."),
        None
    );
}

fn find_sql(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        if ENGINES.iter().any(|engine| line.contains(engine)) {
            return Some(format!("line {}: {line}", number + 1));
        }
        let nearby = lines[number..].iter().take(3).copied();
        let nearby = nearby.collect::<Vec<_>>().join(" ");
        for words in STATEMENTS {
            if line.contains(words[0]) && in_order(&nearby, words) {
                return Some(format!("line {}: {line}", number + 1));
            }
        }
    }
    None
}

fn in_order(text: &str, words: &[&str]) -> bool {
    let mut rest = text;
    words.iter().all(|word| {
        let Some(at) = rest.find(word) else {
            return false;
        };
        // The words may share the blank between them.
        rest = &rest[at + word.trim_end().len()..];
        true
    })
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}
