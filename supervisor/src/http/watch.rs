//! How long a connection has kept the daemon waiting, and when that is too long.
//!
//! ```text
//!   accept ──> head ──> (body) ──> handler ──> answer ──> idle ──> head ...
//!              └────── the client keeps us waiting in all but the handler ──┘
//! ```
//!
//! One lazily re-armed timer per connection asks [`Watch::verdict`]; a request costs a few relaxed
//! atomic stores and no timer. (hyper's own `header_read_timeout` was tried first: it does cover the
//! first byte and the wait for the next head too, but with one value for all three, a timer
//! registration per request, and nothing for bodies and for clients that do not read.)
//! Bodies and answers must move at [`MIN_BYTES_PER_SECOND`] on average once the grace is over, so a byte
//! a second does not help. What moves faster earns no time for later: the kernel takes megabytes at once
//! in the stead of a client that reads nothing. The same numbers say whom to put out when the house is full:
//! [`Watch::kept_waiting_ms`].

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

use super::accept::EdgeLimits;

/// Slowest a body may come, and an answer may be read, on average after the grace.
pub const MIN_BYTES_PER_SECOND: u64 = 16 * 1024;

/// A client that has kept us waiting for less is not put out for a newcomer.
pub const EVICT_AFTER_MS: u64 = 5;

/// Within this a client that has dialled asks, unless it wants nothing.
const ABOUT_TO_ASK_MS: u64 = 200;

/// What the acceptor asks of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Command {
    /// Go on.
    Serve = 0,
    /// Answer what is being served, then give the socket back as it is: [`Watch::may_yield`].
    Yield = 1,
    /// Finish what was asked, then close.
    Finish = 2,
    /// Make room: [`Watch::leaves_now`].
    Leave = 3,
    /// Close now.
    Close = 4,
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// Nothing, or half a head, within the time.
    Head,
    /// No further request.
    Idle,
    /// The body stopped or trickles.
    Body,
    /// The answer is not read.
    Write,
}

/// What the timer does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Look again after this many milliseconds.
    Again(u64),
    /// Too late.
    Late(Late),
}

/// The clock of one connection. Every time is milliseconds since `base`, plus one; 0 is 'not waiting'.
#[derive(Debug)]
pub(super) struct Watch {
    base: Instant,
    head_since: AtomicU64,
    head_bytes_since: AtomicU64,
    served: AtomicBool,
    /// Moved on by what bytes earn, never past now; with the bytes that have earned nothing yet.
    body_since: AtomicU64,
    body_bytes: AtomicU64,
    body_moved: AtomicU64,
    body_late: AtomicBool,
    body_left: AtomicBool,
    write_since: AtomicU64,
    write_bytes: AtomicU64,
    command: AtomicU8,
    unread: AtomicBool,
    /// The connection's task.
    pub(super) task: AtomicWaker,
    /// Whoever reads the body; usually the same task.
    pub(super) reader: AtomicWaker,
}

impl Watch {
    pub(super) fn new(base: Instant) -> Self {
        let watch = Self {
            base,
            head_since: AtomicU64::new(0),
            head_bytes_since: AtomicU64::new(0),
            served: AtomicBool::new(false),
            body_since: AtomicU64::new(0),
            body_moved: AtomicU64::new(0),
            body_bytes: AtomicU64::new(0),
            body_late: AtomicBool::new(false),
            body_left: AtomicBool::new(false),
            write_since: AtomicU64::new(0),
            write_bytes: AtomicU64::new(0),
            command: AtomicU8::new(Command::Serve as u8),
            unread: AtomicBool::new(false),
            task: AtomicWaker::new(),
            reader: AtomicWaker::new(),
        };
        watch.head_since.store(watch.now(), Relaxed);
        watch
    }

    /// Now, in this watch's milliseconds.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// Bytes came from the client.
    pub(super) fn bytes_read(&self) {
        if self.head_since.load(Relaxed) != 0 && self.head_bytes_since.load(Relaxed) == 0 {
            self.head_bytes_since.store(self.now(), Relaxed);
        }
    }

    /// The kernel holds bytes that the runtime has not told us of yet.
    pub(super) fn note_unread(&self, unread: bool) {
        self.unread.store(unread, Relaxed);
    }

    /// Whether a connection that was put out closes now: not while the daemon works on its request, and
    /// not before a request that is in the kernel was looked at.
    pub(super) fn leaves_now(&self, now: u64) -> bool {
        let waits_for_head = self.head_since.load(Relaxed) != 0;
        if waits_for_head {
            let fresh = self.head_bytes_since.load(Relaxed) == 0;
            let unread = fresh && self.unread.load(Relaxed);
            return !unread && self.write_since.load(Relaxed) == 0
                || self.write_waited_ms(now) >= EVICT_AFTER_MS;
        }
        self.kept_waiting_ms(now) >= EVICT_AFTER_MS
    }

