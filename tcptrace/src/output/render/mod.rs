//! Records as text: tables and diagrams for people, JSON lines and CSV for programs.

mod column;
mod columns;
mod csv;
mod diagram;
mod fit;
mod json;
mod ladder;
mod line;
mod look;
mod moments;
mod renderer;
mod screen;
mod services;
mod status;
mod table;
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
