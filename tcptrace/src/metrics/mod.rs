//! The tracker's updates, counted for Prometheus.
//!
//! [`Metrics`] takes updates on the tracer's own thread: it indexes cells by small integers and
//! adds; it neither allocates nor locks nor knows a metric's name. A scrape copies the cells into a
//! [`Scrape`] in one pass; [`encode`] runs on the exporter's thread.
//!
//! # Ports
//!
//! `port` is the service's port. Ports earn labels of their own, and keep them (see `labels`; the
//! rule is the same for cgroups); others count as `other`. `unknown` is for connections whose
//! service port is not known: those first seen after their handshake, and simultaneous opens.
//!
//! A connection is counted under the label that its port had when it was established, so that
//! attempts = established + failed + pending + evicted attempts holds over the sum of ports at
//! every scrape. It holds per port too, except for attempts that a scrape showed as `other` before
//! their port got its label: a counter that was shown cannot fall. Attempts that no scrape has
//! shown yet move to the label with their port.
//!
//! # The limit
//!
//! Labels are bounded, and so are the series of labelled ports in the families with many (handshake
//! times, verdicts): they share a pool. When it is empty they count as `other`, and
//! `tcptrace_series_folded_total` counts that: then the identities no longer hold per port, but
//! still over the sum of ports.

mod cells;
mod cgroup_labels;
mod count;
mod counter;
mod families;
mod histogram;
mod labels;
mod port_labels;
mod scrape;
mod syns;

pub use self::{
    count::{Metrics, MetricsConfig},
    counter::Counter,
    families::{ProcessUse, as_open_metrics, encode},
    scrape::{Scrape, ScrapeContext},
};
pub use crate::metrics::cgroup_labels::CgroupLabel;

#[cfg(test)]
mod tests;
