//! Whether a bot lives in the sense that counts: its main loop turns.
//!
//! A process that is stopped, deadlocked or busy with itself has a pid and does not beat; a long call
//! of a model beats all the while, and its progress is watched by the bot's own time-outs (first
//! token, idle, total).

use deia::wire::Pulse;

use super::Millis;

/// Beats a bot may miss.
const MISSED_BEATS: u64 = 3;

/// However short the interval: a busy host may be late.
const LEAST_PATIENCE: Millis = 1_000;

/// What is known of a bot's heart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heart {
    beats: u64,
    beat_at: Millis,
    output_bytes: u64,
    progress_at: Option<Millis>,
}

impl Heart {
    /// Of a bot that was heard now.
    pub fn heard(now: Millis) -> Self {
        Self {
            beats: 0,
            beat_at: now,
            output_bytes: 0,
            progress_at: None,
        }
    }

    /// A look at its pulse.
    pub fn look(&mut self, pulse: Option<Pulse>, now: Millis) {
        let Some(pulse) = pulse else { return };
        if pulse.beats != self.beats {
            self.beats = pulse.beats;
            self.beat_at = now;
        }
        if pulse.output_bytes != self.output_bytes {
            self.output_bytes = pulse.output_bytes;
            self.progress_at = Some(now);
        }
    }

    /// Whether it has been silent for too long.
    pub fn is_silent(&self, now: Millis, interval: Millis) -> bool {
        let patience = interval.saturating_mul(MISSED_BEATS).max(LEAST_PATIENCE);
        now.saturating_sub(self.beat_at) > patience
    }

    /// When a look last found new output.
    pub fn progress_at(&self) -> Option<Millis> {
        self.progress_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse(beats: u64, output_bytes: u64) -> Option<Pulse> {
        Some(Pulse {
            beats,
            output_bytes,
            running: 0,
        })
    }

    #[test]
    fn one_that_beats_is_never_silent_and_one_that_does_not_soon_is() {
        let mut heart = Heart::heard(0);
        for n in 1..100 {
            heart.look(pulse(n, 0), n * 5_000);
            assert!(!heart.is_silent(n * 5_000, 5_000));
        }
        heart.look(pulse(99, 0), 510_000);
        assert!(!heart.is_silent(510_000, 5_000));
        heart.look(None, 511_000);
        assert!(heart.is_silent(511_000, 5_000));
        // Another process with the same name began to count anew.
        heart.look(pulse(1, 0), 512_000);
        assert!(!heart.is_silent(512_000, 5_000));
    }

    #[test]
    fn a_short_interval_is_given_a_second_all_the_same() {
        let heart = Heart::heard(0);
        assert!(!heart.is_silent(1_000, 10));
        assert!(heart.is_silent(1_001, 10));
    }

    #[test]
    fn progress_is_new_output_not_a_beat() {
        let mut heart = Heart::heard(0);
        heart.look(pulse(1, 0), 10);
        assert_eq!(heart.progress_at(), None);
        heart.look(pulse(2, 7), 20);
        heart.look(pulse(3, 7), 30);
        assert_eq!(heart.progress_at(), Some(20));
    }
}
