//! Which kernel runs, for what differs between them: an expectation of its own for each, never
//! a test that does not run.

use std::sync::OnceLock;

/// A kernel's series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kernel(pub(crate) u32, pub(crate) u32);

impl Kernel {
    /// The one that runs.
    pub(crate) fn here() -> Self {
        static HERE: OnceLock<Kernel> = OnceLock::new();
        *HERE.get_or_init(|| Self::of_release(&release()))
    }

    fn of_release(release: &str) -> Self {
        let mut numbers = release
            .split(|c: char| !c.is_ascii_digit())
            .map(|number| number.parse().unwrap_or(0));
        Self(numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    /// Its name, as `6.12`.
    pub(crate) fn series(self) -> String {
        format!("{}.{}", self.0, self.1)
    }

    /// A child has its own cookie and its peer's address at LISTEN→SYN_RECV; before, the peer's
    /// address is not set yet.
    pub(crate) fn knows_the_peer_at_syn_recv(self) -> bool {
        self >= Self(6, 15)
    }

    /// A SYN-ACK that answers a crossed SYN establishes; before, it is dropped.
    pub(crate) fn takes_a_crossed_syn_ack(self) -> bool {
        self >= Self(6, 1)
    }
}

/// `uname -r`.
pub(crate) fn release() -> String {
    tcptrace::testing::kernel_release()
}
