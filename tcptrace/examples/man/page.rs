//! A man page made from a page of the documentation.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use roff::{Inline, Roff, bold, roman};

/// A man page, and the page of the documentation that it is made from.
pub(crate) struct Page {
    pub(crate) name: &'static str,
    pub(crate) section: &'static str,
    purpose: &'static str,
    pub(crate) text: &'static str,
}

/// The man pages beside those of the commands.
pub(crate) const PAGES: [Page; 3] = [
    Page {
        name: "tcptrace.toml",
        section: "5",
        purpose: "settings of tcptrace daemon",
        text: include_str!("../../../docs/configuration.md"),
    },
    Page {
        name: "tcptrace-metrics",
        section: "7",
        purpose: "metrics of tcptrace daemon",
        text: include_str!("../../../docs/metrics.md"),
    },
    Page {
        name: "tcptrace-records",
        section: "7",
        purpose: "JSON records of tcptrace",
        text: include_str!("../../../docs/records.md"),
    },
];

impl Page {
    /// Returns the page as roff (man(7)).
    pub(crate) fn render(&self) -> String {
        let mut roff = Roff::new();
        roff.control("TH", [self.name, self.section]);
        roff.control("SH", ["NAME"]);
        roff.text([roman(format!("{} - {}", self.name, self.purpose))]);
        roff.control("SH", ["DESCRIPTION"]);
        let mut body = Body::new(roff);
        for event in Parser::new_ext(self.text, Options::ENABLE_TABLES) {
            body.take(event);
        }
        body.roff.to_roff()
    }
}

/// The body of a page. A row of a table becomes a paragraph with its first cell as the tag.
struct Body {
    roff: Roff,
    line: Vec<Inline>,
    /// The headings of the table's columns.
    headings: Vec<String>,
    cells: Vec<Vec<Inline>>,
    /// Inside a block of code.
    is_code: bool,
    is_head: bool,
}

impl Body {
    const fn new(roff: Roff) -> Self {
        Self {
            roff,
            line: Vec::new(),
            headings: Vec::new(),
            cells: Vec::new(),
            is_code: false,
            is_head: false,
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the pages use a part of Markdown; a test compares the words"
    )]
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Text(text) if self.is_code => {
                for line in text.lines() {
                    self.roff.text([roman(line)]);
                }
            }
            Event::Text(text) => self.line.push(roman(text.into_string())),
            Event::Code(code) => self.line.push(bold(code.into_string())),
            Event::SoftBreak => self.line.push(roman(" ")),
            Event::Start(Tag::CodeBlock(_)) => {
                self.is_code = true;
                self.roff.control("PP", []);
                self.roff.control("EX", []);
            }
            Event::End(TagEnd::CodeBlock) => {
                self.is_code = false;
                self.roff.control("EE", []);
            }
            Event::Start(Tag::Heading { .. } | Tag::Paragraph) => self.line.clear(),
            Event::End(TagEnd::Heading(level)) => {
                let title = std::mem::take(&mut self.line);
                // The first one is the page's own name.
                if level != pulldown_cmark::HeadingLevel::H1 {
                    self.roff
                        .control("SH", [plain(&title).to_uppercase().as_str()]);
                }
            }
            Event::End(TagEnd::Paragraph) => {
                self.roff.control("PP", []);
                self.roff.text(std::mem::take(&mut self.line));
            }
            Event::Start(Tag::TableHead) => self.is_head = true,
            Event::End(TagEnd::TableHead) => {
                self.is_head = false;
                self.headings = self.cells.drain(..).map(|cell| plain(&cell)).collect();
            }
            Event::End(TagEnd::TableCell) => self.cells.push(std::mem::take(&mut self.line)),
            Event::End(TagEnd::TableRow) => self.row(),
            _ => {}
        }
    }

    /// Writes a row: the first cell, short cells with their headings, and the last cell.
    fn row(&mut self) {
        let mut cells = std::mem::take(&mut self.cells);
        let last = cells.pop().unwrap_or_default();
        let mut cells = cells.into_iter().zip(&self.headings);
        self.roff.control("TP", []);
        self.roff
            .text(cells.next().map_or_else(Vec::new, |(tag, _)| tag));
        let mut text = last;
        let details: Vec<_> = cells.filter(|(cell, _)| !plain(cell).is_empty()).collect();
        if !details.is_empty() {
            text.push(roman(" ("));
            for (index, (cell, heading)) in details.into_iter().enumerate() {
                let separator = if index > 0 { "; " } else { "" };
                text.push(roman(format!("{separator}{heading}: ")));
                text.extend(cell);
            }
            text.push(roman(")"));
        }
        self.roff.text(text);
    }
}

fn plain(line: &[Inline]) -> String {
    let text = |part: &Inline| match part {
        Inline::Roman(text) | Inline::Italic(text) | Inline::Bold(text) => text.clone(),
        Inline::LineBreak => " ".to_owned(),
    };
    line.iter().map(text).collect()
}
