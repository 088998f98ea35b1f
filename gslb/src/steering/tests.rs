//! Orders that are new, old, foreign, late and repeated, and what follows for names.

use daemon::state::STATE_BYTES_MAX;
use placement::Owner;
use proptest::prelude::*;

use super::*;
use crate::config::tests::config;

const NOW_S: u64 = 10_000;

fn authority(epoch: u64, incarnation: u64) -> Authority {
    let owner = Owner { name: "serve".parse().unwrap(), incarnation };
    Authority { epoch: Epoch::new(epoch), owner }
}

fn site(name: &str) -> SiteName {
    name.parse().unwrap()
}

fn vm(name: &str) -> VmName {
    name.parse().unwrap()
}

/// A state, the names it is about, and the time, which the tests advance.
struct Told {
    steering: Steering,
    names: Vec<SteeredName>,
    now_s: u64,
}

impl Told {
    fn new() -> Told {
        let names = config().steered;
        let steering = Steering::default().under(&names, NOW_S).unwrap();
        Told { steering, names, now_s: NOW_S }
    }

    fn order(&mut self, name: &str, epoch: u64, order: &Order) -> Result<Taken, SteeringError> {
        let (vm, authority) = (vm(name), authority(epoch, 1));
        self.steering = self.steering.after(&vm, &authority, order, &self.names, self.now_s)?;
        Ok(self.steering.taken(&vm, &self.names))
    }

    /// Site, TTL and the end of older answers of a name.
    fn name(&self, name: &str) -> (String, u32, Option<u64>) {
        let all = self.steering.all(&self.names).names;
        let found = all.into_iter().find(|known| known.name == name).unwrap();
        (found.site.to_string(), found.ttl_s, found.outdated_until_s)
    }
}

#[test]
fn a_move_shortens_steers_and_restores_and_the_serial_grows_with_each_change() {
    let mut told = Told::new();
    assert_eq!(told.name("shop.example.net"), ("a".to_owned(), 300, None));
    let first = told.steering.serial();
    assert_eq!(u64::from(first), NOW_S);

    let short = told.order("web-1", 2, &Order::Shorten).unwrap();
    assert_eq!(short.serial, first + 1);
    let until_s = NOW_S + 300 + 2;
    assert_eq!(told.name("shop.example.net"), ("a".to_owned(), 5, Some(until_s)));
    assert_eq!(short.outdated_until_s, Some(until_s));
    assert_eq!(short.names.len(), 2, "both names of the vm");

    // Before the long answers have run out, they are what the longest-lived cache holds.
    told.now_s += 100;
    let steered = told.order("web-1", 2, &Order::Steer(site("b"))).unwrap();
    assert!(steered.serial > short.serial);
    assert_eq!(steered.outdated_until_s, Some(until_s));
    assert_eq!(told.name("shop.example.net").0, "b");

    told.now_s += 1_000;
    let restored = told.order("web-1", 2, &Order::Restore).unwrap();
    assert!(restored.serial > steered.serial);
    assert_eq!(restored.outdated_until_s, Some(until_s));
    assert_eq!(told.name("shop.example.net"), ("b".to_owned(), 300, Some(until_s)));
}

#[test]
fn a_steer_without_shortening_says_how_long_the_old_place_is_remembered() {
    let mut told = Told::new();
    let steered = told.order("web-1", 2, &Order::Steer(site("b"))).unwrap();
    assert_eq!(steered.outdated_until_s, Some(NOW_S + 300 + 2));
    // And after a shortening that has run out, only the short time counts.
    let mut told = Told::new();
    told.order("web-1", 2, &Order::Shorten).unwrap();
    told.now_s += 1_000;
    let steered = told.order("web-1", 2, &Order::Steer(site("b"))).unwrap();
    assert_eq!(steered.outdated_until_s, Some(NOW_S + 1_000 + 5 + 2));
}

#[test]
fn a_missing_family_is_believed_to_be_missing_for_its_own_time() {
    let mut told = Told::new();
    told.names.retain(|name| name.vms.len() == 2);
    told.order("web-1", 2, &Order::Shorten).unwrap();
    told.order("web-1", 2, &Order::Steer(site("b"))).unwrap();
    told.now_s += 1_000;
    let steered = told.order("web-2", 2, &Order::Steer(site("b"))).unwrap();
    assert_eq!(steered.outdated_until_s, Some(told.now_s + 7 + 2), "the zone's 7, not 5");
}

