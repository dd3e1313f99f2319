//! What all scenarios share: the tail that sees them, and how one is played.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;

use super::{
    recording::{Lost, Recorder},
    scenario::Scenario,
    watch::SharedTail,
};
use crate::support::{Check, Ignored, namespace::Namespace};

/// A scenario may be played as often as that.
const TRIES: usize = 10;
/// Set to a directory: each scenario's stream of events is stored there.
pub(crate) const RECORD_DIRECTORY: &str = "TCPTRACE_RECORD_DIR";
/// What the process is called meanwhile, in records and in streams.
const COMM: &str = "tt-scenarios";

/// A test of what the kernel does, with a name of its own.
#[derive(Clone, Copy)]
pub(crate) struct ScenarioCase {
    pub(crate) name: &'static str,
    pub(crate) play: fn(&Scenario) -> Check,
}

/// Lists a file's scenarios.
macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        /// The scenarios of this file.
        pub(super) const SCENARIOS: &[$crate::scenarios::suite::ScenarioCase] = &[
            $($crate::scenarios::suite::ScenarioCase { name: stringify!($name), play: $name }),+
        ];
    };
}
pub(super) use scenarios;

/// What the scenarios share: made for the first one, and given up after the last.
static SHARED: Mutex<Option<Result<Arc<Shared>, String>>> = Mutex::new(None);

struct Shared {
    tail: SharedTail,
    recorder: Option<Recorder>,
    /// They stay until the end: the number of one that is gone would be given to another.
    namespaces: Mutex<Vec<Namespace>>,
}

impl Shared {
    fn start() -> anyhow::Result<Arc<Self>> {
        std::fs::write("/proc/self/comm", COMM).context("taking a name")?;
        let recorder = std::env::var_os(RECORD_DIRECTORY)
            .map(|directory| Recorder::start(&PathBuf::from(directory)))
            .transpose()
            .context("recording")?;
        let first_namespace = Namespace::new()?;
        Ok(Arc::new(Self {
            tail: SharedTail::start(&first_namespace)?,
            recorder,
            namespaces: Mutex::new(vec![first_namespace]),
        }))
    }

    /// A namespace for one scenario.
    fn namespace(&self) -> anyhow::Result<Namespace> {
        let new = Namespace::new()?;
        let mut all = self
            .namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.push(new.clone());
        Ok(new)
    }

    fn get() -> anyhow::Result<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || Self::start().map_err(|error| format!("{error:#}"));
        let shared = shared.get_or_insert_with(start);
        shared.clone().map_err(anyhow::Error::msg)
    }
}

/// After the last scenario.
pub(super) fn end() {
    drop(SHARED.lock().unwrap_or_else(PoisonError::into_inner).take());
}

impl ScenarioCase {
    /// Plays it, and again when it failed and events were lost meanwhile: the kernel skips a run of
    /// a program that it interrupted on the same CPU, and a busy host fills the ring.
    pub(super) fn play_until_seen(self) -> Check {
        let shared = Shared::get()?;
        let tail = &shared.tail;
        for _ in 1..TRIES {
            let namespace = shared.namespace()?;
            let losses = tail.losses();
            let Err(error) = self.play_once(&shared, &namespace) else {
                return Ok(());
            };
            if error.is::<Ignored>() {
                return Err(error);
            }
            // What was lost is said after what was not.
            drop(tail.watch(&namespace).settled());
            if tail.losses() == losses && !error.is::<Lost>() {
                return Err(error);
            }
            let name = self.name;
            eprintln!("{name} is played once more, for events were lost during it");
        }
        self.play_once(&shared, &shared.namespace()?)
    }

    fn play_once(self, shared: &Shared, namespace: &Namespace) -> Check {
        let watch = shared.tail.watch(namespace);
        let recorder = shared.recorder.as_ref();
        let recording = recorder.map(|recorder| recorder.begin(namespace));
        (self.play)(&Scenario::new(namespace.clone(), watch)?)?;
        match recording {
            Some(recording) => recording.store(self.name).context("storing its stream"),
            None => Ok(()),
        }
    }
}
