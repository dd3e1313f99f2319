use std::{fmt, net::Ipv4Addr, str::FromStr};

use super::*;
use crate::{feed::event::NetnsId, tracker::ProcessSource};

fn ends(local: (&str, u16), remote: (&str, u16)) -> Endpoints {
    Endpoints {
        local_address: local.0.parse().unwrap(),
        remote_address: remote.0.parse().unwrap(),
        local_port: local.1,
        remote_port: remote.1,
        netns: Some(NetnsId::without_cookie(4_026_531_840)),
        interface: None,
    }
}

fn process(pid: u32, name: &str) -> Process {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    Process {
        pid,
        comm,
        source: ProcessSource::Connect,
        gone: false,
    }
}

fn judge(
    filter: &Filter,
    ends: Option<&Endpoints>,
    process: Option<&Process>,
    over: bool,
) -> Decision {
    filter.judge(&Subject {
        ends,
        process,
        cgroup: None,
        role: Some(Role::Active),
        over,
        life: LifeSoFar::default(),
    })
}

fn terms<T: FromStr<Err: fmt::Display>>(text: &str) -> Option<Terms<T>> {
    Some(text.parse().unwrap())
}

#[test]
fn without_filters_everything_is_shown_at_once() {
    assert_eq!(judge(&Filter::default(), None, None, false), Decision::Show);
}

#[test]
fn a_local_port_that_is_not_known_yet_waits_and_is_judged_when_it_is() {
    let filter = Filter {
        local_port: terms("50000-50010"),
        ..Filter::default()
    };
    let connecting = ends(("10.0.0.1", 0), ("10.0.0.2", 443));
    assert_eq!(
        judge(&filter, Some(&connecting), None, false),
        Decision::Later
    );
    let connected = ends(("10.0.0.1", 50_005), ("10.0.0.2", 443));
    assert_eq!(
        judge(&filter, Some(&connected), None, false),
        Decision::Show
    );
    let other = ends(("10.0.0.1", 50_011), ("10.0.0.2", 443));
    assert_eq!(judge(&filter, Some(&other), None, false), Decision::Hide);
    assert_eq!(
        judge(&filter, Some(&connecting), None, true),
        Decision::Hide
    );
}

#[test]
fn either_port_that_matches_is_enough_before_the_other_is_known() {
    let filter = Filter {
        port: terms("443"),
        ..Filter::default()
    };
    let connecting = ends(("10.0.0.1", 0), ("10.0.0.2", 443));
    assert_eq!(
        judge(&filter, Some(&connecting), None, false),
        Decision::Show
    );
    let elsewhere = ends(("10.0.0.1", 0), ("10.0.0.2", 80));
    assert_eq!(
        judge(&filter, Some(&elsewhere), None, false),
        Decision::Later
    );
}

#[test]
fn a_negated_port_hides_at_once_and_shows_only_when_both_are_known() {
    let filter = Filter {
        port: terms("!443,80"),
        ..Filter::default()
    };
    let hidden = ends(("10.0.0.1", 0), ("10.0.0.2", 80));
    assert_eq!(judge(&filter, Some(&hidden), None, false), Decision::Hide);
    let open = ends(("10.0.0.1", 0), ("10.0.0.2", 8080));
    assert_eq!(judge(&filter, Some(&open), None, false), Decision::Later);
    assert_eq!(judge(&filter, Some(&open), None, true), Decision::Show);
}

#[test]
fn a_network_matches_either_address() {
    let filter = Filter {
        cidr: terms("192.0.2.0/24,2001:db8::1"),
        ..Filter::default()
    };
    for (local, remote, decision) in [
        ("192.0.2.9", "10.0.0.1", Decision::Show),
        ("10.0.0.1", "192.0.2.255", Decision::Show),
        ("2001:db8::2", "2001:db8::1", Decision::Show),
        ("10.0.0.1", "192.0.3.0", Decision::Hide),
    ] {
        let ends = ends((local, 1), (remote, 2));
        assert_eq!(
            judge(&filter, Some(&ends), None, false),
            decision,
            "{ends:?}"
        );
    }
    let mut half = ends(("10.0.0.1", 1), ("10.0.0.2", 2));
    half.remote_address = Ipv4Addr::UNSPECIFIED.into();
    assert_eq!(judge(&filter, Some(&half), None, false), Decision::Later);
}

