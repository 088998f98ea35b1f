//! The rooms of a move, in the order in which it goes through them.

mod arm;
mod arrive;
mod channels;
mod check;
mod claim;
mod copying;
mod forget;
mod give_back;
mod hold;
mod memory;
mod mirror;
mod redirect;
mod release;
mod reserve;
mod stage;
mod start;

pub(super) use arm::Arm;
pub(super) use arrive::Arrive;
pub(super) use channels::Channels;
pub(super) use check::Check;
pub(super) use claim::Claim;
pub(super) use forget::Forget;
pub(super) use give_back::GiveBack;
pub(super) use hold::Hold;
pub(super) use memory::Memory;
pub(super) use mirror::Mirror;
pub(super) use redirect::Redirect;
pub(super) use release::Release;
pub(super) use reserve::Reserve;
pub(super) use stage::Stage;
pub(super) use start::Start;
