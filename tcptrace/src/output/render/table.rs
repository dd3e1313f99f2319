//! The table: one line per record.
//!
//! A column that grew for a long cell stays grown. If lines have a limit, as on a terminal, none is
//! longer; [`fit`](super::fit) decides what a narrow line drops.

use anstyle::Style;
use jiff::{Timestamp, civil::Date};
use unicode_width::UnicodeWidthStr as _;

use super::{
    column::Column,
    line::{FAILED, Line, PLAIN, QUIET, SLOW, cut, style},
    look::{Columns, Look},
    status::Status,
    words,
};
use crate::output::record::{Record, RecordBody};
use crate::output::render::fit::{PlacedColumn, TableLayout};
use crate::text::visible;

pub struct Table {
    look: Look,
    /// Characters that each column's cells have needed so far.
    needs: Vec<(Column, usize)>,
    layout: TableLayout,
    /// The width of a line when the columns were laid out.
    limit: Option<usize>,
    first: Option<Timestamp>,
    /// The day of the previous row.
    day: Option<Date>,
}

impl Table {
    pub fn new(look: Look) -> Self {
        let columns = match &look.columns {
            Columns::Usual => &Column::DEFAULT[..],
            Columns::Chosen(columns) => columns,
        };
        let needs = columns
            .iter()
            .map(|&column| {
                let width = column.first_width(&look).max(column.heading().len());
                (column, width)
            })
            .collect();
        Self {
            look,
            needs,
            layout: TableLayout::default(),
            limit: None,
            first: None,
            day: None,
        }
    }

    /// Appends the headings, if rows will follow.
    pub fn header(&mut self, out: &mut Vec<u8>) {
        self.limit = self.look.width.now();
        self.layout = self.fit();
        if self.look.rows {
            self.headings(out);
        }
    }

    /// Appends the status line without an end of line: the cursor stays there.
    pub fn status(&self, status: &Status, out: &mut Vec<u8>) {
        status.line(&self.look, self.first.unwrap_or(status.time), out);
    }

    pub fn row(&mut self, record: &Record, out: &mut Vec<u8>) {
        let first = *self.first.get_or_insert(record.time);
        let (time, whole) = self.look.time.shown(record.time, first);
        let day = self.look.time.day(record.time);
        if let (Some(before), Some(day)) = (self.day, day)
            && before != day
        {
            let mut line = Line::new(&self.look, self.look.width.now());
            line.push(&day.to_string(), QUIET);
            line.end(out);
        }
        self.day = day;
        let banner = match &record.body {
            RecordBody::Loss(body) => Some((format!("LOST {}", words::loss(body)), FAILED)),
            RecordBody::Summary(body) => Some((words::summary(body, self.look.ascii), PLAIN)),
            RecordBody::Transition(_)
            | RecordBody::Handshake(_)
            | RecordBody::Connection(_)
            | RecordBody::Release(_) => None,
        };
        if let Some((text, style)) = banner {
            let mut line = Line::new(&self.look, self.look.width.now());
            line.push(&format!("{time}  "), QUIET);
            line.push(&text, style);
            line.end(out);
            return;
        }
        let cells: Vec<_> = self
            .needs
            .iter()
            .map(|&(column, _)| {
                if column == Column::Time {
                    return time.clone();
                }
                visible(&column.cell(record, &self.look), self.look.ascii).into_owned()
            })
            .collect();
        self.make_room(&cells, out);
        let style = style(&record.body, &self.look);
        let cell_of = |wanted: Column| {
            let at = self.needs.iter().position(|(column, _)| *column == wanted);
            at.map_or("", |at| &cells[at])
        };
        let has_local = self.layout.has(Column::Local);
        let mut line = Line::new(&self.look, self.limit);
        for (at, slot) in self.layout.slots.iter().enumerate() {
            let mut cell = cell_of(slot.column);
            // A listener has one end only.
            if slot.column == Column::Remote && cell == "-" && !has_local {
                cell = cell_of(Column::Local);
            }
            let tells = matches!(slot.column, Column::What | Column::Notes | Column::Verdict);
            let times = matches!(slot.column, Column::Took | Column::Handshake);
            let styled = if slot.column == Column::Time {
                QUIET
            } else if tells || (times && style == SLOW) {
                style
            } else {
                PLAIN
            };
            let short = if !slot.short {
                None
            } else if slot.column == Column::Time {
                cell.get(..whole).map(str::to_owned)
            } else {
                slot.column.short_cell(record, &self.look)
            };
            let joined = (self.layout.joined && slot.column == Column::Notes)
                .then(|| words::joined(&record.body, cell, self.look.ascii));
            let cell = short.as_deref().or(joined.as_deref()).unwrap_or(cell);
            self.cell(&mut line, at, slot, cell, styled);
        }
        line.end(out);
    }

    /// Lays the columns out again if these cells, or the terminal's new width, need it.
    fn make_room(&mut self, cells: &[String], out: &mut Vec<u8>) {
        let mut changed = false;
        for ((column, need), cell) in self.needs.iter_mut().zip(cells) {
            let width = cell.width().min(column.most_width());
            if *column != Column::Notes && width > *need {
                *need = width;
                changed = true;
            }
        }
        let limit = self.look.width.now();
        if limit == self.limit && !changed {
            return;
        }
        let was_limited = limit != self.limit;
        self.limit = limit;
        let layout = self.fit();
        let is_other = was_limited || !layout.shows_as(&self.layout);
        self.layout = layout;
        if is_other {
            self.headings(out);
        }
    }

    fn fit(&self) -> TableLayout {
        let chosen = self.look.columns != Columns::Usual;
        TableLayout::fit(&self.needs, self.limit, chosen)
    }

    fn headings(&self, out: &mut Vec<u8>) {
        let mut line = Line::new(&self.look, self.limit);
        for (at, slot) in self.layout.slots.iter().enumerate() {
            let heading = slot.column.heading();
            let heading = if slot.short {
                &heading[..heading.len().min(slot.width)]
            } else {
                heading
            };
            self.cell(&mut line, at, slot, heading, QUIET);
        }
        line.end(out);
    }

    fn cell(&self, line: &mut Line<'_>, at: usize, slot: &PlacedColumn, text: &str, style: Style) {
        if at > 0 {
            line.pad(self.layout.gap);
        }
        let text = match self.limit {
            Some(_) => cut(text, slot.width, self.look.ascii),
            None => text.to_owned(),
        };
        let padding = slot.width.saturating_sub(text.width());
        // The last column is not padded.
        let is_last = at + 1 == self.layout.slots.len();
        if slot.column.is_right() {
            line.pad(padding);
        }
        line.push(&text, style);
        if !slot.column.is_right() && !is_last {
            line.pad(padding);
        }
    }
}