#[test]
fn a_process_that_is_never_known_is_not_the_one_asked_for() {
    let filter = Filter {
        pid: terms("7"),
        ..Filter::default()
    };
    assert_eq!(judge(&filter, None, None, false), Decision::Later);
    assert_eq!(judge(&filter, None, None, true), Decision::Hide);
    assert_eq!(
        judge(&filter, None, Some(&process(7, "a")), false),
        Decision::Show
    );
    assert_eq!(
        judge(&filter, None, Some(&process(8, "a")), false),
        Decision::Hide
    );
    let not = Filter {
        comm: terms("!curl"),
        ..Filter::default()
    };
    assert_eq!(judge(&not, None, None, true), Decision::Show);
    assert_eq!(
        judge(&not, None, Some(&process(8, "curl")), false),
        Decision::Hide
    );
}

#[test]
fn every_filter_must_pass() {
    let netns: Terms<u32> = "4026531840".parse().unwrap();
    let netns =
        netns.try_map(|inode| Ok::<_, ()>(NetnsTerm::new(NetnsId::without_cookie(inode), None)));
    let filter = Filter {
        port: terms("443"),
        family: Some(FamilyFilter::Ipv6),
        role: terms("active"),
        netns: netns.ok(),
        ..Filter::default()
    };
    let v4 = ends(("10.0.0.1", 1), ("10.0.0.2", 443));
    let v6 = ends(("::1", 1), ("::1", 443));
    assert_eq!(judge(&filter, Some(&v4), None, false), Decision::Hide);
    assert_eq!(judge(&filter, Some(&v6), None, false), Decision::Show);
}

#[test]
fn a_cgroup_or_a_container_is_asked_for_by_what_the_socket_tells() {
    let id = "0123456789abcdef".repeat(4);
    let cgroup = Cgroup::new(&format!("/system.slice/docker-{id}.scope"));
    let judge = |filter: &Filter, cgroup| {
        filter.judge(&Subject {
            ends: None,
            process: None,
            cgroup,
            role: Some(Role::Active),
            over: false,
            life: LifeSoFar::default(),
        })
    };
    let of_cgroup = |text| Filter {
        cgroup: terms(text),
        ..Filter::default()
    };
    let of_container = |text| Filter {
        container: terms(text),
        ..Filter::default()
    };
    for (filter, decision, unknown) in [
        (of_cgroup("/system.slice"), Decision::Show, Decision::Hide),
        (
            of_cgroup("/user.slice,system.slice"),
            Decision::Show,
            Decision::Hide,
        ),
        (of_cgroup("nginx.service"), Decision::Hide, Decision::Hide),
        (of_cgroup("!system.slice"), Decision::Hide, Decision::Show),
        (of_container("0123456789ab"), Decision::Show, Decision::Hide),
        (of_container("0123456789AB"), Decision::Show, Decision::Hide),
        (of_container("123456789ab"), Decision::Hide, Decision::Hide),
        (of_container("!0123"), Decision::Hide, Decision::Show),
    ] {
        assert_eq!(judge(&filter, Some(&cgroup)), decision, "{filter:?}");
        assert_eq!(judge(&filter, None), unknown, "{filter:?}");
    }
}

