//! The whole life of a configuration, with real files in a temporary home.

use std::fs;
use std::time::Duration;

use tempfile::TempDir;

use super::*;

struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn write(&self, text: &str) {
        fs::write(self.0.path().join("bot-config.yaml"), text).unwrap();
    }

    fn load(&self) -> Result<Settings, Box<StartupRefusal>> {
        Settings::load(self.0.path(), None, Overrides::default())
    }

    fn started(&self) -> Settings {
        let mut settings = self.load().unwrap();
        if let Some(save) = settings.unsaved() {
            save.run().unwrap();
        }
        settings
    }
}

fn applied(reload: &Reload) -> Vec<String> {
    match reload {
        Reload::Applied { changes, .. } => changes.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_a_file_the_defaults_are_used_and_a_warning_says_where_it_was_looked_for() {
    let home = Home::new();
    let settings = home.load().unwrap();
    assert_eq!(*settings.current(), Config::default());
    assert_eq!(settings.source(), None);
    assert!(settings.warnings()[0].contains("bot-config.yaml"));

    let missing = home.0.path().join("nowhere.yaml");
    let settings = Settings::load(home.0.path(), Some(missing), Overrides::default()).unwrap();
    assert_eq!(*settings.current(), Config::default());
    assert!(settings.warnings()[0].contains("nowhere.yaml"));
    assert_eq!(settings.degraded(), None);
}

#[test]
fn the_first_file_in_the_order_is_read() {
    let home = Home::new();
    let below = home.0.path().join(".deia/config");
    fs::create_dir_all(&below).unwrap();
    for (file, max) in [
        (below.join("bot-config.json"), 4),
        (below.join("bot-config.yml"), 5),
        (below.join("bot-config.yaml"), 6),
        (home.0.path().join("bot-config.yaml"), 7),
    ] {
        fs::write(
            &file,
            format!("{{\"bot_limits\": {{\"max_bots\": {max}}}}}"),
        )
        .unwrap();
        let settings = home.load().unwrap();
        assert_eq!(settings.current().bot_limits.max_bots, max);
        assert_eq!(settings.source(), Some(file.as_path()));
    }
}

#[test]
fn a_change_is_applied_once_with_a_generation_and_a_difference() {
    let home = Home::new();
    home.write("bot_limits: {max_bots: 5}\n");
    let mut settings = home.started();
    assert_eq!(settings.generation(), 1);
    home.write("bot_limits: {max_bots: 6}\n");
    let reload = settings.reload(When::IfChanged);
    assert_eq!(applied(&reload), ["bot_limits.max_bots: 5 -> 6"]);
    assert_eq!(settings.generation(), 2);
    assert_eq!(settings.current().bot_limits.max_bots, 6);
    let unchanged = Reload::Unchanged { problems: vec![] };
    assert_eq!(settings.reload(When::IfChanged), unchanged);
    assert_eq!(settings.reload(When::Always), unchanged);
    // Other words for the same.
    home.write("# new\nbot_limits:\n  max_bots: 6\n");
    assert_eq!(settings.reload(When::IfChanged), unchanged);
    assert_eq!(settings.generation(), 2);
}

#[test]
fn a_refused_file_changes_nothing_and_says_why() {
    let home = Home::new();
    home.write("bot_limits: {max_bots: 5}\n");
    let mut settings = home.started();
    for bad in [
        "bot_limits: {max_bots: 5\n",
        "bot_limits: {min_bots: 9, max_bots: 8}\n",
        "custom: {db_password: swordfish}\n",
        "",
        "# emptied\n",
    ] {
        home.write(bad);
        let before = settings.current();
        let reload = settings.reload(When::IfChanged);
        let Reload::Refused { why } = &reload else {
            panic!("{bad}")
        };
        assert!(!why.contains("swordfish"));
        assert!(why.contains("bot-config.yaml"), "{why}");
        assert!(!why.contains('\n'), "{why}");
        assert_eq!(settings.current(), before);
        assert_eq!(settings.generation(), 1);
        assert_eq!(settings.degraded(), Some(why.as_str()));
        let status = settings.status(Timestamp::now());
        assert_eq!(status.load_errors, std::slice::from_ref(why));
        let answer = settings.reload_answer(&reload, Timestamp::now());
        assert!(!answer.success);
        assert_eq!(&answer.errors, std::slice::from_ref(why));
    }
    fs::remove_file(home.0.path().join("bot-config.yaml")).unwrap();
    assert!(matches!(
        settings.reload(When::Always),
        Reload::Refused { .. }
    ));
    home.write("bot_limits: {max_bots: 5}\n");
    assert!(matches!(
        settings.reload(When::IfChanged),
        Reload::Unchanged { .. }
    ));
    assert_eq!(settings.degraded(), None);
}

#[test]
fn a_bad_value_falls_back_to_the_value_in_force() {
    let home = Home::new();
    home.write("bot_limits: {max_bots: 5}\ntasks: {max_attempts: 2}\n");
    let mut settings = home.started();
    home.write("bot_limits: {max_bots: many}\ntasks: {max_attempts: 4}\n");
    let reload = settings.reload(When::Always);
    assert_eq!(applied(&reload), ["tasks.max_attempts: 2 -> 4"]);
    assert_eq!(settings.current().bot_limits.max_bots, 5);
    let errors = settings.status(Timestamp::now()).load_errors;
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains(":1:"), "{errors:?}");
    assert!(errors[0].contains("bot_limits.max_bots"), "{errors:?}");
}

#[test]
fn what_needs_a_restart_waits_and_says_so_until_it_is_taken_back() {
    let home = Home::new();
    home.write("http: {listen: \"127.0.0.1:8001\"}\n");
    let mut settings = home.started();
    home.write("http: {listen: \"127.0.0.1:9001\", max_connections: 9}\n");
    let Reload::Applied {
        restart_required, ..
    } = settings.reload(When::Always)
    else {
        panic!()
    };
    assert_eq!(restart_required, ["http.listen"]);
    assert_eq!(settings.current().http.listen.port(), 8001);
    assert_eq!(settings.current().http.max_connections, 9);
    assert_eq!(settings.restart_required(), ["http.listen"]);
    // The start that follows has it.
    assert_eq!(home.started().current().http.listen.port(), 9001);
    home.write("http: {max_connections: 9}\n");
    settings.reload(When::Always);
    assert!(settings.restart_required().is_empty());
}

#[test]
fn a_start_with_a_refused_file_takes_the_last_good_one_and_is_degraded() {
    let home = Home::new();
    home.write("bot_limits: {max_bots: [\n");
    let refusal = home.load().unwrap_err().to_string();
    assert!(refusal.contains("no last good one"), "{refusal}");
    assert!(refusal.contains("config validate"), "{refusal}");

    home.write("bot_limits: {max_bots: 5}\n");
    home.started();
    home.write("bot_limits: {max_bots: [\n");
    let mut settings = home.load().unwrap();
    assert_eq!(settings.current().bot_limits.max_bots, 5);
    assert!(settings.degraded().unwrap().contains("bot-config.yaml"));
    assert!(settings.unsaved().is_none());
    // Mended: the reload says so, whether or not it changes anything.
    home.write("bot_limits: {max_bots: 5}\n");
    assert!(matches!(
        settings.reload(When::IfChanged),
        Reload::Unchanged { .. }
    ));
    assert_eq!(settings.degraded(), None);
    assert_eq!(
        settings.source(),
        Some(home.0.path().join("bot-config.yaml").as_path())
    );

    fs::write(home.0.path().join(".deia/config/last-good.yaml"), "x: [").unwrap();
    home.write("x: [");
    let refusal = home.load().unwrap_err().to_string();
    assert!(refusal.contains("so is the last good one"), "{refusal}");
}

#[test]
fn the_last_good_file_is_whole_and_only_rewritten_when_it_differs() {
    let home = Home::new();
    home.write("bot_limits: {max_bots: 5}\n");
    let mut settings = home.load().unwrap();
    let path = last_good::path(home.0.path());
    assert!(!path.exists(), "written before it was applied");
    let save = settings.unsaved().unwrap();
    // Left behind by a kill.
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path.with_file_name(last_good::TEMPORARY_NAME), "half").unwrap();
    save.run().unwrap();
    let read = deia::config::validate(&path).unwrap();
    assert_eq!(read.config, *settings.current());
    assert!(!path.with_file_name(last_good::TEMPORARY_NAME).exists());
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    save.run().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
}

