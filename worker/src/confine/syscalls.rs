//! System calls that Landlock does not judge and that reach beyond the bot: refused with EPERM.
//!
//! - `prlimit64` of another process: the same user may lower the daemon's limits until the kernel
//!   ends it.
//! - `truncate` by path, where Landlock is older than version 3 and would let it pass.
//!
//! A program of another architecture (32 bits on a 64-bit host) would have other numbers for the same
//! calls, so it is ended by its first call.

use std::collections::BTreeMap;

use libc::{SYS_prlimit64, SYS_truncate};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Refuses them to this thread and all it starts, for good. Needs no_new_privs.
///
/// # Errors
/// Why the kernel can't.
pub fn refuse(landlock: Option<u32>) -> Result<(), String> {
    let program = program(landlock).map_err(|e| e.to_string())?;
    seccompiler::apply_filter(&program).map_err(|e| e.to_string())
}

fn program(landlock: Option<u32>) -> Result<BpfProgram, seccompiler::BackendError> {
    let of_another =
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, u64::from(0u8))?;
    let mut rules = BTreeMap::from([(SYS_prlimit64, vec![SeccompRule::new(vec![of_another])?])]);
    if landlock.is_some_and(|version| version < 3) {
        rules.insert(SYS_truncate, Vec::new());
    }
    let refusal = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, refusal, architecture)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_needs_a_longer_list() {
        let (old, new) = (program(Some(2)).unwrap(), program(Some(7)).unwrap());
        assert!(old.len() > new.len());
        assert_eq!(program(None).unwrap().len(), new.len());
    }
}
