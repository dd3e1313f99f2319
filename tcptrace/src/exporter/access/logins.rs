//! The check of passwords. bcrypt is slow: it uses at most one processor, and its queue is short,
//! so that a flood of wrong passwords neither fills the connection slots nor keeps others out.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// The most passwords that are checked or wait.
const WAITING: usize = 16;
/// How many of [`WAITING`] one IPv4 address, or one IPv6 /64, can take.
const FROM_ONE: usize = 2;

/// The passwords being checked.
pub(super) struct Logins {
    /// Whether a password matches a hash.
    is_right: fn(&[u8], &str) -> bool,
    hashing: Arc<Semaphore>,
    waiting: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One of [`WAITING`].
struct WaitingLogin {
    from: IpAddr,
    all: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Logins {
    pub(super) fn new(is_right: fn(&[u8], &str) -> bool) -> Self {
        Self {
            is_right,
            hashing: Arc::new(Semaphore::new(1)),
            waiting: Arc::default(),
        }
    }

    /// Returns whether a password matches a bcrypt hash; `None` when too many others wait.
    pub(super) async fn check(
        &self,
        from: IpAddr,
        password: Vec<u8>,
        hash: String,
    ) -> Option<bool> {
        let waiting = self.wait(from)?;
        let permit = Arc::clone(&self.hashing).acquire_owned().await.ok()?;
        let is_right = self.is_right;
        // The hash is finished even if the client leaves: the thread keeps the slot and the permit
        // until then.
        let checked = tokio::task::spawn_blocking(move || {
            let _held = (waiting, permit);
            is_right(&password, &hash)
        });
        Some(checked.await.unwrap_or(false))
    }

    fn wait(&self, from: IpAddr) -> Option<WaitingLogin> {
        let from = network(from);
        let mut waiting = self.waiting.lock();
        let here = waiting.get(&from).copied().unwrap_or(0);
        if here >= FROM_ONE || waiting.values().sum::<usize>() >= WAITING {
            return None;
        }
        waiting.insert(from, here + 1);
        Some(WaitingLogin {
            from,
            all: Arc::clone(&self.waiting),
        })
    }
}

impl Drop for WaitingLogin {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(count) = all.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.from);
            }
        }
    }
}

/// Returns the host's network: an IPv6 host has all addresses of its /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_wait_and_fewer_from_one_address() {
        let logins = Logins::new(|_, _| false);
        let from = |text: &str| logins.wait(text.parse().unwrap());
        let mut waiting: Vec<_> = (0..FROM_ONE).map(|_| from("192.0.2.1").unwrap()).collect();
        assert!(from("192.0.2.1").is_none());
        assert!(from("::ffff:192.0.2.1").is_none());
        waiting.extend(from("2001:db8::1"));
        waiting.extend(from("2001:db8::2"));
        assert!(from("2001:db8::ffff:0:0:3").is_none());
        waiting.extend(from("2001:db8:0:1::1"));
        for host in waiting.len()..WAITING {
            waiting.push(from(&format!("198.51.100.{host}")).unwrap());
        }
        assert!(from("203.0.113.1").is_none());
        waiting.pop();
        waiting.push(from("203.0.113.1").unwrap());
        waiting.clear();
        assert!(logins.waiting.lock().is_empty());
    }
}
