//! What every daemon's house rules promise, shown on the real `causeway-proxy` and `causeway`: who
//! is admitted, what is refused and how it is said, how a reload goes, how it all ends.

mod access;
mod bounds;
mod configuration;
mod ending;
mod pki;
mod reload;
