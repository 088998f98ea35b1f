//! `causeway agent`.
