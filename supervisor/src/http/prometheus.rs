//! Prometheus' text format, version 0.0.4: families with HELP and TYPE, samples, histograms in seconds.

use std::fmt::{Display, Write as _};

use crate::brain::record::histogram::Histogram;

/// What [`Text::finish`] is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises; its name ends in `_total`.
    Counter,
    /// Rises and falls.
    Gauge,
    /// A distribution.
    Histogram,
}

/// A page of metrics. The `deia_` prefix is added here.
#[derive(Debug, Default)]
pub struct Text {
    out: String,
    name: String,
}

/// Names and values of labels.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Text {
    /// Begins a family; its samples follow.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) -> &mut Self {
        debug_assert_eq!(kind == Kind::Counter, name.ends_with("_total"), "{name}");
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let name = format!("deia_{name}");
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.push(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        self.name = name;
        self
    }

    /// One sample of the family.
    pub fn sample(&mut self, labels: Labels<'_>, value: impl Display) -> &mut Self {
        self.line("", labels, None, value);
        self
    }

    /// A whole histogram of the family; its values are microseconds, shown as seconds.
    pub fn histogram(&mut self, labels: Labels<'_>, histogram: &Histogram) -> &mut Self {
        for (bound, count) in histogram.up_to() {
            self.line("_bucket", labels, Some(&seconds(bound).to_string()), count);
        }
        let count = histogram.count();
        self.line("_bucket", labels, Some("+Inf"), count);
        self.line("_sum", labels, None, seconds(histogram.sum()));
        self.line("_count", labels, None, count);
        self
    }

    /// A family of one sample.
    pub fn one(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help).sample(&[], value);
    }

    /// The page.
    pub fn finish(self) -> String {
        self.out
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, le: Option<&str>, value: impl Display) {
        let name = std::mem::take(&mut self.name);
        self.push(format_args!("{name}{suffix}"));
        self.name = name;
        let all = labels.iter().copied().chain(le.map(|le| ("le", le)));
        let mut before = '{';
        for (label, text) in all {
            self.push(format_args!("{before}{label}=\""));
            for c in text.chars() {
                match c {
                    '\\' => self.out.push_str("\\\\"),
                    '"' => self.out.push_str("\\\""),
                    '\n' => self.out.push_str("\\n"),
                    c => self.out.push(c),
                }
            }
            self.out.push('"');
            before = ',';
        }
        if before == ',' {
            self.out.push('}');
        }
        self.push(format_args!(" {value}\n"));
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing into a string can't fail.
        let _ = self.out.write_fmt(text);
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brain::record::histogram::SHORT;

    #[test]
    fn labels_are_escaped_and_families_are_headed() {
        let mut text = Text::default();
        text.family("bots", Kind::Gauge, "Bots\nof \\all")
            .sample(&[("pool", "a\"b\\c\nd"), ("state", "ready")], 3)
            .sample(&[], 0.5);
        assert_eq!(
            text.finish(),
            "# HELP deia_bots Bots\\nof \\\\all\n# TYPE deia_bots gauge\n\
             deia_bots{pool=\"a\\\"b\\\\c\\nd\",state=\"ready\"} 3\ndeia_bots 0.5\n"
        );
    }

    #[test]
    fn a_histogram_is_cumulative_and_in_seconds() {
        let mut histogram = Histogram::new(&SHORT);
        histogram.add(100);
        histogram.add(20_000_000);
        let mut text = Text::default();
        text.family("x_seconds", Kind::Histogram, "X.")
            .histogram(&[("type", "t")], &histogram);
        let page = text.finish();
        for line in [
            "deia_x_seconds_bucket{type=\"t\",le=\"0.0001\"} 1",
            "deia_x_seconds_bucket{type=\"t\",le=\"10\"} 1",
            "deia_x_seconds_bucket{type=\"t\",le=\"+Inf\"} 2",
            "deia_x_seconds_sum{type=\"t\"} 20.0001",
            "deia_x_seconds_count{type=\"t\"} 2",
        ] {
            assert!(page.lines().any(|l| l == line), "{line}\n{page}");
        }
    }
}
