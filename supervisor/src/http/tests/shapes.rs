//! What is answered.

use super::*;

async fn plain(head: &str, body: &str) -> String {
    let (address, _server) = start(EdgeLimits::default(), HttpAuth::Off).await;
    request(address, head, body).await
}

#[tokio::test]
async fn unknown_paths_and_methods_have_the_contracts_shape() {
    let answer = plain("GET /nowhere HTTP/1.1", "").await;
    assert_eq!(status(&answer), 404);
    let error = json(&answer);
    assert_eq!(
        (&error["success"], &error["code"]),
        (&false.into(), &"not_found".into())
    );
    assert!(error["detail"].as_str().unwrap().contains("/nowhere"));

    let answer = plain("DELETE /submit HTTP/1.1", "").await;
    assert_eq!(status(&answer), 405);
    assert!(answer.contains("allow: POST\r\n"), "{answer}");
    assert_eq!(json(&answer)["code"], "method_not_allowed");

    let answer = plain("GET /items/seven HTTP/1.1", "").await;
    assert_eq!(
        (status(&answer), json(&answer)["code"].clone()),
        (404, "not_found".into())
    );
    let answer = plain("GET /items/%FF HTTP/1.1", "").await;
    assert_eq!(status(&answer), 404);
}

#[tokio::test]
async fn a_trailing_slash_leads_to_the_bare_path() {
    let answer = plain("GET /items/7/?a=b HTTP/1.1", "").await;
    assert_eq!(status(&answer), 307);
    assert!(answer.contains("location: /items/7?a=b\r\n"), "{answer}");
    for no_such in [
        "GET /nowhere/ HTTP/1.1",
        "GET //evil.example/ HTTP/1.1",
        "GET // HTTP/1.1",
    ] {
        assert_eq!(status(&plain(no_such, "").await), 404, "{no_such}");
    }
}

