//! What the tracker says, counted for Prometheus.
//!
//! [`Metrics`] listens to the tracker on the tracer's own thread: an update indexes cells by
//! small integers and adds, it neither allocates nor locks nor knows a metric's name. A scrape
//! copies the cells into a [`Scrape`] in one pass; the one who asked for it encodes it with
//! [`encode`], on a thread of its own.
//!
//! # Ports
//!
//! `port` is the service's port. Ports earn labels of their own, and keep them (see
//! `labels`, whose rule is that of cgroups too); what has none counts as `other`. `unknown` is for connections whose
//! service port cannot be told: those met in mid-life, simultaneous opens.
//!
//! A connection is counted under what its port's label was when it was established, so that
//! attempts = established + failed + pending + evicted attempts
//! holds over the sum of ports at every scrape. Per port it holds as well, but for attempts that
//! a scrape showed as `other` before their port got its label: a counter that was shown cannot
//! fall. Attempts that no scrape has shown yet move to the label with their port.
//!
//! # The bound
//!
//! Labels are bounded, and so are the series that labelled ports can have in the families with
//! many (handshake times, verdicts): they share a pool. What finds it empty counts as `other`,
//! and `tcptrace_series_folded_total` counts it: then per port the identities hold no more, over
//! the sum of ports they still do.

mod cells;
mod cgroups;
mod count;
mod counter;
mod families;
mod histogram;
mod labels;
mod ports;
mod scrape;
mod syns;

pub use self::{
    cgroups::CgroupLabel,
    count::{Metrics, MetricsConfig},
    counter::Counter,
    families::{as_open_metrics, encode},
    scrape::{Scrape, ScrapeContext},
};

#[cfg(test)]
mod tests;
