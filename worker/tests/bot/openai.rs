//! The openai backend against a server that does what such servers do, and what they should not.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use deia::config::{BackendSpec, ModelServer};
use deia::wire::{FailureKind, Usage};
use deia_worker::backends::{Answer, Failure};

use crate::model_server::{FaultServer, Step, ask, head, patient, send, serve};

const OK: &str = "200 OK";
const SSE: &str = "text/event-stream; charset=utf-8";
const STOP: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4,\"total_tokens\":13}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn token(text: &str) -> String {
    format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
    )
}

fn server_spec(server: &FaultServer) -> ModelServer {
    patient(
        ModelServer::openai(),
        format!("http://{}/v1/", server.address),
    )
}

async fn answered(script: Vec<Step>) -> (String, Result<Answer, Failure>) {
    ask(BackendSpec::Openai(server_spec(&serve(script).await))).await
}

async fn failed(script: Vec<Step>, kind: FailureKind) -> String {
    let (_, answer) = answered(script).await;
    let failure = answer.unwrap_err();
    assert_eq!(failure.kind, kind, "{}", failure.error);
    failure.error
}

#[tokio::test]
async fn an_answer_is_streamed_and_counted() {
    let mut server = serve(vec![
        head(OK, SSE),
        send(": hello\r\n\r\n"),
        send(&token("four").replace('\n', "\r\n")),
        send(&(token("ty") + &token("-two"))),
        send(STOP),
        send(USAGE),
        send(DONE),
    ])
    .await;
    let (said, answer) = ask(BackendSpec::Openai(server_spec(&server))).await;
    assert_eq!(said, "fourty-two");
    let usage = Usage {
        prompt_tokens: 9,
        completion_tokens: 4,
    };
    assert_eq!(answer.unwrap().usage, usage);
    let request = server.requests.recv().await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("POST /v1/chat/completions HTTP/1.1"),
        "{head}"
    );
    assert!(!head.to_lowercase().contains("authorization"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let expected = serde_json::json!({
        "model": "default",
        "messages": [{"role": "user", "content": "what is 6 x 7?"}],
        "max_tokens": 2000,
        "temperature": 0.7,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_finish_or_done_is_an_end_and_nothing_else_is() {
    let (_, answer) = answered(vec![head(OK, SSE), send(&token("x")), send(STOP)]).await;
    assert_eq!(answer.unwrap().usage.completion_tokens, 1, "counted here");
    let (_, answer) = answered(vec![head(OK, SSE), send(&token("x")), send("data: [DONE]")]).await;
    answer.unwrap();
    // The answer is whole: that its farewell breaks off does not matter.
    let script = vec![head(OK, SSE), send(&token("x")), send(STOP), Step::Silence];
    answered(script).await.1.unwrap();
    let text = failed(vec![head(OK, SSE), send(&token("x"))], FailureKind::Backend).await;
    assert!(text.contains("before it was done"), "{text}");
    failed(vec![head(OK, SSE)], FailureKind::Backend).await;
}

#[tokio::test]
async fn an_error_in_the_stream_is_a_failure() {
    let error = "data: {\"error\":{\"message\":\"context size exceeded\",\"code\":500}}\n\n";
    let script = vec![head(OK, SSE), send(&token("x")), send(error)];
    let text = failed(script, FailureKind::Backend).await;
    assert!(text.contains("context size exceeded"), "{text}");
}

#[tokio::test]
async fn statuses_are_told_apart() {
    let refusal = |status: &str| {
        vec![
            head(status, "application/json"),
            send("{\"error\":{\"message\":\"because\"}}"),
        ]
    };
    for (status, kind) in [
        ("401 Unauthorized", FailureKind::Permanent),
        ("403 Forbidden", FailureKind::Permanent),
        ("404 Not Found", FailureKind::Permanent),
        ("429 Too Many Requests", FailureKind::Unavailable),
        ("503 Service Unavailable", FailureKind::Unavailable),
        ("500 Internal Server Error", FailureKind::Backend),
        ("400 Bad Request", FailureKind::Backend),
        (
            "302 Found\r\nlocation: http://127.0.0.1:9/",
            FailureKind::Backend,
        ),
    ] {
        let text = failed(refusal(status), kind).await;
        assert!(
            text.contains("because") && text.contains(&status[..3]),
            "{text}"
        );
    }
    let page = vec![head(OK, "application/json"), send("{}")];
    let text = failed(page, FailureKind::Backend).await;
    assert!(text.contains("text/event-stream"), "{text}");
}

#[tokio::test]
async fn time_outs_are_as_for_ollama() {
    let text = failed(vec![Step::Silence], FailureKind::TimedOut).await;
    assert!(text.contains("first_token_timeout_seconds"), "{text}");
    let keep_alives = Step::Trickle(b": wait\n\n".repeat(100), Duration::from_millis(10));
    let text = failed(vec![head(OK, SSE), keep_alives], FailureKind::TimedOut).await;
    assert!(text.contains("first_token_timeout_seconds"), "{text}");
    let script = vec![head(OK, SSE), send(&token("x")), Step::Silence];
    let text = failed(script, FailureKind::TimedOut).await;
    assert!(text.contains("idle_timeout_seconds"), "{text}");
    let bytes = (token("y") + STOP + DONE).into_bytes();
    let slow = Step::Trickle(bytes, Duration::from_millis(10));
    let (said, answer) = answered(vec![head(OK, SSE), send(&token("x")), slow]).await;
    answer.unwrap();
    assert_eq!(said, "xy");
}

#[tokio::test]
async fn garbage_and_endless_events_are_failures() {
    for garbage in ["data: <html>\n\n", "data: {\"choices\":7}\n\n"] {
        failed(vec![head(OK, SSE), send(garbage)], FailureKind::Backend).await;
    }
    let text = failed(vec![head(OK, SSE), Step::Flood], FailureKind::Backend).await;
    assert!(text.contains("1048576"), "{text}");
}

#[tokio::test]
async fn the_key_is_sent_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, "sk-very-secret\n").unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let mut server = serve(vec![
        head("401 Unauthorized", "application/json"),
        send("{\"error\":{\"message\":\"Incorrect API key provided: sk-very-secret.\"}}"),
    ])
    .await;
    let spec = ModelServer {
        api_key_file: Some(key.clone()),
        ..server_spec(&server)
    };
    let (_, answer) = ask(BackendSpec::Openai(spec.clone())).await;
    let failure = answer.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert!(failure.error.contains("[redacted]"), "{}", failure.error);
    assert!(!failure.error.contains("sk-very"), "{}", failure.error);
    let request = server.requests.recv().await.unwrap();
    assert!(
        request.contains("authorization: Bearer sk-very-secret\r\n"),
        "{request}"
    );

    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    let (_, answer) = ask(BackendSpec::Openai(spec)).await;
    let failure = answer.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert!(failure.error.contains("chmod 600"), "{}", failure.error);
}
