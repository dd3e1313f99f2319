//! The documentation is true: its examples are what the program prints, its commands are accepted,
//! and its links lead somewhere. `TCPTRACE_BLESS=1` rewrites the examples.
//!
//! An example is a `console` block after `<!-- replay: STREAM … | STREAM … -->`: each of its
//! `tcptrace tail` commands is run as a replay of the recorded streams between two bars.

mod documented;
#[path = "../examples/man/page.rs"]
mod page;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use clap::Parser as _;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use serde_json::Value;
use tcptrace::Cli;

use documented::{command, pages, root};

const BLESS: &str = "TCPTRACE_BLESS";

fn read(page: &Path) -> String {
    fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()))
}

fn parse(text: &str) -> impl Iterator<Item = Event<'_>> {
    Parser::new_ext(text, Options::ENABLE_TABLES)
}

/// Returns what a tail with these arguments shows of the recorded streams, its headings once.
fn replay(arguments: &[String], streams: &str) -> String {
    let mut shown = String::new();
    for stream in streams.split_whitespace() {
        let file = format!("tests/streams/6.12/{stream}.cap");
        let output = Command::new(env!("CARGO_BIN_EXE_tcptrace"))
            .arg("replay")
            .args(arguments)
            .arg(file)
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .output()
            .expect("the command can be run");
        assert!(output.status.success(), "{stream}: {output:?}");
        let rows = String::from_utf8(output.stdout).expect("UTF-8");
        let known = !shown.is_empty() && rows.starts_with("TIME");
        for row in rows.lines().skip(known.into()) {
            shown.push_str(row.trim_end());
            shown.push('\n');
        }
    }
    shown
}

/// Returns the page with its examples as the program prints them now.
fn with_examples(text: &str) -> String {
    let mut page = String::new();
    let mut streams: Option<Vec<&str>> = None;
    let mut is_output = false;
    for line in text.lines() {
        if let Some(list) = line.strip_prefix("<!-- replay:") {
            let list = list.strip_suffix("-->").expect("a comment of one line");
            streams = Some(list.split('|').rev().collect());
        }
        let arguments = command(line);
        if line.starts_with("$ ") || line == "```" {
            is_output = false;
        }
        if !is_output {
            page.push_str(line);
            page.push('\n');
        }
        if line == "```" {
            assert!(streams.take().is_none_or(|left| left.is_empty()), "{page}");
        }
        if let (Some(streams), Some(arguments)) = (&mut streams, arguments)
            && arguments[0] == "tail"
        {
            let streams = streams.pop().expect("streams for each tail");
            page.push_str(&replay(&arguments[1..], streams));
            is_output = true;
        }
    }
    page
}

#[test]
fn examples_are_what_the_program_prints() {
    for page in pages() {
        let text = read(&page);
        let now = with_examples(&text);
        if std::env::var_os(BLESS).is_some() {
            fs::write(&page, &now).expect("it can be written");
        } else {
            assert_eq!(text, now, "{}; {BLESS}=1 rewrites it", page.display());
        }
    }
}

/// Fails if the command line does not accept these arguments.
fn must_parse(page: &Path, arguments: &[String]) {
    let parsed = Cli::try_parse_from(
        ["tcptrace"]
            .into_iter()
            .chain(arguments.iter().map(|word| &**word)),
    );
    if let Err(error) = parsed
        && error.use_stderr()
    {
        panic!(
            "{}: tcptrace {}: {error}",
            page.display(),
            arguments.join(" ")
        );
    }
}

