//! Where the numbers come from: for each route, what it answered against another source - what the test did itself, another
//! route, `deiactl`, or the disk. So that nothing is a constant that happens to have the right type.

mod watch;
mod work;

use std::cell::RefCell;

use serde_json::Value;

use crate::fleet::{Counts, Fleet};

/// What one answer is held against.
pub struct Judge<'a> {
    pub fleet: &'a Fleet,
    /// As the table has it, without parameters.
    pub route: &'a str,
    pub answer: &'a Value,
    /// What the load had done before it was asked.
    pub before: Counts,
    pub faults: RefCell<Vec<String>>,
}

impl Judge<'_> {
    /// Whether there is another source for it; what does not agree is in `faults`.
    pub fn judge(&self) -> bool {
        self.control()
            || self.orchestration()
            || self.scaling()
            || self.messages()
            || self.learning()
            || self.health()
            || self.config()
            || self.recovery()
            || self.audit()
            || self.processes()
            || self.monitoring()
            || self.reports()
            || self.ends()
    }

    fn at(&self, pointer: &str) -> &Value {
        self.answer.pointer(pointer).unwrap_or(&Value::Null)
    }

    fn same(&self, what: &str, one: &Value, other: &Value) {
        if one != other {
            self.faults
                .borrow_mut()
                .push(format!("{what}: {one} and {other}"));
        }
    }

    fn holds(&self, what: &str, is: bool) {
        if !is {
            self.faults.borrow_mut().push(format!("{what}: not so"));
        }
    }

    fn within(&self, what: &str, at: &str, least: u64, most: u64) {
        let n = self.at(at).as_u64();
        if !n.is_some_and(|n| (least..=most).contains(&n)) {
            self.faults
                .borrow_mut()
                .push(format!("{what}: {n:?}, not {least} to {most}"));
        }
    }
}

fn list(value: &Value) -> std::slice::Iter<'_, Value> {
    value
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
}

/// The first of a list whose field is this; null where there is none.
fn find<'a>(value: &'a Value, field: &str, is: &Value) -> &'a Value {
    let found = list(value).find(|one| one[field] == *is);
    found.unwrap_or(&Value::Null)
}
