//! What a tail says of losses while its reader is slow.

use std::{
    io::{self, Write},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
};

use super::*;
use crate::{
    clock::WallClock,
    host::Host,
    output::view::{self, filter::Filter},
    tracker::{GRACE_NS, LossPlace, TrackerConfig},
};

/// Takes nothing until it is let.
struct Stuck(Receiver<()>, Arc<Mutex<Vec<u8>>>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(self.0.recv().is_err(), "nothing is ever sent");
        self.1.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn losses_without_room_are_summed_and_reported_at_the_end() {
    let (let_go, gate) = channel();
    let written = Arc::default();
    let mut screen = Screen(Renderer::Json);
    let render = move |shown: &ScreenUpdate, out: &mut Vec<u8>| screen.show(shown, out);
    let stuck = Stuck(gate, Arc::clone(&written));
    let writer = Writer::start(stuck, Vec::new(), render, 100, Patience::None).unwrap();
    let now = ClockReading::now();
    let recorder = Recorder::new(
        &Host::this(now.monotonic_ns),
        WallClock::new(now),
        std::collections::BTreeMap::new(),
    );
    let view = View::new(Filter::default(), view::ShownRecords::default());
    let tracker = Tracker::new(TrackerConfig::default());
    let mut tail = Tail::new(recorder, view, writer, now.monotonic_ns);
    let mut said = 0;
    let mut expected = 0;
    // Until there is no room any more, and a few more.
    while said < 3 {
        let place = LossPlace::ALL[said % 2];
        tail.update(&Update::Lost { events: 7, place });
        tail.now_ns += GRACE_NS;
        tail.settled(tail.now_ns, &tracker);
        assert!(tail.end_batch().is_continue());
        expected += 7;
        said += usize::from(!tail.writer.as_ref().unwrap().has_room());
    }
    assert_eq!(tail.counts().lost, expected);
    drop(let_go);
    assert!(matches!(tail.finish(&tracker), WriterState::Done));
    let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
    let lost: u64 = written
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|record| record["lost"].as_u64().unwrap())
        .sum();
    assert_eq!(lost, expected);
    let last = written.lines().last().unwrap();
    assert!(last.contains("\"where\":\"kernel\""), "{last}");
}
