//! How a world comes up: places side by side, then all wires in one go and the emulators, then every
//! machine's addresses and routes, again side by side.

use std::thread;

use super::addresses::{self, DualSubnet};
use super::emulator::{self, Emulator, Port};
use super::links::{self, End};
use super::plan::{AROUND, WorldPlan};
use super::settings::{self, Role};
use super::{
    DESK, HYPERVISOR, MANAGEMENT_DEVICE, PROXY, ROUTER, Site, WAN_DEVICE, World, client_name,
    configure, neighbour_name,
};
use crate::LabError;
use crate::host::Host;
use crate::sandbox::{Place, PlacePlan, Proc};

pub(super) fn build(plan: &WorldPlan) -> Result<World, LabError> {
    plan.check()?;
    let (sites, [clients, between, management_place]) = places(plan)?;
    links::connect(&wires(plan, &sites, &clients))?;
    let (wan, management) = emulators(plan, &sites, &between, &management_place)?;
    let world =
        World { plan: plan.clone(), sites, clients, management_place, wan, management, between };
    settle(&world)?;
    let machines = configurations(&world);
    for_each(&machines, |(host, lines)| host.ip_batch(lines))?;
    // Only when all ends are up can any be waited for.
    for_each(&machines, |(host, _)| host.wait_for_carrier())?;
    Ok(world)
}

fn places(plan: &WorldPlan) -> Result<(Vec<Site>, [Place; 3]), LabError> {
    let clients: Vec<String> = (1..=plan.clients).map(client_name).collect();
    let machines = |names: &[String]| -> Vec<(String, Role)> {
        names.iter().map(|name| (name.clone(), Role::Machine)).collect()
    };
    let mut wanted: Vec<(PlacePlan, Vec<(String, Role)>)> = Vec::new();
    for site in &plan.sites {
        let mut hosts = machines(&[PROXY.to_owned(), HYPERVISOR.to_owned()]);
        hosts.push((ROUTER.to_owned(), Role::Router));
        hosts.extend((1..=site.neighbours).map(|n| (neighbour_name(n), Role::Machine)));
        wanted.push((place_plan(plan, &site.name, Proc::Own), hosts));
    }
    // The WAN lies around the sites and reaches into each of their namespaces.
    let [clients_name, wan_name, management_name] = AROUND;
    wanted.push((place_plan(plan, clients_name, Proc::Own), machines(&clients)));
    wanted.push((place_plan(plan, wan_name, Proc::Machine), Vec::new()));
    wanted.push((place_plan(plan, management_name, Proc::Own), machines(&[DESK.to_owned()])));
    let mut places = for_each(&wanted, |(plan, hosts)| place(plan, hosts))?;
    let around = places.split_off(plan.sites.len());
    let around = around.try_into().map_err(|_| LabError::BadPlan {
        reason: "a place around the sites is missing".to_owned(),
    })?;
    let sites = places.into_iter().zip(&plan.sites).enumerate();
    let site = |(index, (place, site)): (usize, (Place, &super::SitePlan))| Site {
        number: configure::site_number(index),
        neighbours: site.neighbours,
        gateway: plan.gateway,
        place,
    };
    Ok((sites.map(site).collect(), around))
}

fn place_plan(plan: &WorldPlan, name: &str, proc: Proc) -> PlacePlan {
    PlacePlan { name: name.to_owned(), proc, kept: plan.kept.clone() }
}

fn place(plan: &PlacePlan, hosts: &[(String, Role)]) -> Result<Place, LabError> {
    let place = Place::make(plan)?;
    let names: Vec<&str> = hosts.iter().map(|(name, _)| name.as_str()).collect();
    place.add_hosts(&names)?;
    for (name, role) in hosts {
        settings::apply(&place.host(Some(name)), *role)?;
    }
    Ok(place)
}