#[test]
fn what_is_older_or_somebody_elses_is_refused_and_changes_nothing() {
    let mut told = Told::new();
    told.order("web-1", 3, &Order::Steer(site("b"))).unwrap();
    let before = told.steering.clone();
    for order in [Order::Shorten, Order::Steer(site("a")), Order::Restore] {
        let older = told.order("web-1", 2, &order).unwrap_err();
        assert!(matches!(older, SteeringError::Stale(Stale::Older { .. })), "{older}");
        let foreign = authority(3, 9);
        let other =
            told.steering.after(&vm("web-1"), &foreign, &order, &told.names, NOW_S).unwrap_err();
        assert!(matches!(other, SteeringError::Stale(Stale::Owned { .. })), "{other}");
    }
    let twice = told.order("web-1", 3, &Order::Steer(site("a"))).unwrap_err();
    assert!(matches!(twice, SteeringError::Contradicts { .. }), "{twice}");
    assert_eq!(told.steering, before);
    // The next epoch may go back.
    told.order("web-1", 4, &Order::Steer(site("a"))).unwrap();
    assert_eq!(told.name("shop.example.net").0, "a");
}

#[test]
fn a_repetition_is_answered_the_same_and_later() {
    let mut told = Told::new();
    for order in [Order::Shorten, Order::Steer(site("b")), Order::Restore] {
        let first = told.order("web-1", 2, &order).unwrap();
        told.now_s += 50;
        assert_eq!(told.order("web-1", 2, &order).unwrap(), first);
    }
    // A shortening of the same move that comes only now would never be restored.
    let late = told.order("web-1", 2, &Order::Shorten).unwrap_err();
    assert!(matches!(late, SteeringError::Restored { .. }), "{late}");
    assert_eq!(told.order("web-1", 3, &Order::Shorten).unwrap().names[0].ttl_s, 5);
}

#[test]
fn a_name_of_two_vms_follows_once_both_have_moved() {
    let mut told = Told::new();
    let first = told.order("web-1", 2, &Order::Steer(site("b"))).unwrap();
    let pair = first.names.iter().find(|name| name.name == "pair.example.net").unwrap();
    assert_eq!((pair.site.as_str(), &pair.elsewhere[..]), ("a", &[vm("web-1")][..]));
    told.order("web-2", 7, &Order::Steer(site("b"))).unwrap();
    assert_eq!(told.name("pair.example.net").0, "b");
    // One goes back: the name stays where it was last.
    told.order("web-1", 3, &Order::Steer(site("a"))).unwrap();
    assert_eq!(told.name("pair.example.net").0, "b");
    assert_eq!(told.name("shop.example.net").0, "a");
}

#[test]
fn the_ttl_of_a_name_is_short_while_any_of_its_vms_moves() {
    let mut told = Told::new();
    told.order("web-1", 2, &Order::Shorten).unwrap();
    told.order("web-2", 2, &Order::Shorten).unwrap();
    told.order("web-1", 2, &Order::Restore).unwrap();
    assert_eq!(told.name("pair.example.net").1, 5);
    assert_eq!(told.name("shop.example.net").1, 300);
    told.order("web-2", 2, &Order::Restore).unwrap();
    assert_eq!(told.name("pair.example.net").1, 300);
}

#[test]
fn a_place_without_addresses_is_refused_and_the_epoch_stays() {
    let mut told = Told::new();
    let error = told.order("web-1", 2, &Order::Steer(site("c"))).unwrap_err();
    assert!(error.to_string().contains("'shop.example.net' is to be at site c"), "{error}");
    let all = told.steering.all(&told.names);
    assert!(all.vms.is_empty());
}

#[test]
fn a_vm_without_names_is_remembered_for_those_that_come() {
    let mut told = Told::new();
    let serial = told.steering.serial();
    let taken = told.order("db-1", 5, &Order::Steer(site("b"))).unwrap();
    assert_eq!((taken.names.len(), taken.epoch, taken.serial), (0, Epoch::new(5), serial));
    told.names[0].vms = vec![vm("db-1")];
    told.steering = told.steering.under(&told.names, told.now_s).unwrap();
    assert_eq!(told.name("shop.example.net").0, "b");
}

