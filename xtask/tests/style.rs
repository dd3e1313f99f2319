//! The rules of docs/contributing.md that a program can check.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Phrases that are hard to read, each with a better one.
const PHRASES: [(&str, &str); 24] = [
    ("is meant", "is expected"),
    ("are meant", "are expected"),
    ("whoever", "the process that"),
    ("answers how many", "returns how many"),
    ("answers whether", "returns whether"),
    ("at the most", "at most N"),
    ("so often", "this many times"),
    ("brought to an end", "flushed"),
    ("is brought to one", "is flushed"),
    ("metrics is none", "not a valid metrics path"),
    ("of whom no", "without a known"),
    ("said, once", "name the subject"),
    ("met in mid-life", "first seen after its handshake"),
    ("missed least", "least important"),
    ("never lack", "are always exported"),
    ("for so long", "for this long"),
    ("stay as they were", "keep the current"),
    ("routes lack", "no route"),
    ("the mend is", "fix:"),
    ("then the old ones hold", "keeps the previous"),
    ("who are you", "authentication required"),
    ("cannot be had", "is not available"),
    ("can be had", "is available"),
    ("lets go", "releases"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the files below these directories with this extension.
fn files(directories: &[&str], extension: &str) -> Vec<PathBuf> {
    fn collect(directory: &Path, extension: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("a directory of the repository") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("target") {
                collect(&path, extension, found);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    for directory in directories {
        collect(&root().join(directory), extension, &mut found);
    }
    assert!(!found.is_empty());
    found
}

fn product() -> Vec<PathBuf> {
    let sources = ["tcptrace/src", "tcptrace-common/src", "tcptrace-ebpf/src"];
    let is_test = |path: &PathBuf| {
        let path = path.to_string_lossy();
        path.contains("/tests") || path.contains("_tests")
    };
    let mut files = files(&sources, "rs");
    files.retain(|path| !is_test(path));
    files
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("a text file of the repository");
    text.lines().map(str::to_owned).collect()
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

#[test]
fn comments_have_none_of_the_phrases_that_are_hard_to_read() {
    let mut found = Vec::new();
    for path in product() {
        for (number, line) in lines(&path)
            .iter()
            .enumerate()
            .filter(|(_, line)| is_comment(line))
        {
            let line = line.to_lowercase();
            for (phrase, better) in PHRASES {
                if line.contains(phrase) {
                    let at = format!("{}:{}", path.display(), number + 1);
                    found.push(format!("{at}: {phrase:?}; better: {better:?}"));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn comments_keep_to_100_columns() {
    let sources = ["tcptrace", "tcptrace-common", "tcptrace-ebpf/src", "xtask"];
    let mut long = Vec::new();
    for path in files(&sources, "rs") {
        for (number, line) in lines(&path)
            .iter()
            .enumerate()
            .filter(|(_, line)| is_comment(line))
        {
            if line.chars().count() > 100 && line.contains(' ') {
                long.push(format!("{}:{}", path.display(), number + 1));
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn no_file_of_the_product_has_more_than_450_lines() {
    for path in product() {
        let count = lines(&path).len();
        assert!(count <= 450, "{} has {count} lines", path.display());
    }
}

/// The eBPF programs are left out: nearly every line of them is unsafe.
#[test]
fn unsafe_blocks_are_no_more_than_the_table_says() {
    let page = lines(&root().join("docs/contributing.md"));
    let limits: BTreeMap<&str, usize> = page
        .iter()
        .filter_map(|line| {
            let mut cells = line.trim().strip_prefix("| `")?.split("` | ");
            let module = cells.next()?;
            Some((module, cells.next()?.strip_suffix(" |")?.parse().ok()?))
        })
        .collect();
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for directory in ["tcptrace/src", "tcptrace-common/src"] {
        let directory = root().join(directory);
        for path in product() {
            let Ok(file) = path.strip_prefix(&directory) else {
                continue;
            };
            let module = file.iter().next().expect("a name");
            let module = Path::new(module).file_stem().expect("a name");
            let text = fs::read_to_string(&path).expect("a text file");
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or(&text);
            let code = code.lines().filter(|line| !is_comment(line));
            let blocks = code.filter(|line| {
                ["unsafe {", "unsafe fn ", "unsafe impl ", "unsafe extern "]
                    .iter()
                    .any(|form| line.contains(form))
            });
            *found.entry(module.display().to_string()).or_default() += blocks.count();
        }
    }
    found.retain(|_, blocks| *blocks > 0);
    assert!(!found.is_empty());
    for (module, blocks) in found {
        let limit = limits.get(module.as_str()).copied().unwrap_or(0);
        assert!(blocks <= limit, "{module} has {blocks}, not {limit}");
    }
}

#[test]
fn architecture_is_one_page() {
    let lines = lines(&root().join("ARCHITECTURE.md"));
    let words: usize = lines
        .iter()
        .map(|line| line.split_whitespace().count())
        .sum();
    assert!(words <= 900, "{words} words");
    for line in lines {
        assert!(line.chars().count() <= 120, "{line}");
    }
}
