//! What is said of connections, to whom and how: a [`record`] goes through a [`view`] and is [`render`]ed to a
//! [`sink`].

pub mod record;
pub mod render;
pub mod sink;
pub mod tail;
pub mod view;