#[test]
fn a_new_configuration_forgets_nothing_and_may_not_contradict() {
    let mut told = Told::new();
    told.order("web-1", 2, &Order::Steer(site("b"))).unwrap();
    told.order("web-2", 2, &Order::Steer(site("b"))).unwrap();
    let all = told.names.clone();

    told.names[0].sites.remove(&site("b"));
    let error = told.steering.under(&told.names, NOW_S).unwrap_err();
    assert!(matches!(error, SteeringError::NoAddress { .. }), "{error}");

    // Not in the file for a while, then again: it is where it was, also if its VMs are apart.
    told.names.clear();
    told.steering = told.steering.under(&[], NOW_S).unwrap();
    told.order("web-2", 3, &Order::Steer(site("a"))).unwrap();
    let serial = told.steering.serial();
    told.names = all;
    told.steering = told.steering.under(&told.names, NOW_S).unwrap();
    assert_eq!(told.name("pair.example.net").0, "b");
    assert!(told.steering.serial() > serial);

    // A TTL that the file itself lowers counts like a shortening.
    told.names[1].ttl_s = 60;
    told.steering = told.steering.under(&told.names, NOW_S + 50).unwrap();
    assert_eq!(told.name("pair.example.net").2, Some(NOW_S + 50 + 300 + 2));
}

#[test]
fn the_serial_grows_also_where_the_clock_went_back_or_the_state_was_lost() {
    let told = Told::new();
    let back = told.steering.under(&told.names, 5).unwrap();
    assert_eq!(back.serial(), told.steering.serial() + 1);
    let anew = Steering::default().under(&told.names, NOW_S + 60).unwrap();
    assert!(anew.serial() > told.steering.serial());
}

#[test]
fn the_fullest_state_there_can_be_fits_on_the_disk() {
    let long = |n: usize, length: usize| format!("{n:0length$}");
    let owner = Owner { name: long(1, 63).parse().unwrap(), incarnation: u64::MAX };
    let authority = Authority { epoch: Epoch::new(u64::MAX), owner };
    let place = Place { site: site(&long(1, 63)), epoch: Epoch::new(u64::MAX) };
    let mark = Watermark::default().raised(&authority).unwrap().ending(Epoch::new(u64::MAX));
    let full =
        VmSteering { mark, place: Some(place), lifetime: Lifetime::Restored(Epoch::new(u64::MAX)) };
    let name = NameSteering {
        site: site(&long(1, 63)),
        ttl_s: u32::MAX,
        serial: u32::MAX,
        outdated_until_s: Some(u64::MAX),
    };
    let steering = Steering {
        serial: u32::MAX,
        vms: (0..VMS_MAX).map(|n| (vm(&long(n, 63)), full.clone())).collect(),
        names: (0..NAMES_MAX).map(|n| (long(n, 253), name.clone())).collect(),
    };
    let bytes = serde_json::to_vec(&steering).unwrap();
    assert!(bytes.len() <= STATE_BYTES_MAX, "{} bytes", bytes.len());
    assert_eq!(serde_json::from_slice::<Steering>(&bytes).unwrap(), steering);
    let one_more = steering.after(&vm("web-1"), &authority, &Order::Shorten, &[], NOW_S);
    assert_eq!(one_more, Err(SteeringError::Full));
}

fn orders() -> impl Strategy<Value = (bool, u64, u64, Order)> {
    let order = prop_oneof![
        Just(Order::Shorten),
        Just(Order::Restore),
        prop_oneof![Just("a"), Just("b")].prop_map(|name| Order::Steer(site(name))),
    ];
    (any::<bool>(), 1..5_u64, 1..3_u64, order)
}

proptest! {
    /// Whatever comes, in whatever order: epochs and serial never go back, an order that was taken
    /// is answered the same at once, and what a refused one finds is what it leaves.
    #[test]
    fn nothing_ever_goes_back(orders in prop::collection::vec(orders(), 1..40)) {
        let Told { mut steering, names, .. } = Told::new();
        for (now_s, (is_first, epoch, incarnation, order)) in (NOW_S..).zip(orders) {
            let vm = vm(if is_first { "web-1" } else { "web-2" });
            let authority = authority(epoch, incarnation);
            let Ok(next) = steering.after(&vm, &authority, &order, &names, now_s) else { continue };
            let before = steering.taken(&vm, &names);
            let taken = next.taken(&vm, &names);
            prop_assert!(taken.epoch >= before.epoch && taken.serial >= before.serial);
            for (old, new) in before.names.iter().zip(&taken.names) {
                prop_assert!(new.outdated_until_s >= old.outdated_until_s);
                prop_assert_eq!(old.serial == new.serial,
                    (&old.site, old.ttl_s) == (&new.site, new.ttl_s));
            }
            let again = next.after(&vm, &authority, &order, &names, now_s + 1).unwrap();
            prop_assert_eq!(&again, &next);
            steering = next;
        }
    }
}
