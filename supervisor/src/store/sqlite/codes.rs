//! The numbers that stand for enums in the tables. They are on users' disks: a number is never
//! given another meaning, whatever becomes of the enums' own order.

use deia::message::MessageStatus;
use deia::task::{AttemptStatus, Complexity, Priority, TaskStatus, TaskType};

use super::fault::Fault;

/// Also written into the conditions of the partial indexes (migrations) and of the queries on them.
pub(super) const fn status(status: TaskStatus) -> i64 {
    match status {
        TaskStatus::Scheduled => 0,
        TaskStatus::Queued => 1,
        TaskStatus::Running => 2,
        TaskStatus::Succeeded => 3,
        TaskStatus::Dead => 4,
        TaskStatus::Cancelled => 5,
        TaskStatus::Expired => 6,
    }
}

pub(super) const fn task_type(task_type: TaskType) -> i64 {
    match task_type {
        TaskType::Development => 0,
        TaskType::Analysis => 1,
        TaskType::Writing => 2,
        TaskType::Planning => 3,
        TaskType::General => 4,
    }
}

pub(super) const fn priority(priority: Priority) -> i64 {
    match priority {
        Priority::P0 => 0,
        Priority::P1 => 1,
        Priority::P2 => 2,
        Priority::P3 => 3,
    }
}

pub(super) const fn complexity(complexity: Complexity) -> i64 {
    match complexity {
        Complexity::Simple => 0,
        Complexity::Moderate => 1,
        Complexity::Complex => 2,
    }
}

pub(super) const fn message_status(status: MessageStatus) -> i64 {
    match status {
        MessageStatus::Pending => 0,
        MessageStatus::Delivered => 1,
        MessageStatus::Read => 2,
        MessageStatus::Failed => 3,
        MessageStatus::Expired => 4,
    }
}

pub(super) const fn attempt_status(status: AttemptStatus) -> i64 {
    match status {
        AttemptStatus::Running => 0,
        AttemptStatus::Succeeded => 1,
        AttemptStatus::Failed => 2,
        AttemptStatus::Lost => 3,
    }
}

pub(super) fn to_message_status(code: i64) -> Result<MessageStatus, Fault> {
    decode("status", code, MessageStatus::ALL, message_status)
}

pub(super) fn to_status(code: i64) -> Result<TaskStatus, Fault> {
    decode("status", code, TaskStatus::ALL, status)
}

pub(super) fn to_task_type(code: i64) -> Result<TaskType, Fault> {
    decode("task_type", code, TaskType::ALL, task_type)
}

pub(super) fn to_priority(code: i64) -> Result<Priority, Fault> {
    decode("priority", code, Priority::ALL, priority)
}

pub(super) fn to_complexity(code: i64) -> Result<Complexity, Fault> {
    const ALL: [Complexity; 3] = [
        Complexity::Simple,
        Complexity::Moderate,
        Complexity::Complex,
    ];
    decode("complexity", code, ALL, complexity)
}

pub(super) fn to_attempt_status(code: i64) -> Result<AttemptStatus, Fault> {
    const ALL: [AttemptStatus; 4] = [
        AttemptStatus::Running,
        AttemptStatus::Succeeded,
        AttemptStatus::Failed,
        AttemptStatus::Lost,
    ];
    decode("attempt status", code, ALL, attempt_status)
}

fn decode<T: Copy, const N: usize>(
    what: &'static str,
    code: i64,
    all: [T; N],
    encode: impl Fn(T) -> i64,
) -> Result<T, Fault> {
    all.into_iter()
        .find(|value| encode(*value) == code)
        .ok_or_else(|| Fault::damaged(format!("{code} is no {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_comes_back_and_the_numbers_on_disks_stay() {
        for (code, value) in TaskStatus::ALL.into_iter().enumerate() {
            assert_eq!(status(value), code as i64);
            assert_eq!(to_status(code as i64).unwrap(), value);
        }
        for (code, value) in TaskType::ALL.into_iter().enumerate() {
            assert_eq!(task_type(value), code as i64);
            assert_eq!(to_task_type(code as i64).unwrap(), value);
        }
        for (code, value) in Priority::ALL.into_iter().enumerate() {
            assert_eq!(priority(value), code as i64);
            assert_eq!(to_priority(code as i64).unwrap(), value);
        }
        assert_eq!(to_complexity(2).unwrap(), Complexity::Complex);
        assert_eq!(to_attempt_status(3).unwrap(), AttemptStatus::Lost);
        assert!(to_status(7).is_err() && to_status(-1).is_err());
        assert!(to_complexity(3).is_err() && to_attempt_status(4).is_err());
    }
}
