use super::*;
use crate::feed::file::reader::{CaptureError, Reader};

fn header() -> CaptureHeader {
    CaptureHeader {
        tcptrace: "0.1.0".to_owned(),
        kernel_release: "6.1.0".to_owned(),
        host: Some("example".to_owned()),
        boot_id: None,
        run: "r".to_owned(),
        hooks: vec![HookEntry {
            hook: "inet_sock_set_state".to_owned(),
            source: Some("tp_btf".to_owned()),
            error: None,
        }],
        reset_reasons: BTreeMap::from([(8, "ABORT_ON_DATA".to_owned())]),
    }
}

const CLOCK: ClockReading = ClockReading {
    monotonic_ns: 7,
    offset_ns: -9,
};

fn name() -> Name {
    Name::Cgroup {
        id: 7777,
        path: "/system.slice/nginx.service".to_owned(),
    }
}

/// A file with one block of each kind, and where each ends.
fn file() -> (Vec<u8>, Vec<usize>) {
    let mut out = Vec::new();
    let mut ends = Vec::new();
    write_start(&header(), &mut out);
    ends.push(out.len());
    write_clock(CLOCK, &mut out);
    ends.push(out.len());
    let mut payload = Vec::new();
    push_event(b"one", &mut payload);
    push_event(b"", &mut payload);
    push_event(b"three", &mut payload);
    write_events(&payload, &mut out);
    ends.push(out.len());
    write_loss(LossPlace::Ring, 3, Some(EventKind::Reset), &mut out);
    ends.push(out.len());
    write_loss(LossPlace::Capture, u64::MAX, None, &mut out);
    ends.push(out.len());
    write_hook(EvidenceHook::Syn, false, 77, &mut out);
    ends.push(out.len());
    write_name(&name(), &mut out);
    ends.push(out.len());
    write_end(11, &mut out);
    ends.push(out.len());
    (out, ends)
}

/// Reads to the end, or to the first error.
fn read(bytes: &[u8]) -> (Vec<Block>, Option<CaptureError>) {
    let mut blocks = Vec::new();
    let mut reader = match Reader::open(bytes) {
        Ok((reader, header)) => {
            blocks.push(Block::Header(header));
            reader
        }
        Err(error) => return (blocks, Some(error)),
    };
    loop {
        match reader.next() {
            Ok(Some(block)) => blocks.push(block),
            Ok(None) => return (blocks, None),
            Err(error) => return (blocks, Some(error)),
        }
    }
}

#[test]
fn a_written_capture_reads_back_the_same() {
    let (bytes, _) = file();
    let (blocks, error) = read(&bytes);
    assert!(error.is_none(), "{error:?}");
    let [
        Block::Header(read_header),
        Block::Clock(clock),
        Block::Events(payload),
        Block::Loss {
            kind: Some(EventKind::Reset),
            place: LossPlace::Ring,
            events: 3,
        },
        Block::Loss {
            kind: None,
            place: LossPlace::Capture,
            events: u64::MAX,
        },
        Block::Hook {
            witness: EvidenceHook::Syn,
            attached: false,
            time_ns: 77,
        },
        Block::Name(read_name),
        Block::End { monotonic_ns: 11 },
    ] = blocks.as_slice()
    else {
        panic!("{blocks:?}");
    };
    assert_eq!(*read_header, header());
    assert_eq!(*clock, CLOCK);
    assert_eq!(*read_name, name());
    let events: Result<Vec<&[u8]>, String> = events(payload).collect();
    assert_eq!(events, Ok(vec![&b"one"[..], b"", b"three"]));
}

#[test]
fn a_file_cut_at_any_byte_gives_its_whole_blocks_and_then_an_error_that_says_where() {
    let (bytes, ends) = file();
    for cut in 0..bytes.len() {
        let (blocks, error) = read(&bytes[..cut]);
        assert_eq!(blocks.len(), ends.iter().filter(|end| **end <= cut).count());
        let whole = ends.iter().rev().find(|end| **end <= cut);
        match (cut, error) {
            (0, Some(CaptureError::Foreign)) => {}
            (1..12, Some(CaptureError::Truncated { at: 0, .. })) => {}
            // Between two blocks nothing is wrong: the file just ends early.
            (_, None) => assert_eq!(whole, Some(&cut)),
            (_, Some(CaptureError::Truncated { at, .. })) => {
                let begins = whole.copied().unwrap_or(12);
                assert_eq!(at, begins as u64, "cut at {cut}");
            }
            (_, Some(other)) => panic!("cut at {cut}: {other}"),
        }
    }
}

#[test]
fn a_changed_byte_is_an_error_after_the_blocks_before_it() {
    let (bytes, ends) = file();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let (blocks, error) = read(&changed);
            let before = ends.iter().filter(|end| **end <= at).count();
            assert_eq!(blocks.len(), before, "bit {bit} of byte {at}");
            assert!(error.is_some(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn foreign_older_and_newer_files_get_different_errors() {
    assert!(matches!(
        read(b"root:x:0:0"),
        (_, Some(CaptureError::Foreign))
    ));
    let mut newer = file().0;
    newer[8] = 5;
    let (_, error) = read(&newer);
    let error = error.unwrap();
    assert!(matches!(error, CaptureError::Newer(5)), "{error}");
    assert!(error.to_string().contains("newer"), "{error}");
    let mut older = file().0;
    older[8] = 2;
    let (_, error) = read(&older);
    let error = error.unwrap();
    assert!(matches!(error, CaptureError::Older(2)), "{error}");
    assert!(error.to_string().contains("that wrote it"), "{error}");
}

#[test]
fn a_block_that_claims_gigabytes_takes_no_memory() {
    let mut out = Vec::new();
    write_start(&header(), &mut out);
    out.extend_from_slice(&KIND_EVENTS.to_le_bytes());
    out.extend_from_slice(&u32::MAX.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    let (_, error) = read(&out);
    assert!(
        matches!(error, Some(CaptureError::Damaged { .. })),
        "{error:?}"
    );
}

#[test]
fn events_that_do_not_fill_their_block_are_an_error_after_the_whole_ones() {
    let mut payload = Vec::new();
    push_event(b"one", &mut payload);
    payload.extend_from_slice(&[9, 0, 1]);
    let taken: Vec<_> = events(&payload).collect();
    assert_eq!(taken.len(), 2);
    assert_eq!(taken[0], Ok(&b"one"[..]));
    assert!(taken[1].is_err());
}