#[test]
fn commands_are_accepted() {
    let mut count = 0;
    for page in pages() {
        let text = read(&page);
        let lines = text.lines().filter_map(command);
        let spans: Vec<_> = parse(&text)
            .filter_map(|event| {
                let Event::Code(code) = event else {
                    return None;
                };
                // The name of a command alone is no invocation.
                let code = code.replace("PORT", "443");
                command(&format!("$ {code}")).filter(|words| words.len() > 1)
            })
            .collect();
        for arguments in lines.chain(spans) {
            must_parse(&page, &arguments);
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
}

/// Returns the anchors of a page's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut heading: Option<String> = None;
    for event in parse(text) {
        match (event, &mut heading) {
            (Event::Start(Tag::Heading { .. }), _) => heading = Some(String::new()),
            (Event::Text(text) | Event::Code(text), Some(heading)) => heading.push_str(&text),
            (Event::End(TagEnd::Heading(_)), Some(title)) => {
                let kept =
                    |character: &char| character.is_alphanumeric() || " -_".contains(*character);
                let title = title
                    .to_lowercase()
                    .chars()
                    .filter(kept)
                    .collect::<String>();
                anchors.insert(title.replace(' ', "-"));
                heading = None;
            }
            _ => {}
        }
    }
    anchors
}

#[test]
fn links_lead_somewhere() {
    let mut dead = Vec::new();
    for page in pages() {
        let text = read(&page);
        for event in parse(&text) {
            let (Event::Start(Tag::Link { dest_url, .. })
            | Event::Start(Tag::Image { dest_url, .. })) = event
            else {
                continue;
            };
            if dest_url.starts_with("https://") {
                continue;
            }
            let (path, anchor) = dest_url.split_once('#').unwrap_or((&dest_url, ""));
            let target = if path.is_empty() {
                page.clone()
            } else {
                page.parent().expect("a directory").join(path)
            };
            let leads =
                target.exists() && (anchor.is_empty() || anchors(&read(&target)).contains(anchor));
            if !leads {
                dead.push(format!("{}: {dest_url}", page.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

#[test]
fn lines_keep_to_120_columns_outside_tables_and_code() {
    let mut long = Vec::new();
    for page in pages() {
        let text = read(&page);
        let mut is_code = false;
        for (number, line) in (1..).zip(text.lines()) {
            is_code ^= line.starts_with("```");
            let is_bound =
                !is_code && !line.starts_with(['|', '<']) && !line.contains("](https://");
            if is_bound && line.chars().count() > 120 {
                long.push(format!("{}:{number}", page.display()));
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// Returns the fields that the schema of a record names, by type.
fn known_fields(schema: &Value) -> BTreeMap<&str, BTreeSet<&str>> {
    let common = schema["properties"].as_object().expect("properties");
    let variants = schema["oneOf"].as_array().expect("kinds of records");
    variants
        .iter()
        .map(|variant| {
            let own = variant["properties"].as_object().expect("properties");
            let kind = own["type"]["const"].as_str().expect("a type");
            (
                kind,
                common
                    .keys()
                    .chain(own.keys())
                    .map(String::as_str)
                    .collect(),
            )
        })
        .collect()
}

/// Every record of every recorded stream.
#[test]
fn records_are_as_their_schema_says() {
    let schema: Value =
        serde_json::from_str(&read(&root().join("docs/records.schema.json"))).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let known = known_fields(&schema);
    let mut seen = BTreeSet::new();
    for kernel in fs::read_dir(root().join("tcptrace/tests/streams")).expect("a directory") {
        for stream in fs::read_dir(kernel.expect("an entry").path()).expect("a directory") {
            let stream = stream.expect("an entry").path();
            if stream
                .extension()
                .is_none_or(|extension| extension != "cap")
            {
                continue;
            }
            let output = Command::new(env!("CARGO_BIN_EXE_tcptrace"))
                .args(["replay", "--format", "json", "--summary", "1s", "--show"])
                .arg("transitions,handshakes,connections,releases")
                .arg(&stream)
                .output()
                .expect("the command can be run");
            assert!(output.status.success(), "{output:?}");
            for line in String::from_utf8(output.stdout).expect("UTF-8").lines() {
                let record: Value = serde_json::from_str(line).expect("JSON");
                if let Err(error) = validator.validate(&record) {
                    panic!("{}: {error}: {line}", stream.display());
                }
                let kind = record["type"].as_str().expect("a type");
                for field in record.as_object().expect("an object").keys() {
                    assert!(known[kind].contains(&**field), "{field} in {line}");
                }
                seen.insert(kind.to_owned());
            }
        }
    }
    let seen: Vec<_> = seen.iter().map(String::as_str).collect();
    assert_eq!(
        seen,
        [
            "connection",
            "handshake",
            "release",
            "summary",
            "transition"
        ]
    );
}

#[test]
fn man_pages_have_every_word_of_their_source() {
    for page in page::PAGES {
        let rendered = page.render();
        let rendered = ["\\fB", "\\fR", "\\&"]
            .iter()
            .fold(rendered, |text, escape| text.replace(escape, ""))
            .replace("\\-", "-")
            .replace("\\\\", "\\")
            .to_uppercase();
        let mut is_head = false;
        // The first heading is the page's own name.
        for event in parse(page.text).skip(3) {
            is_head |= event == Event::Start(Tag::TableHead);
            is_head &= event != Event::End(TagEnd::TableHead);
            let (Event::Text(text) | Event::Code(text)) = event else {
                continue;
            };
            if is_head {
                continue;
            }
            for word in text.split_whitespace() {
                let word = word.to_uppercase();
                assert!(rendered.contains(&word), "{}: {word}", page.name);
            }
        }
    }
}

#[test]
fn the_readme_is_short() {
    let text = read(&root().join("README.md"));
    let words = text.split_whitespace().count();
    assert!(
        text.lines().count() <= 120,
        "{} lines",
        text.lines().count()
    );
    assert!(words <= 1_000, "{words} words");
}
