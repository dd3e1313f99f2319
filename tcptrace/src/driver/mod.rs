//! Pulls a feed through a tracker to a consumer, live from the kernel or from a file; also the
//! capture that writes such a file.

pub mod capture;
pub mod destination;
pub mod live;
pub mod pump;
pub mod replay;
pub mod scrape;