    fn write_waited_ms(&self, now: u64) -> u64 {
        waited_ms(&self.write_since, now)
    }

    /// A request is being served.
    pub(super) fn is_serving(&self) -> bool {
        self.head_since.load(Relaxed) == 0
    }

    /// Whoever has dialled this shortly ago is about to ask: where nobody else can answer it, it is waited for.
    pub(super) fn has_just_come(&self, now: u64) -> bool {
        let waited = now.saturating_sub(self.head_since.load(Relaxed));
        !self.served.load(Relaxed) && self.is_idle() && waited < ABOUT_TO_ASK_MS
    }

    /// Nothing was asked that is not answered: closing now breaks no promise.
    pub(super) fn may_close(&self) -> bool {
        self.is_idle() && !self.unread.load(Relaxed)
    }

    /// Nothing is being served or answered: whoever reads on from here misses nothing.
    pub(super) fn may_yield(&self) -> bool {
        !self.is_serving() && self.write_since.load(Relaxed) == 0 && !self.has_unread_body()
    }

    /// A whole head is here.
    pub(super) fn request_begins(&self, has_body: bool) {
        self.head_since.store(0, Relaxed);
        self.head_bytes_since.store(0, Relaxed);
        self.served.store(true, Relaxed);
        if has_body {
            let now = self.now();
            self.body_bytes.store(0, Relaxed);
            self.body_moved.store(now, Relaxed);
            self.body_since.store(now, Relaxed);
        }
        self.body_left.store(has_body, Relaxed);
    }

    /// A part of the body is here.
    pub(super) fn body_moves(&self, bytes: u64) {
        let now = self.now();
        earn(&self.body_since, &self.body_bytes, bytes, now);
        self.body_moved.store(now, Relaxed);
    }

    /// The body is complete.
    pub(super) fn body_ends(&self) {
        self.body_left.store(false, Relaxed);
        self.body_since.store(0, Relaxed);
    }

    /// Nobody wants the rest of the body.
    pub(super) fn body_is_dropped(&self) {
        self.body_since.store(0, Relaxed);
    }

    /// The body must not be waited for any longer.
    pub(super) fn body_is_late(&self) -> bool {
        self.body_late.load(Relaxed)
    }

    /// Says so to whoever reads it.
    pub(super) fn give_up_body(&self) {
        self.body_since.store(0, Relaxed);
        self.body_late.store(true, Relaxed);
        self.reader.wake();
    }

    /// The last request's body was not read to its end: bytes of it may still arrive.
    pub(super) fn has_unread_body(&self) -> bool {
        self.body_left.load(Relaxed)
    }

    /// The answer was handed over, whole.
    pub(super) fn request_ends(&self) {
        self.head_since.store(self.now(), Relaxed);
    }

    /// The client's side took `written` of `offered` bytes; `None`: it takes none now.
    pub(super) fn wrote(&self, written: Option<usize>, offered: usize) {
        match written {
            Some(n) if n >= offered => {
                if self.write_since.load(Relaxed) != 0 {
                    self.write_since.store(0, Relaxed);
                }
            }
            Some(n) => {
                self.begin_write();
                earn(&self.write_since, &self.write_bytes, n as u64, self.now());
            }
            None => self.begin_write(),
        }
    }

    fn begin_write(&self) {
        if self.write_since.load(Relaxed) == 0 {
            self.write_bytes.store(0, Relaxed);
            self.write_since.store(self.now(), Relaxed);
        }
    }

    /// Waits for a request of which no byte has come.
    pub(super) fn is_idle(&self) -> bool {
        self.head_since.load(Relaxed) != 0
            && self.head_bytes_since.load(Relaxed) == 0
            && self.write_since.load(Relaxed) == 0
    }

    /// How long the client has kept us waiting, less what its progress earned it; 0 while the daemon is
    /// the one who works.
    pub(super) fn kept_waiting_ms(&self, now: u64) -> u64 {
        waited_ms(&self.head_since, now)
            .max(waited_ms(&self.body_since, now))
            .max(self.write_waited_ms(now))
    }

