//! TLS on the port, with certificates made here: served, renewed without a restart, refused where they are no good, and
//! what becomes of a connection when another release takes over. And no port beyond this host without it.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test; the lints know only test functions themselves"
)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Daemon, PATIENCE};
use serde_json::{Value, json};

const HTTPS: &str = "http: {listen: \"127.0.0.1:0\", header_timeout_seconds: 1, tls: {cert_file: tls/cert.pem, key_file: tls/private.pem}}\n";

/// A certificate of its own for `localhost`, put where the configuration says; in PEM form.
fn certify(home: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = home.join("tls");
    fs::create_dir_all(&folder).unwrap();
    let private = folder.join("private.pem");
    fs::write(&private, made.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&private, PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    made.cert.pem()
}

/// A client that trusts this certificate alone.
fn client(pem: &str) -> reqwest::Client {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificate = reqwest::Certificate::from_pem(pem.as_bytes()).unwrap();
    let builder = reqwest::Client::builder().tls_certs_only([certificate]);
    builder.no_proxy().timeout(PATIENCE).build().unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

fn url(daemon: &Daemon, path: &str) -> String {
    format!("https://localhost:{}{path}", daemon.port())
}

async fn status(client: &reqwest::Client, url: &str) -> Result<u16, reqwest::Error> {
    Ok(client.get(url).send().await?.status().as_u16())
}

fn start() -> (Daemon, String) {
    let mut daemon = Daemon::builder().config(HTTPS).prepare();
    let pem = certify(daemon.home());
    daemon.launch();
    daemon.await_launched();
    (daemon, pem)
}

#[test]
fn the_port_speaks_tls_and_nothing_else() {
    let (daemon, pem) = start();
    let client = client(&pem);
    let answer = runtime().block_on(async {
        let request = json!({"content": "in private", "wait_seconds": 20}).to_string();
        let sent = client.post(url(&daemon, "/api/orchestrate")).body(request);
        let answer = sent.send().await.unwrap().text().await.unwrap();
        serde_json::from_str::<Value>(&answer).unwrap()
    });
    assert_eq!(answer["result"]["output"], "in private", "{answer}");
    // A plain request is no hand-shake.
    let mut plain = TcpStream::connect(("127.0.0.1", daemon.port())).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain
        .write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
    // Nor is silence, or half of one.
    for begun in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut stream = TcpStream::connect(("127.0.0.1", daemon.port())).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(begun).unwrap();
        let since = Instant::now();
        let _ = stream.read_to_end(&mut said);
        assert!(since.elapsed() < Duration::from_secs(10), "{begun:?}");
    }
    daemon.get("/health").ok();
}

#[test]
fn a_renewed_certificate_is_served_after_a_reload_and_a_bad_one_is_said() {
    let (daemon, first) = start();
    let runtime = runtime();
    let served = |pem: &str| runtime.block_on(status(&client(pem), &url(&daemon, "/status")));
    assert_eq!(served(&first).unwrap(), 200);
    let second = certify(daemon.home());
    assert_eq!(served(&first).unwrap(), 200, "not before it is told");
    daemon.ctl(&["reload"]).ok();
    assert_eq!(served(&second).unwrap(), 200);
    assert!(served(&first).is_err());

    let (cert, private) = ("tls/cert.pem", "tls/private.pem");
    let good = daemon.read(private);
    let open = || {
        fs::set_permissions(
            daemon.home().join(private),
            PermissionsExt::from_mode(0o644),
        )
    };
    type Spoil<'a> = &'a dyn Fn();
    let spoilt: [(&str, Spoil<'_>, &str); 4] = [
        (
            "no certificate",
            &|| fs::write(daemon.home().join(cert), "x").unwrap(),
            "cert_file",
        ),
        (
            "none there",
            &|| fs::remove_file(daemon.home().join(cert)).unwrap(),
            "cert_file",
        ),
        (
            "no key",
            &|| fs::write(daemon.home().join(private), "x").unwrap(),
            "key_file",
        ),
        ("open to all", &|| open().unwrap(), "chmod 600"),
    ];
    for (what, spoil, word) in spoilt {
        spoil();
        let said = daemon.ctl(&["reload"]);
        assert_eq!(said.code, 1, "{what}: {said:?}");
        assert!(
            said.stderr.contains(word) || said.stdout.contains(word),
            "{what}: {said:?}"
        );
        assert_eq!(
            served(&second).unwrap(),
            200,
            "{what}: the one before it stays"
        );
        let errors = daemon.get("/api/config/status").ok()["load_errors"].clone();
        assert!(errors.to_string().contains(word), "{what}: {errors}");
        fs::write(daemon.home().join(cert), &second).unwrap();
        fs::write(daemon.home().join(private), &good).unwrap();
        fs::set_permissions(
            daemon.home().join(private),
            PermissionsExt::from_mode(0o600),
        )
        .unwrap();
    }
    // One that belongs to another key.
    fs::write(daemon.home().join(cert), &first).unwrap();
    assert_eq!(daemon.ctl(&["reload"]).code, 1);
    fs::write(daemon.home().join(cert), &second).unwrap();
    daemon.ctl(&["reload"]).ok();
    let errors = &daemon.get("/api/config/status").ok()["load_errors"];
    assert_eq!(*errors, json!([]));
}

/// Its secrets are the process's own: it is answered and closed, and dialled again.
#[test]
fn an_upgrade_ends_connections_after_their_answers() {
    let (daemon, pem) = start();
    let client = client(&pem);
    let runtime = runtime();
    runtime.block_on(async {
        assert_eq!(status(&client, &url(&daemon, "/status")).await.unwrap(), 200);
        let request = json!({"content": "meanwhile", "wait_seconds": 60, "pool": "main-bot", "not_before": "2100-01-01T00:00:00Z"});
        let waits = client.post(url(&daemon, "/api/orchestrate")).body(request.to_string()).send();
        let waits = tokio::spawn(waits);
        tokio::time::sleep(Duration::from_millis(500)).await;
        let ctl = tokio::task::spawn_blocking({
            let home = daemon.home().to_owned();
            move || common::deiactl(&home, &["--home", home.to_str().unwrap(), "upgrade"])
        });
        let answer = waits.await.unwrap().expect("an answer");
        assert_eq!(answer.status(), 200);
        answer.bytes().await.expect("a whole answer");
        ctl.await.unwrap().ok();
        // The client's idle connection is gone, and it knows.
        assert_eq!(status(&client, &url(&daemon, "/status")).await.unwrap(), 200);
    });
}

#[test]
fn beyond_this_host_only_with_tls_or_by_name() {
    for (config, words) in [
        (
            "http: {listen: \"192.0.2.1:8001\"}\n",
            ["http.tls", "allow_insecure_bind"],
        ),
        (
            "http: {listen: \"[::]:8001\", auth: tokens}\n",
            ["http.tls", "allow_insecure_bind"],
        ),
        (
            "http: {listen: \"127.0.0.1:0\", tls: {cert_file: x}}\n",
            ["http.tls.cert_file", "http.tls.key_file"],
        ),
        (
            "http: {listen: \"127.0.0.1:0\", tls: {cert_file: nowhere.pem, key_file: nowhere.pem}}\n",
            ["nowhere.pem", "cert_file"],
        ),
    ] {
        let (status, said) = Daemon::builder().config(config).start_in_vain();
        assert!(!status.success(), "{config}: {said}");
        for word in words {
            assert!(said.contains(word), "{config}: {word}: {said}");
        }
    }
    let (status, said) = Daemon::builder()
        .arg("--listen")
        .arg("192.0.2.1:8001")
        .start_in_vain();
    assert!(!status.success(), "{said}");
    assert!(said.contains("allow_insecure_bind"), "{said}");
}