#[tokio::test]
async fn head_works_and_says_the_length() {
    let answer = plain("HEAD /health HTTP/1.1", "").await;
    assert_eq!(status(&answer), 200);
    assert!(
        answer.contains("content-length: 4\r\n") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
    assert_eq!(status(&plain("HEAD /submit HTTP/1.1", "").await), 405);
}

#[tokio::test]
async fn bodies_are_json_whatever_they_call_themselves() {
    let form = "POST /submit HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded";
    let answer = plain(form, r#"{"content":"hello"}"#).await;
    assert!(
        status(&answer) == 200 && answer.ends_with("hello"),
        "{answer}"
    );
    let answer = plain("POST /submit HTTP/1.1", "{\"content\": ").await;
    assert_eq!(
        (status(&answer), json(&answer)["detail"][0]["type"].clone()),
        (422, "json_invalid".into())
    );
    let answer = plain(
        "POST /submit HTTP/1.1",
        r#"{"content": 1, "priority": "P7"}"#,
    )
    .await;
    assert_eq!(
        (
            status(&answer),
            json(&answer)["detail"].as_array().unwrap().len()
        ),
        (422, 2)
    );
    let answer = plain("POST /submit HTTP/1.1", "").await;
    assert_eq!(
        (status(&answer), json(&answer)["detail"][0]["type"].clone()),
        (422, "missing".into())
    );
}

#[tokio::test]
async fn a_body_of_20_mb_is_413_and_the_answer_arrives() {
    let (address, _server) = start(EdgeLimits::default(), HttpAuth::Off).await;
    let body = format!("{{\"content\":\"{}\"}}", "x".repeat(20 << 20));
    let answer = request(address, "POST /submit HTTP/1.1", &body).await;
    assert_eq!(
        (status(&answer), json(&answer)["code"].clone()),
        (413, "too_large".into())
    );
    // Undeclared: found out while reading.
    let mut chunked =
        b"POST /submit HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    chunked.extend_from_slice(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes());
    let answer = talk(address, &chunked).await;
    assert_eq!(
        (status(&answer), json(&answer)["code"].clone()),
        (413, "too_large".into())
    );
    // One byte less than too much is read.
    let most = format!("{{\"content\":\"{}\"}}", "x".repeat((1 << 20) - 14));
    assert_eq!(most.len(), 1 << 20);
    assert_eq!(
        status(&request(address, "POST /submit HTTP/1.1", &most).await),
        200
    );
}

#[tokio::test]
async fn wrong_hosts_and_foreign_pages_are_refused_over_the_wire() {
    let (address, _server) = start(EdgeLimits::default(), HttpAuth::Off).await;
    let evil = talk(
        address,
        b"GET /health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(
        (status(&evil), json(&evil)["code"].clone()),
        (421, "wrong_host".into())
    );
    let none = talk(
        address,
        b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(status(&none), 400);
    let foreign = request(
        address,
        "POST /submit HTTP/1.1\r\nOrigin: http://evil.example",
        "{}",
    )
    .await;
    assert_eq!(
        (status(&foreign), json(&foreign)["code"].clone()),
        (403, "foreign_origin".into())
    );
    let old = talk(address, b"GET /health HTTP/1.0\r\n\r\n").await;
    assert_eq!(status(&old), 200);
}

#[tokio::test]
async fn without_tokens_admin_routes_name_the_socket() {
    let answer = plain("POST /scale HTTP/1.1", "").await;
    assert_eq!(
        (status(&answer), json(&answer)["code"].clone()),
        (403, "admin_required".into())
    );
    let error = json(&answer)["error"].to_string();
    assert!(
        error.contains("/run/deia/admin.sock") && error.contains("token create"),
        "{error}"
    );
    assert_eq!(status(&plain("GET /hidden HTTP/1.1", "").await), 200);
}

#[tokio::test]
async fn with_tokens_the_scope_decides() {
    let (address, _server) = start(EdgeLimits::default(), HttpAuth::Tokens).await;
    let with = async |head: &str, bearer: &str| {
        request(
            address,
            &format!("{head}\r\nAuthorization: Bearer {bearer}"),
            "{}",
        )
        .await
    };
    assert_eq!(
        status(&request(address, "GET /health HTTP/1.1", "").await),
        200
    );
    let nobody = request(address, "GET /who HTTP/1.1", "").await;
    assert_eq!(status(&nobody), 401);
    assert!(nobody.contains("www-authenticate: Bearer"), "{nobody}");
    assert_eq!(
        status(&request(address, "GET /nowhere HTTP/1.1", "").await),
        401
    );
    assert_eq!(status(&with("GET /who HTTP/1.1", "deia_bot").await), 403);
    assert_eq!(status(&with("GET /hidden HTTP/1.1", "deia_bot").await), 403);
    assert_eq!(status(&with("POST /scale HTTP/1.1", "deia_all").await), 200);
    let who = with("GET /who HTTP/1.1", "deia_all").await;
    assert!(
        who.contains("credential ") && !who.contains("deia_all"),
        "{who}"
    );
}

#[tokio::test]
async fn a_panic_is_one_500_and_the_next_request_is_answered() {
    let (address, _server) = start(EdgeLimits::default(), HttpAuth::Off).await;
    let answer = request(address, "GET /panic HTTP/1.1", "").await;
    assert_eq!(
        (status(&answer), json(&answer)["code"].clone()),
        (500, "internal".into())
    );
    assert!(!answer.contains("on purpose"), "{answer}");
    assert_eq!(
        status(&request(address, "GET /health HTTP/1.1", "").await),
        200
    );
}

#[tokio::test]
async fn oversized_heads_and_nonsense_are_4xx() {
    let (address, _server) = start(EdgeLimits::default(), HttpAuth::Off).await;
    let huge = format!(
        "GET /health HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "x".repeat(200_000)
    );
    let many = format!(
        "GET /health HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
        "X: y\r\n".repeat(200)
    );
    for bad in [
        huge.as_str(),
        &many,
        "nonsense\r\n\r\n",
        "\u{1}\u{2}\r\n\r\n",
        "GET /health HTTP/9.9\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The daemon may close before all of it is sent.
        drop(stream.write_all(bad.as_bytes()).await);
        let answer = read_all(&mut stream).await;
        assert!(
            (400..500).contains(&status(&answer)) || answer.is_empty(),
            "{bad:.40}: {answer}"
        );
    }
    assert_eq!(
        status(&request(address, "GET /health HTTP/1.1", "").await),
        200
    );
}
