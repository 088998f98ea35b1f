//! VMs that cannot answer, through no fault of theirs: held for a move, or behind a tunnel that is
//! down. That says nothing about them: checks of theirs count nothing meanwhile, and the silence of
//! their flows begins anew after it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use placement::VmName;

/// All of them. One entry for each VM that ever was, of which a proxy knows a bounded number.
#[derive(Debug, Default)]
pub struct Held(Mutex<HashMap<VmName, Standstill>>);

#[derive(Debug, Clone, Copy)]
enum Standstill {
    Now,
    Until(Instant),
}

impl Held {
    /// From now on the VM cannot be expected to answer.
    pub fn stand_still(&self, vm: &VmName) {
        self.vms().insert(vm.clone(), Standstill::Now);
    }

    /// It can again.
    pub fn go_on(&self, vm: &VmName) {
        if let Some(standstill @ Standstill::Now) = self.vms().get_mut(vm) {
            *standstill = Standstill::Until(Instant::now());
        }
    }

    /// Whether it cannot answer now.
    #[must_use]
    pub fn has(&self, vm: Option<&VmName>) -> bool {
        vm.is_some_and(|vm| matches!(self.vms().get(vm), Some(Standstill::Now)))
    }

    /// When it last could not: at `now`, where it cannot; never is none.
    #[must_use]
    pub fn last(&self, vm: Option<&VmName>, now: Instant) -> Option<Instant> {
        match self.vms().get(vm?)? {
            Standstill::Now => Some(now),
            Standstill::Until(then) => Some(*then),
        }
    }

    fn vms(&self) -> MutexGuard<'_, HashMap<VmName, Standstill>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standstill_has_an_end_that_is_remembered() {
        let (held, vm) = (Held::default(), "web".parse().unwrap());
        let before = Instant::now();
        held.go_on(&vm);
        assert_eq!(held.last(Some(&vm), before), None);
        held.stand_still(&vm);
        assert!(held.has(Some(&vm)) && !held.has(None));
        assert_eq!(held.last(Some(&vm), before), Some(before));
        held.go_on(&vm);
        assert!(!held.has(Some(&vm)));
        let until = held.last(Some(&vm), before).unwrap();
        held.go_on(&vm);
        assert_eq!(held.last(Some(&vm), before), Some(until));
        assert!(until >= before);
    }
}
