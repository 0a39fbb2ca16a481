//! Routes the contract names whose feature is not built yet: each answers 501 `not_implemented`, and
//! `openapi.json` marks it.

use axum::extract::Request;
use axum::routing::{MethodFilter, on};
use deia::api::Scope;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, PathItem};
use utoipa::openapi::{ResponseBuilder, extensions::ExtensionsBuilder};
use utoipa_axum::router::OpenApiRouter;

use super::Shared;
use crate::http::error::ApiFailure;
use crate::http::scope::{ScopedRouter, open, scoped};

/// The extension that marks them.
pub const MARK: &str = "x-not-implemented";

const EXTERNAL: &str = "external bots";

use HttpMethod::Post;
use Scope::{Admin, Bot};

const NOT_BUILT: &[(HttpMethod, &str, Scope, &str)] = &[
    (Post, "/api/orchestrate/register-bot", Admin, EXTERNAL),
    (Post, "/api/bots/{id}/lease", Bot, EXTERNAL),
    (Post, "/api/bots/{id}/heartbeat", Bot, EXTERNAL),
    (Post, "/api/bots/{id}/tasks/{task}/output", Bot, EXTERNAL),
    (Post, "/api/bots/{id}/tasks/{task}/complete", Bot, EXTERNAL),
    (Post, "/api/bots/{id}/tasks/{task}/fail", Bot, EXTERNAL),
];

/// All of them. A scope of which nothing is missing any more has no router: a layer needs routes to be over.
pub fn routes() -> ScopedRouter<Shared> {
    let missing = |scope: &Scope| NOT_BUILT.iter().any(|(_, _, of, _)| of == scope);
    Scope::ALL
        .into_iter()
        .filter(missing)
        .fold(open(OpenApiRouter::new()), |all, scope| {
            all.merge(scoped(scope, of(scope)))
        })
}

fn of(scope: Scope) -> OpenApiRouter<Shared> {
    let mut router = OpenApiRouter::new();
    for (method, path, _, feature) in NOT_BUILT.iter().filter(|(_, _, s, _)| *s == scope) {
        let filter = match method {
            HttpMethod::Post => MethodFilter::POST,
            _ => MethodFilter::GET,
        };
        router = router.route(path, on(filter, move |_: Request| refuse(feature)));
        let operation = OperationBuilder::new()
            .summary(Some(format!("Not built yet: {feature}")))
            .tag("not built yet")
            .response(
                "501",
                ResponseBuilder::new()
                    .description("`not_implemented`")
                    .build(),
            )
            .extensions(Some(ExtensionsBuilder::new().add(MARK, true).build()))
            .build();
        let document = router.get_openapi_mut();
        let item = PathItem::new(method.clone(), operation);
        match document.paths.paths.get_mut(*path) {
            Some(known) => known.merge_operations(item),
            None => {
                document.paths.paths.insert((*path).to_owned(), item);
            }
        }
    }
    router
}

async fn refuse(feature: &str) -> ApiFailure {
    ApiFailure::not_implemented(feature)
}
