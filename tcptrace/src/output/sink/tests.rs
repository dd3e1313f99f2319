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

/// Takes nothing until it is let, and then counts bytes.
struct Stuck(Receiver<()>, Arc<Mutex<usize>>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(self.0.recv().is_err(), "nothing is ever sent");
        *self.1.lock().unwrap() += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines of bytes.
fn start(output: impl Write + Send + 'static, patience: Patience) -> Writer<Vec<u8>> {
    let render = |row: &Vec<u8>, out: &mut Vec<u8>| out.extend_from_slice(row);
    Writer::start(output, Vec::new(), render, MOST, patience).unwrap()
}

const MOST: usize = 16;

#[test]
fn output_is_written_in_order() {
    let shared = Shared::default();
    let mut writer = start(shared.clone(), Patience::None);
    for row in 0..1000 {
        // More than has room is taken when it must be.
        writer.push(format!("{row}\n").into_bytes());
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
        let mut writer = start(Failing(kind), Patience::None);
        writer.push(b"row\n".to_vec());
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
    let mut writer = start(Stuck(gate, Arc::default()), Patience::None);
    // One batch is being written, some wait, and what piles up beside them is bounded.
    let most = (1 + BATCHES + 1) * (MOST + 1);
    let taken = (0..=most).find(|_| {
        assert!(matches!(writer.pass_on(), WriterState::Open));
        if writer.has_room() {
            writer.push(b"row\n".to_vec());
            false
        } else {
            true
        }
    });
    assert!(taken.is_some(), "more than {most} rows found room");
    assert!(matches!(writer.pass_on(), WriterState::Open));
    drop(let_go);
    assert!(matches!(writer.finish(), WriterState::Done));
}

#[test]
fn with_endless_patience_a_slow_reader_gets_all_of_it() {
    const ROW: usize = 1 << 10;
    // Far more than may pile up without patience.
    let rows = 100 * (MOST + BATCHES);
    let (let_go, gate) = std::sync::mpsc::channel();
    let written = Arc::<Mutex<usize>>::default();
    let sink = Stuck(gate, Arc::clone(&written));
    let producer = std::thread::spawn(move || {
        let mut writer = start(sink, Patience::Endless);
        for _ in 0..rows {
            assert!(writer.has_room());
            writer.push(vec![b'x'; ROW]);
            assert!(matches!(writer.pass_on(), WriterState::Open));
        }
        writer.finish()
    });
    drop(let_go);
    assert!(matches!(producer.join().unwrap(), WriterState::Done));
    assert_eq!(*written.lock().unwrap(), rows * ROW);
}
