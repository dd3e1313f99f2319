//! docs/performance.md: parts between comments that name them.

use std::{fs, io::ErrorKind, path::Path};

use anyhow::{Context as _, Result};

/// The page's beginning where there is none yet.
const HEAD: &str = "\
# Performance

What tcptrace costs, as `cargo xtask bench` measures it: it rewrites the sections below. Compare only numbers of one
section: they were measured in one run, in turn. On another machine they are others. On a virtual machine single
measurements of the path differ by more than a tracer adds; the times of the programs themselves are the steadiest.
";

/// The page.
pub(super) struct Page(String);

impl Page {
    /// Reads the page, or begins one.
    pub(super) fn open(path: &Path) -> Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(Self(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self(HEAD.to_owned())),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Replaces a section; a new one goes to the end.
    pub(super) fn replace(&mut self, name: &str, text: &str) {
        let (begin, end) = (
            format!("<!-- bench: {name} -->\n"),
            format!("<!-- end: {name} -->\n"),
        );
        let section = format!("{begin}{text}{end}");
        let old = self.0.find(&begin).and_then(|from| {
            let to = self.0[from..].find(&end)?;
            Some(from..from + to + end.len())
        });
        match old {
            Some(range) => self.0.replace_range(range, &section),
            None => {
                self.0.push('\n');
                self.0.push_str(&section);
            }
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, &self.0).with_context(|| path.display().to_string())
    }
}

/// A table in Markdown.
pub(super) struct Table(String);

impl Table {
    pub(super) fn new(headings: &[&str]) -> Self {
        let mut table = Self(String::new());
        table.row(headings.iter().map(ToString::to_string));
        table.0.push('|');
        table.0.push_str(&"---|".repeat(headings.len()));
        table.0.push('\n');
        table
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.push('|');
        for cell in cells {
            self.0.push_str(&format!(" {cell} |"));
        }
        self.0.push('\n');
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// A bound that a section checks.
pub(super) struct Bound<'a> {
    pub(super) what: &'a str,
    pub(super) measured: String,
    pub(super) holds: bool,
}

/// Returns the bounds, a line each; a missed one says so.
pub(super) fn bounds(bounds: &[Bound<'_>]) -> String {
    let mut text = String::new();
    for Bound {
        what,
        measured,
        holds,
    } in bounds
    {
        let verdict = if *holds { "held" } else { "**missed**" };
        text.push_str(&format!("- {what}: {verdict} ({measured})\n"));
    }
    text
}

/// Returns a line about this machine: its processor, kernel and number of processors.
pub(super) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let release = read("/proc/sys/kernel/osrelease");
    let version: Vec<&str> = release.trim().splitn(3, '.').take(2).collect();
    format!("{count} processors ({model}), Linux {}", version.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_the_others_stay() {
        let mut page = Page("head\n".to_owned());
        page.replace("one", "1\n");
        page.replace("two", "2\n");
        page.replace("one", "3\n");
        assert_eq!(
            page.0,
            "head\n\n<!-- bench: one -->\n3\n<!-- end: one -->\n\n<!-- bench: two -->\n2\n<!-- end: two -->\n"
        );
    }
}
