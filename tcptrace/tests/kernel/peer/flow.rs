//! The peer's end of one connection: what it has said and heard, and what it says next.

use std::{net::SocketAddr, rc::Rc};

use anyhow::{Context, ensure};

use super::{
    link::{Link, ReceivedSegment},
    segment::{ACK, FIN, PSH, RST, SYN, Segment, Unreachable},
};

/// The peer's first sequence number.
pub(super) const FIRST_SEQUENCE: u32 = 1_000_000;
const WINDOW: u16 = 60_000;

/// One connection, seen from the peer. What it sends acknowledges all that it has heard, unless it
/// withholds that.
pub(crate) struct Flow {
    pub(super) link: Rc<Link>,
    /// This host's end; unknown until its SYN was heard.
    pub(super) here: Option<SocketAddr>,
    /// The peer's end.
    pub(super) peer: SocketAddr,
    /// The host's first sequence number.
    pub(super) first_heard: u32,
    /// The end of what was heard from the host.
    pub(super) heard: u32,
    /// What is acknowledged with each segment.
    acknowledged: u32,
    withholds: bool,
    /// The next sequence number to send with.
    pub(super) next: u32,
    /// What was sent last.
    last: Option<Segment>,
    sent_at_ns: u64,
    /// What the peer says it has room for.
    pub(crate) window: u16,
}

impl Flow {
    pub(super) const fn new(link: Rc<Link>, here: Option<SocketAddr>, peer: SocketAddr) -> Self {
        Self {
            link,
            here,
            peer,
            first_heard: 0,
            heard: 0,
            acknowledged: 0,
            withholds: false,
            next: FIRST_SEQUENCE,
            last: None,
            sent_at_ns: 0,
            window: WINDOW,
        }
    }

    /// The peer's end of it.
    pub(crate) const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Is about to connect between the same two ends once more, with later sequence numbers.
    pub(crate) fn again(&self) -> Self {
        Self {
            next: self.next.wrapping_add(100_000),
            ..Self::new(Rc::clone(&self.link), self.here, self.peer)
        }
    }

    /// Takes what was heard into account.
    pub(super) fn take(&mut self, heard: &Segment) {
        if heard.has(SYN) {
            self.here = Some(heard.from);
            self.first_heard = heard.sequence;
            self.heard = heard.end();
        } else if self.is_new(heard) {
            self.heard = heard.end();
        }
        if !self.withholds {
            self.acknowledged = self.heard;
        }
    }

    /// It goes beyond what was heard before.
    pub(super) const fn is_new(&self, segment: &Segment) -> bool {
        let beyond = segment.sequence.wrapping_sub(self.heard).cast_signed();
        let length = segment.payload.len() + segment.has(FIN) as usize;
        length as i64 + beyond as i64 > 0
    }

    /// From now on what is heard is not acknowledged.
    pub(crate) const fn withhold_acknowledgements(&mut self) {
        self.withholds = true;
    }

    /// All that was heard will be acknowledged again.
    pub(crate) const fn acknowledge_again(&mut self) {
        self.withholds = false;
        self.acknowledged = self.heard;
    }

    /// When the last segment was sent, on the events' clock; it was taken after that.
    pub(crate) const fn sent_at_ns(&self) -> u64 {
        self.sent_at_ns
    }

    /// Opens a connection.
    pub(crate) fn send_syn(&mut self) -> anyhow::Result<()> {
        self.send(SYN, &[], &[])
    }

    /// As [`Flow::send_syn`], with data in it (RFC 7413, without a cookie).
    pub(crate) fn send_syn_with_data(&mut self, data: &[u8]) -> anyhow::Result<()> {
        self.send(SYN, &[], data)
    }

    /// Answers the SYN that crossed its own, which it repeats with that.
    pub(crate) fn send_crossed_syn_ack(&mut self) -> anyhow::Result<()> {
        self.next = FIRST_SEQUENCE;
        self.send_syn_ack()
    }

    /// Answers a SYN.
    pub(crate) fn send_syn_ack(&mut self) -> anyhow::Result<()> {
        self.send(SYN | ACK, &[], &[])
    }

    /// As [`Flow::send_syn_ack`], with options as they are on the wire.
    pub(crate) fn send_syn_ack_with(&mut self, options: &[u8]) -> anyhow::Result<()> {
        self.send(SYN | ACK, options, &[])
    }

    /// Acknowledges.
    pub(crate) fn send_ack(&mut self) -> anyhow::Result<()> {
        self.send(ACK, &[], &[])
    }

    /// Sends data, and acknowledges with it.
    pub(crate) fn send_data(&mut self, data: &[u8]) -> anyhow::Result<()> {
        self.send(ACK | PSH, &[], data)
    }

    /// Closes the peer's direction.
    pub(crate) fn send_fin(&mut self) -> anyhow::Result<()> {
        self.send(FIN | ACK, &[], &[])
    }

    /// Aborts; before anything was heard it acknowledges nothing.
    pub(crate) fn send_rst(&mut self) -> anyhow::Result<()> {
        let ack = if self.heard == 0 { 0 } else { ACK };
        self.send(RST | ack, &[], &[])
    }

    /// Sends the same as the last time.
    pub(crate) fn send_again(&mut self) -> anyhow::Result<()> {
        let last = self.last.as_ref().context("nothing was sent before")?;
        self.sent_at_ns = self.link.send(&last.packet()?)?;
        Ok(())
    }

    /// Says that what was heard could not be delivered.
    pub(crate) fn send_unreachable(
        &self,
        heard: &ReceivedSegment,
        what: Unreachable,
    ) -> anyhow::Result<()> {
        self.link.send(&heard.unreachable(what)?).map(drop)
    }

    /// Opens the connection to the end: as the one that connects, or as the one connected to.
    pub(crate) fn open(&mut self) -> anyhow::Result<()> {
        if self.here.is_some() {
            self.send_syn()?;
            self.expect_syn_ack()?;
            return self.send_ack();
        }
        self.expect_syn()?;
        self.send_syn_ack()?;
        self.expect_ack().map(drop)
    }

    /// Hears our FIN and closes too, with the same segment that acknowledges it.
    pub(crate) fn close(&mut self) -> anyhow::Result<()> {
        self.expect_fin()?;
        self.send_fin()?;
        self.expect_ack().map(drop)
    }

    /// Closes before it has heard our FIN, as far as we can tell.
    pub(crate) fn close_crossing(&mut self) -> anyhow::Result<()> {
        self.withhold_acknowledgements();
        self.close()
    }

    fn send(&mut self, flags: u8, options: &[u8], payload: &[u8]) -> anyhow::Result<()> {
        let to = self.here.context("nobody was heard to whom to say that")?;
        if to.is_ipv6() {
            self.link.must_have_ipv6()?;
        }
        let segment = Segment {
            from: self.peer,
            to,
            sequence: self.next,
            acknowledged: if flags & ACK == 0 {
                0
            } else {
                self.acknowledged
            },
            flags,
            window: self.window,
            options: options.to_vec(),
            payload: payload.to_vec(),
        };
        ensure!(
            flags & ACK == 0 || self.heard != 0,
            "nothing was heard that could be acknowledged"
        );
        self.next = segment.end();
        self.sent_at_ns = self.link.send(&segment.packet()?)?;
        self.last = Some(segment);
        Ok(())
    }
}
