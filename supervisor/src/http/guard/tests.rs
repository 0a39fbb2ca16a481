//! Names, pages and tokens.

use axum::http::Request;
use proptest::prelude::*;

use super::*;

const LOCAL: Peer = Peer::Tcp(SocketAddr::new(
    IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    4000,
));

fn guard(auth: HttpAuth, allowed: &[&str]) -> Guard {
    let http = Http {
        auth,
        allowed_hosts: allowed.iter().map(|h| (*h).to_owned()).collect(),
        ..Http::default()
    };
    let tokens = HashedTokens::new([(token_hash("deia_reader"), ScopeSet::READ)]);
    Guard::new(
        Some("192.0.2.7:8001".parse().unwrap()),
        &http,
        Arc::new(tokens),
        "/run/deia/admin.sock".into(),
    )
}

fn status(guard: &Guard, peer: Peer, uri: &str, headers: &[(&str, &str)]) -> u16 {
    let mut request = Request::builder().method("POST").uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    match guard.check(&parts, peer, None) {
        Ok(_) => 200,
        Err(failure) => failure.status().as_u16(),
    }
}

#[test]
fn only_our_names_are_served() {
    let guard = guard(HttpAuth::Off, &["Bots.Example"]);
    for ours in [
        "localhost",
        "LOCALHOST:1",
        "localhost.:80",
        "127.0.0.1:8001",
        "127.9.9.9",
        "[::1]:8001",
        "[::ffff:127.0.0.1]",
        "192.0.2.7",
        "bots.example",
        "bots.example:444",
    ] {
        assert_eq!(status(&guard, LOCAL, "/", &[("host", ours)]), 200, "{ours}");
    }
    for other in [
        "evil.example",
        "evil.example:8001",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil@localhost",
        "localhost:80:80",
        "localhost:x",
        "192.0.2.8",
        "0.0.0.0",
        "[::1",
        "",
        ":80",
        "[::2]",
        "2130706433",
        "localhost/",
        "xbots.example",
    ] {
        assert_eq!(
            status(&guard, LOCAL, "/", &[("host", other)]),
            421,
            "{other}"
        );
    }
    assert_eq!(status(&guard, LOCAL, "/", &[]), 400);
    assert_eq!(
        status(
            &guard,
            LOCAL,
            "/",
            &[("host", "localhost"), ("host", "localhost")]
        ),
        400
    );
    assert_eq!(
        status(
            &guard,
            LOCAL,
            "http://evil.example/",
            &[("host", "localhost")]
        ),
        421
    );
}

#[test]
fn pages_from_elsewhere_are_refused_on_both_ways_in() {
    let guard = guard(HttpAuth::Off, &[]);
    let admin = Peer::Admin {
        pid: Some(2),
        uid: 0,
        gid: 0,
    };
    for peer in [LOCAL, admin] {
        for foreign in [
            "http://evil.example",
            "null",
            "",
            "file://",
            "http://localhost.evil.example",
            "http://localhost@evil.example",
        ] {
            assert_eq!(
                status(
                    &guard,
                    peer,
                    "/",
                    &[("host", "localhost"), ("origin", foreign)]
                ),
                403,
                "{foreign}"
            );
        }
        for ours in [
            "http://localhost:3000",
            "https://127.0.0.1",
            "http://[::1]:8001",
        ] {
            assert_eq!(
                status(
                    &guard,
                    peer,
                    "/",
                    &[("host", "localhost"), ("origin", ours)]
                ),
                200,
                "{ours}"
            );
        }
        assert_eq!(
            status(
                &guard,
                peer,
                "/",
                &[("host", "localhost"), ("sec-fetch-site", "cross-site")]
            ),
            403
        );
        assert_eq!(
            status(
                &guard,
                peer,
                "/",
                &[("host", "localhost"), ("sec-fetch-site", "same-origin")]
            ),
            200
        );
    }
    // The admin socket has no host name.
    assert_eq!(status(&guard, admin, "/", &[]), 200);
}

#[test]
fn following_a_link_to_the_dashboard_is_fine() {
    let guard = guard(HttpAuth::Off, &[]);
    let (parts, ()) = Request::get("/")
        .header("host", "localhost")
        .header("sec-fetch-site", "cross-site")
        .header("sec-fetch-mode", "navigate")
        .body(())
        .unwrap()
        .into_parts();
    assert!(guard.check(&parts, LOCAL, None).is_ok());
}

#[test]
fn without_tokens_loopback_is_never_admin_and_others_get_nothing() {
    let guard = guard(HttpAuth::Off, &[]);
    let (parts, ()) = Request::get("/")
        .header("host", "localhost")
        .body(())
        .unwrap()
        .into_parts();
    let caller = guard.check(&parts, LOCAL, None).unwrap();
    assert_eq!(caller.scopes, ScopeSet::LOOPBACK);
    assert!(!caller.scopes.has(deia::api::Scope::Admin));
    let far = Peer::Tcp("198.51.100.1:1".parse().unwrap());
    assert_eq!(status(&guard, far, "/", &[("host", "localhost")]), 403);
    assert_eq!(
        status(&guard, far, "/health", &[("host", "localhost")]),
        200
    );
}

#[test]
fn with_tokens_only_a_known_one_counts() {
    let guard = guard(HttpAuth::Tokens, &[]);
    let with = |value: &str| {
        status(
            &guard,
            LOCAL,
            "/status",
            &[("host", "localhost"), ("authorization", value)],
        )
    };
    assert_eq!(with("Bearer deia_reader"), 200);
    assert_eq!(with("bearer deia_reader"), 200);
    for bad in [
        "Bearer deia_readerx",
        "Bearer reader",
        "Basic deia_reader",
        "deia_reader",
        "Bearer",
        "Bearer ",
        "",
    ] {
        assert_eq!(with(bad), 401, "{bad}");
    }
    assert_eq!(
        status(&guard, LOCAL, "/status", &[("host", "localhost")]),
        401
    );
    assert_eq!(
        status(&guard, LOCAL, "/health/live", &[("host", "localhost")]),
        200
    );
    assert_eq!(
        status(&guard, LOCAL, "/healthy", &[("host", "localhost")]),
        401
    );
    let two = [
        ("host", "localhost"),
        ("authorization", "Bearer deia_reader"),
        ("authorization", "Bearer deia_reader"),
    ];
    assert_eq!(status(&guard, LOCAL, "/status", &two), 401);
}

proptest! {
    /// Whatever is named, it is served only if a resolver-free reading of it is loopback.
    #[test]
    fn no_other_name_slips_through(named in "[a-z0-9.:@\\[\\]/-]{0,30}") {
        let guard = guard(HttpAuth::Off, &[]);
        if status(&guard, LOCAL, "/", &[("host", &named)]) == 200 {
            let host = host_of(&named).unwrap();
            prop_assert!(host == "localhost" || host.parse::<IpAddr>().is_ok(), "{}", named);
        }
    }
}
