//! Records as text: tables and diagrams for people, JSON lines and CSV for programs.

mod column;
mod columns;
mod csv;
mod diagram;
mod json;
mod ladder;
mod layout;
mod line;
mod look;
mod moments;
mod ports;
mod renderer;
mod screen;
mod status;
mod table;
mod text;
mod units;
mod words;

pub use self::{
    column::Column,
    diagram::picture,
    look::{Columns, Look, Time, Width},
    renderer::{Format, Renderer},
    screen::{Screen, ScreenUpdate},
    status::Status,
};