/// The two ends of every wire but the emulators'.
fn wires(plan: &WorldPlan, sites: &[Site], clients: &Place) -> Vec<(End, End)> {
    let mut wires = Vec::new();
    for site in sites {
        let (proxy, hypervisor, router) = (site.proxy(), site.hypervisor(), site.router());
        wires.push((
            End::new(&proxy, "leg").with_mac(site.leg().mac),
            End::new(&hypervisor, "to-proxy"),
        ));
        wires.push((
            End::new(&router, "inside").with_mac(site.gateway().mac),
            End::new(&hypervisor, "to-router"),
        ));
        wires.push((End::new(&proxy, "outside"), End::new(&router, "to-proxy")));
        wires.push((End::new(&hypervisor, "outside"), End::new(&router, "to-hypervisor")));
        for number in 1..=site.neighbours {
            let mac = site.neighbour_station(number).mac;
            wires.push((
                End::new(&site.neighbour(number), "eth0").with_mac(mac),
                End::new(&hypervisor, format!("to-neighbour{number}")),
            ));
        }
        for number in 1..=plan.clients {
            let client = clients.host(Some(&client_name(number)));
            wires.push((
                End::new(&router, format!("to-{}", client_name(number))),
                End::new(&client, format!("to-{}", site.name())),
            ));
        }
    }
    wires
}

fn emulators(
    plan: &WorldPlan,
    sites: &[Site],
    between: &Place,
    management_place: &Place,
) -> Result<(Emulator, Emulator), LabError> {
    let wan = sites.iter().map(|site| Port {
        name: site.name(),
        host: site.router(),
        behind: configure::beyond(site.number()).to_vec(),
    });
    let desk = Port {
        name: MANAGEMENT_DEVICE,
        host: management_place.host(Some(DESK)),
        behind: vec![DualSubnet::only(addresses::desk())],
    };
    let management = sites.iter().map(|site| Port {
        name: site.name(),
        host: site.router(),
        behind: vec![
            addresses::hosts(site.number()),
            DualSubnet::only(addresses::management_end(site.number())),
        ],
    });
    let mut wan: Vec<_> = wan.collect();
    let management: Vec<_> = [desk].into_iter().chain(management).collect();
    // An emulator has two ports at least; a single site's leads nowhere.
    if wan.len() == 1 {
        wan.push(Port {
            name: "nowhere",
            host: between.host(None),
            behind: vec![DualSubnet::only(addresses::wan_end(0))],
        });
    }
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            Emulator::start(between, "management", MANAGEMENT_DEVICE, plan.seed, &management)
        });
        let wan = Emulator::start(between, "wan", WAN_DEVICE, plan.seed, &wan)?;
        let management = other.join().expect("starting an emulator does not panic")?;
        Ok((wan, management))
    })
}

/// Brings the links to what the plan says they are like at first.
fn settle(world: &World) -> Result<(), LabError> {
    let failed = |cause| LabError::refused("set up an emulator", emulator::io(cause));
    let plan = &world.plan;
    for (index, site) in plan.sites.iter().enumerate() {
        world.management.set(MANAGEMENT_DEVICE, &site.name, plan.management).map_err(failed)?;
        for earlier in &plan.sites[..index] {
            world.wan.set(&earlier.name, &site.name, plan.wan).map_err(failed)?;
            world.management.cut(&earlier.name, &site.name).map_err(failed)?;
        }
    }
    Ok(())
}

/// What each machine is given, as lines for `ip -batch`.
fn configurations(world: &World) -> Vec<(Host, String)> {
    let plan = &world.plan;
    let sites = configure::site_number(plan.sites.len() - 1);
    let names: Vec<String> = plan.sites.iter().map(|site| site.name.clone()).collect();
    let mut all = vec![(world.desk(), configure::desk(sites))];
    for site in &world.sites {
        let number = site.number();
        all.push((site.hypervisor(), configure::hypervisor(number, site.neighbours)));
        all.push((site.proxy(), configure::proxy(number, plan.vips)));
        let router = configure::router(number, sites, plan.clients, plan.gateway);
        all.push((site.router(), router));
        for neighbour in 1..=site.neighbours {
            let station = site.neighbour_station(neighbour);
            let lines = configure::neighbour(station, site.gateway().ip);
            all.push((site.neighbour(neighbour), lines));
        }
    }
    for client in 1..=plan.clients {
        all.push((world.client(client), configure::client(client, &names)));
    }
    all
}

/// Side by side: most of it is waiting for the kernel.
fn for_each<T: Sync, R: Send>(
    all: &[T],
    work: impl Fn(&T) -> Result<R, LabError> + Sync,
) -> Result<Vec<R>, LabError> {
    thread::scope(|scope| {
        let threads: Vec<_> = all.iter().map(|one| scope.spawn(|| work(one))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("building a world does not panic"))
            .collect()
    })
}
