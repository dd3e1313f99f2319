//! `tcptrace explain`: what a verdict means, and what to do about it.

use crate::{
    explain::{self, Topic},
    stdio,
};

/// Prints the explanation of a topic, or the list of topics, in lines of `width` characters.
pub fn run(topic: Option<Topic>, width: usize, ascii: bool) -> anyhow::Result<()> {
    match topic {
        Some(topic) => stdio::print(topic.text(width, ascii)),
        None => stdio::print(explain::list(width)),
    }
}