#[test]
fn bad_terms_are_refused_with_the_reason() {
    for (text, reason) in [
        ("", "expected a port"),
        ("0", "expected a port"),
        ("443,", "expected a port"),
        ("65536", "expected a port"),
        ("90-80", "past its end"),
        ("http", "expected a port"),
    ] {
        let error = text.parse::<Terms<PortTerm>>().unwrap_err();
        assert!(error.contains(reason), "{text:?}: {error}");
    }
    for (text, reason) in [
        ("abc", "expected a process id such as 4242"),
        ("0", "expected a process id"),
        ("1,", "expected a process id"),
    ] {
        let error = text.parse::<Terms<PidTerm>>().unwrap_err();
        assert!(error.contains(reason), "{text:?}: {error}");
    }
    let error = "grateful".parse::<Terms<Verdict>>().unwrap_err();
    assert!(error.contains("graceful, refused"), "{error}");
    let error = "".parse::<Terms<CommTerm>>().unwrap_err();
    assert!(error.contains("expected a process's name"), "{error}");
    for text in ["", "system.slice/nginx.service"] {
        let error = text.parse::<Terms<CgroupTerm>>().unwrap_err();
        assert!(error.contains("expected a path"), "{text:?}: {error}");
    }
    for text in ["", "web-1", &"0".repeat(65)] {
        let error = text.parse::<Terms<ContainerTerm>>().unwrap_err();
        assert!(error.contains("expected a container's id"), "{error}");
    }
    let error = "10.0.0.0/33".parse::<Terms<CidrTerm>>().unwrap_err();
    assert!(
        error.contains("expected an address or a network"),
        "{error}"
    );
    let error = "server".parse::<Terms<Role>>().unwrap_err();
    assert!(error.contains("expected active"), "{error}");
}

const MS: u64 = 1_000_000;

/// Judges by how a life went.
fn judge_life(filter: &Filter, life: LifeSoFar, over: bool) -> Decision {
    filter.judge(&Subject {
        ends: None,
        process: None,
        cgroup: None,
        role: Some(Role::Passive),
        over,
        life,
    })
}

#[test]
fn outcome_filters_judge_once_the_outcome_is_known() {
    use Decision::{Hide, Later, Show};
    let begun = LifeSoFar::default();
    let open = |handshake_ns| LifeSoFar {
        established: true,
        handshake_ns,
        may_be_accepted: true,
        ..begun
    };
    let accepted = |accept_wait_ns| LifeSoFar {
        accept_wait_ns,
        may_be_accepted: false,
        ..open(Some(MS))
    };
    let ended = |verdict, duration_ns| LifeSoFar {
        verdict: Some(verdict),
        duration_ns,
        ..accepted(None)
    };
    let refused = LifeSoFar {
        verdict: Some(Verdict::Refused),
        duration_ns: Some(MS),
        ..begun
    };
    let least = Some(Duration::from_millis(100));
    let verdict = Filter {
        verdict: terms("graceful,refused"),
        ..Filter::default()
    };
    let not = Filter {
        verdict: terms("!graceful"),
        ..Filter::default()
    };
    let failed = Filter {
        failed: true,
        ..Filter::default()
    };
    let handshake = Filter {
        min_handshake: least,
        ..Filter::default()
    };
    let slow = Filter {
        slow: least,
        ..Filter::default()
    };
    let duration = Filter {
        min_duration: least,
        ..Filter::default()
    };
    for (filter, life, over, decision) in [
        (&verdict, open(None), false, Later),
        (&verdict, refused, true, Show),
        (&verdict, ended(Verdict::Graceful, None), true, Show),
        (&verdict, ended(Verdict::Killed, None), true, Hide),
        (&not, open(None), false, Later),
        (&not, ended(Verdict::Graceful, None), true, Hide),
        (&not, ended(Verdict::Killed, None), true, Show),
        (&failed, begun, false, Later),
        (&failed, open(None), false, Hide),
        (&failed, refused, true, Show),
        (&handshake, begun, false, Later),
        (&handshake, open(Some(100 * MS)), false, Show),
        (&handshake, open(Some(100 * MS - 1)), false, Hide),
        // Established, and how long it took is not known.
        (&handshake, open(None), false, Hide),
        (&slow, begun, false, Later),
        (&slow, open(Some(100 * MS)), false, Show),
        (&slow, open(Some(MS)), false, Later),
        (&slow, accepted(Some(100 * MS)), false, Show),
        (&slow, accepted(Some(MS)), false, Hide),
        (&slow, open(Some(MS)), true, Hide),
        (&duration, open(None), false, Later),
        (
            &duration,
            ended(Verdict::Graceful, Some(100 * MS)),
            true,
            Show,
        ),
        (&duration, ended(Verdict::Graceful, Some(MS)), true, Hide),
        (&duration, ended(Verdict::Graceful, None), true, Hide),
    ] {
        assert_eq!(judge_life(filter, life, over), decision, "{filter:?}");
        assert!(filter.asks_for_the_end());
    }
}

