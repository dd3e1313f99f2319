//! What needs no network namespace of its own.

use super::*;

#[test]
fn a_dump_without_an_answer_times_out_and_the_client_can_be_used_again() {
    let Ok(mut diag) = Diag::here() else {
        eprintln!("skipped: no sock_diag");
        return;
    };
    assert_eq!(diag.receive().unwrap_err(), Errno::EAGAIN);
    // A question that was given up: its answers are passed over.
    diag.send(&DiagRequest::dump(diag.sequence + 1000, DiagFamily::V4, 0))
        .unwrap();
    assert_eq!(
        diag.dump(DiagFamily::V4, 0, |_| {}).unwrap(),
        DumpOutcome::default()
    );
}

#[test]
fn an_errno_of_the_kernel_becomes_advice() {
    let said = |errno| DiagError::refused(errno).to_string();
    assert!(said(libc::ENOENT).contains("modprobe tcp_diag"));
    assert!(said(libc::EPERM).contains("not permitted"));
    assert!(said(libc::EINVAL).contains("refuses"));
    assert!(matches!(
        DiagError::hearing(Errno::EAGAIN),
        DiagError::Timeout
    ));
}
