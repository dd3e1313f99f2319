//! tcptrace: an eBPF tracer of the TCP connection lifecycle.
//!
//! One path, no way back: the ring's bytes are [`decode`]d into [`event`]s, the [`tracker`] makes
//! connections of them, and what it says goes to a [`tail`]'s [`output`] or to the metrics of
//! a [`daemon`]. Only [`probe`] knows aya; only [`clock`] reads one.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod capture;
pub mod cgroup;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod decode;
pub mod diag;
pub mod event;
pub mod filter;
pub mod host;
pub mod lookups;
pub mod metrics;
pub mod output;
pub mod probe;
pub mod pump;
pub mod record;
pub mod say;
mod startup;
pub mod stop;
pub mod survey;
pub mod tail;
pub mod tracer;
pub mod tracker;
pub mod web;
