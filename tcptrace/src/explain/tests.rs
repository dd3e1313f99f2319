//! The texts, and docs/verdicts.md, which is made from them.

use super::*;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/verdicts.md");

/// Returns docs/verdicts.md.
fn page() -> String {
    let mut text = "# Verdicts\n\n\
        Each connection that ends gets one verdict. This page says what each looks like on the wire, how \
        tcptrace knows it,\nwhat usually causes it and what to do; `tcptrace explain VERDICT` prints the same. In \
        the diagrams this host is on the\nleft and the peer on the right; a line that ends in `×` was never \
        answered, a dotted one was not seen.\n\n\
        First the two things that every connection does, as the textbook has them, and where each phase is \
        measured.\n\n"
        .to_owned();
    for topic in Topic::all() {
        markdown(topic, &mut text);
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn markdown(topic: Topic, out: &mut String) {
    const WIDTH: usize = 110;
    let Explanation {
        meaning,
        scenes,
        evidence,
        causes,
        advice,
    } = topic.explanation();
    writeln!(out, "## {}\n", topic.name()).unwrap_or_default();
    wrap(meaning, "", "", WIDTH, out);
    for scene in scenes {
        if let Some(title) = scene.title() {
            writeln!(out, "\nOn the wire, {title}:").unwrap_or_default();
        }
        let picture = picture(&example::record(*scene), WIDTH, false);
        writeln!(out, "\n```\n{}\n```", picture.trim_end()).unwrap_or_default();
    }
    out.push('\n');
    wrap(evidence, "**How tcptrace knows.** ", "", WIDTH, out);
    for (heading, items) in [("Usual causes", causes), ("What to do", advice)] {
        if !items.is_empty() {
            write!(out, "\n**{heading}**\n\n").unwrap_or_default();
        }
        for item in items {
            wrap(item, "- ", "  ", WIDTH, out);
        }
    }
    out.push('\n');
}

/// `TCPTRACE_BLESS=1` writes it anew.
#[test]
fn the_documentation_has_the_same_text() {
    if std::env::var_os("TCPTRACE_BLESS").is_some() {
        std::fs::write(PAGE, page()).unwrap();
    }
    assert!(
        std::fs::read_to_string(PAGE).unwrap() == page(),
        "docs/verdicts.md is another text than tcptrace explain: TCPTRACE_BLESS=1 writes it"
    );
}

#[test]
fn each_topic_is_found_by_its_name_and_as_the_table_has_it() {
    for topic in Topic::all() {
        assert_eq!(topic.name().parse(), Ok(topic));
        assert_eq!(topic.name().replace('_', " ").parse(), Ok(topic));
    }
    assert!("rset".parse::<Topic>().unwrap_err().contains("reset_by_us"));
}

#[test]
fn each_text_is_no_wider_than_asked_for_and_ascii_where_that_is_asked_for() {
    for topic in Topic::all() {
        for width in [40, 80] {
            let text = topic.text(width, true);
            assert!(text.is_ascii(), "{text}");
            for line in text.lines().chain(topic.text(width, false).lines()) {
                let is_one_word = line.split_whitespace().count() <= 2;
                assert!(line.width() <= width || is_one_word, "{line:?}");
            }
        }
    }
}

#[test]
fn each_verdict_is_drawn_and_says_how_it_is_known() {
    for topic in Topic::all() {
        let Explanation {
            scenes, evidence, ..
        } = topic.explanation();
        assert!(!scenes.is_empty() && !evidence.is_empty());
        for scene in scenes {
            assert!(!picture(&example::record(*scene), 80, false).is_empty());
        }
    }
}
