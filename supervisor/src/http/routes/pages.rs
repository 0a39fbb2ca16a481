//! Pages for people: the dashboard and the API's document. They are the same for everybody and hold nothing of this
//! fleet; what they show they ask for, with the scope read.
//!
//! A page from here runs the scripts that stand here and no other: the policy forbids everything else, and the
//! scripts put what they were answered into text nodes. So a name or an answer that looks like markup is
//! shown as what it is.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::response::{IntoResponse, Response};

use crate::http::error::ApiFailure;
use crate::http::extract::PathArgs;

/// Nothing but our own files, and no page of another's around ours.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// What the pages are made of.
const ASSETS: &[(&str, &str, &str)] = &[
    ("style.css", STYLE, include_str!("../assets/style.css")),
    ("common.js", SCRIPT, include_str!("../assets/common.js")),
    ("docs.js", SCRIPT, include_str!("../assets/docs.js")),
    (
        "dashboard.js",
        SCRIPT,
        include_str!("../assets/dashboard.js"),
    ),
];

/// The dashboard: bots, queue, throughput, alerts, failures and recent tasks, as they are.
#[utoipa::path(get, path = "/", tag = "pages", responses(
    (status = 200, body = String, content_type = "text/html", description = "A page; it needs nothing from elsewhere"),
))]
pub async fn dashboard() -> Response {
    page(HTML, include_str!("../assets/dashboard.html"))
}

/// `openapi.json` as a page.
#[utoipa::path(get, path = "/docs", tag = "pages", responses(
    (status = 200, body = String, content_type = "text/html", description = "A page; it needs nothing from elsewhere"),
))]
pub async fn docs() -> Response {
    page(HTML, include_str!("../assets/docs.html"))
}

/// The same, where the original had another page of it.
#[utoipa::path(get, path = "/redoc", tag = "pages", responses(
    (status = 200, body = String, content_type = "text/html", description = "A page; it needs nothing from elsewhere"),
))]
pub async fn redoc() -> Response {
    docs().await
}

/// A script or a style of the pages.
#[utoipa::path(get, path = "/assets/{name}", tag = "pages", params(("name" = String, Path)), responses(
    (status = 200, body = String, content_type = "text/javascript"),
    (status = 404, body = deia::api::ApiError),
))]
pub async fn asset(PathArgs(name): PathArgs<String>) -> Result<Response, ApiFailure> {
    let found = ASSETS.iter().find(|(known, _, _)| *known == name);
    let (_, kind, text) = found.ok_or_else(|| ApiFailure::not_found("Not Found"))?;
    Ok(page(kind, text))
}

fn page(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        // They belong to this release: another one may be there a moment later.
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What would make markup of a text, or run one.
    const NEVER: &[&str] = &[
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "new Function",
        "srcdoc",
        "DOMParser",
        "javascript:",
        "setHTML",
        "createContextualFragment",
    ];

    #[test]
    fn no_script_makes_markup_of_a_text_and_nothing_comes_from_elsewhere() {
        let pages = [
            include_str!("../assets/dashboard.html"),
            include_str!("../assets/docs.html"),
        ];
        for text in ASSETS.iter().map(|(_, _, text)| *text).chain(pages) {
            for word in NEVER {
                assert!(!text.contains(word), "{word}");
            }
            let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!elsewhere.contains("://"), "an address in a page");
        }
        for page in pages {
            for inline in [" on", " style="] {
                let has = page
                    .split('<')
                    .filter(|tag| tag.split('>').next().unwrap_or("").contains(inline));
                assert_eq!(has.count(), 0, "{inline}");
            }
            assert!(!page.contains("<script>") && !page.contains("<style"));
        }
    }
}
