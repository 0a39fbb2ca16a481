//! What holds for every route of the table: methods, paths, HEAD, and bodies that are none.

use serde_json::{Map, Value};

use crate::Report;
use crate::common::Response;
use crate::fleet::Fleet;

type Row<'a> = &'a Map<String, Value>;

/// Asks it of every row that is no repetition; `acts` are those that change something.
pub fn look(fleet: &Fleet, acts: &[Row<'_>], looks: &[Row<'_>], report: &mut Report) {
    let mut judge = |what: String, answer: &Response, status: u16, is: bool| {
        let mut faults = Vec::new();
        if answer.status != status || !is {
            faults.push(format!("not {status}: {answer:?}"));
        }
        report.note(&what, &faults);
    };
    let is_new = |row: &&Row<'_>| !row.contains_key("also");
    for row in looks.iter().filter(is_new) {
        let target = target(fleet, row);
        let plain = fleet.ask("GET", &target, None).status;
        let head = fleet.ask("HEAD", &target, None);
        let empty = head.text.is_empty();
        judge(format!("HEAD {target}"), &head, plain, empty);
        let wrong = fleet.ask("DELETE", &target, None);
        let allowed = wrong
            .header("allow")
            .is_some_and(|allow| allow.contains("GET"));
        judge(
            format!("DELETE {target}"),
            &wrong,
            405,
            allowed && is_refusal(&wrong),
        );
        let path = target.split('?').next().unwrap();
        let slash = fleet.ask("GET", &format!("{path}/"), None);
        let back = slash.header("location") == Some(path);
        judge(format!("GET {path}/"), &slash, 307, back);
    }
    for row in acts.iter().filter(is_new) {
        let target = target(fleet, row);
        let wrong = fleet.ask("GET", &target, None);
        let allowed = wrong
            .header("allow")
            .is_some_and(|allow| allow.contains("POST"));
        judge(
            format!("GET {target}"),
            &wrong,
            405,
            allowed && is_refusal(&wrong),
        );
        if !row.contains_key("body") {
            continue;
        }
        for (body, kind, loc) in [
            ("{\"content\": ", "json_invalid", None),
            ("not JSON", "json_invalid", None),
            ("[1, 2]", "dict_type", Some("body")),
            ("\"text\"", "dict_type", Some("body")),
        ] {
            let answer = fleet.ask("POST", &target, Some(body.as_bytes()));
            let first = &answer.body["detail"][0];
            let mut is = first["type"] == kind && first["loc"][0] == "body";
            is &= first["msg"].is_string() && first.get("input").is_some();
            // The original named the byte.
            is &= loc.is_some() || first["loc"][1].is_u64() && first["ctx"]["error"].is_string();
            judge(format!("POST {target} {body}"), &answer, 422, is);
        }
    }
    let nowhere = fleet.ask("GET", "/api/nowhere", None);
    let is = is_refusal(&nowhere);
    judge("GET /api/nowhere".to_owned(), &nowhere, 404, is);
    let nothing = fleet.ask("POST", "/api/orchestrate", None);
    let first = &nothing.body["detail"][0];
    let is = first["type"] == "missing" && first["input"].is_null() && first["loc"][0] == "body";
    judge(
        "POST /api/orchestrate, no body".to_owned(),
        &nothing,
        422,
        is,
    );
}

fn target(fleet: &Fleet, row: Row<'_>) -> String {
    let ask = row["ask"].as_str().unwrap();
    fleet.fill_in(ask.split_once(' ').unwrap().1)
}

fn is_refusal(answer: &Response) -> bool {
    let body = &answer.body;
    body["success"] == false && body["error"].is_string() && body["detail"].is_string()
}
