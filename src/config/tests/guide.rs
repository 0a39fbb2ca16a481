//! docs/CONFIGURATION-GUIDE.md says what the tables of keys say.

use std::path::Path;

use crate::config::guide_tables;

const BEGIN: &str = "<!-- generated: begin -->\n";
const END: &str = "<!-- generated: end -->\n";

/// With `UPDATE_EXPECT=1` in the environment the file is written anew.
#[test]
fn the_guide_has_the_tables_of_the_keys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIGURATION-GUIDE.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once(BEGIN).expect("the guide has no begin mark");
    let (_, tail) = rest.split_once(END).expect("the guide has no end mark");
    let expected = format!("{head}{BEGIN}{}\n{END}{tail}", guide_tables());
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &expected).unwrap();
    } else {
        assert!(
            text == expected,
            "docs/CONFIGURATION-GUIDE.md is out of date: run the tests once with UPDATE_EXPECT=1"
        );
    }
}
