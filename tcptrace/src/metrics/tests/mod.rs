//! A real tracker is fed with made-up events; what it says is counted, scraped and read back.

mod cardinality;
mod cgroups;
mod exposition;
mod golden;
mod host;
mod identities;
mod labels;
mod rules;
