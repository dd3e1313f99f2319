//! A real server on port 0, spoken to in raw bytes.

mod limits;
mod routes;
mod server;
mod stop;
