use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use super::*;

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Failing(io::ErrorKind);

impl Write for Failing {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes nothing until it is let.
struct Stuck(Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(self.0.recv().is_err(), "nothing is ever sent");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_was_appended_is_written_in_order() {
    let shared = Shared::default();
    let mut writer = Writer::start(shared.clone(), Patience::None).unwrap();
    for row in 0..1000 {
        writeln!(writer.room().unwrap(), "{row}").unwrap();
        assert!(matches!(writer.pass_on(), WriterState::Open));
    }
    assert!(matches!(writer.finish(), WriterState::Done));
    let expected: String = (0..1000).map(|row| format!("{row}\n")).collect();
    assert_eq!(
        String::from_utf8(shared.0.lock().unwrap().clone()).unwrap(),
        expected
    );
}

#[test]
fn a_closed_pipe_is_an_end_and_another_error_is_a_failure() {
    for (kind, closed) in [
        (io::ErrorKind::BrokenPipe, true),
        (io::ErrorKind::StorageFull, false),
    ] {
        let mut writer = Writer::start(Failing(kind), Patience::None).unwrap();
        writer.room().unwrap().extend_from_slice(b"row\n");
        let state = writer.finish();
        assert_eq!(
            matches!(state, WriterState::ReaderGone),
            closed,
            "{state:?}"
        );
        assert_eq!(matches!(state, WriterState::Failed(_)), !closed);
    }
}

#[test]
fn a_reader_that_does_not_read_costs_rows_and_never_time() {
    let (let_go, gate) = std::sync::mpsc::channel();
    let mut writer = Writer::start(Stuck(gate), Patience::None).unwrap();
    let row = vec![b'x'; 1 << 20];
    // One batch is being written, some wait, and what piles up beside them is bounded, each of
    // them by PENDING.
    let most = (1 + BATCHES + 1) * (PENDING / row.len() + 1);
    let taken = (0..=most).find(|_| {
        assert!(matches!(writer.pass_on(), WriterState::Open));
        match writer.room() {
            Some(room) => {
                room.extend_from_slice(&row);
                false
            }
            None => true,
        }
    });
    assert!(taken.is_some(), "more than {most} rows found room");
    assert!(matches!(writer.pass_on(), WriterState::Open));
    drop(let_go);
    assert!(matches!(writer.finish(), WriterState::Done));
}

#[test]
fn with_endless_patience_a_slow_reader_gets_all_of_it() {
    const ROW: usize = 1 << 20;
    // Far more than may pile up without patience.
    let rows = 4 * (PENDING / ROW + BATCHES);
    let (let_go, gate) = std::sync::mpsc::channel();
    let shared = Arc::new(Mutex::new(0));
    let sink = Counting(gate, Arc::clone(&shared));
    let producer = std::thread::spawn(move || {
        let mut writer = Writer::start(sink, Patience::Endless).unwrap();
        for _ in 0..rows {
            writer.room().expect("room").extend(vec![b'x'; ROW]);
            assert!(matches!(writer.pass_on(), WriterState::Open));
        }
        writer.finish()
    });
    drop(let_go);
    assert!(matches!(producer.join().unwrap(), WriterState::Done));
    assert_eq!(*shared.lock().unwrap(), rows * ROW);
}

/// Takes nothing until it is let, and then counts bytes.
struct Counting(Receiver<()>, Arc<Mutex<usize>>);

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(self.0.recv().is_err(), "nothing is ever sent");
        *self.1.lock().unwrap() += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