    /// Whether a time-out is over at `now`, else when to look again.
    pub(super) fn verdict(&self, now: u64, limits: &EdgeLimits) -> Verdict {
        let mut next = now + limits.shortest_ms();
        let mut late = None;
        let mut due = |at: u64, what: Late| {
            if at <= now {
                late = late.or(Some(what));
            } else {
                next = next.min(at);
            }
        };
        let write = self.write_since.load(Relaxed);
        if write != 0 {
            due(write + millis(limits.write_timeout), Late::Write);
        }
        let body = self.body_since.load(Relaxed);
        if body != 0 {
            let grace = millis(limits.body_timeout);
            due(body + grace, Late::Body);
            due(self.body_moved.load(Relaxed) + grace, Late::Body);
        }
        let head = self.head_since.load(Relaxed);
        if head != 0 {
            let bytes = self.head_bytes_since.load(Relaxed);
            if bytes != 0 {
                due(bytes + millis(limits.header_timeout), Late::Head);
            } else if self.served.load(Relaxed) {
                due(head + millis(limits.idle_timeout), Late::Idle);
            } else {
                due(head + millis(limits.header_timeout), Late::Head);
            }
        }
        match late {
            Some(what) => Verdict::Late(what),
            None => Verdict::Again(next - now),
        }
    }

    /// Asks the connection for something; never less than it was asked before.
    pub(super) fn ask(&self, command: Command) {
        self.command.fetch_max(command as u8, Relaxed);
        self.task.wake();
    }

    pub(super) fn command(&self) -> Command {
        match self.command.load(Relaxed) {
            0 => Command::Serve,
            1 => Command::Yield,
            2 => Command::Finish,
            3 => Command::Leave,
            _ => Command::Close,
        }
    }
}

fn waited_ms(since: &AtomicU64, now: u64) -> u64 {
    match since.load(Relaxed) {
        0 => 0,
        since => now.saturating_sub(since),
    }
}

/// Moves the beginning of a wait on by the time that so many bytes may take, but not past now; `rest` has
/// thousandths of bytes that were too few for a millisecond.
fn earn(since: &AtomicU64, rest: &AtomicU64, bytes: u64, now: u64) {
    let thousandths = bytes
        .saturating_mul(1000)
        .saturating_add(rest.load(Relaxed));
    let earned = thousandths / MIN_BYTES_PER_SECOND;
    rest.store(thousandths % MIN_BYTES_PER_SECOND, Relaxed);
    let begun = since.load(Relaxed);
    if begun != 0 {
        since.store((begun + earned).min(now.max(begun)), Relaxed);
    }
}

