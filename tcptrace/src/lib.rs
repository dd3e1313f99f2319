//! tcptrace: an eBPF tracer of the TCP connection lifecycle.
//!
//! One path, no way back: a [`feed`] hands items to the [`tracker`], which makes connections of
//! them. What it says goes through a [`record`], a [`view`] and a [`render`]ing to a [`sink`], or
//! to the [`metrics`] of the daemon's [`web`] server. Only [`probe`] knows aya; only [`clock`]
//! reads one.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod cli;
pub mod clock;
pub mod command;
pub mod explain;
pub mod feed;
pub mod host;
pub mod metrics;
pub mod probe;
pub mod record;
pub mod render;
pub mod say;
pub mod sink;
pub mod stop;
pub mod survey;
pub mod tracer;
pub mod tracker;
pub mod view;
pub mod web;
