//! Tables: aligned columns without lines. On a terminal they are cut to its width and coloured; in a
//! pipe everything is there, for grep and awk.

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Row};
use deia::bot::Actual;
use deia::task::TaskStatus;

use crate::output::{Out, one_line};

/// Rows under a header.
pub struct Table {
    inner: comfy_table::Table,
    color: bool,
}

impl Table {
    /// An empty one.
    pub fn new(out: &Out, header: &[&str]) -> Self {
        let mut inner = comfy_table::Table::new();
        inner.load_style(comfy_table::presets::NOTHING);
        if out.terminal {
            inner.set_content_arrangement(ContentArrangement::Dynamic);
            if let Some(width) = inner.width() {
                inner.set_width(width);
            }
        } else {
            inner.set_content_arrangement(ContentArrangement::Disabled);
        }
        if out.color {
            inner.enforce_styling();
        } else {
            inner.force_no_tty();
        }
        let header = header.iter().map(|name| {
            let cell = Cell::new(name);
            if out.color {
                cell.add_attribute(Attribute::Bold)
            } else {
                cell
            }
        });
        inner.set_header(Row::from(header.collect::<Vec<_>>()));
        Self {
            inner,
            color: out.color,
        }
    }

    /// Appends a row.
    pub fn row(&mut self, cells: Vec<Field>) {
        let color = self.color;
        let mut row = Row::from(
            cells
                .into_iter()
                .map(|field| match field.color {
                    Some(shade) if color => Cell::new(field.text).fg(shade),
                    _ => Cell::new(field.text),
                })
                .collect::<Vec<_>>(),
        );
        row.max_height(1);
        self.inner.add_row(row);
    }

    /// The text, with a final line feed and without trailing blanks.
    pub fn render(mut self) -> String {
        for column in self.inner.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let mut text = String::new();
        for line in self.inner.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// One cell.
pub struct Field {
    text: String,
    color: Option<Color>,
}

impl<T: AsRef<str>> From<T> for Field {
    fn from(text: T) -> Self {
        Self {
            text: one_line(text.as_ref()),
            color: None,
        }
    }
}

impl Field {
    /// A bot's state.
    pub fn actual(actual: Actual) -> Self {
        let color = match actual {
            Actual::Ready | Actual::Busy => Some(Color::Green),
            Actual::Starting | Actual::Draining | Actual::Stopping => Some(Color::Yellow),
            Actual::Backoff | Actual::Quarantined => Some(Color::Red),
            Actual::Stopped => None,
        };
        Self {
            text: actual.to_string(),
            color,
        }
    }

    /// A task's status.
    pub fn status(status: TaskStatus) -> Self {
        let color = match status {
            TaskStatus::Succeeded => Some(Color::Green),
            TaskStatus::Running => Some(Color::Yellow),
            TaskStatus::Dead | TaskStatus::Expired => Some(Color::Red),
            TaskStatus::Scheduled | TaskStatus::Queued | TaskStatus::Cancelled => None,
        };
        Self {
            text: status.to_string(),
            color,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_pipe_columns_line_up_and_nothing_is_cut_or_coloured() {
        let out = Out::new(false);
        let mut table = Table::new(&out, &["BOT", "STATE"]);
        let long = "x".repeat(300);
        table.row(vec!["a".into(), Field::actual(Actual::Ready)]);
        table.row(vec![Field::from(&long), "b\nc".into()]);
        let text = table.render();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], format!("a{}  ready", " ".repeat(299)));
        assert_eq!(lines[2], format!("{long}  b c"));
    }
}
