//! What a route requires, and how it comes into the daemon.
//!
//! A route is served only as part of a [`ScopedRouter`], which only [`scoped`] and [`open`] make: a
//! route without a scope does not compile. The scope is enforced by a middleware and stands in the
//! OpenAPI document as `x-scope` (`none` for [`open`]).

use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::{Router, body::Body};
use deia::api::Scope;
use futures_util::future::Either;
use tower::{Layer, Service};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;

use super::error::ApiFailure;
use super::guard::{Caller, Via};

/// The extension of an OpenAPI operation that names its scope.
pub const SCOPE_EXTENSION: &str = "x-scope";
/// Its value for routes that require none.
pub const NO_SCOPE: &str = "none";

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScopeSet(u8);

impl ScopeSet {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// GETs only.
    pub const READ: Self = Self::NONE.with(Scope::Read);
    /// What loopback has without tokens.
    pub const LOOPBACK: Self = Self::READ.with(Scope::Submit).with(Scope::Bot);
    /// Everything.
    pub const ALL: Self = Self::LOOPBACK.with(Scope::Admin);

    /// The same and `scope`.
    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | Self::bit(scope))
    }

    /// Whether `scope` is in it.
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & Self::bit(scope) != 0
    }

    const fn bit(scope: Scope) -> u8 {
        match scope {
            Scope::Read => 1,
            Scope::Submit => 2,
            Scope::Bot => 4,
            Scope::Admin => 8,
        }
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Scope::ALL
            .into_iter()
            .filter(|scope| self.has(*scope))
            .map(Scope::as_str)
            .collect();
        f.write_str(&names.join(", "))
    }
}

/// Routes whose scope is settled.
#[derive(Clone)]
pub struct ScopedRouter<S>(OpenApiRouter<S>);

impl<S> fmt::Debug for ScopedRouter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScopedRouter")
    }
}

impl<S: Clone + Send + Sync + 'static> ScopedRouter<S> {
    /// Both.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self(self.0.merge(other.0))
    }

    /// The document so far, to add to.
    pub fn openapi_mut(&mut self) -> &mut OpenApi {
        self.0.get_openapi_mut()
    }
}

/// These routes, for callers with `scope`.
pub fn scoped<S>(scope: Scope, router: OpenApiRouter<S>) -> ScopedRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    let mut router = router.route_layer(RequireScope(scope));
    mark(router.get_openapi_mut(), scope.as_str());
    ScopedRouter(router)
}

/// These routes, for everyone the guard lets in; over TCP with tokens that is nobody without one, but
/// for `/health*`.
pub fn open<S>(mut router: OpenApiRouter<S>) -> ScopedRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    mark(router.get_openapi_mut(), NO_SCOPE);
    ScopedRouter(router)
}

/// The whole service: the routes, the contract's 404 and 405, and a redirect from `path/` to `path`.
pub fn assemble<S>(routes: ScopedRouter<S>, state: S) -> (Router, OpenApi)
where
    S: Clone + Send + Sync + 'static,
{
    let (router, document) = routes.0.split_for_parts();
    let paths = Arc::new(Paths::of(&document));
    let fallback = Router::new().fallback(unknown_path).with_state(paths);
    let router = router
        .method_not_allowed_fallback(wrong_method)
        .with_state(state)
        .fallback_service(fallback);
    (router, document)
}

/// Operations without `x-scope`: `GET /path`. Empty, or the document is wrong.
pub fn unscoped_operations(document: &OpenApi) -> Vec<String> {
    let mut found = Vec::new();
    for (path, item) in &document.paths.paths {
        for (method, operation) in operations(item) {
            let marked = operation
                .extensions
                .as_ref()
                .is_some_and(|x| x.contains_key(SCOPE_EXTENSION));
            if !marked {
                found.push(format!("{method} {path}"));
            }
        }
    }
    found
}

fn mark(document: &mut OpenApi, scope: &str) {
    for item in document.paths.paths.values_mut() {
        for operation in operations_mut(item) {
            operation
                .extensions
                .get_or_insert_default()
                .insert(SCOPE_EXTENSION.into(), scope.into());
            operation.security = Some(match scope {
                NO_SCOPE => vec![SecurityRequirement::default()],
                _ => vec![
                    SecurityRequirement::default(),
                    SecurityRequirement::new(SECURITY_SCHEME, [""; 0]),
                ],
            });
            let has_body = operation.request_body.is_some();
            for (status, name, when, _) in EVERYWHERE {
                let applies = match when {
                    When::Always => true,
                    When::Scoped => scope != NO_SCOPE,
                    When::Body => has_body,
                };
                if applies {
                    let responses = &mut operation.responses.responses;
                    responses
                        .entry((*status).to_owned())
                        .or_insert_with(|| RefOr::Ref(Ref::from_response_name(*name)));
                }
            }
        }
    }
}

