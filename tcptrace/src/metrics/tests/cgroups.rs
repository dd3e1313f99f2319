//! Counts by cgroup.

use super::{
    exposition::Exposition,
    host::{Host, NETWORK},
};
use crate::{
    feed::{event::CloseFields, name::Name},
    host::cgroup::Cgroup,
    metrics::{CgroupLabel, Metrics, MetricsConfig},
    tracker::Item,
};

const ATTEMPTS: &str = "tcptrace_cgroup_connection_attempts_total";
const ESTABLISHED: &str = "tcptrace_cgroup_connections_established_total";
const FAILURES: &str = "tcptrace_cgroup_handshake_failures_total";
const CLOSED: &str = "tcptrace_cgroup_connections_closed_total";
const BYTES: &str = "tcptrace_cgroup_closed_connection_bytes_total";

const FOLDED: &str = "tcptrace_cgroups_folded";

fn host_with(max_cgroups: usize, cgroup_label: CgroupLabel) -> Host {
    let mut host = Host::new();
    host.metrics = Metrics::new(&MetricsConfig {
        max_cgroups,
        cgroup_label,
        ..MetricsConfig::default()
    });
    host
}

/// A host with these cgroups, numbered from 1; they were there from the start.
fn host_of(max_cgroups: usize, cgroup_label: CgroupLabel, paths: &[&str]) -> Host {
    let mut host = host_with(max_cgroups, cgroup_label);
    for (id, path) in (1..).zip(paths) {
        host.metrics.add_existing_cgroup(&Cgroup::new(path));
        name(&mut host, id, path);
    }
    host
}

fn name(host: &mut Host, id: u64, path: &str) {
    let path = path.to_owned();
    host.tracker.apply(&Item::Name(Name::Cgroup { id, path }));
}

/// A connection of a cgroup that carries something, and an attempt that fails.
fn visit(host: &mut Host, cgroup: Option<u64>) {
    host.cgroup = cgroup;
    let fields = CloseFields {
        bytes_sent: 10,
        bytes_acked: 10,
        bytes_received: 20,
        ..CloseFields::default()
    };
    let mut socket = host.active(NETWORK, 443);
    host.establish(&mut socket, 0);
    host.close(&mut socket, fields);
    let mut failing = host.active(NETWORK, 443);
    host.close(&mut failing, CloseFields::default());
}

#[test]
fn cgroups_that_were_there_have_the_first_labels_and_the_rest_are_counted_together() {
    // Half of the labels are for those.
    let paths = ["/web", "/say \"hi\"\n", "/db"];
    let mut host = host_of(4, CgroupLabel::Path, &paths);
    for cgroup in [Some(1), Some(1), Some(2), Some(3), Some(4), None] {
        visit(&mut host, cgroup);
    }
    host.settle();
    let shown = Exposition::of(&mut host);
    // Found no label; not known by name.
    for (label, count) in [
        ("/web", 2),
        ("/say \\\"hi\\\"\\n", 1),
        ("other", 1),
        ("unknown", 2),
    ] {
        let of = |name, more: &[(&str, &str)]| {
            let labels = [&[("cgroup", label)], more].concat();
            shown.sum(name, &labels)
        };
        assert_eq!(of(ATTEMPTS, &[("role", "active")]), 2 * count, "{label}");
        assert_eq!(of(ESTABLISHED, &[]), count, "{label}");
        assert_eq!(of(FAILURES, &[]), count, "{label}");
        assert_eq!(of(CLOSED, &[]), count, "{label}");
        assert_eq!(of(BYTES, &[("direction", "received")]), 20 * count);
    }
    assert_eq!(shown.value(FOLDED), Some(1.0));
    for (by_cgroup, by_port) in [
        (ATTEMPTS, "tcptrace_connection_attempts_total"),
        (ESTABLISHED, "tcptrace_connections_established_total"),
        (FAILURES, "tcptrace_handshake_failures_total"),
        (CLOSED, "tcptrace_connections_closed_total"),
        (BYTES, "tcptrace_closed_connection_bytes_total"),
    ] {
        assert_eq!(shown.sum(by_cgroup, &[]), shown.sum(by_port, &[]));
    }
}

#[test]
fn without_the_flag_nothing_is_counted_by_cgroup() {
    let mut host = host_of(0, CgroupLabel::Path, &["/web"]);
    visit(&mut host, Some(1));
    host.settle();
    let shown = Exposition::of(&mut host);
    assert!(
        ![ATTEMPTS, ESTABLISHED, FAILURES, CLOSED, BYTES, FOLDED]
            .into_iter()
            .any(|name| shown.has(name))
    );
}

const MINUTE: u64 = 60_000_000_000;

/// Connections established so far at a label.
fn established(host: &mut Host, label: &str) -> u64 {
    Exposition::of(host).sum(ESTABLISHED, &[("cgroup", label)])
}