#[test]
fn the_command_line_wins_over_the_file_also_after_a_reload() {
    let home = Home::new();
    home.write("bot_limits: {max_bots: 5}\n");
    let overrides = Overrides {
        listen: Some(([127, 0, 0, 1], 4444).into()),
        bot_id: Some("worker-bee".to_owned()),
    };
    let mut settings = Settings::load(home.0.path(), None, overrides).unwrap();
    for _ in 0..2 {
        let config = settings.current();
        assert_eq!(config.http.listen.port(), 4444);
        assert_eq!(config.bots.len(), 1);
        assert_eq!(config.bots[0].bot_id(1), "worker-bee");
        assert_eq!(
            (config.bot_limits.min_bots, config.bot_limits.max_bots),
            (1, 1)
        );
        assert!(settings.restart_required().is_empty());
        home.write("bot_limits: {max_bots: 6}\n");
        settings.reload(When::Always);
    }
    home.write("bot_limits: {max_bots: 0}\n");
    settings.reload(When::Always);
    assert_eq!(settings.current().bot_limits.max_bots, 0);
}

#[test]
fn a_file_that_cannot_be_read_is_refused_and_not_taken_for_missing() {
    let home = Home::new();
    fs::create_dir(home.0.path().join("bot-config.yaml")).unwrap();
    let refusal = home.load().unwrap_err().to_string();
    assert!(refusal.contains("not a regular file"), "{refusal}");
    let explicit = home.0.path().join("b.yaml");
    fs::write(&explicit, [0xff, 0xfe, b'a']).unwrap();
    let refusal = Settings::load(home.0.path(), Some(explicit), Overrides::default())
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("UTF-8"), "{refusal}");
}