/// The name of the way to come with a token, in the document.
const SECURITY_SCHEME: &str = "token";

/// Where an answer of the edge may come from.
#[derive(Debug, Clone, Copy)]
enum When {
    Always,
    Scoped,
    Body,
}

/// What any operation may be answered before it is reached: status, name, where, what it means.
const EVERYWHERE: &[(&str, &str, When, &str)] = &[
    (
        "400",
        "BadRequest",
        When::Always,
        "The `Host` is missing or said twice, or the body broke off",
    ),
    (
        "401",
        "Unauthorized",
        When::Scoped,
        "No token where one is needed, or one that is not known, has expired or was revoked",
    ),
    (
        "403",
        "Forbidden",
        When::Always,
        "A scope the caller does not have, or a page of another origin",
    ),
    (
        "408",
        "RequestTimeout",
        When::Body,
        "The body did not come in time",
    ),
    (
        "413",
        "ContentTooLarge",
        When::Body,
        "The body is larger than `http.max_body_bytes`",
    ),
    (
        "421",
        "Misdirected",
        When::Always,
        "A `Host` that is not this daemon's",
    ),
    (
        "429",
        "TooManyRequests",
        When::Scoped,
        "More than `rate_limits` allow; `Retry-After` says when to come back",
    ),
    (
        "503",
        "Unavailable",
        When::Scoped,
        "The daemon is stopping, or has no room for it now; `Retry-After` says when to ask again",
    ),
];

/// Puts what [`scoped`] and [`open`] refer to into the document.
pub fn complete(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    for (_, name, _, what) in EVERYWHERE {
        let content = Content::new(Some(Ref::from_schema_name("ApiError")));
        let response = ResponseBuilder::new()
            .description(*what)
            .content("application/json", content)
            .build();
        components
            .responses
            .insert((*name).to_owned(), RefOr::T(response));
    }
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "`deiactl token create`; needed over TCP with `http.auth: tokens`",
        ))
        .build();
    components.add_security_scheme(SECURITY_SCHEME, SecurityScheme::Http(bearer));
}

fn operations(item: &PathItem) -> impl Iterator<Item = (&'static str, &Operation)> {
    [
        ("GET", &item.get),
        ("PUT", &item.put),
        ("POST", &item.post),
        ("DELETE", &item.delete),
        ("OPTIONS", &item.options),
        ("HEAD", &item.head),
        ("PATCH", &item.patch),
        ("TRACE", &item.trace),
        ("QUERY", &item.query),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
}

fn operations_mut(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.options,
        &mut item.head,
        &mut item.patch,
        &mut item.trace,
        &mut item.query,
    ]
    .into_iter()
    .filter_map(Option::as_mut)
}

async fn wrong_method(request: Request) -> ApiFailure {
    ApiFailure::method_not_allowed(request.method(), request.uri().path())
}

async fn unknown_path(State(paths): State<Arc<Paths>>, request: Request) -> Response<Body> {
    let path = request.uri().path();
    let bare = path.trim_end_matches('/');
    if bare.len() < path.len() && paths.has(bare) {
        let target = match request.uri().query() {
            Some(query) => format!("{bare}?{query}"),
            None => bare.to_owned(),
        };
        if let Ok(location) = HeaderValue::from_str(&target) {
            return (
                StatusCode::TEMPORARY_REDIRECT,
                [(header::LOCATION, location)],
            )
                .into_response();
        }
    }
    ApiFailure::not_found("Not Found")
        .detail(format!(
            "there is no {path}; GET /openapi.json lists what there is"
        ))
        .into_response()
}

/// The paths of a document, with their `{parameters}`.
#[derive(Debug, Default)]
struct Paths(Vec<Vec<Option<String>>>);

