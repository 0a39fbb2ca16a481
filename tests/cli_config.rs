//! `deiactl config`: files on their own, and against what is in force.

mod common;

use std::fs;

use common::{Scripted, deiactl};
use deia::config::{Config, to_json};
use serde_json::json;

#[test]
fn a_file_is_valid_only_if_every_value_is_used() {
    let here = tempfile::tempdir().unwrap();
    let file = here.path().join("f.yaml");
    let name = file.to_str().unwrap();
    fs::write(&file, "bot_limits: {max_bots: 4}\n").unwrap();
    let good = deiactl(here.path(), &["config", "validate", name]).ok();
    assert!(good.stdout.contains("is valid"), "{good:?}");

    fs::write(&file, "debug: false\nbot_limits:\n  max_bots: many\n").unwrap();
    let bad = deiactl(here.path(), &["config", "validate", name]);
    assert_eq!(bad.code, 1);
    for part in ["f.yaml:3", "bot_limits.max_bots", "many"] {
        assert!(bad.stdout.contains(part), "{part}: {bad:?}");
    }
    let bad = deiactl(here.path(), &["config", "validate", name, "--json"]);
    let document = bad.json();
    assert_eq!((bad.code, &document["valid"]), (1, &json!(false)));
    assert_eq!(document["problems"][0]["line"], 3);

    fs::write(&file, "bots: [\n").unwrap();
    assert_eq!(deiactl(here.path(), &["config", "validate", name]).code, 1);
    let gone = deiactl(here.path(), &["config", "validate", "/no/such.yaml"]);
    assert_eq!(gone.code, 1);
    assert!(gone.stderr.contains("/no/such.yaml"), "{gone:?}");
}

#[test]
fn without_a_name_the_homes_file_is_checked() {
    let home = tempfile::tempdir().unwrap();
    let named = home.path().to_str().unwrap();
    let validate = ["--home", named, "config", "validate"];
    let none = deiactl(home.path(), &validate);
    assert_eq!(none.code, 1);
    assert!(none.stderr.contains("config init"), "{none:?}");
    fs::write(home.path().join("bot-config.yaml"), "debug: 7\n").unwrap();
    let bad = deiactl(home.path(), &validate);
    assert!(bad.code == 1 && bad.stdout.contains("debug"), "{bad:?}");
}

#[test]
fn samples_are_valid_and_never_written_over_changes() {
    let home = tempfile::tempdir().unwrap();
    let named = home.path().to_str().unwrap();
    let init = ["--home", named, "config", "init"];
    let first = deiactl(home.path(), &init).ok();
    assert!(first.stdout.contains("to begin: cp "), "{first:?}");
    for name in ["production.yaml", "development.yaml"] {
        let file = home.path().join(".deia/config").join(name);
        deiactl(home.path(), &["config", "validate", file.to_str().unwrap()]).ok();
    }
    let changed = home.path().join(".deia/config/production.yaml");
    fs::write(&changed, "mine").unwrap();
    let again = deiactl(home.path(), &init).ok();
    assert!(again.stderr.contains("--force"), "{again:?}");
    assert_eq!(fs::read_to_string(&changed).unwrap(), "mine");
    deiactl(home.path(), &[&init[..], &["--force"]].concat()).ok();
    assert_ne!(fs::read_to_string(&changed).unwrap(), "mine");
}

#[test]
fn a_diff_names_what_a_reload_would_change_and_nothing_else() {
    let daemon = Scripted::start();
    let running = to_json(&Config::default());
    daemon.answer("GET /api/config/current", 200, &running);
    let file = daemon.home().join("f.yaml");
    let name = file.to_str().unwrap();
    fs::write(&file, "debug: false\n").unwrap();
    let same = daemon.ctl(&["config", "diff", name]).ok();
    assert_eq!(same.stdout, format!("{name} is what is in force\n"));

    fs::write(
        &file,
        "bot_limits: {max_bots: 4}\nhttp: {listen: \"127.0.0.1:9\"}\n",
    )
    .unwrap();
    let shown = daemon.ctl(&["config", "diff", name]).ok();
    assert_eq!(shown.stdout.lines().count(), 2, "{shown:?}");
    assert!(
        shown.stdout.contains("bot_limits.max_bots: 10 -> 4"),
        "{shown:?}"
    );
    let changes = daemon.ctl(&["config", "diff", name, "--json"]).ok().json();
    assert_eq!(changes["changes"][1]["key"], "http.listen");
    assert_eq!(changes["changes"][1]["takes_effect"], "after a restart");

    fs::write(&file, "bots: [\n").unwrap();
    let refused = daemon.ctl(&["config", "diff", name]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("would refuse"), "{refused:?}");
}
