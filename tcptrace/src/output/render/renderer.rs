//! The shapes of output, and what turns records into each.

use super::{csv, diagram::Diagram, json, look::Look, table::Table};
use crate::output::record::Record;

/// The shape of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns for people.
    Table,
    /// One JSON object a line.
    Json,
    /// Comma-separated values, one header line.
    Csv,
    /// Each finished connection as the textbook draws it.
    Diagram,
}

/// Turns records into bytes.
pub enum Renderer {
    /// A table.
    Table(Table),
    /// Diagrams.
    Diagram(Diagram),
    /// JSON lines.
    Json,
    /// CSV, for a terminal or as data.
    Csv {
        /// It is looked at.
        terminal: bool,
    },
}

impl Renderer {
    /// For a format; all but whether it is a terminal of `look` is for people's.
    pub fn new(format: Format, look: Look) -> Self {
        match format {
            Format::Table => Self::Table(Table::new(look)),
            Format::Diagram => Self::Diagram(Diagram::new(look)),
            Format::Json => Self::Json,
            Format::Csv => Self::Csv {
                terminal: look.terminal,
            },
        }
    }

    /// What comes before the first record.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Table(table) => table.header(out),
            Self::Json | Self::Diagram(_) => {}
            Self::Csv { .. } => csv::header(out),
        }
    }

    /// One record.
    pub fn record(&mut self, record: &Record, out: &mut Vec<u8>) {
        match self {
            Self::Table(table) => table.row(record, out),
            Self::Diagram(diagram) => diagram.record(record, out),
            Self::Json => json::line(record, out),
            Self::Csv { terminal } => csv::row(record, *terminal, out),
        }
    }
}
