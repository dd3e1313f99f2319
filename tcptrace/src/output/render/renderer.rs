//! The formats of output, and the renderer of each.

use super::{csv::Csv, diagram::Diagram, json, look::Look, table::Table};
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
    Table(Table),
    Diagram(Diagram),
    Json,
    Csv(Csv),
}

impl Renderer {
    /// A renderer of a format; `look` is for formats for people, except whether it is a terminal.
    pub fn new(format: Format, look: Look) -> Self {
        match format {
            Format::Table => Self::Table(Table::new(look)),
            Format::Diagram => Self::Diagram(Diagram::new(look)),
            Format::Json => Self::Json,
            Format::Csv => Self::Csv(Csv::new(look.terminal)),
        }
    }

    /// Appends what comes before the first record.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Table(table) => table.header(out),
            Self::Json | Self::Diagram(_) => {}
            Self::Csv(csv) => csv.header(out),
        }
    }

    /// Appends a record.
    pub fn record(&mut self, record: &Record, out: &mut Vec<u8>) {
        match self {
            Self::Table(table) => table.row(record, out),
            Self::Diagram(diagram) => diagram.record(record, out),
            Self::Json => json::line(record, out),
            Self::Csv(csv) => csv.row(record, out),
        }
    }
}
