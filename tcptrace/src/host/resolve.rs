//! Names of addresses, asked of the host's resolver by threads of their own: a slow or missing DNS server
//! holds up nobody. What is not known yet has no name.

use std::{
    fmt, io,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use crate::bounded::Bounded;

/// Addresses asked for at once: each may wait for a DNS server.
const THREADS: usize = 4;
/// Addresses that may wait to be asked for; one that finds no room is asked for when it is shown again.
const WAITING: usize = 1 << 10;
/// Answers kept, those without a name too; then the oldest is forgotten.
const KEPT: usize = 1 << 16;

/// What is known of an address.
#[derive(Clone, Debug)]
enum Answer {
    /// It is being asked for.
    Pending,
    /// Its name, if it has one.
    Known(Option<Arc<str>>),
}

type Answers = Arc<Mutex<Bounded<IpAddr, Answer>>>;

/// Looks addresses up. A clone shares what is known.
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
    /// Asks the host's resolver (getnameinfo(3)).
    pub fn of_this_host() -> io::Result<Self> {
        Self::start(|address| {
            let name = dns_lookup::lookup_addr(&address).ok()?;
            // Without a name it is the address again.
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
            thread::Builder::new()
                .name("resolver".to_owned())
                .spawn(move || {
                    while let Some(address) = next(&asked) {
                        let name = lookup(address).map(Into::into);
                        let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                        answers.insert(address, Answer::Known(name));
                    }
                })?;
        }
        Ok(Self { answers, queue })
    }

    /// An address's name, if it is known by now. If not it is asked for. Never waits for an answer.
    pub fn name(&self, address: IpAddr) -> Option<Arc<str>> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        match answers.get(&address) {
            Some(Answer::Known(name)) => name.clone(),
            Some(Answer::Pending) => None,
            None => {
                if self.queue.try_send(address).is_ok() {
                    answers.insert(address, Answer::Pending);
                }
                None
            }
        }
    }
}

fn next(asked: &Mutex<Receiver<IpAddr>>) -> Option<IpAddr> {
    asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .recv()
        .ok()
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

    /// A resolver that answers once it may, and says what it was asked.
    fn slow() -> (Resolver, Sender<()>, Receiver<IpAddr>) {
        let (let_go, gate) = channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let (asking, asked) = channel();
        let resolver = Resolver::start(move |address| {
            asking.send(address).ok()?;
            // Until the other end is dropped.
            assert!(gate.lock().unwrap().recv().is_err(), "nothing is ever sent");
            (address == KNOWN).then(|| "one.example".to_owned())
        });
        (resolver.unwrap(), let_go, asked)
    }

    /// Waits for an answer, not for a time.
    fn known(resolver: &Resolver, address: IpAddr) -> Option<Arc<str>> {
        for _ in 0..6_000 {
            if let Some(Answer::Known(name)) = resolver.answers.lock().unwrap().get(&address) {
                return name.clone();
            }
            thread::sleep(Duration::from_millis(5));
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
        // Each once.
        drop(resolver);
        assert_eq!(asked.iter().count(), 2);
    }

    #[test]
    fn what_finds_no_room_is_asked_for_the_next_time() {
        let (resolver, let_go, _asked) = slow();
        let count = u32::try_from(WAITING + THREADS).unwrap();
        let addresses: Vec<IpAddr> = (0..=count)
            .map(|number| IpAddr::V4(Ipv4Addr::from_bits(number)))
            .collect();
        for address in &addresses {
            assert_eq!(resolver.name(*address), None);
        }
        let last = *addresses.last().unwrap();
        assert!(resolver.answers.lock().unwrap().get(&last).is_none());
        drop(let_go);
        assert_eq!(known(&resolver, addresses[0]), None);
        assert_eq!(resolver.name(last), None);
        assert_eq!(known(&resolver, last), None);
    }
}
