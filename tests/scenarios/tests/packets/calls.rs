//! What an orchestrator tells the proxies of a move, as it stands in their kernels.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use lab::world::{World, WorldPlan, addresses};
use placement::{Authority, End, Epoch, Owner, Pair, VmName};
use proxy_api::{
    AtPort, CallError, Card, Claim, Elsewhere, GrantChannel, Mac, Neighbour, OfMove, Place,
    Reclaim, Redirect, Stage, WayKind,
};

use scenarios::site::eventually;

use crate::proxies::{NETWORK, PORT, Papers, Proxy, SOON};

/// Two sites, each with its proxy; nothing is served.
pub(crate) struct Two {
    pub(crate) papers: Papers,
    pub(crate) a: Proxy,
    pub(crate) b: Proxy,
    pub(crate) world: World,
}

impl Two {
    fn new() -> Two {
        let (world, papers) = (World::build(&WorldPlan::default()).unwrap(), Papers::new());
        let backends = addresses::vm(1).ip.each().map(|ip| (ip, PORT).into());
        let prepare = |name: &str| {
            let mut proxy = Proxy::prepare(&world, name, &papers, &backends);
            proxy.start();
            proxy
        };
        let (a, b) = (prepare("a"), prepare("b"));
        Two { papers, a, b, world }
    }

    /// What stands in the leg's namespace at `site`.
    fn kernel(&self, site: &str) -> String {
        let host = self.world.site(site).place().host(Some("causeway-apps"));
        let looks = [
            "ip -4 route show table all",
            "ip -6 route show table all",
            "ip rule",
            "ip -4 neigh show proxy",
            "ip -6 neigh show proxy",
            "ip neigh show nud permanent",
            "nft list tables",
        ];
        let look = |words: &str| host.succeed(&words.split(' ').collect::<Vec<_>>()).unwrap();
        let all = looks.map(look).concat();
        let ours = |line: &&str| !line.contains("local") && !line.contains("ff00::");
        // Whether somebody reads from the TUN is the proxy's life, not its work.
        let told = |line: &str| format!("{}\n", line.replace(" linkdown", ""));
        all.lines().filter(ours).map(told).collect()
    }

    fn stage(&self, epoch: u64, from: &str, to: &str) -> Stage {
        let (site, vm) = (self.world.site(from), addresses::vm(1));
        let neighbour = site.neighbour_station(1);
        let neighbours = neighbour.ip.each().map(|address| Neighbour {
            address,
            mac: Some(Mac(neighbour.mac.0)),
            is_gateway: false,
            is_there_too: false,
        });
        Stage {
            authority: authority(epoch),
            from: place(from),
            to: place(to),
            card: Card { mac: Mac(vm.mac.0), addresses: vm.ip.each().to_vec() },
            elsewhere: vec![Elsewhere {
                place: place(from),
                leg: site.leg().ip.each().to_vec(),
                gateways: site.gateway().ip.each().to_vec(),
                neighbours: neighbours.to_vec(),
                conversations: vec![],
            }],
        }
    }

    /// Waits until none of a proxy's metrics of these names is 0.
    fn counts(&self, at: &Proxy, names: &[&str]) {
        let viewer = self.papers.credentials("a", "viewer", "eyes");
        eventually(|| {
            let text = at.call(&viewer, async |c| c.metrics().await).unwrap();
            let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
            let counts = |name: &&str| value(name).is_some_and(|count| count != "0");
            if names.iter().all(counts) { Ok(()) } else { Err(text) }
        });
    }

    fn claim(&self, epoch: u64) {
        let serve = self.papers.credentials("a", "orchestrator", "serve");
        let claim = Claim { authority: authority(epoch), pair: pair() };
        for proxy in [&self.a, &self.b] {
            proxy.call(&serve, async |c| c.claim(&vm(), &claim).await).unwrap();
        }
    }
}

pub(crate) fn vm() -> VmName {
    "web".parse().unwrap()
}

pub(crate) fn authority(epoch: u64) -> Authority {
    let owner = Owner { name: "serve".parse().unwrap(), incarnation: 7 };
    Authority { epoch: Epoch::new(epoch), owner }
}

pub(crate) fn place(site: &str) -> Place {
    let [proxy, network] = ["p1", NETWORK].map(|name| name.parse().unwrap());
    Place { site: site.parse().unwrap(), proxy, network }
}

pub(crate) fn pair() -> Pair {
    let end = |site: &str| End {
        site: site.parse().unwrap(),
        agent: "hv1".parse().unwrap(),
        address: "192.0.2.1:7401".parse().unwrap(),
        proxy: "p1".parse().unwrap(),
    };
    Pair { from: end("a"), to: end("b") }
}

