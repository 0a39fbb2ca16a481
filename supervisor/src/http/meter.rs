//! What was asked, how it was answered, and how fast: counted at the edge, without a lock.
//!
//! A route is known by its path with `{parameters}`, so what is counted by is bounded by the API itself.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use utoipa::openapi::OpenApi;

use crate::brain::record::day::MAX_MINUTES;
use crate::brain::record::histogram::{Histogram, SHORT, STEPS, step};

/// Classes of status codes: 1xx to 5xx.
pub const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Paths there are not.
const UNMATCHED: &str = "unmatched";
/// Requests of those who were not let in.
const REFUSED: &str = "refused";

const MINUTE_SECONDS: u64 = 60;

/// Counts requests.
#[derive(Debug)]
pub struct HttpMeter {
    base: Instant,
    routes: OnceLock<Routes>,
    unmatched: Route,
    refused: Route,
    steps: [AtomicU64; STEPS + 1],
    micros: AtomicU64,
    minutes: Box<[Minute]>,
}

#[derive(Debug, Default)]
struct Routes {
    fixed: HashMap<String, Route>,
    /// With parameters: `None` stands for one.
    others: Vec<(Vec<Option<String>>, String, Route)>,
}

#[derive(Debug, Default)]
struct Route {
    classes: [AtomicU64; CLASSES.len()],
    micros: AtomicU64,
}

#[derive(Debug, Default)]
struct Minute {
    /// Which, from 1.
    number: AtomicU64,
    requests: AtomicU64,
    errors: AtomicU64,
    micros: AtomicU64,
}

/// A route, as it was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteCounts {
    /// Its path.
    pub route: String,
    /// Answers by [`CLASSES`].
    pub classes: [u64; CLASSES.len()],
    /// How long they took together, to their first byte.
    pub micros: u64,
}

/// A minute, as it was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinuteCounts {
    /// How long ago it began.
    pub ago: Duration,
    /// Requests.
    pub requests: u64,
    /// Answers of 400 and more.
    pub errors: u64,
    /// How long all took together.
    pub micros: u64,
}

impl Default for HttpMeter {
    fn default() -> Self {
        let minutes = (0..MAX_MINUTES).map(|_| Minute::default());
        Self {
            base: Instant::now(),
            routes: OnceLock::new(),
            unmatched: Route::default(),
            refused: Route::default(),
            steps: std::array::from_fn(|_| AtomicU64::new(0)),
            micros: AtomicU64::new(0),
            minutes: minutes.collect(),
        }
    }
}

impl HttpMeter {
    /// Learns the routes; before that, and the second time, nothing is learned.
    pub fn know(&self, document: &OpenApi) {
        let mut routes = Routes::default();
        for path in document.paths.paths.keys() {
            if path.contains('{') {
                let parts = path
                    .split('/')
                    .map(|part| (!part.starts_with('{')).then(|| part.to_owned()));
                routes
                    .others
                    .push((parts.collect(), path.clone(), Route::default()));
            } else {
                routes.fixed.insert(path.clone(), Route::default());
            }
        }
        // It was told before: the routes are the same.
        let _ = self.routes.set(routes);
    }

    /// A request for `path` that came at `begun` has its answer.
    pub fn answered(&self, path: &str, begun: Instant, status: StatusCode) {
        let route = self.routes.get().and_then(|routes| routes.find(path));
        self.count(route.unwrap_or(&self.unmatched), begun, status);
    }

    /// A request was refused at the door.
    pub fn refused(&self, begun: Instant, status: StatusCode) {
        self.count(&self.refused, begun, status);
    }

    fn count(&self, route: &Route, begun: Instant, status: StatusCode) {
        let now = Instant::now();
        let micros = now.duration_since(begun).as_micros();
        let micros = u64::try_from(micros).unwrap_or(u64::MAX);
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        if let Some(count) = route.classes.get(class) {
            count.fetch_add(1, Relaxed);
        }
        route.micros.fetch_add(micros, Relaxed);
        self.micros.fetch_add(micros, Relaxed);
        if let Some(count) = self.steps.get(step(&SHORT, micros)) {
            count.fetch_add(1, Relaxed);
        }
        let number = now.duration_since(self.base).as_secs() / MINUTE_SECONDS + 1;
        let Some(minute) = self.minutes.get((number % MAX_MINUTES) as usize) else {
            return;
        };
        let had = minute.number.load(Relaxed);
        // Whoever comes first in a minute clears its place; a few that come at that very moment are not seen.
        if had != number
            && minute
                .number
                .compare_exchange(had, number, Relaxed, Relaxed)
                .is_ok()
        {
            for count in [&minute.requests, &minute.errors, &minute.micros] {
                count.store(0, Relaxed);
            }
        }
        minute.requests.fetch_add(1, Relaxed);
        minute.micros.fetch_add(micros, Relaxed);
        if status.as_u16() >= 400 {
            minute.errors.fetch_add(1, Relaxed);
        }
    }

