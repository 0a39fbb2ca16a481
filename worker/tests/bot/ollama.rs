//! The ollama backend against a server that does what Ollama does, and what it should not.

use std::sync::atomic::Ordering;
use std::time::Duration;

use deia::config::{BackendSpec, ModelServer};
use deia::wire::{FailureKind, Usage};
use deia_worker::backends::{Answer, Failure};

use crate::model_server::{FaultServer, Step, ask, head, patient, send, serve};
use crate::rig::soon;

const OK: &str = "200 OK";
const NDJSON: &str = "application/x-ndjson";
const DONE: &str = "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"total_duration\":5,\"prompt_eval_count\":11,\"eval_count\":2}\n";

fn token(text: &str) -> String {
    format!(
        "{{\"model\":\"m\",\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"done\":false}}\n"
    )
}

fn spec(server: &FaultServer) -> BackendSpec {
    let url = format!("http://{}", server.address);
    BackendSpec::Ollama(patient(ModelServer::ollama(), url))
}

async fn answered(script: Vec<Step>) -> (String, Result<Answer, Failure>) {
    ask(spec(&serve(script).await)).await
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
        head(OK, NDJSON),
        send(&token("four")),
        send(&(token("ty") + &token("-two é"))),
        send(DONE),
    ])
    .await;
    let (said, answer) = ask(spec(&server)).await;
    assert_eq!(said, "fourty-two é");
    let answer = answer.unwrap();
    let usage = Usage {
        prompt_tokens: 11,
        completion_tokens: 2,
    };
    assert_eq!(answer.usage, usage);
    assert_eq!(answer.model.as_deref(), Some("qwen2.5-coder:7b"));
    let request = server.requests.recv().await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /api/chat HTTP/1.1"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let expected = serde_json::json!({
        "model": "qwen2.5-coder:7b",
        "messages": [{"role": "user", "content": "what is 6 x 7?"}],
        "stream": true,
        "keep_alive": "5m",
        "options": {"num_ctx": 8192, "temperature": 0.7, "num_predict": 2000},
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn the_last_line_may_lack_its_end() {
    let (_, answer) = answered(vec![head(OK, NDJSON), send(DONE.trim_end())]).await;
    answer.unwrap();
}

#[tokio::test]
async fn an_error_after_the_first_token_is_a_failure() {
    let error = "{\"error\":\"model runner has unexpectedly stopped\"}\n";
    let script = vec![head(OK, NDJSON), send(&token("four")), send(error)];
    let text = failed(script, FailureKind::Backend).await;
    assert!(text.contains("unexpectedly stopped"), "{text}");
}

#[tokio::test]
async fn an_end_before_done_is_a_failure_however_much_came() {
    let script = vec![head(OK, NDJSON), send(&token("four"))];
    let text = failed(script, FailureKind::Backend).await;
    assert!(text.contains("before it was done"), "{text}");
    failed(vec![head(OK, NDJSON)], FailureKind::Backend).await;
    let chunked = send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"mes");
    failed(vec![chunked], FailureKind::Backend).await;
    failed(
        vec![
            head(OK, NDJSON),
            send(&token("x")),
            Step::Wait(Duration::from_millis(100)),
            Step::Reset,
        ],
        FailureKind::Backend,
    )
    .await;
}

#[tokio::test]
async fn a_missing_model_is_permanent_in_both_wordings() {
    for words in [
        "model 'qwen2.5-coder:7b' not found",
        "model \\\"qwen2.5-coder:7b\\\" not found, try pulling it first",
    ] {
        let body = format!("{{\"error\":\"{words}\"}}");
        let script = vec![head("404 Not Found", "application/json"), send(&body)];
        let text = failed(script, FailureKind::Permanent).await;
        assert!(text.contains("ollama pull qwen2.5-coder:7b"), "{text}");
    }
}

#[tokio::test]
async fn overload_and_absence_are_unavailable_and_a_bad_request_is_not() {
    let body = "{\"error\":\"server busy, please try again.  maximum pending requests exceeded\"}";
    let busy = vec![
        head("503 Service Unavailable", "application/json"),
        send(body),
    ];
    let text = failed(busy, FailureKind::Unavailable).await;
    assert!(
        text.contains("503") && text.contains("server busy"),
        "{text}"
    );
    let bad = vec![head("400 Bad Request", "text/plain"), send("no")];
    failed(bad, FailureKind::Backend).await;
    failed(vec![Step::Reset], FailureKind::Unavailable).await;

    let closed = serve(Vec::new()).await.address.port();
    // A port that was free a moment ago and that nobody listens on now.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    assert_ne!(port, closed);
    drop(free);
    let url = format!("http://127.0.0.1:{port}");
    let (_, answer) = ask(BackendSpec::Ollama(patient(ModelServer::ollama(), url))).await;
    let failure = answer.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unreachable);
    assert!(failure.error.contains("refused"), "{}", failure.error);
}

#[tokio::test]
async fn slow_is_fine_while_it_progresses() {
    // Each byte well within the idle time-out, all of them well past it.
    let bytes = (token("x") + DONE).into_bytes();
    let pause = Duration::from_millis(10);
    let script = vec![
        head(OK, NDJSON),
        send(&token("x")),
        Step::Trickle(bytes, pause),
    ];
    let (said, answer) = answered(script).await;
    answer.unwrap();
    assert_eq!(said, "xx");
}

#[tokio::test]
async fn silence_times_out_before_the_first_token_and_between_two() {
    let text = failed(vec![Step::Silence], FailureKind::TimedOut).await;
    assert!(text.contains("first_token_timeout_seconds"), "{text}");
    let text = failed(vec![head(OK, NDJSON), Step::Silence], FailureKind::TimedOut).await;
    assert!(text.contains("first_token_timeout_seconds"), "{text}");
    // Bytes that make no token do not count as the first one.
    let blank = Step::Trickle(vec![b'\n'; 1000], Duration::from_millis(20));
    let text = failed(vec![head(OK, NDJSON), blank], FailureKind::TimedOut).await;
    assert!(text.contains("first_token_timeout_seconds"), "{text}");
    let script = vec![head(OK, NDJSON), send(&token("x")), Step::Silence];
    let text = failed(script, FailureKind::TimedOut).await;
    assert!(text.contains("idle_timeout_seconds"), "{text}");
}

#[tokio::test]
async fn garbage_and_endless_lines_are_failures() {
    for garbage in ["<html>502</html>\n", "{}x\n", "[1]\n", "\u{0}\n"] {
        failed(vec![head(OK, NDJSON), send(garbage)], FailureKind::Backend).await;
    }
    let text = failed(vec![head(OK, NDJSON), Step::Flood], FailureKind::Backend).await;
    assert!(text.contains("1048576"), "{text}");
}

#[tokio::test]
async fn cancelling_closes_the_connection() {
    let server = serve(vec![head(OK, NDJSON), send(&token("x")), Step::Silence]).await;
    let mut spec = spec(&server);
    if let BackendSpec::Ollama(server) = &mut spec {
        server.idle_timeout_seconds = 600.0;
    }
    let asked = tokio::time::timeout(Duration::from_millis(300), ask(spec)).await;
    assert!(asked.is_err(), "it was to wait");
    soon("the connection's end", async {
        while server.hung_up.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
