//! Plays the scenarios, several at once: most of their time is the kernel's timers.
//!
//! Each is a test of its own to the harness, which runs one test after the other. When the first
//! one is asked for, all that the harness did not filter out begin; each test then waits for its
//! own outcome.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, anyhow};

use super::{
    recording::{Lost, Recorder},
    stage::Stage,
    watch::Observatory,
};
use crate::support::{Check, Ignored, ignored, namespace::Namespace};

/// Scenarios played at once, for each processor.
const PLAYERS: usize = 2;
/// Namespaces for playing again: a scenario may be played as often as there are any.
const SPARES: usize = 40;
/// Set to a directory: each scenario's stream of events is stored there.
pub(crate) const RECORD_DIRECTORY: &str = "TCPTRACE_RECORD_DIR";
/// What the process is called meanwhile, in records and in streams.
const COMM: &str = "tt-scenarios";

/// A test of what the kernel does, with a name of its own.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) play: fn(&Stage) -> Check,
}

/// Lists a file's scenarios.
macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        /// The scenarios of this file.
        pub(super) const SCENARIOS: &[$crate::scenarios::suite::Scenario] = &[
            $($crate::scenarios::suite::Scenario { name: stringify!($name), play: $name }),+
        ];
    };
}
pub(super) use scenarios;

/// All scenarios of a run.
#[derive(Default)]
pub(super) struct Suite {
    parts: Mutex<Vec<State>>,
    // After the players, who use it.
    crew: Mutex<Option<Crew>>,
}

/// What is with one scenario.
enum State {
    /// The harness may yet ask for it.
    Listed(Scenario),
    /// It is being played.
    Playing(Receiver<Check>),
    /// Nobody will ask for it (any more).
    Over,
}

/// Who plays, and what they share.
struct Crew {
    players: Vec<JoinHandle<()>>,
    // Ends after the players.
    shared: Arc<Shared>,
}

struct Shared {
    observatory: Observatory,
    recorder: Option<Recorder>,
    spares: Mutex<Vec<Namespace>>,
    queue: Mutex<VecDeque<Job>>,
}

struct Job {
    scenario: Scenario,
    namespace: Namespace,
    outcome: Sender<Check>,
}

/// One scenario's place in the run. Dropping it without playing says that it is not wanted.
pub(super) struct Part {
    suite: Arc<Suite>,
    index: usize,
}

impl Suite {
    /// Takes a scenario in.
    pub(super) fn enlist(self: &Arc<Self>, scenario: Scenario) -> Part {
        let mut parts = lock(&self.parts);
        parts.push(State::Listed(scenario));
        Part {
            suite: Arc::clone(self),
            index: parts.len() - 1,
        }
    }

    /// Begins with everything that is still listed.
    fn start(&self) {
        let mut parts = lock(&self.parts);
        let mut jobs = VecDeque::new();
        let mut outcomes = Vec::new();
        for state in parts.iter_mut() {
            if let State::Listed(scenario) = *state {
                let (outcome, receiver) = channel();
                outcomes.push(outcome.clone());
                jobs.push_back((scenario, outcome));
                *state = State::Playing(receiver);
            }
        }
        if jobs.is_empty() {
            return;
        }
        match Crew::start(jobs) {
            Ok(crew) => *lock(&self.crew) = Some(crew),
            Err(error) => {
                for outcome in outcomes {
                    // Whoever does not listen does not want to know.
                    drop(outcome.send(Err(again(&error))));
                }
            }
        }
    }
}

impl Part {
    /// The scenario's outcome.
    pub(super) fn outcome(self) -> Check {
        if matches!(lock(&self.suite.parts)[self.index], State::Listed(_)) {
            self.suite.start();
        }
        let state = std::mem::replace(&mut lock(&self.suite.parts)[self.index], State::Over);
        match state {
            State::Playing(receiver) => receiver.recv().context("its player is gone")?,
            State::Listed(_) | State::Over => Err(anyhow!("it is not being played")),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        lock(&self.suite.parts)[self.index] = State::Over;
    }
}

impl Crew {
    fn start(jobs: VecDeque<(Scenario, Sender<Check>)>) -> anyhow::Result<Self> {
        std::fs::write("/proc/self/comm", COMM).context("taking a name")?;
        let mut namespaces = (0..jobs.len() + SPARES)
            .map(|_| Namespace::new())
            .collect::<anyhow::Result<Vec<_>>>()?;
        let recorder = std::env::var_os(RECORD_DIRECTORY)
            .map(|directory| Recorder::start(&PathBuf::from(directory)))
            .transpose()
            .context("recording")?;
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let count = jobs.len().min(PLAYERS * processors);
        let observatory = Observatory::start(&namespaces)?;
        let spares = namespaces.split_off(jobs.len());
        let shared = Arc::new(Shared {
            observatory,
            recorder,
            spares: Mutex::new(spares),
            queue: Mutex::new(
                jobs.into_iter()
                    .zip(namespaces)
                    .map(|((scenario, outcome), namespace)| Job {
                        scenario,
                        namespace,
                        outcome,
                    })
                    .collect(),
            ),
        });
        let player = |_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.play_all())
        };
        Ok(Self {
            players: (0..count).map(player).collect(),
            shared,
        })
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // Nobody waits for what has not begun yet.
        lock(&self.shared.queue).clear();
        for player in self.players.drain(..) {
            // A player that panicked was missed by whoever waited for the outcome.
            drop(player.join());
        }
    }
}

impl Shared {
    fn play_all(&self) {
        loop {
            let job = lock(&self.queue).pop_front();
            let Some(job) = job else {
                return;
            };
            let played = catch_unwind(AssertUnwindSafe(|| self.play_until_seen(&job)));
            let outcome = played.unwrap_or_else(|_| Err(anyhow!("it panicked")));
            // Whoever does not listen does not want to know.
            drop(job.outcome.send(outcome));
        }
    }

    /// Plays a scenario, and again when it failed and events were lost meanwhile: the kernel skips
    /// a run of a program that it interrupted on the same CPU, and a busy host fills the ring.
    fn play_until_seen(&self, job: &Job) -> Check {
        let mut namespace = job.namespace.clone();
        loop {
            let losses = self.observatory.losses();
            let outcome = self.play(job.scenario, &namespace);
            let Err(error) = outcome else {
                return Ok(());
            };
            if error.is::<Ignored>() {
                return Err(error);
            }
            // What was lost is said after what was not.
            drop(self.observatory.watch(&namespace).settled());
            if self.observatory.losses() == losses && !error.is::<Lost>() {
                return Err(error);
            }
            let Some(spare) = lock(&self.spares).pop() else {
                return Err(error);
            };
            let name = job.scenario.name;
            eprintln!("{name} is played once more, for events were lost during it");
            namespace = spare;
        }
    }

    fn play(&self, scenario: Scenario, namespace: &Namespace) -> Check {
        let watch = self.observatory.watch(namespace);
        let recording = self
            .recorder
            .as_ref()
            .map(|recorder| recorder.begin(namespace));
        let stage = Stage::new(namespace.clone(), watch)?;
        (scenario.play)(&stage)?;
        if let Some(recording) = recording {
            recording
                .store(scenario.name)
                .context("storing its stream")?;
        }
        Ok(())
    }
}

/// The same error once more.
fn again(error: &anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<Ignored>() {
        Some(Ignored(why)) => ignored(why),
        None => anyhow!("{error:#}"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
