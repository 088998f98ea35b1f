//! Station three, *route*: which backend serves a new flow.
//!
//! In turn, among those that are up, do not drain and have an address of the VIP's family. When none
//! is up the service's `when_all_down` decides. Who drains is never chosen.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use crate::config::WhenAllDown;
use crate::service::Service;

/// The index of a backend for a flow that arrived at `vip`, none of `tried`.
#[must_use]
pub fn route(service: &Service, vip: &SocketAddr, tried: &[usize]) -> Option<usize> {
    let turn = service.turn.fetch_add(1, Ordering::Relaxed);
    let may_try_down = service.config.when_all_down == WhenAllDown::TryAll;
    chosen(service, vip, tried, turn, false)
        .or_else(|| may_try_down.then(|| chosen(service, vip, tried, turn, true)).flatten())
}

/// The candidate whose turn it is. They are counted first: passing over those that cannot serve
/// would give their share to the next in line alone.
fn chosen(
    service: &Service,
    vip: &SocketAddr,
    tried: &[usize],
    turn: usize,
    with_down: bool,
) -> Option<usize> {
    let candidates = || {
        service.backends.iter().enumerate().filter(|(index, backend)| {
            let target = backend.target(vip);
            !backend.is_draining()
                && !tried.contains(index)
                && target.is_some_and(|target| with_down || target.health().is_usable())
        })
    };
    let nth = turn.checked_rem(candidates().count())?;
    candidates().nth(nth).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proxy_api::Health;

    use super::*;
    use crate::config::ServiceConfig;
    use crate::service::Services;
    use crate::service::tests::config;

    fn four(when_all_down: WhenAllDown) -> Services {
        let config = config(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"]);
        Services::following(&[ServiceConfig { when_all_down, ..config }], &Services::default())
    }

    fn turns(service: &Service, count: usize) -> Vec<Option<usize>> {
        let vip = service.config.vips[0];
        (0..count).map(|_| route(service, &vip, &[])).collect()
    }

    fn set(service: &Service, index: usize, health: Health) {
        let vip = service.config.vips[0];
        service.backends[index].target(&vip).unwrap().set_health(health);
    }

    #[test]
    fn each_has_its_turn_and_what_is_not_known_yet_counts_as_up() {
        let services = four(WhenAllDown::Refuse);
        let turns = turns(&services.all()[0], 8);
        assert_eq!(turns, [0, 1, 2, 3, 0, 1, 2, 3].map(Some));
    }

    #[test]
    fn the_share_of_one_that_is_down_is_everybodys() {
        let services = four(WhenAllDown::Refuse);
        let service = &services.all()[0];
        set(service, 1, Health::Down);
        let mut counts = [0; 4];
        for index in turns(service, 300).into_iter().flatten() {
            counts[index] += 1;
        }
        assert_eq!(counts, [100, 0, 100, 100]);
    }

    #[test]
    fn all_down_is_refused_or_tried_as_configured() {
        for (when_all_down, chosen) in
            [(WhenAllDown::Refuse, [None; 3]), (WhenAllDown::TryAll, [Some(0), Some(1), Some(2)])]
        {
            let services = four(when_all_down);
            let service = &services.all()[0];
            (0..4).for_each(|index| set(service, index, Health::Down));
            assert_eq!(turns(service, 3), chosen);
        }
    }

    #[test]
    fn who_drains_is_never_chosen_and_who_was_tried_not_again() {
        let services = four(WhenAllDown::TryAll);
        let service = &services.all()[0];
        service.backends[0].drain(true);
        let vip = service.config.vips[0];
        assert_eq!(route(service, &vip, &[1, 3]), Some(2));
        assert_eq!(route(service, &vip, &[1, 2, 3]), None);
        assert_eq!(route(service, &"[2001:db8::1]:80".parse().unwrap(), &[]), None);
    }

    proptest! {
        #[test]
        fn shares_differ_by_one_at_most(down in prop::collection::vec(any::<bool>(), 4), turn in 0_usize..1000) {
            let services = four(WhenAllDown::Refuse);
            let service = &services.all()[0];
            for (index, _) in down.iter().enumerate().filter(|(_, down)| **down) {
                set(service, index, Health::Down);
            }
            let mut counts = [0_usize; 4];
            for index in turns(service, turn).into_iter().flatten() {
                counts[index] += 1;
            }
            let up: Vec<usize> = (0..4).filter(|index| !down[*index]).map(|i| counts[i]).collect();
            if let (Some(least), Some(most)) = (up.iter().min(), up.iter().max()) {
                prop_assert!(most - least <= 1);
            }
        }
    }
}