impl Paths {
    fn of(document: &OpenApi) -> Self {
        let segments = |path: &String| {
            path.split('/')
                .map(|part| (!part.starts_with('{')).then(|| part.to_owned()))
                .collect()
        };
        Self(document.paths.paths.keys().map(segments).collect())
    }

    fn has(&self, path: &str) -> bool {
        // A path of ours begins with one slash: `//elsewhere` would be another host in a redirect.
        if !path.starts_with('/') || path.starts_with("//") {
            return false;
        }
        self.0.iter().any(|known| {
            let mut parts = path.split('/');
            let all = known.iter().all(|segment| match (segment, parts.next()) {
                (Some(text), Some(part)) => text == part,
                (None, Some(part)) => !part.is_empty(),
                (_, None) => false,
            });
            all && parts.next().is_none()
        })
    }
}

/// Lets only callers with a scope through.
#[derive(Debug, Clone, Copy)]
struct RequireScope(Scope);

impl<I> Layer<I> for RequireScope {
    type Service = Required<I>;

    fn layer(&self, inner: I) -> Required<I> {
        Required {
            scope: self.0,
            inner,
        }
    }
}

#[derive(Debug, Clone)]
struct Required<I> {
    scope: Scope,
    inner: I,
}

impl<I> Service<Request> for Required<I>
where
    I: Service<Request, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<std::future::Ready<Result<Response<Body>, Infallible>>, I::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match permit(self.scope, &request) {
            Ok(()) => Either::Right(self.inner.call(request)),
            Err(refused) => Either::Left(std::future::ready(Ok(refused.into_response()))),
        }
    }
}

fn permit(scope: Scope, request: &Request) -> Result<(), ScopeRefusal> {
    let nobody = Caller::nobody();
    let caller = request.extensions().get::<Caller>().unwrap_or(&nobody);
    if caller.scopes.has(scope) {
        return Ok(());
    }
    let code = match scope {
        Scope::Admin => "admin_required",
        Scope::Read | Scope::Submit | Scope::Bot => "scope_required",
    };
    let has = match caller.via {
        Via::Token(_) => format!("this token has {}", caller.scopes),
        Via::Loopback => "TCP without a token has read, submit and bot".to_owned(),
        Via::BotSocket => "a bot has read, submit and bot".to_owned(),
        Via::AdminSocket | Via::Anonymous => "this caller has no scope".to_owned(),
    };
    Err(ScopeRefusal {
        code,
        scope,
        what: format!(
            "{} {} needs scope {scope}; {has}",
            request.method(),
            request.uri().path()
        ),
    })
}

/// A caller without the scope. Travels in the answer's extensions to the edge, which knows where the
/// admin socket is and words the remedy.
#[derive(Debug, Clone)]
pub(super) struct ScopeRefusal {
    code: &'static str,
    scope: Scope,
    what: String,
}

impl ScopeRefusal {
    /// The answer, naming the remedies.
    pub(super) fn failure(&self, admin_socket: &Path) -> ApiFailure {
        let (what, scope) = (&self.what, self.scope);
        ApiFailure::forbidden(
            self.code,
            format!(
                "{what}. Use the admin socket {} (deiactl does), or a token made by `deiactl token create --scope {scope}` with `http.auth: tokens`",
                admin_socket.display()
            ),
        )
    }
}

impl IntoResponse for ScopeRefusal {
    fn into_response(self) -> Response<Body> {
        let mut response = self.failure(Path::new("admin.sock")).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_was_put_in() {
        for scope in Scope::ALL {
            assert!(!ScopeSet::NONE.has(scope));
            assert!(ScopeSet::ALL.has(scope));
            assert_eq!(ScopeSet::from_iter([scope]).to_string(), scope.as_str());
        }
        assert!(!ScopeSet::LOOPBACK.has(Scope::Admin));
    }

    #[test]
    fn redirects_only_to_paths_there_are() {
        let paths = Paths(vec![
            vec![
                Some(String::new()),
                Some("api".into()),
                Some("tasks".into()),
            ],
            vec![
                Some(String::new()),
                Some("api".into()),
                Some("tasks".into()),
                None,
            ],
        ]);
        assert!(paths.has("/api/tasks"));
        assert!(paths.has("/api/tasks/7"));
        for not in [
            "/api",
            "/api/tasks/7/x",
            "//api/tasks",
            "",
            "/api/tasks//",
            "//evil.example",
        ] {
            assert!(!paths.has(not), "{not}");
        }
    }
}
