//! VMs that are being started: each by one call, from the look at all agents to the answer of the one
//! that places it. Two calls at once would each find nobody, and place one VM at two sites.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use placement::VmName;

/// Their names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Starting(Arc<Mutex<BTreeSet<VmName>>>);

/// One call's right to start a VM; over with the value.
#[derive(Debug)]
pub(crate) struct OneStart {
    of: Starting,
    vm: VmName,
}

impl Starting {
    /// The right to start this VM; none while another call has it.
    pub(crate) fn begin(&self, vm: &VmName) -> Option<OneStart> {
        let is_free = self.lock().insert(vm.clone());
        is_free.then(|| OneStart { of: self.clone(), vm: vm.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<VmName>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OneStart {
    fn drop(&mut self) {
        self.of.lock().remove(&self.vm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_is_started_by_one_call_at_a_time_and_others_are_not_kept_waiting() {
        let starting = Starting::default();
        let [web, mail]: [VmName; 2] = ["web", "mail"].map(|name| name.parse().unwrap());
        let first = starting.begin(&web);
        assert!(first.is_some() && starting.begin(&web).is_none());
        assert!(starting.begin(&mail).is_some());
        drop(first);
        assert!(starting.begin(&web).is_some());
    }
}
