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
    let limits = RateLimits {
        requests_per_minute: 0,
        failed_auth_per_minute: 0,
    };
    limited(&http, &limits)
}

fn limited(http: &Http, limits: &RateLimits) -> Guard {
    let books = Books {
        tokens: Arc::new(Reader),
        limiter: Arc::default(),
        admin_socket: "/run/deia/admin.sock".into(),
    };
    let bound = "192.0.2.7:8001".parse().unwrap();
    Guard::new(Some(bound), http, limits, books)
}

/// One token that may read.
struct Reader;

impl Tokens for Reader {
    fn scopes(&self, hash: &[u8; 32]) -> Option<ScopeSet> {
        (*hash == token_hash("deia_reader")).then_some(ScopeSet::READ)
    }
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
    let (parts, ()) = Request::get("/status")
        .header("host", "localhost")
        .body(())
        .unwrap()
        .into_parts();
    let caller = guard.check(&parts, LOCAL, None).unwrap();
    assert_eq!(caller.scopes, ScopeSet::LOOPBACK);
    assert!(!caller.scopes.has(deia::api::Scope::Admin));
    let far = Peer::Tcp("198.51.100.1:1".parse().unwrap());
    assert_eq!(
        status(&guard, far, "/status", &[("host", "localhost")]),
        403
    );
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

#[test]
fn without_tokens_a_token_counts_all_the_same_and_other_credentials_are_not_for_us() {
    let guard = guard(HttpAuth::Off, &[]);
    let far = Peer::Tcp("198.51.100.1:1".parse().unwrap());
    let caller = |peer, value: &[&str]| {
        let mut request = Request::get("/status").header("host", "localhost");
        for value in value {
            request = request.header("authorization", *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let caller = guard.check(&parts, peer, None);
        caller.map(|c| c.scopes).map_err(|f| f.status().as_u16())
    };
    for peer in [LOCAL, far] {
        assert_eq!(caller(peer, &["Bearer deia_reader"]), Ok(ScopeSet::READ));
        for bad in ["Bearer deia_wrong", "Basic deia_reader", "deia_reader"] {
            assert_eq!(caller(peer, &[bad]), Err(401), "{bad}");
        }
        let twice = ["Bearer deia_reader", "Bearer sk-other"];
        assert_eq!(caller(peer, &twice), Err(401));
    }
    for other in ["Bearer sk-unused", "Basic dXNlcjpwYXNz", ""] {
        assert_eq!(caller(LOCAL, &[other]), Ok(ScopeSet::LOOPBACK), "{other}");
        assert_eq!(caller(far, &[other]), Err(403), "{other}");
    }
}

#[test]
fn who_asks_too_often_is_told_before_anything_else_but_where_he_is_from() {
    let limits = RateLimits {
        requests_per_minute: 3,
        failed_auth_per_minute: 2,
    };
    let tokens = Http {
        auth: HttpAuth::Tokens,
        ..Http::default()
    };
    let guard = limited(&tokens, &limits);
    let with = |value: &str| {
        let headers = [("host", "localhost"), ("authorization", value)];
        status(&guard, LOCAL, "/status", &headers)
    };
    assert_eq!(
        [(); 4].map(|()| with("Bearer deia_reader")),
        [200, 200, 200, 429]
    );
    // Those without a token share a window, and it is not the token's.
    let nobody = || status(&guard, LOCAL, "/status", &[("host", "localhost")]);
    assert_eq!([(); 4].map(|()| nobody()), [401, 401, 401, 429]);
    assert_eq!(
        status(&guard, LOCAL, "/status", &[("host", "evil.example")]),
        421
    );
    for probe in ["/health", "/health/ready"] {
        assert_eq!(status(&guard, LOCAL, probe, &[("host", "localhost")]), 200);
    }
    let elsewhere = Peer::Tcp("127.0.0.2:1".parse().unwrap());
    let guess = |value: &str| {
        let headers = [("host", "localhost"), ("authorization", value)];
        status(&guard, elsewhere, "/metrics", &headers)
    };
    assert_eq!(guess("Bearer deia_1"), 401);
    assert_eq!(guess("Bearer x"), 401);
    assert_eq!(guess("Bearer deia_reader"), 429, "right, and not looked at");
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
