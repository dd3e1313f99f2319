//! What is measured: nothing, an empty program, tcptrace in its modes, and other tracers.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Bench, load::number};
use crate::command;

/// How long a subject may take to attach.
const PATIENCE: Duration = Duration::from_secs(60);

/// A tracer, or none.
#[derive(Clone)]
pub(super) enum Subject {
    None,
    Empty,
    Daemon(PathBuf),
    Tail(PathBuf),
    Other(&'static str),
}

/// A subject that runs.
pub(super) struct Running {
    child: Option<Child>,
    pub(super) address: Option<(Ipv4Addr, u16)>,
    output: PathBuf,
}

/// The processor time and memory of a subject until now.
#[derive(Clone, Copy, Default)]
pub(super) struct Cost {
    pub(super) cpu_s: f64,
    pub(super) anonymous_bytes: f64,
    pub(super) threads: f64,
    pub(super) switches: f64,
}

impl Subject {
    /// Returns every subject that this machine has.
    pub(super) fn all(bench: &Bench) -> Vec<(String, Self)> {
        let mut all = vec![
            ("none".to_owned(), Self::None),
            ("empty program".to_owned(), Self::Empty),
            (
                "tcptrace daemon".to_owned(),
                Self::Daemon(bench.tcptrace.clone()),
            ),
            (
                "tcptrace tail, JSON to a file".to_owned(),
                Self::Tail(bench.tcptrace.clone()),
            ),
        ];
        if let Some(beside) = &bench.beside {
            all.push((
                format!("{} daemon", beside.display()),
                Self::Daemon(beside.clone()),
            ));
        }
        for other in ["tcpstates", "tcplife"] {
            if command::exists(other) {
                all.push((format!("{other} (libbpf-tools)"), Self::Other(other)));
            } else {
                eprintln!("{other} is not here (--install): it is left out");
            }
        }
        all
    }

    /// Starts it, and returns once it is attached.
    pub(super) fn start(&self, bench: &Bench) -> Result<Running> {
        self.start_with(bench, &[])
    }

    /// Starts it with more arguments, and returns once it is attached.
    pub(super) fn start_with(&self, bench: &Bench, arguments: &[&str]) -> Result<Running> {
        let output = bench.scratch.join("output");
        let mut address = None;
        let mut command = match self {
            Self::None => {
                return Ok(Running {
                    child: None,
                    address,
                    output,
                });
            }
            Self::Empty => bench.load.command(&["empty"]),
            Self::Daemon(program) => {
                let port = free_port()?;
                address = Some((Ipv4Addr::LOCALHOST, port));
                let mut command = Command::new(program);
                command.args([
                    "daemon",
                    "--web.listen-address",
                    &format!("127.0.0.1:{port}"),
                ]);
                command
            }
            Self::Tail(program) => {
                let mut command = Command::new(program);
                command.args(["tail", "--format", "json"]);
                command
            }
            Self::Other(program) => Command::new(program),
        };
        let errors = File::create(output.with_extension("errors"))?;
        let child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(File::create(&output)?)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let mut running = Running {
            child: Some(child),
            address,
            output,
        };
        running.wait_until_attached()?;
        Ok(running)
    }
}

impl Running {
    fn wait_until_attached(&mut self) -> Result<()> {
        let start = Instant::now();
        while !self.is_attached()? {
            ensure!(
                start.elapsed() < PATIENCE,
                "not attached after {PATIENCE:?}"
            );
            if let Some(status) = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().transpose())
            {
                bail!(
                    "it ended before it was attached: {}: {}",
                    status?,
                    self.errors()
                );
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Whether it says that it is ready, or else holds a link to a program.
    fn is_attached(&self) -> Result<bool> {
        if self.address.is_some() {
            return Ok(self
                .get("/-/ready")
                .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")));
        }
        let Some(child) = &self.child else {
            return Ok(true);
        };
        let held = fs::read_dir(format!("/proc/{}/fd", child.id()))?
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .filter(|target| {
                let target = target.to_string_lossy();
                target.contains("bpf_link")
                    || target.contains("bpf-link")
                    || target.contains("perf_event")
            })
            .count();
        // Every link, and not only the first of several.
        let settled = held > 0;
        if settled {
            thread::sleep(Duration::from_millis(300));
        }
        Ok(settled)
    }

    /// Asks a daemon for a page.
    pub(super) fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.address.context("not a daemon")?)?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Returns the sum of a daemon's metric over its labels.
    pub(super) fn metric(&self, name: &str) -> Result<f64> {
        let answer = self.get("/metrics")?;
        let values = answer
            .lines()
            .filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
            })
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        Ok(values.sum())
    }

