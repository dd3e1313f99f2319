//! A real server on port 0, spoken to in raw bytes; for limits of time a single connection in
//! memory, on a clock that only moves when nobody has anything to do.

mod access;
mod deadlines;
mod http2;
mod limits;
mod routes;
mod server;
mod stop;
