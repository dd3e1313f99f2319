//! The metrics as sent. Clients that asked before a scrape began share its bytes, and all bytes
//! that wait for readers are bounded: a slow client costs a share, not a copy.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::body::Bytes;
use tokio::{sync::Mutex, time::Instant};

/// The most bytes that wait for readers, over all connections.
const MOST: usize = 32 << 20;
/// When half of them wait, bytes up to this age are shared.
const UNDER_PRESSURE: Duration = Duration::from_secs(1);

/// The format of the metrics.
#[derive(Clone, Copy)]
pub(super) struct BodyFormat {
    pub(super) open_metrics: bool,
    pub(super) gzip: bool,
}

/// The bytes that wait.
pub(super) struct Bodies {
    waiting: Arc<AtomicUsize>,
    most: usize,
    /// The last bytes, by [`BodyFormat`].
    last: [Mutex<Option<CachedBody>>; 4],
}

struct CachedBody {
    /// When they were begun.
    begun: Instant,
    /// The bytes, or why there are none.
    bytes: Result<Bytes, Arc<str>>,
}

/// Bytes that count until the last reader has them.
struct CountedBytes {
    bytes: Vec<u8>,
    waiting: Arc<AtomicUsize>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self::new(MOST)
    }
}

impl Bodies {
    fn new(most: usize) -> Self {
        Self {
            waiting: Arc::default(),
            most,
            last: Default::default(),
        }
    }

    /// Returns the metrics of a moment after this call, made by `make` for all that wait for them.
    /// That takes at most twice as long as `make`.
    pub(super) async fn get<F>(
        &self,
        spelling: BodyFormat,
        make: impl FnOnce() -> F,
    ) -> Result<Bytes, Arc<str>>
    where
        F: Future<Output = Result<Vec<u8>, String>>,
    {
        let asked = Instant::now();
        let slot = usize::from(spelling.open_metrics) * 2 + usize::from(spelling.gzip);
        let mut last = self.last[slot].lock().await;
        let old = if self.waiting.load(Ordering::Relaxed) > self.most / 2 {
            UNDER_PRESSURE
        } else {
            Duration::ZERO
        };
        if let Some(last) = &*last
            && last.begun + old > asked
        {
            return last.bytes.clone();
        }
        // First free the bytes held for others.
        *last = None;
        let begun = Instant::now();
        let made = make().await;
        let bytes = made.map_err(Arc::from).and_then(|bytes| self.hold(bytes));
        *last = Some(CachedBody {
            begun,
            bytes: bytes.clone(),
        });
        bytes
    }

    fn hold(&self, bytes: Vec<u8>) -> Result<Bytes, Arc<str>> {
        let before = self.waiting.fetch_add(bytes.len(), Ordering::Relaxed);
        let counted = CountedBytes {
            bytes,
            waiting: Arc::clone(&self.waiting),
        };
        if before + counted.bytes.len() > self.most {
            return Err("503 no metrics: too many of them wait for slow readers\n".into());
        }
        Ok(Bytes::from_owner(counted))
    }
}

impl AsRef<[u8]> for CountedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for CountedBytes {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const TEXT: BodyFormat = BodyFormat {
        open_metrics: false,
        gzip: false,
    };

    async fn get(bodies: &Bodies, made: &Cell<u32>) -> Result<Bytes, Arc<str>> {
        let make = async || {
            tokio::time::sleep(Duration::from_millis(10)).await;
            made.set(made.get() + 1);
            Ok(vec![0; 100])
        };
        bodies.get(TEXT, make).await
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_scrapes_share_a_body_and_none_gets_an_older_one() {
        let (bodies, made) = (Bodies::new(1_000), Cell::new(0));
        let ask = || get(&bodies, &made);
        // The others asked after the first one's was begun.
        let (a, b, c) = tokio::join!(ask(), ask(), ask());
        assert_eq!(made.get(), 2);
        assert_ne!(a.unwrap().as_ptr(), b.as_ref().unwrap().as_ptr());
        assert_eq!(b.unwrap().as_ptr(), c.unwrap().as_ptr());
        tokio::time::advance(Duration::from_millis(1)).await;
        ask().await.unwrap();
        assert_eq!(made.get(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_wait_for_readers_are_bounded() {
        let (bodies, made) = (Bodies::new(1_000), Cell::new(0));
        let mut held = Vec::new();
        for _ in 0..6 {
            held.push(get(&bodies, &made).await.unwrap());
        }
        assert_eq!(made.get(), 6);
        // Above the half, they share what is there for a second.
        for _ in 0..100 {
            held.push(get(&bodies, &made).await.unwrap());
        }
        assert_eq!(made.get(), 6);
        let mut refused = 0;
        for _ in 0..20 {
            tokio::time::advance(Duration::from_secs(2)).await;
            match get(&bodies, &made).await {
                Ok(bytes) => held.push(bytes),
                Err(why) => {
                    assert!(why.starts_with("503 "), "{why}");
                    refused += 1;
                }
            }
        }
        assert_eq!(refused, 16);
        assert_eq!(bodies.waiting.load(Ordering::Relaxed), 1_000);
        held.clear();
        assert_eq!(bodies.waiting.load(Ordering::Relaxed), 0);
        get(&bodies, &made).await.unwrap();
    }
}
