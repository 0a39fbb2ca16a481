//! `deiactl task explain`: whatever the daemon recorded about a choice, laid out for people. It knows
//! no field by name, so that a daemon that records more is shown in full.

use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::human::NOTHING;
use crate::output::{Out, one_line};
use crate::table::{Field, Table};

/// Facts first, one a line; then each list of objects as a table.
pub fn show(out: &Out, value: &Value) -> Result<(), Failure> {
    let Value::Object(fields) = value else {
        return out.line(&text(value));
    };
    let is_table = |value: &Value| {
        value
            .as_array()
            .is_some_and(|rows| !rows.is_empty() && rows.iter().all(Value::is_object))
    };
    let facts: Vec<_> = fields.iter().filter(|(_, v)| !is_table(v)).collect();
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in facts {
        out.line(&format!("{:<width$}  {}", one_line(name), text(value)))?;
    }
    for (name, value) in fields.iter().filter(|(_, v)| is_table(v)) {
        out.line(&format!("\n{}:", one_line(name)))?;
        let rows = value.as_array().into_iter().flatten();
        let rows: Vec<_> = rows.filter_map(Value::as_object).collect();
        out.text(&table(out, &rows))?;
    }
    Ok(())
}

fn table(out: &Out, rows: &[&Map<String, Value>]) -> String {
    let mut columns: Vec<&String> = Vec::new();
    for name in rows.iter().flat_map(|row| row.keys()) {
        if !columns.contains(&name) {
            columns.push(name);
        }
    }
    let header: Vec<String> = columns.iter().map(|c| one_line(c).to_uppercase()).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut table = Table::new(out, &header);
    for row in rows {
        let cells = columns.iter().map(|column| {
            let value = row.get(column.as_str()).unwrap_or(&Value::Null);
            Field::from(text(value))
        });
        table.row(cells.collect());
    }
    table.render()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => NOTHING.to_owned(),
        Value::String(text) => one_line(text),
        Value::Array(items) if !items.iter().any(|i| i.is_array() || i.is_object()) => {
            let items: Vec<String> = items.iter().map(text).collect();
            items.join(", ")
        }
        other => one_line(&other.to_string()),
    }
}