    /// The routes that were used.
    pub fn routes(&self) -> Vec<RouteCounts> {
        let known = self.routes.get();
        let fixed = known.into_iter().flat_map(|routes| &routes.fixed);
        let others = known.into_iter().flat_map(|routes| &routes.others);
        let mut found: Vec<RouteCounts> = fixed
            .map(|(path, route)| (path.as_str(), route))
            .chain(others.map(|(_, path, route)| (path.as_str(), route)))
            .chain([(UNMATCHED, &self.unmatched), (REFUSED, &self.refused)])
            .map(|(path, route)| RouteCounts {
                route: path.to_owned(),
                classes: std::array::from_fn(|n| {
                    route.classes.get(n).map_or(0, |count| count.load(Relaxed))
                }),
                micros: route.micros.load(Relaxed),
            })
            .filter(|route| route.classes.iter().any(|count| *count > 0))
            .collect();
        found.sort_by(|a, b| a.route.cmp(&b.route));
        found
    }

    /// How long answers took.
    pub fn latency(&self) -> Histogram {
        let counts =
            std::array::from_fn(|n| self.steps.get(n).map_or(0, |count| count.load(Relaxed)));
        Histogram::of(&SHORT, counts, self.micros.load(Relaxed))
    }

    /// The minutes of the last so many hours in which something was asked, oldest first.
    pub fn minutes(&self, hours: u32) -> Vec<MinuteCounts> {
        let up = self.base.elapsed();
        let now = up.as_secs() / MINUTE_SECONDS + 1;
        let first = now.saturating_sub(u64::from(hours) * 60);
        let mut found: Vec<(u64, MinuteCounts)> = Vec::new();
        for minute in &self.minutes {
            let number = minute.number.load(Relaxed);
            if number == 0 || number < first || number + MAX_MINUTES <= now {
                continue;
            }
            let began = Duration::from_secs((number - 1) * MINUTE_SECONDS);
            found.push((
                number,
                MinuteCounts {
                    ago: up.saturating_sub(began),
                    requests: minute.requests.load(Relaxed),
                    errors: minute.errors.load(Relaxed),
                    micros: minute.micros.load(Relaxed),
                },
            ));
        }
        found.sort_by_key(|(number, _)| *number);
        found.into_iter().map(|(_, counts)| counts).collect()
    }
}

impl Routes {
    fn find(&self, path: &str) -> Option<&Route> {
        if let Some(route) = self.fixed.get(path) {
            return Some(route);
        }
        let fits = |known: &[Option<String>]| {
            let mut parts = path.split('/');
            let all = known.iter().all(|segment| match (segment, parts.next()) {
                (Some(text), Some(part)) => text == part,
                (None, Some(part)) => !part.is_empty(),
                (_, None) => false,
            });
            all && parts.next().is_none()
        };
        let found = self.others.iter().find(|(known, _, _)| fits(known));
        found.map(|(_, _, route)| route)
    }
}

#[cfg(test)]
mod tests {
    use utoipa::openapi::path::{HttpMethod, Operation, PathItem};
    use utoipa::openapi::{OpenApi, Paths};

    use super::*;

    fn meter() -> HttpMeter {
        let mut paths = Paths::new();
        for path in ["/health", "/api/tasks/{id}", "/api/tasks/{id}/cancel"] {
            let item = PathItem::new(HttpMethod::Get, Operation::new());
            paths.paths.insert(path.to_owned(), item);
        }
        let meter = HttpMeter::default();
        let mut document = OpenApi::default();
        document.paths = paths;
        meter.know(&document);
        meter
    }

    #[test]
    fn what_is_counted_by_is_bounded_whatever_is_asked() {
        let meter = meter();
        let now = Instant::now();
        for n in 0..100 {
            meter.answered(&format!("/api/tasks/t-{n}"), now, StatusCode::OK);
            meter.answered(&format!("/nowhere/{n}"), now, StatusCode::NOT_FOUND);
        }
        meter.answered("/api/tasks/t/cancel", now, StatusCode::CONFLICT);
        meter.answered("/api/tasks/", now, StatusCode::NOT_FOUND);
        meter.refused(now, StatusCode::MISDIRECTED_REQUEST);
        let routes = meter.routes();
        let seen: Vec<_> = routes
            .iter()
            .map(|r| (r.route.as_str(), r.classes))
            .collect();
        assert_eq!(
            seen,
            [
                ("/api/tasks/{id}", [0, 100, 0, 0, 0]),
                ("/api/tasks/{id}/cancel", [0, 0, 0, 1, 0]),
                ("refused", [0, 0, 0, 1, 0]),
                ("unmatched", [0, 0, 0, 101, 0]),
            ]
        );
        assert_eq!(meter.latency().count(), 203);
        let minutes = meter.minutes(24);
        assert_eq!(minutes.iter().map(|m| m.requests).sum::<u64>(), 203);
        assert_eq!(minutes.iter().map(|m| m.errors).sum::<u64>(), 103);
    }

    #[test]
    fn counts_of_many_threads_all_arrive() {
        let meter = meter();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        meter.answered("/health", Instant::now(), StatusCode::OK);
                    }
                });
            }
        });
        assert_eq!(meter.routes()[0].classes[1], 4000);
        assert_eq!(meter.latency().count(), 4000);
    }
}
