//! What comes over the device, told apart by flow, each with the time at which it was heard.

use std::{cell::RefCell, collections::VecDeque, ops::Deref, time::Duration};

use tcptrace::testing::monotonic_ns;

use super::{device::Device, segment::Segment};
use crate::support::{Deadline, ignored};

/// A segment that this host sent to the peer.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedSegment {
    /// What was said.
    pub(super) segment: Segment,
    /// When it was taken from the device, on the events' clock; it was sent before.
    pub(crate) at_ns: u64,
}

impl Deref for ReceivedSegment {
    type Target = Segment;

    fn deref(&self) -> &Segment {
        &self.segment
    }
}

/// The device, and what came over it and nobody asked for yet.
pub(super) struct Link {
    device: Device,
    waiting: RefCell<VecDeque<ReceivedSegment>>,
}

impl Link {
    pub(super) const fn new(device: Device) -> Self {
        Self {
            device,
            waiting: RefCell::new(VecDeque::new()),
        }
    }

    /// Fails where there is no IPv6.
    pub(super) fn must_have_ipv6(&self) -> anyhow::Result<()> {
        if self.device.ipv6 {
            return Ok(());
        }
        Err(ignored("no IPv6 here"))
    }

    /// Sends a packet and answers when.
    pub(super) fn send(&self, packet: &[u8]) -> anyhow::Result<u64> {
        let now = monotonic_ns();
        self.device.send(packet)?;
        Ok(now)
    }

    /// Takes all that has come, for nobody.
    pub(super) fn discard(&self) -> anyhow::Result<()> {
        while self.device.receive(Duration::ZERO)?.is_some() {}
        Ok(())
    }

    /// The next segment that is wanted; `None` when the deadline is over first. Others wait for
    /// whom they are for.
    pub(super) fn next(
        &self,
        deadline: Deadline,
        wanted: impl Fn(&Segment) -> bool,
    ) -> anyhow::Result<Option<ReceivedSegment>> {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(index) = waiting.iter().position(|heard| wanted(&heard.segment)) {
            return Ok(waiting.remove(index));
        }
        loop {
            let Some(packet) = self.device.receive(deadline.left())? else {
                if deadline.is_over() {
                    return Ok(None);
                }
                continue;
            };
            let at_ns = monotonic_ns();
            // What is no TCP (router solicitations, ICMP errors) is not for the peer.
            let Some(segment) = Segment::read(&packet) else {
                continue;
            };
            let heard = ReceivedSegment { segment, at_ns };
            if wanted(&heard.segment) {
                return Ok(Some(heard));
            }
            waiting.push_back(heard);
        }
    }
}