#[test]
fn rows_are_judged_by_the_state_they_tell_of() {
    let filter = Filter {
        state: terms("established,SYN-SENT"),
        ..Filter::default()
    };
    let shown: Vec<_> = TcpState::ALL
        .into_iter()
        .filter(|state| filter.shows(*state))
        .collect();
    assert_eq!(shown, [TcpState::Established, TcpState::SynSent]);
    assert!(
        TcpState::ALL
            .into_iter()
            .all(|state| Filter::default().shows(state))
    );
    for text in ["TIME_WAIT", "new-syn-recv"] {
        let error = text.parse::<Terms<StateTerm>>().unwrap_err();
        assert!(error.contains("no transition ever shows"), "{error}");
    }
    let error = "ESTAB".parse::<Terms<StateTerm>>().unwrap_err();
    assert!(error.contains("expected a state such as"), "{error}");
}

#[test]
fn a_name_is_taken_as_the_kernel_keeps_it() {
    let matches = |text: &str, name| {
        let filter = Filter {
            comm: terms(text),
            ..Filter::default()
        };
        judge(&filter, None, Some(&process(7, name)), false) == Decision::Show
    };
    assert!(matches("nginx", "nginx"));
    assert!(!matches("nginx", "nginx "));
    assert!(matches(" lead", " lead"));
    assert!(!matches(" lead", "lead"));
    assert!(matches("a\\,b,c", "a,b"));
    assert!(matches("a\\,b,c", "c"));
    assert!(!matches("a\\,b,c", "a"));
    assert!(matches("back\\\\slash", "back\\slash"));
    assert!(matches("a-very-long-name-indeed", "a-very-long-nam"));
    // Cut within a character, as the kernel does.
    let cut = &"n\u{e4}her-und-\u{fc}ber".as_bytes()[..15];
    let mut comm = [0; 16];
    comm[..15].copy_from_slice(cut);
    let filter = Filter {
        comm: terms("n\u{e4}her-und-\u{fc}ber"),
        ..Filter::default()
    };
    let process = Process {
        comm,
        ..process(7, "")
    };
    assert_eq!(judge(&filter, None, Some(&process), false), Decision::Show);
}

#[test]
fn a_network_of_mapped_addresses_is_the_ipv4_one() {
    for (text, address, decision) in [
        ("::ffff:127.0.9.0/120", "127.0.9.7", Decision::Show),
        ("::ffff:127.0.9.0/120", "127.0.8.7", Decision::Hide),
        ("::ffff:127.0.9.1", "127.0.9.1", Decision::Show),
        // More than all of IPv4: what else there is.
        ("::/0", "127.0.9.1", Decision::Hide),
        ("::/0", "2001:db8::1", Decision::Show),
    ] {
        let filter = Filter {
            cidr: terms(text),
            ..Filter::default()
        };
        let ends = ends((address, 1), (address, 2));
        assert_eq!(
            judge(&filter, Some(&ends), None, false),
            decision,
            "{text} {address}"
        );
    }
}