/// A duration in whole milliseconds, at least one.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX / 4)
        .clamp(1, u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> EdgeLimits {
        EdgeLimits {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            ..EdgeLimits::default()
        }
    }

    #[test]
    fn a_silent_connection_is_late_after_the_header_timeout() {
        let watch = Watch::new(Instant::now());
        let t0 = watch.head_since.load(Relaxed);
        assert_eq!(watch.verdict(t0, &limits()), Verdict::Again(10_000));
        assert_eq!(watch.verdict(t0 + 9_999, &limits()), Verdict::Again(1));
        assert_eq!(
            watch.verdict(t0 + 10_000, &limits()),
            Verdict::Late(Late::Head)
        );
    }

    #[test]
    fn between_requests_the_idle_timeout_holds_until_a_byte_comes() {
        let watch = Watch::new(Instant::now());
        watch.request_begins(false);
        assert!(matches!(
            watch.verdict(1_000_000, &limits()),
            Verdict::Again(_)
        ));
        watch.request_ends();
        let t0 = watch.head_since.load(Relaxed);
        assert!(watch.is_idle());
        assert!(matches!(
            watch.verdict(t0 + 59_999, &limits()),
            Verdict::Again(1)
        ));
        assert_eq!(
            watch.verdict(t0 + 60_000, &limits()),
            Verdict::Late(Late::Idle)
        );
        watch.bytes_read();
        assert!(!watch.is_idle());
        let t1 = watch.head_bytes_since.load(Relaxed);
        assert_eq!(
            watch.verdict(t1 + 10_000, &limits()),
            Verdict::Late(Late::Head)
        );
    }

    #[test]
    fn a_trickling_body_is_late_and_a_steady_one_is_not() {
        let watch = Watch::new(Instant::now());
        watch.request_begins(true);
        let t0 = watch.body_since.load(Relaxed);
        // A byte a second: the last one just now, and still too slow over all.
        for second in 1..11 {
            earn(&watch.body_since, &watch.body_bytes, 1, t0 + second * 1000);
        }
        watch.body_moved.store(t0 + 10_900, Relaxed);
        assert_eq!(
            watch.verdict(t0 + 11_000, &limits()),
            Verdict::Late(Late::Body)
        );
        // 1 MiB a second for a minute.
        for second in 1..60 {
            earn(
                &watch.body_since,
                &watch.body_bytes,
                1 << 20,
                t0 + second * 1000,
            );
        }
        watch.body_moved.store(t0 + 59_000, Relaxed);
        assert!(matches!(
            watch.verdict(t0 + 60_000, &limits()),
            Verdict::Again(_)
        ));
        // ... and then nothing.
        assert_eq!(
            watch.verdict(t0 + 69_000, &limits()),
            Verdict::Late(Late::Body)
        );
        watch.body_ends();
        assert!(matches!(
            watch.verdict(t0 + 90_000, &limits()),
            Verdict::Again(_)
        ));
    }

    #[test]
    fn an_answer_nobody_reads_is_late() {
        let watch = Watch::new(Instant::now());
        watch.request_begins(false);
        watch.wrote(Some(10), 100);
        watch.wrote(None, 90);
        let t0 = watch.write_since.load(Relaxed);
        assert!(matches!(
            watch.verdict(t0 + 9_000, &limits()),
            Verdict::Again(_)
        ));
        assert_eq!(
            watch.verdict(t0 + 10_001, &limits()),
            Verdict::Late(Late::Write)
        );
        watch.wrote(Some(90), 90);
        assert!(matches!(
            watch.verdict(t0 + 10_001, &limits()),
            Verdict::Again(_)
        ));
    }

    #[test]
    fn what_the_kernel_takes_at_once_earns_no_time_for_later() {
        let watch = Watch::new(Instant::now());
        watch.request_begins(false);
        watch.wrote(Some(4 << 20), 8 << 20);
        watch.wrote(None, 4 << 20);
        let t0 = watch.write_since.load(Relaxed);
        assert!(t0 <= watch.now());
        assert_eq!(
            watch.verdict(t0 + 10_000, &limits()),
            Verdict::Late(Late::Write)
        );
        assert!(watch.kept_waiting_ms(t0 + 1000) >= 1000);
    }

    #[test]
    fn few_bytes_at_a_time_earn_what_they_are_together() {
        let (since, rest) = (AtomicU64::new(1), AtomicU64::new(0));
        for _ in 0..MIN_BYTES_PER_SECOND / 16 {
            earn(&since, &rest, 16, 1_000_000);
        }
        assert_eq!(since.load(Relaxed), 1001);
    }

    #[test]
    fn whoever_keeps_us_waiting_longest_is_known_and_work_does_not_count() {
        let watch = Watch::new(Instant::now());
        let t0 = watch.head_since.load(Relaxed);
        assert_eq!(watch.kept_waiting_ms(t0 + 500), 500);
        watch.request_begins(false);
        assert_eq!(watch.kept_waiting_ms(t0 + 500_000), 0);
        // Half a second for 8 KiB of a body is what it may take; two are too long.
        watch.request_begins(true);
        let t0 = watch.body_since.load(Relaxed);
        earn(&watch.body_since, &watch.body_bytes, 8 * 1024, t0 + 500);
        assert_eq!(watch.kept_waiting_ms(t0 + 500), 0);
        assert_eq!(watch.kept_waiting_ms(t0 + 2000), 1500);
    }

    #[test]
    fn who_has_dialled_asks_soon_or_wants_nothing() {
        let watch = Watch::new(Instant::now());
        let now = watch.now();
        assert!(watch.has_just_come(now));
        assert!(!watch.has_just_come(now + ABOUT_TO_ASK_MS + 1));
        watch.bytes_read();
        assert!(!watch.has_just_come(now), "it asks");
        watch.request_begins(false);
        watch.request_ends();
        assert!(!watch.has_just_come(watch.now()), "it was answered");
    }

    #[test]
    fn who_is_put_out_leaves_unless_it_asked_for_something() {
        let watch = Watch::new(Instant::now());
        let now = watch.now();
        assert!(watch.leaves_now(now), "silent");
        watch.note_unread(true);
        assert!(!watch.leaves_now(now), "its request is in the kernel");
        watch.bytes_read();
        assert!(watch.leaves_now(now), "half a head");
        watch.request_begins(false);
        assert!(!watch.leaves_now(now + 60_000), "being served");
        watch.request_ends();
        watch.wrote(None, 10);
        let since = watch.write_since.load(Relaxed);
        watch.note_unread(false);
        assert!(!watch.leaves_now(since), "being answered");
        assert!(watch.leaves_now(since + EVICT_AFTER_MS), "does not read");
        watch.wrote(Some(10), 10);
        assert!(watch.leaves_now(since), "answered");
        watch.request_begins(true);
        let since = watch.body_since.load(Relaxed);
        assert!(!watch.leaves_now(since));
        assert!(
            watch.leaves_now(since + EVICT_AFTER_MS),
            "holds its body back"
        );
    }
}
