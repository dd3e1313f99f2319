//! tcptrace: an eBPF tracer of the TCP connection lifecycle.
//!
//! Data flows one way: a `driver` pulls a `feed`, from the kernel by a `probe` or from a file,
//! through the `tracker`, which makes connections of it. The tracker's updates go to an `output`,
//! or to the `metrics` that the `exporter` serves. Only `probe` imports aya; only `clock` reads a
//! clock.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]
#![expect(
    missing_docs,
    reason = "the library has no other users: docs tell units, sources and invariants, not every name"
)]

mod bounded;
mod cli;
mod clock;
pub mod command;
mod driver;
mod explain;
mod exporter;
mod feed;
#[cfg(any(test, feature = "fuzz"))]
mod fuzz;
mod host;
mod log;
mod metrics;
mod namespaces;
mod output;
mod privileges;
mod probe;
mod sock_diag;
mod sockets;
pub mod stdio;
mod stop;
mod text;
mod tracker;
mod warnings;
mod worker;

pub use cli::{
    Cli, Command,
    config::{CaptureConfig, ConfigError, DaemonConfig, ExplainConfig, ReplayConfig, TailConfig},
    settings::{Settings, brief},
};
pub use log::{LogFormat, LogLevel, LogStyle, log_to_stderr};
pub use stop::Stop;

/// What the integration tests use. Not a stable interface.
#[doc(hidden)]
pub mod testing {
    #[cfg(feature = "fuzz")]
    pub use crate::fuzz::{TARGETS, Target};
    pub use crate::{
        clock::{ClockReading, WallClock, monotonic_ns},
        driver::replay::{Replay, sources},
        feed::{
            decode::decode,
            event::{Body, Details, Endpoints, Event},
            file::{
                format::{
                    Block, CaptureHeader, events, push_event, write_clock, write_end, write_events,
                    write_hook, write_loss, write_name, write_start, write_time,
                },
                reader::{CaptureError, Reader},
            },
            item::LossPlace,
            name::Name,
        },
        host::{
            Host, cgroup, kernel_release,
            netns::{cookie_here, find},
        },
        output::{
            record::{Record, Recorder},
            render::{Format, Look, Renderer},
            view::{ShownRecords, View, filter::Filter},
        },
        probe::Hook,
        sock_diag::{Diag, DiagFamily, DiagSocket, Namespace, Tuple},
        tracker::{Consumer, EventKind, GRACE_NS, Item, Tracker, TrackerConfig, Update},
    };
}
