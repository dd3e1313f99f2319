//! `tcptrace explain`: what a verdict means, and what to do about it.

use crate::{
    explain::{self, Topic},
    say,
};

/// Prints the explanation of a topic, or what can be explained, in lines of `width` characters.
///
/// # Errors
///
/// When it cannot be written.
pub fn run(topic: Option<Topic>, width: usize, ascii: bool) -> anyhow::Result<()> {
    match topic {
        Some(topic) => say::output(topic.text(width, ascii)),
        None => say::output(explain::list(width)),
    }
}
