//! What the tests share: how they are named, run and ignored, and how they wait.
//!
//! Nothing here asserts a time. A test waits for a condition, for as long as a slow machine may
//! need, and what cannot run here is ignored with its reason, never passed.

pub(crate) mod bpf;
pub(crate) mod daemon;
pub(crate) mod exposition;
pub(crate) mod guest_init;
mod guest_streams;
pub(crate) mod hooks;
pub(crate) mod load;
pub(crate) mod mptcp;
pub(crate) mod namespace;
pub(crate) mod netlink;
pub(crate) mod program;
pub(crate) mod record;
mod required;
pub(crate) mod sentinel;
pub(crate) mod sockets;
pub(crate) mod surroundings;
pub(crate) mod tail;
pub(crate) mod talk;
pub(crate) mod test_process;

pub(crate) use self::required::functions_can_be_traced;

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use libtest_mimic::{Completion, Failed, Trial};
use tcptrace::testing::monotonic_ns;

/// What a test answers.
pub(crate) type Check = anyhow::Result<()>;

/// How long a condition may take to come true, on a machine that emulates another.
pub(crate) const PATIENCE: Duration = Duration::from_secs(150);
/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// Why a test cannot run here, as an error that is no failure.
#[derive(Debug)]
pub(crate) struct Ignored(pub(crate) String);

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Ignored {}

/// The test cannot run here.
pub(crate) fn ignored(why: impl fmt::Display) -> anyhow::Error {
    Ignored(why.to_string()).into()
}

/// Lists a file's tests: functions without arguments that answer a [`Check`].
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        /// The tests of this file.
        pub(crate) fn tests() -> Vec<libtest_mimic::Trial> {
            vec![$($crate::support::trial(
                module_path!(),
                stringify!($name),
                || $crate::support::undisturbed($name),
            )),+]
        }
    };
}
pub(crate) use tests;

/// A test, named by its module and function.
pub(crate) fn trial(
    module: &str,
    name: &str,
    check: impl FnOnce() -> Check + Send + 'static,
) -> Trial {
    let module = module.trim_end_matches("::tests");
    let module = module.rsplit("::").next().unwrap_or(module);
    Trial::ignorable_test(format!("{module}::{name}"), move || {
        let outcome = required::met().and_then(|()| check());
        match outcome {
            Ok(()) => Ok(Completion::Completed),
            Err(error) => match error.downcast_ref::<Ignored>() {
                Some(Ignored(why)) => Ok(Completion::ignored_with(why)),
                None => Err(Failed::from(format!("{error:#}"))),
            },
        }
    })
}

/// Runs a test, once more if it failed while the kernel skipped runs of the programs: what they did
/// not see is then missing through no fault of theirs. And once more if what it waited for never
/// came: a kernel is known that runs no program while a thread of process 1 is current, and counts
/// nothing.
pub(crate) fn undisturbed(check: fn() -> Check) -> Check {
    const TRIES: usize = 3;
    let mut silences = 0;
    for _ in 1..TRIES {
        let before = program::skipped_runs();
        let error = match check() {
            Err(error) if !error.is::<Ignored>() => error,
            outcome => return outcome,
        };
        if program::skipped_runs() > before {
            eprintln!("the kernel skipped runs of the programs, so once more: {error:#}");
        } else if silences == 0 && format!("{error:#}").contains(IN_VAIN) {
            silences += 1;
            eprintln!("something never came, so once more: {error:#}");
        } else {
            return Err(error);
        }
    }
    check()
}

/// What the error of a test says that waited until its patience ended.
pub(crate) const IN_VAIN: &str = "in vain for";

/// Looks again and again until there is an answer.
pub(crate) fn wait_for<T>(
    what: &str,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Deadline::after(PATIENCE);
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if deadline.is_over() {
            anyhow::bail!("waited {PATIENCE:?} {IN_VAIN}: {what}");
        }
        std::thread::sleep(PAUSE);
    }
}

/// Does something over and over beside some work, and answers how often it was done.
pub(crate) fn beside<T>(
    again: impl Fn() -> Check + Send + Sync,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(T, u64)> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| {
            let mut count = 0;
            while !over.load(Ordering::Relaxed) {
                again()?;
                count += 1;
            }
            anyhow::Ok(count)
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        let count = beside
            .join()
            .map_err(|_| anyhow::anyhow!("a thread panicked"))?;
        Ok((done?, count?))
    })
}

/// A point in time after which waiting is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(u64);

impl Deadline {
    /// So much from now.
    pub(crate) fn after(time: Duration) -> Self {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self(monotonic_ns().saturating_add(nanos))
    }

    /// What is left.
    pub(crate) fn left(self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(monotonic_ns()))
    }

    /// Nothing is left.
    pub(crate) fn is_over(self) -> bool {
        self.left().is_zero()
    }
}
