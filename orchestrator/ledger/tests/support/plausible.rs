//! A plausible move.
