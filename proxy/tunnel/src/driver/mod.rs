//! Sockets, TLS and time.
