//! Output: a [`record`] passes a [`view`] and is [`render`]ed to a [`sink`].

pub mod record;
pub mod render;
pub mod sink;
pub mod tail;
pub mod view;
