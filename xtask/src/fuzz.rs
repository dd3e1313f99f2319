//! `cargo xtask fuzz`: libFuzzer on everything that parses what somebody else wrote.
//!
//! The targets are those of `tcptrace/src/fuzz.rs`. Each begins with its archive of inputs in
//! `tcptrace/tests/corpus`, which the tests replay. The instrumentation is LLVM's, asked for by
//! flags that stable Rust has.

use std::{
    env::consts::ARCH,
    fs::{self, File},
    io::Cursor,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread::available_parallelism,
};

use anyhow::{Context as _, Result, bail};

use cpio::newc::Builder;

use crate::{
    apt, command,
    vm::{binaries::find, streams::unpack},
    workspace::Workspace,
};

/// Builds and runs the fuzzer.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The targets; without one all of them.
    targets: Vec<String>,
    /// How long each is fuzzed, seconds.
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Add what was found and reaches more code to the committed corpus.
    #[arg(long)]
    keep: bool,
    /// Install the C++ compiler that libFuzzer needs, with apt-get.
    #[arg(long)]
    install: bool,
}

/// What sanitizers and fuzzers have: counters at edges, a table of them, and compared values.
const FLAGS: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];
/// The longest that one input may take, seconds, and the most memory, MiB.
const TIMEOUT: &str = "-timeout=10";
const MEMORY: &str = "-rss_limit_mb=2048";

/// The extension of an archive of inputs.
const ARCHIVE: &str = "cpio";

/// A target under way.
struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

/// Fails when an input was found that a target does not withstand.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    if !command::exists("c++") {
        if !arguments.install {
            bail!("there is no C++ compiler, which libFuzzer needs; --install gets it");
        }
        apt::update()?;
        apt::install(&["g++"])?;
    }
    let corpus = workspace.root().join("tcptrace/tests/corpus");
    let mut names = Vec::new();
    for archive in fs::read_dir(&corpus).context("there is no corpus")? {
        let name = archive?.path().with_extension("");
        names.extend(name.file_name().map(|name| name.display().to_string()));
    }
    names.sort();
    for target in &arguments.targets {
        if !names.contains(target) {
            bail!(
                "there is no target {target}; there are: {}",
                names.join(", ")
            );
        }
    }
    if !arguments.targets.is_empty() {
        names = arguments.targets.clone();
    }
    let place = workspace.target().join("fuzz");
    let program = build(workspace, &place)?;
    println!(
        "{:<14}{:>12}{:>10}{:>8}  outcome",
        "target", "executions", "a second", "inputs"
    );
    let mut is_well = true;
    let at_once = available_parallelism().map_or(1, usize::from);
    for some in names.chunks(at_once) {
        let mut running = Vec::new();
        for name in some {
            let inputs = place.join("corpus").join(name);
            unpack(&corpus.join(name).with_extension(ARCHIVE), &inputs)?;
            let log = place.join(format!("{name}.log"));
            let output = File::create(&log).with_context(|| log.display().to_string())?;
            let child = fuzzer(&program, name)
                .arg(&inputs)
                .arg(format!("-max_total_time={}", arguments.seconds))
                .arg(format!("-artifact_prefix={}/{name}-", place.display()))
                .args([TIMEOUT, MEMORY, "-print_final_stats=1"])
                .stdout(Stdio::null())
                .stderr(output)
                .spawn()
                .context("the fuzzer cannot be run")?;
            let name = name.clone();
            running.push(Running { name, child, log });
        }
        for mut target in running {
            let status = target.child.wait()?;
            is_well &= status.success();
            let said = fs::read(&target.log)?;
            println!(
                "{}",
                summary(&target.name, &String::from_utf8_lossy(&said), &target.log)
            );
        }
    }
    if arguments.keep {
        for name in &names {
            let kept = place.join("kept").join(name);
            // What an earlier one left.
            drop(fs::remove_dir_all(&kept));
            fs::create_dir_all(&kept)?;
            let mut merge = fuzzer(&program, name);
            merge
                // The smallest set that reaches all code, however often.
                .args(["-set_cover_merge=1", "-use_counters=0", TIMEOUT, MEMORY])
                .args([&kept, &place.join("corpus").join(name)]);
            command::run(&mut merge)?;
            let archive = corpus.join(name).with_extension(ARCHIVE);
            fs::write(archive, pack(&kept)?)?;
        }
    }
    Ok(if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Builds the program and returns its path.
fn build(workspace: &Workspace, place: &Path) -> Result<PathBuf> {
    let host = format!("{ARCH}-unknown-linux-gnu");
    let mut cargo = command::cargo();
    cargo
        .args(["build", "--package", "tcptrace", "--example", "fuzz"])
        .args(["--features", "fuzz", "--locked", "--target", &host])
        .arg("--message-format=json-render-diagnostics")
        .env("CARGO_TARGET_DIR", place)
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only")
        // With --target they do not apply to build scripts.
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
        .env_remove("RUSTFLAGS")
        .stderr(Stdio::inherit())
        .current_dir(workspace.root());
    let output = cargo.output().context("cargo cannot be run")?;
    if !output.status.success() {
        bail!("the fuzzer does not build");
    }
    find(&String::from_utf8_lossy(&output.stdout), "example", "fuzz")
}

/// Returns an archive of a directory's files.
fn pack(directory: &Path) -> Result<Vec<u8>> {
    let mut paths = Vec::new();
    for file in fs::read_dir(directory)? {
        paths.push(file?.path());
    }
    paths.sort();
    let mut entries = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let entry = Builder::new(&name).mode(0o100_644);
        entries.push((entry, Cursor::new(fs::read(&path)?)));
    }
    cpio::write_cpio(entries.into_iter(), Vec::new()).context("cannot pack the archive")
}