#[tokio::test]
async fn a_changed_file_is_noticed_however_it_is_written() {
    const SOON: Duration = Duration::from_secs(20);
    // Longer than the test: only the kernel's notice can be in time.
    const NEVER: Duration = Duration::from_secs(3600);
    let home = Home::new();
    home.write("bot_limits: {max_bots: 5}\n");
    let mut settings = home.started();
    let (_watch, mut changes) = Watch::start(settings.search(), settings.fingerprint(), NEVER);
    let path = home.0.path().join("bot-config.yaml");
    for (n, max) in (6..9).enumerate() {
        // Give the watch time to be there at all, the first time.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let text = format!("bot_limits: {{max_bots: {max}}}\n");
        if n == 1 {
            let aside = home.0.path().join(".bot-config.yaml.swp");
            fs::write(&aside, text).unwrap();
            fs::rename(&aside, &path).unwrap();
        } else {
            fs::write(&path, text).unwrap();
        }
        tokio::time::timeout(SOON, changes.recv())
            .await
            .unwrap()
            .unwrap();
        settings.reload(When::IfChanged);
        assert_eq!(settings.current().bot_limits.max_bots, max);
    }
    // Touched, or with the same content: no change.
    fs::write(&path, "bot_limits: {max_bots: 8}\n").unwrap();
    let quiet = tokio::time::timeout(Duration::from_secs(1), changes.recv()).await;
    assert!(quiet.is_err(), "an unchanged file was reported");
}

#[tokio::test]
async fn without_the_kernels_notice_the_interval_finds_a_change() {
    let home = Home::new();
    // A directory that is not there yet cannot be watched.
    let file = home.0.path().join("later/bot-config.yaml");
    let settings = Settings::load(home.0.path(), Some(file.clone()), Overrides::default()).unwrap();
    let (watch, mut changes) = Watch::start(
        settings.search(),
        settings.fingerprint(),
        Duration::from_secs(3600),
    );
    tokio::time::sleep(Duration::from_millis(300)).await;
    fs::create_dir(file.parent().unwrap()).unwrap();
    fs::write(&file, "debug: true\n").unwrap();
    watch.set_interval(Duration::from_millis(100));
    tokio::time::timeout(Duration::from_secs(20), changes.recv())
        .await
        .unwrap()
        .unwrap();
}
