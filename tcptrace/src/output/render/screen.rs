//! Rows and, below them on a terminal, the status line. The terminal stays in its usual mode: the
//! status line is erased before anything else is written.

use super::{renderer::Renderer, status::Status};
use crate::{output::record::Record, stdio};

#[derive(Debug)]
pub enum ScreenUpdate {
    /// A row, which stays.
    Row(Box<Record>),
    /// The status line, until something else is shown.
    Status(Status),
    /// Removes the status line.
    Nothing,
}

/// Shows rows, and a status line if there is one.
pub struct Screen(pub Renderer);

impl Screen {
    pub fn show(&mut self, shown: &ScreenUpdate, out: &mut Vec<u8>) {
        if stdio::take_status() {
            out.extend_from_slice(stdio::ERASE);
        }
        match shown {
            ScreenUpdate::Row(record) => self.0.record(record, out),
            ScreenUpdate::Status(status) => {
                let is_shown = match &self.0 {
                    Renderer::Table(table) => {
                        table.status(status, out);
                        true
                    }
                    Renderer::Diagram(diagram) => {
                        diagram.status(status, out);
                        true
                    }
                    Renderer::Json | Renderer::Csv { .. } => false,
                };
                if is_shown {
                    stdio::status_is_shown();
                }
            }
            ScreenUpdate::Nothing => {}
        }
    }
}