#[test]
fn thousands_of_short_lived_cgroups_leave_a_steady_service_its_label() {
    let mut host = host_of(20, CgroupLabel::Path, &["/system.slice/old.service"]);
    name(&mut host, 2, "/system.slice/new.service");
    let mut jobs = 1000..;
    for _ in 0..50 {
        for job in jobs.by_ref().take(100) {
            name(&mut host, job, &format!("/jobs/{job}"));
            visit(&mut host, Some(job));
        }
        visit(&mut host, Some(1));
        visit(&mut host, Some(2));
        host.wait(MINUTE);
    }
    let shown = Exposition::of(&mut host);
    assert_eq!(
        shown.sum(ESTABLISHED, &[("cgroup", "/system.slice/old.service")]),
        50
    );
    // Its sixteenth connection within the hour earned it, and is the first that it shows.
    assert_eq!(
        shown.sum(ESTABLISHED, &[("cgroup", "/system.slice/new.service")]),
        50 - 15
    );
    assert_eq!(shown.sum(ESTABLISHED, &[("cgroup", "other")]), 5000 + 15);
    assert_eq!(shown.value(FOLDED), Some(5000.0));
}

#[test]
fn a_label_that_was_given_is_kept_by_the_name_and_not_by_the_cgroup() {
    let unit = "/system.slice/web.service";
    let mut host = host_of(1, CgroupLabel::Path, &[unit]);
    visit(&mut host, Some(1));
    // The service is started again.
    name(&mut host, 7, unit);
    visit(&mut host, Some(7));
    assert_eq!(established(&mut host, unit), 2);
}

#[test]
fn attempts_go_with_the_label_unless_they_were_shown() {
    for is_shown in [false, true] {
        let mut host = host_of(2, CgroupLabel::Path, &["/web"]);
        host.cgroup = Some(1);
        let mut waiting = host.active(NETWORK, 443);
        let mut socket = host.active(NETWORK, 443);
        if is_shown {
            Exposition::of(&mut host);
        }
        host.establish(&mut socket, 0);
        host.establish(&mut waiting, 0);
        let shown = Exposition::of(&mut host);
        let of = |name, label| shown.sum(name, &[("cgroup", label)]);
        let (kept, moved) = if is_shown { (2, 0) } else { (0, 2) };
        assert_eq!(of(ATTEMPTS, "other"), kept);
        assert_eq!(of(ATTEMPTS, "/web"), moved);
        assert_eq!(of(ESTABLISHED, "/web"), 2);
    }
}

#[test]
fn a_connection_opened_before_its_cgroup_had_a_label_ends_as_other() {
    let mut host = host_of(2, CgroupLabel::Path, &["/first"]);
    visit(&mut host, Some(1));
    name(&mut host, 2, "/web");
    host.metrics.add_existing_cgroup(&Cgroup::new("/web"));
    host.cgroup = Some(2);
    let mut sockets = Vec::new();
    for _ in 0..16 {
        let mut socket = host.active(NETWORK, 443);
        host.establish(&mut socket, 0);
        sockets.push(socket);
    }
    for mut socket in sockets {
        host.close(&mut socket, CloseFields::default());
    }
    host.settle();
    let shown = Exposition::of(&mut host);
    for (label, count) in [("/web", 1), ("other", 15)] {
        assert_eq!(shown.sum(ESTABLISHED, &[("cgroup", label)]), count);
        assert_eq!(shown.sum(CLOSED, &[("cgroup", label)]), count);
        assert_eq!(shown.sum(ATTEMPTS, &[("cgroup", label)]), count);
    }
}

#[test]
fn the_label_is_what_the_path_tells_or_none() {
    let container = "0123456789abcdef".repeat(4);
    let pod = "2c48913c-b29f-11e7-9350-020968147796";
    let paths = [
        format!("/kubepods/burstable/pod{pod}/{container}"),
        "/system.slice/nginx.service".to_owned(),
        "/system.slice/other.service".to_owned(),
        "/".to_owned(),
    ];
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let pattern = |text| CgroupLabel::Patterns(vec![regex_lite::Regex::new(text).unwrap()]);
    // How many are counted at each label.
    for (label, counts) in [
        (CgroupLabel::Path, vec![(paths[0], 1), ("/", 1)]),
        (
            CgroupLabel::Unit,
            vec![("nginx.service", 1), ("other.service", 1), ("none", 2)],
        ),
        (CgroupLabel::Pod, vec![(pod, 1), ("none", 3)]),
        (CgroupLabel::Container, vec![(&container, 1), ("none", 3)]),
        // A capture that is a word of ours, and an empty one.
        (
            pattern(r"/system\.slice/(.*)\.service"),
            vec![("nginx", 1), ("other", 1), ("none", 2)],
        ),
        (pattern(r"^/(s?)"), vec![("s", 2), ("none", 2)]),
    ] {
        let mut host = host_of(8, label, &paths);
        for id in 1..=4 {
            visit(&mut host, Some(id));
        }
        host.settle();
        let shown = Exposition::of(&mut host);
        for (name, count) in counts {
            assert_eq!(shown.sum(CLOSED, &[("cgroup", name)]), count, "{name}");
        }
        assert_eq!(shown.sum(CLOSED, &[]), 4);
    }
}