fn fuzzer(program: &Path, target: &str) -> Command {
    let mut fuzzer = Command::new(program);
    fuzzer.env("TCPTRACE_FUZZ_TARGET", target);
    fuzzer
}

/// Returns a line of the summary, from what libFuzzer said at its end.
fn summary(name: &str, said: &str, log: &Path) -> String {
    let statistic = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name));
        line.map_or("?", |line| line.trim_start_matches(':').trim())
    };
    // `#1048576 pulse cov: 512 ft: 2048 corp: 99/12Kb …`
    let inputs = said.lines().rev().find_map(|line| {
        let (_, after) = line.split_once(" corp: ")?;
        after.split('/').next()
    });
    let artifact = said
        .lines()
        .find_map(|line| line.split_once("Test unit written to "));
    let outcome = match artifact {
        Some((_, path)) => format!("FAULT: {path}; see {}", log.display()),
        None => "withstood".to_owned(),
    };
    format!(
        "{name:<14}{:>12}{:>10}{:>8}  {outcome}",
        statistic("stat::number_of_executed_units"),
        statistic("stat::average_exec_per_sec"),
        inputs.unwrap_or("?"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_what_the_fuzzer_counted() {
        let said = "\
INFO: Running with entropic power schedule (0xFF, 100).
#1024\tNEW    cov: 91 ft: 100 corp: 7/230b lim: 12 exec/s: 0 rss: 60Mb
#524288\tDONE   cov: 92 ft: 101 corp: 8/240b lim: 12 exec/s: 1000 rss: 60Mb
stat::number_of_executed_units: 524288
stat::average_exec_per_sec:     1000
";
        let line = summary("btf", said, Path::new("/t/btf.log"));
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words, ["btf", "524288", "1000", "8", "withstood"]);
        let fault =
            format!("{said}artifact_prefix='/t/btf-'; Test unit written to /t/btf-crash-1\n");
        let line = summary("btf", &fault, Path::new("/t/btf.log"));
        assert!(
            line.ends_with("FAULT: /t/btf-crash-1; see /t/btf.log"),
            "{line}"
        );
    }
}
