//! What a flow expects to hear. Bare ACKs and what was heard before are passed over when something
//! else is expected; anything else that comes instead is an error that says so.

use std::time::Duration;

use anyhow::bail;

use super::{
    flow::Flow,
    link::ReceivedSegment,
    segment::{ACK, FIN, RST, SYN, Segment},
};
use crate::support::{Deadline, PATIENCE};

impl Flow {
    /// A SYN, the first or the same again.
    pub(crate) fn expect_syn(&mut self) -> anyhow::Result<ReceivedSegment> {
        self.expect("a SYN", |_, segment| {
            segment.has(SYN) && !segment.has(ACK) && segment.payload.is_empty()
        })
    }

    /// A SYN with data in it.
    pub(crate) fn expect_syn_with_data(&mut self, data: &[u8]) -> anyhow::Result<ReceivedSegment> {
        self.expect("a SYN with data", |_, segment| {
            segment.has(SYN) && !segment.has(ACK) && segment.payload == data
        })
    }

    /// A SYN-ACK of all that was sent, the first or the same again.
    pub(crate) fn expect_syn_ack(&mut self) -> anyhow::Result<ReceivedSegment> {
        self.expect("a SYN-ACK", |flow, segment| {
            segment.has(SYN) && segment.acknowledged == flow.next
        })
    }

    /// A bare ACK of all that was sent.
    pub(crate) fn expect_ack(&mut self) -> anyhow::Result<ReceivedSegment> {
        self.expect("an ACK of all that was sent", |flow, segment| {
            segment.is_bare_ack() && segment.acknowledged == flow.next
        })
    }

    /// This data and nothing else, new.
    pub(crate) fn expect_data(&mut self, data: &[u8]) -> anyhow::Result<ReceivedSegment> {
        let what = format!("data {:?}", data.escape_ascii().to_string());
        self.expect(&what, |flow, segment| {
            segment.sequence == flow.heard && segment.payload == data && !segment.has(FIN)
        })
    }

    /// The same, and a FIN with it.
    pub(crate) fn expect_data_and_fin(&mut self, data: &[u8]) -> anyhow::Result<ReceivedSegment> {
        let what = format!("data {:?} and a FIN", data.escape_ascii().to_string());
        self.expect(&what, |flow, segment| {
            segment.sequence == flow.heard && segment.payload == data && segment.has(FIN)
        })
    }

    /// What was heard before, once more: data, a FIN, or both.
    pub(crate) fn expect_retransmit(&mut self) -> anyhow::Result<ReceivedSegment> {
        self.expect("a retransmission", |flow, segment| {
            segment.sequence_length() > 0 && !flow.is_new(segment)
        })
    }

    /// A FIN with nothing else, the first or the same again.
    pub(crate) fn expect_fin(&mut self) -> anyhow::Result<ReceivedSegment> {
        self.expect("a FIN", |_, segment| {
            segment.has(FIN) && segment.payload.is_empty()
        })
    }

    /// A RST.
    pub(crate) fn expect_rst(&mut self) -> anyhow::Result<ReceivedSegment> {
        self.expect("a RST", |_, segment| segment.has(RST))
    }

    /// A probe: a bare ACK from just before what was heard (`tcp_xmit_probe_skb`).
    pub(crate) fn expect_probe(&mut self) -> anyhow::Result<ReceivedSegment> {
        self.expect("a probe", |flow, segment| {
            segment.is_bare_ack() && segment.end() == flow.heard.wrapping_sub(1)
        })
    }

    /// Nothing new for some time.
    pub(crate) fn expect_silence(&mut self, time: Duration) -> anyhow::Result<()> {
        let deadline = Deadline::after(time);
        while let Some(heard) = self.next(deadline)? {
            if !self.may_be_passed_over(&heard) {
                bail!("expected nothing, and there came {}", self.show(&heard));
            }
        }
        Ok(())
    }

    fn expect(
        &mut self,
        what: &str,
        wanted: impl Fn(&Self, &Segment) -> bool,
    ) -> anyhow::Result<ReceivedSegment> {
        let deadline = Deadline::after(PATIENCE);
        let mut passed_over = Vec::new();
        while let Some(heard) = self.next(deadline)? {
            if wanted(self, &heard) {
                self.take(&heard);
                return Ok(heard);
            }
            passed_over.push(self.show(&heard));
            if !self.may_be_passed_over(&heard) {
                bail!(
                    "expected {what}, and there came {}",
                    passed_over.join(", then ")
                );
            }
        }
        bail!(
            "expected {what} within {PATIENCE:?}, and there came {}",
            if passed_over.is_empty() {
                "nothing".to_owned()
            } else {
                passed_over.join(", ")
            }
        )
    }

    /// The next segment of this connection; one that has not begun takes any SYN to its port.
    fn next(&self, deadline: Deadline) -> anyhow::Result<Option<ReceivedSegment>> {
        self.link.next(deadline, |segment| {
            segment.to == self.peer
                && match self.here {
                    Some(here) => segment.from == here,
                    None => segment.has(SYN),
                }
        })
    }

    fn may_be_passed_over(&self, segment: &Segment) -> bool {
        let is_old = segment.sequence_length() > 0 && self.heard != 0 && !self.is_new(segment);
        segment.is_bare_ack() || is_old && !segment.has(RST)
    }

    /// For people: numbers count from where each side began.
    fn show(&self, segment: &Segment) -> String {
        segment.describe(self.first_heard, super::flow::FIRST_SEQUENCE)
    }
}
