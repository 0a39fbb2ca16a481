//! Whether a bot's processes take more than they should, and whether they grow without end.
//!
//! The thresholds are those of the Python original.

use std::collections::VecDeque;

use deia::time::Timestamp;

/// Share of the host's memory: a warning, and worse.
pub const MEMORY: [f64; 2] = [0.5, 0.8];
/// Open descriptors: a warning, and worse.
pub const DESCRIPTORS: [u64; 2] = [900, 950];
/// Threads above which something is odd.
pub const THREADS: u64 = 100;
/// CPU above which a bot is said to be busy; of one processor.
pub const CPU: f64 = 0.8;
/// Growth that is called a leak, in MiB an hour ...
pub const LEAK_MB_PER_HOUR: f64 = 10.0;
/// ... over this many samples at least ...
pub const LEAK_SAMPLES: usize = 3;
/// ... and this long ...
pub const LEAK_MINUTES: f64 = 10.0;
/// ... within the last hour.
pub const LEAK_WINDOW_SECONDS: f64 = 3_600.0;
/// Samples of one bot closer than this are one.
pub const APART_SECONDS: f64 = 15.0;
/// Samples kept of one bot: an hour's.
pub const MAX_SAMPLES: usize = 241;

const MIB: f64 = 1024.0 * 1024.0;

/// What a bot's processes take.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Taken {
    /// Share of the host's memory.
    pub memory: f64,
    /// Open descriptors; `None` where they were not counted.
    pub descriptors: Option<u64>,
    /// Threads.
    pub threads: u64,
    /// CPU, of one processor; `None` before the second look.
    pub cpu: Option<f64>,
}

/// What is too much, in words.
pub fn judge(taken: &Taken) -> Vec<String> {
    let mut found = Vec::new();
    let percent = taken.memory * 100.0;
    if taken.memory > MEMORY[1] {
        found.push(format!("Critical memory usage: {percent:.1}% of the host"));
    } else if taken.memory > MEMORY[0] {
        found.push(format!("High memory usage: {percent:.1}% of the host"));
    }
    match taken.descriptors {
        Some(n) if n >= DESCRIPTORS[1] => {
            found.push(format!("Critical number of file descriptors: {n}"));
        }
        Some(n) if n > DESCRIPTORS[0] => {
            found.push(format!("High number of file descriptors: {n}"));
        }
        _ => {}
    }
    if taken.threads > THREADS {
        found.push(format!("High number of threads: {}", taken.threads));
    }
    if let Some(cpu) = taken.cpu.filter(|cpu| *cpu > CPU) {
        found.push(format!("High CPU usage: {:.1}%", cpu * 100.0));
    }
    found
}

/// How a bot's memory has gone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// It grows without end.
    pub is_leaking: bool,
    /// Between the first and the last sample; negative where it shrinks.
    pub growth_mb_per_hour: f64,
    /// Between those two.
    pub minutes: f64,
}

/// The memory of one process of a bot over the last hour.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MemoryLine(VecDeque<(Timestamp, u64)>);

impl MemoryLine {
    /// One more sample.
    pub fn push(&mut self, at: Timestamp, bytes: u64) {
        if self
            .0
            .back()
            .is_some_and(|(last, _)| at.seconds_since(*last) < APART_SECONDS)
        {
            return;
        }
        self.0.push_back((at, bytes));
        while self.0.len() > MAX_SAMPLES
            || self
                .0
                .front()
                .is_some_and(|(first, _)| at.seconds_since(*first) > LEAK_WINDOW_SECONDS)
        {
            self.0.pop_front();
        }
    }

    /// The samples, oldest first.
    pub fn samples(&self) -> impl Iterator<Item = (Timestamp, u64)> {
        self.0.iter().copied()
    }

    /// `None` while too little is known to say anything.
    pub fn trend(&self) -> Option<Trend> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        let minutes = last.0.seconds_since(first.0) / 60.0;
        if self.0.len() < LEAK_SAMPLES || minutes < LEAK_MINUTES {
            return None;
        }
        let growth = (last.1 as f64 - first.1 as f64) / MIB / (minutes / 60.0);
        Some(Trend {
            is_leaking: growth > LEAK_MB_PER_HOUR,
            growth_mb_per_hour: growth,
            minutes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    #[test]
    fn the_originals_thresholds() {
        assert!(judge(&Taken::default()).is_empty());
        let taken = Taken {
            memory: 0.6,
            descriptors: Some(950),
            threads: 120,
            cpu: Some(0.9),
        };
        let found = judge(&taken);
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found[0].starts_with("High memory"), "{found:?}");
        assert!(found[1].starts_with("Critical number of file"), "{found:?}");
        let at_the_edge = Taken {
            memory: 0.5,
            descriptors: Some(900),
            threads: 100,
            cpu: Some(0.8),
        };
        assert!(judge(&at_the_edge).is_empty());
        let worse = Taken {
            memory: 0.81,
            ..Taken::default()
        };
        assert!(judge(&worse)[0].starts_with("Critical memory"));
    }

    #[test]
    fn a_leak_takes_time_and_samples_to_be_one() {
        let mb = |n: u64| n << 20;
        let mut line = MemoryLine::default();
        line.push(at(0), mb(100));
        line.push(Timestamp::from_micros(100_000), mb(150));
        assert_eq!(line.trend(), None, "50 MB in 0.1 s are no leak");
        line.push(at(300), mb(101));
        assert_eq!(line.trend(), None, "too short");
        line.push(at(600), mb(102));
        let trend = line.trend().unwrap();
        assert!(trend.is_leaking, "{trend:?}");
        assert!((trend.growth_mb_per_hour - 12.0).abs() < 1e-9);
        line.push(at(3_599), mb(102));
        assert!(!line.trend().unwrap().is_leaking);
        line.push(at(3_700), mb(90));
        assert!(line.trend().unwrap().growth_mb_per_hour < 0.0);
        for second in 0..20_000 {
            line.push(at(5_000 + second), mb(90));
        }
        assert!(line.samples().count() <= MAX_SAMPLES);
    }
}
