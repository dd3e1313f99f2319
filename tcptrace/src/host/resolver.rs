//! Names of addresses, asked of the host's resolver by threads of their own: a slow or missing DNS
//! server blocks nothing. An address has no name until it is known.

use std::{
    fmt, io,
    net::IpAddr,
    sync::{
        Arc,
        mpsc::{Receiver, RecvError, SyncSender, sync_channel},
    },
};

use parking_lot::Mutex;

use crate::{bounded::Bounded, worker};

/// How many addresses are looked up at once: each may wait for a DNS server.
const THREADS: usize = 4;
/// The most addresses that wait for a lookup; another is looked up when it is shown again.
const WAITING: usize = 1 << 10;
/// How many results are kept, with those without a name; past that the oldest is dropped.
const KEPT: usize = 1 << 16;

#[derive(Clone, Debug)]
enum LookupResult {
    Pending,
    Known(Option<Arc<str>>),
}

type Answers = Arc<Mutex<Bounded<IpAddr, LookupResult>>>;

/// Looks addresses up. Clones share the results.
#[derive(Clone)]
pub struct Resolver {
    answers: Answers,
    queue: SyncSender<IpAddr>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl Resolver {
    /// A resolver that asks the host's (getnameinfo(3)).
    pub fn of_this_host() -> io::Result<Self> {
        Self::start(|address| {
            let name = dns_lookup::lookup_addr(&address).ok()?;
            // Without a name it returns the address again.
            name.parse::<IpAddr>().is_err().then_some(name)
        })
    }

    fn start(
        lookup: impl Fn(IpAddr) -> Option<String> + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, asked) = sync_channel(WAITING);
        let asked = Arc::new(Mutex::new(asked));
        let answers: Answers = Arc::new(Mutex::new(Bounded::new(KEPT)));
        for _ in 0..THREADS {
            let (asked, answers) = (Arc::clone(&asked), Arc::clone(&answers));
            let lookup = lookup.clone();
            worker::spawn("resolver", move || {
                while let Ok(address) = next(&asked) {
                    let name = lookup(address).map(Into::into);
                    answers.lock().insert(address, LookupResult::Known(name));
                }
            })?;
        }
        Ok(Self { answers, queue })
    }

    /// Returns an address's name if it is known; otherwise starts its lookup. Never waits.
    pub fn name(&self, address: IpAddr) -> Option<Arc<str>> {
        let mut answers = self.answers.lock();
        match answers.get(&address) {
            Some(LookupResult::Known(name)) => name.clone(),
            Some(LookupResult::Pending) => None,
            None => {
                if self.queue.try_send(address).is_ok() {
                    answers.insert(address, LookupResult::Pending);
                }
                None
            }
        }
    }
}

fn next(asked: &Mutex<Receiver<IpAddr>>) -> Result<IpAddr, RecvError> {
    asked.lock().recv()
}

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        sync::mpsc::{Sender, channel},
        time::Duration,
    };

    use super::*;

    const KNOWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const NAMELESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    /// A resolver that waits for permission to answer, and reports what it was asked.
    fn slow() -> (Resolver, Sender<()>, Receiver<IpAddr>) {
        let (let_go, gate) = channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let (asking, asked) = channel();
        let resolver = Resolver::start(move |address| {
            asking.send(address).ok()?;
            // Until the other end is dropped.
            assert!(gate.lock().recv().is_err(), "nothing is ever sent");
            (address == KNOWN).then(|| "one.example".to_owned())
        });
        (resolver.unwrap(), let_go, asked)
    }

    /// Waits for an answer, not for a time.
    fn known(resolver: &Resolver, address: IpAddr) -> Option<Arc<str>> {
        for _ in 0..6_000 {
            if let Some(LookupResult::Known(name)) = resolver.answers.lock().get(&address) {
                return name.clone();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("no answer for {address}");
    }

    #[test]
    fn a_name_is_there_when_it_was_found_and_nobody_waits_for_it() {
        let (resolver, let_go, asked) = slow();
        for _ in 0..3 {
            assert_eq!(resolver.name(KNOWN), None);
            assert_eq!(resolver.name(NAMELESS), None);
        }
        drop(let_go);
        assert_eq!(known(&resolver, KNOWN).as_deref(), Some("one.example"));
        assert_eq!(known(&resolver, NAMELESS), None);
        assert_eq!(resolver.name(KNOWN).as_deref(), Some("one.example"));
        assert_eq!(resolver.name(NAMELESS), None);
        drop(resolver);
        assert_eq!(asked.iter().count(), 2);
    }

    #[test]
    fn an_address_without_room_is_looked_up_the_next_time() {
        let (resolver, let_go, _asked) = slow();
        let count = u32::try_from(WAITING + THREADS).unwrap();
        let addresses: Vec<IpAddr> = (0..=count)
            .map(|number| IpAddr::V4(Ipv4Addr::from_bits(number)))
            .collect();
        for address in &addresses {
            assert_eq!(resolver.name(*address), None);
        }
        let last = *addresses.last().unwrap();
        assert!(resolver.answers.lock().get(&last).is_none());
        drop(let_go);
        assert_eq!(known(&resolver, addresses[0]), None);
        assert_eq!(resolver.name(last), None);
        assert_eq!(known(&resolver, last), None);
    }
}
