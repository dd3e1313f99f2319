//! tcptrace: an eBPF tracer of the TCP connection lifecycle.
//!
//! Data flows one way: a [`driver`] pulls a [`feed`], from the kernel by a [`probe`] or from a file, through the
//! [`tracker`], which makes connections of it. What the tracker says goes to an [`output`], or to the
//! [`metrics`] that the [`exporter`] serves. Only [`probe`] imports aya; only [`clock`] reads a clock.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod bounded;
pub mod cli;
pub mod clock;
pub mod command;
pub mod driver;
pub mod explain;
pub mod exporter;
pub mod feed;
pub mod host;
pub mod metrics;
pub mod namespaces;
pub mod output;
pub mod probe;
pub mod say;
pub mod sock_diag;
pub mod sockets;
pub mod stop;
pub mod tracker;
