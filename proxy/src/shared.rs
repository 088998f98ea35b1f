//! What all workers share: what there is to serve, how much may be, and where each flow is found.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use proxy_api::FlowId;

use crate::admit::Capacity;
use crate::datagram::Census;
use crate::held::Held;
use crate::pinned::Pinned;
use crate::service::Services;

/// What all workers share. None of it is touched while bytes pass.
#[derive(Debug)]
pub struct Shared {
    /// What there is, swapped by a reload.
    pub services: ArcSwap<Services>,
    /// VMs that cannot answer at the moment.
    pub held: Arc<Held>,
    /// Flows that moves have listed.
    pub pinned: Pinned,
    /// How many flows there may be.
    pub capacity: Arc<Capacity>,
    /// Where each live flow is, by the number of its id.
    pub(crate) found: DashMap<u64, Found>,
    /// Who is at each UDP VIP that there ever was.
    pub(crate) censuses: DashMap<SocketAddr, Arc<Census>>,
    boot_us: u64,
    last_number: AtomicU64,
}

/// Where a live flow is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) worker: usize,
    pub(crate) place: usize,
}

impl Shared {
    /// Nothing to serve yet.
    #[must_use]
    pub fn new(flows_max: u64) -> Shared {
        Shared {
            services: ArcSwap::default(),
            held: Arc::default(),
            pinned: Pinned::default(),
            capacity: Arc::new(Capacity::new(flows_max)),
            found: DashMap::new(),
            censuses: DashMap::new(),
            boot_us: unix_us(),
            last_number: AtomicU64::new(0),
        }
    }

    /// Which worker has a flow, and where.
    #[must_use]
    pub fn find(&self, id: FlowId) -> Option<(usize, usize)> {
        let found = (id.boot_us == self.boot_us).then(|| self.found.get(&id.number))??;
        Some((found.worker, found.place))
    }

    pub(crate) fn next_id(&self) -> FlowId {
        let number = self.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        FlowId { boot_us: self.boot_us, number }
    }
}

/// Now, in milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    unix_us() / 1_000
}

fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