/// The code with which a call was refused.
pub(crate) fn code<T: std::fmt::Debug>(refused: Result<T, CallError>) -> String {
    match refused {
        Err(CallError::Refused { refusal, .. }) => refusal.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_staged_vm_is_prepared_for_at_the_target_alone_and_unstaging_leaves_nothing() {
    let mut two = Two::new();
    let serve = two.papers.credentials("a", "orchestrator", "serve");
    let before = [two.kernel("a"), two.kernel("b")];
    let stage = two.stage(2, "a", "b");
    let early = two.a.call(&serve, async |c| c.stage(&vm(), &stage).await);
    assert_eq!(code(early), "stale_epoch");
    two.claim(2);
    let told = two.a.call(&serve, async |c| c.stage(&vm(), &stage).await).unwrap();
    assert_eq!(told.way.unwrap().kind, WayKind::Leaving);
    let told = two.b.call(&serve, async |c| c.stage(&vm(), &stage).await).unwrap();
    let way = told.way.unwrap();
    assert_eq!((way.kind, way.peers), (WayKind::Staged, vec![crate::proxies::identity("a")]));
    assert_eq!(two.kernel("a"), before[0], "nothing changes its way yet");
    let staged = two.kernel("b");
    for peer in two.world.site("a").leg().ip.each() {
        assert!(staged.contains(&format!("{peer} dev leg")), "no answer for {peer}: {staged}");
    }

    // Its memory is gone, what stands is not, and it is found again by the next one.
    two.b.kill();
    assert_eq!(two.kernel("b"), staged);
    two.b.start();
    assert_eq!(two.kernel("b"), staged);
    let again = two.b.call(&serve, async |c| c.stage(&vm(), &stage).await).unwrap();
    assert_eq!(again.way.unwrap().kind, WayKind::Staged);

    let early = Redirect { authority: authority(2), placement: place("b") };
    let refused = two.b.call(&serve, async |c| c.redirect(&vm(), &early).await);
    assert_eq!(code(refused), "under_way");
    let reclaim = Reclaim { release: Epoch::new(2), force: true };
    let refused = two.b.call(&serve, async |c| c.reclaim(&vm(), &reclaim).await);
    assert_eq!(code(refused), "under_way");

    let of = OfMove { authority: authority(2) };
    for proxy in [&two.a, &two.b] {
        for _ in 0..2 {
            let told = proxy.call(&serve, async |c| c.unstage(&vm(), &of).await).unwrap();
            assert!(told.way.is_none());
        }
        for _ in 0..2 {
            let ended = proxy.call(&serve, async |c| c.give_back(&vm(), &of).await).unwrap();
            assert_eq!(ended.ended, Epoch::new(2));
        }
        let late = proxy.call(&serve, async |c| c.stage(&vm(), &stage).await);
        assert_eq!(code(late), "stale_epoch");
    }
    assert_eq!([two.kernel("a"), two.kernel("b")], before);
}

#[test]
fn only_the_agent_that_the_claim_names_ends_a_channel_of_its_vm() {
    let two = Two::new();
    two.claim(2);
    let grant = GrantChannel {
        authority: authority(2),
        from: "a".parse().unwrap(),
        to: "b".parse().unwrap(),
        compress: false,
    };
    let disk = "disk".parse().unwrap();
    let serve = two.papers.credentials("a", "orchestrator", "serve");
    two.b.call(&serve, async |c| c.grant_channel(&vm(), &disk, &grant).await).unwrap();
    let revoke = |site: &str, name: &str| {
        let agent = two.papers.credentials(site, "agent", name);
        two.b.call(&agent, async |c| c.revoke_channel(&vm(), &disk, &grant).await)
    };
    // Another host's, and the right name at the other site.
    for (site, name) in [("b", "hv2"), ("a", "hv1")] {
        assert_eq!(code(revoke(site, name)), "not_the_agent");
    }
    assert!(revoke("b", "hv1").unwrap().was_granted);
    assert!(!revoke("b", "hv1").unwrap().was_granted);
}

#[test]
fn flows_that_live_when_the_vm_leaves_are_noted_later_ones_are_stragglers_and_reclaim_waits() {
    let two = Two::new();
    let serve = two.papers.credentials("a", "orchestrator", "serve");
    let site = two.world.site("a");
    let standing = two.kernel("a");
    // A machine that plays the VM, at its address.
    let (neighbour, ip) = (site.neighbour(1), addresses::vm(1).ip);
    neighbour.ip_batch(&format!("addr add {}/16 dev eth0\n", ip.v4)).unwrap();
    let backend = SocketAddr::from((ip.v4, PORT));
    let listener = neighbour.inside(|| TcpListener::bind(backend)).unwrap().unwrap();
    let vip = SocketAddr::from((site.vip(1).v4, PORT));
    let connect = || {
        let client = two.world.client(1).inside(|| TcpStream::connect_timeout(&vip, SOON));
        client.unwrap().unwrap()
    };
    let mut client = connect();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"before").unwrap();
    server.read_exact(&mut [0; 6]).unwrap();

    two.claim(2);
    let stage = two.stage(2, "a", "b");
    two.a.call(&serve, async |c| c.stage(&vm(), &stage).await).unwrap();
    let redirect = Redirect { authority: authority(2), placement: place("b") };
    for _ in 0..2 {
        let told = two.a.call(&serve, async |c| c.redirect(&vm(), &redirect).await).unwrap();
        assert_eq!((told.way.unwrap().kind, told.placement), (WayKind::Away, Some(place("b"))));
    }
    let kernel = two.kernel("a");
    assert!(kernel.contains(&format!("{} dev causeway", ip.v4)), "{kernel}");
    assert!(kernel.contains(&format!("{} dev leg proxy", ip.v6)), "{kernel}");
    let late = connect();
    client.write_all(b"after").unwrap();
    two.counts(
        &two.a,
        &["causeway_vm_way{vm=\"web\",way=\"away\"} ", "causeway_stragglers_total{vm=\"web\"} "],
    );

    let viewer = two.papers.credentials("a", "viewer", "eyes");
    let followed = two.a.call(&viewer, async |c| c.vm(&vm()).await).unwrap().way.unwrap();
    assert!(followed.packets.unwrap().sent > 0, "{followed:?}");
    // There nobody expects them: no move of that VM was staged.
    two.counts(&two.b, &["causeway_packets_dropped_total{cause=\"no_way\"} "]);
    let epoch = Epoch::new(2);
    let noted = || two.a.call(&viewer, async |c| c.cutover(&vm(), epoch, None).await).unwrap();
    let page = eventually(|| {
        let page = noted();
        if page.stragglers.is_empty() { Err(format!("{page:#?}")) } else { Ok(page) }
    });
    let [pinned] = &page.flows[..] else { panic!("{page:#?}") };
    assert_eq!(pinned.flow.client, client.local_addr().unwrap());
    assert_eq!(pinned.passed_at_pivot.unwrap().up, 6);
    assert_eq!(page.stragglers[0].client, late.local_addr().unwrap());

    let reclaim = |release: u64, force| {
        let wish = Reclaim { release: Epoch::new(release), force };
        two.a.call(&serve, async |c| c.reclaim(&vm(), &wish).await)
    };
    assert_eq!(code(reclaim(2, false)), "flows_live");
    let broken_off = reclaim(2, true).unwrap().broken_off;
    assert!(broken_off.contains(&pinned.flow.id), "{broken_off:?}");
    assert_eq!(two.kernel("a"), standing);
    assert_eq!(reclaim(2, false).unwrap().broken_off, []);
}

#[test]
fn a_move_without_a_hold_and_its_return_leave_nothing_once_both_are_reclaimed() {
    let two = Two::new();
    let serve = two.papers.credentials("a", "orchestrator", "serve");
    let [agent_a, agent_b] = ["a", "b"].map(|site| two.papers.credentials(site, "agent", "hv1"));
    let before = [two.kernel("a"), two.kernel("b")];
    let place_of = |proxy: &Proxy, epoch: u64, to: &str| {
        let redirect = Redirect { authority: authority(epoch), placement: place(to) };
        let told = proxy.call(&serve, async |c| c.redirect(&vm(), &redirect).await).unwrap();
        told.way.map(|way| way.kind)
    };
    let go = |epoch: u64, from: &str, to: &str| {
        two.claim(epoch);
        let stage = two.stage(epoch, from, to);
        for proxy in [&two.a, &two.b] {
            proxy.call(&serve, async |c| c.stage(&vm(), &stage).await).unwrap();
        }
    };
    go(2, "a", "b");
    let at = AtPort { authority: authority(2) };
    let other = two.b.call(&agent_a, async |c| c.release(&vm(), &at).await);
    assert_eq!(code(other), "not_the_agent");
    let other = two.b.call(&serve, async |c| c.release(&vm(), &at).await);
    assert_eq!(code(other), "wrong_role");
    for _ in 0..2 {
        let released = two.b.call(&agent_b, async |c| c.release(&vm(), &at).await).unwrap();
        assert_eq!(released.packets, 0);
    }
    assert_eq!(place_of(&two.b, 2, "b"), Some(WayKind::Hosting));
    assert_eq!(place_of(&two.a, 2, "b"), Some(WayKind::Away));
    let vm_at_a = format!("{} dev causeway", addresses::vm(1).ip.v4);
    assert!(two.kernel("a").contains(&vm_at_a));

    go(3, "b", "a");
    // Until it is released, what is pinned at a goes on through the tunnel.
    assert!(two.kernel("a").contains(&vm_at_a));
    let at = AtPort { authority: authority(3) };
    two.a.call(&agent_a, async |c| c.release(&vm(), &at).await).unwrap();
    assert!(!two.kernel("a").contains(&vm_at_a));
    assert_eq!(place_of(&two.a, 3, "a"), Some(WayKind::Hosting));
    assert_eq!(place_of(&two.b, 3, "a"), Some(WayKind::Away));
    let vms = two.b.call(&serve, async |c| c.vms().await).unwrap().vms;
    assert_eq!((vms.len(), vms[0].epoch), (1, Epoch::new(3)));

    let late = Reclaim { release: Epoch::new(2), force: false };
    let refused = two.b.call(&serve, async |c| c.reclaim(&vm(), &late).await);
    assert_eq!(code(refused), "later_move");
    let reclaim = Reclaim { release: Epoch::new(3), force: false };
    for proxy in [&two.a, &two.b] {
        proxy.call(&serve, async |c| c.reclaim(&vm(), &reclaim).await).unwrap();
    }
    assert_eq!([two.kernel("a"), two.kernel("b")], before);
}