    /// Returns the runs and the nanoseconds of a daemon's programs, as the kernel has counted them.
    pub(super) fn program_runs(&self) -> Result<BTreeMap<String, (f64, f64)>> {
        let answer = self.get("/metrics")?;
        let mut programs = BTreeMap::<String, (f64, f64)>::new();
        for line in answer.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let program = |name: &str| {
                let labels = series.strip_prefix(name)?;
                Some(
                    labels
                        .strip_prefix("{program=\"")?
                        .strip_suffix("\"}")?
                        .to_owned(),
                )
            };
            if let Some(program) = program("tcptrace_program_runs_total") {
                programs.entry(program).or_default().0 = value.parse()?;
            } else if let Some(program) = program("tcptrace_program_run_seconds_total") {
                programs.entry(program).or_default().1 = value.parse::<f64>()? * 1e9;
            }
        }
        ensure!(
            !programs.is_empty(),
            "the daemon counts no runs of its programs"
        );
        Ok(programs)
    }

    /// Ends the empty program and returns the nanoseconds of a run.
    pub(super) fn empty_run_ns(mut self) -> Result<f64> {
        let child = self.child.as_mut().context("no program runs")?;
        drop(child.stdin.take());
        child.wait()?;
        let output = fs::read_to_string(&self.output)?;
        let last = output
            .lines()
            .last()
            .context("the empty program said nothing")?;
        let counted = serde_json::from_str(last)?;
        Ok(number(&counted, "ns")? / number(&counted, "runs")?)
    }

    fn errors(&self) -> String {
        fs::read_to_string(self.output.with_extension("errors")).unwrap_or_default()
    }

    /// Returns what it has used until now; nothing for no subject.
    pub(super) fn cost(&self) -> Result<Cost> {
        /// `USER_HZ`, which every architecture of today has at 100.
        const TICKS: f64 = 100.0;
        let Some(child) = &self.child else {
            return Ok(Cost::default());
        };
        let process = Path::new("/proc").join(child.id().to_string());
        let stat = fs::read_to_string(process.join("stat"))?;
        let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |index: usize| -> Result<f64> {
            Ok(fields.get(index).context("stat is too short")?.parse()?)
        };
        let status = fs::read_to_string(process.join("status"))?;
        let mut switches = 0.0;
        for task in fs::read_dir(process.join("task"))? {
            let status = fs::read_to_string(task?.path().join("status"))?;
            switches += line(&status, "voluntary_ctxt_switches")?;
        }
        Ok(Cost {
            cpu_s: (ticks(11)? + ticks(12)?) / TICKS,
            anonymous_bytes: line(&status, "RssAnon")? * 1024.0,
            threads: line(&status, "Threads")?,
            switches,
        })
    }

    /// Ends it as a user would, and returns what it wrote on standard error.
    pub(super) fn stop(mut self) -> Result<String> {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            let killed = Command::new("kill")
                .args(["-INT", &child.id().to_string()])
                .status()?;
            ensure!(killed.success(), "kill failed: {killed}");
            child.wait()?;
        }
        Ok(self.errors())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Returns the number in a line `name: 12 kB` of a process's status.
fn line(status: &str, name: &str) -> Result<f64> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .with_context(|| format!("no {name} in a status"))?;
    Ok(value
        .split_whitespace()
        .next()
        .context("no value")?
        .parse()?)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}
