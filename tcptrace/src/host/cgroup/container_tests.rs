use super::*;

const A: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const B: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
const POD: &str = "2c48913c-b29f-11e7-9350-020968147796";

/// Container, pod and unit.
fn told(path: &str) -> [Option<String>; 3] {
    let cgroup = Cgroup::new(path);
    assert_eq!(&*cgroup.path, path);
    [cgroup.container_id, cgroup.pod_uid, cgroup.unit].map(|told| told.map(String::from))
}

#[test]
fn every_engines_layout_tells_its_container() {
    let slice = format!("kubepods-burstable-pod{}.slice", POD.replace('-', "_"));
    for (path, pod, unit) in [
        (format!("/docker/{A}"), None, None),
        (format!("/system.slice/docker-{A}.scope"), None, None),
        (format!("/docker/{A}/app/worker"), None, None),
        (
            format!("/machine.slice/libpod-{A}.scope/container"),
            None,
            None,
        ),
        (format!("/libpod_parent/libpod-{A}"), None, None),
        (format!("/default/{A}"), None, None),
        (format!("/k8s.io/{A}"), None, None),
        (
            format!("/ecs/55091c13-b8cf-4801-b527-f4601742204d/{A}"),
            None,
            None,
        ),
        (format!("/system.slice/nerdctl-{A}.scope"), None, None),
        (
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope"),
            None,
            Some("user@1000.service"),
        ),
        (format!("/kubepods/burstable/pod{POD}/{A}"), Some(POD), None),
        (format!("/kubepods/pod{POD}/{A}"), Some(POD), None),
        (
            format!("/kubepods.slice/kubepods-burstable.slice/{slice}/cri-containerd-{A}.scope"),
            Some(POD),
            None,
        ),
        (
            format!("/kubepods.slice/{slice}/crio-{A}.scope"),
            Some(POD),
            None,
        ),
        (
            format!("/kubepods.slice/{slice}/docker-{A}.scope"),
            Some(POD),
            None,
        ),
        (
            format!("/system.slice/containerd.service/{slice}:cri-containerd:{A}"),
            Some(POD),
            Some("containerd.service"),
        ),
        // A cluster in a container: the innermost.
        (
            format!("/docker/{B}/kubelet/kubepods/besteffort/pod{POD}/{A}"),
            Some(POD),
            None,
        ),
    ] {
        assert_eq!(
            told(&path),
            [
                Some(A.to_owned()),
                pod.map(str::to_owned),
                unit.map(str::to_owned)
            ],
            "{path}"
        );
    }
    let hash = "a3d1f4c1f0f5b1e3ad11b9cbb6a54d8f";
    assert_eq!(
        told(&format!("/kubepods/burstable/pod{hash}/{A}"))[1].as_deref(),
        Some(hash)
    );
}

#[test]
fn a_cgroup_of_no_container_has_no_container_id() {
    for (path, unit) in [
        ("/".to_owned(), None),
        (String::new(), None),
        (
            "/system.slice/nginx.service".to_owned(),
            Some("nginx.service"),
        ),
        (
            "/system.slice/nginx.service/worker".to_owned(),
            Some("nginx.service"),
        ),
        ("/init.scope".to_owned(), Some("init.scope")),
        ("/system.slice/_cpu.service".to_owned(), Some("cpu.service")),
        (
            "/user.slice/user-0.slice/user@0.service/app.slice/app-web.service".to_owned(),
            Some("app-web.service"),
        ),
        (
            "/user.slice/user-0.slice/session-3.scope".to_owned(),
            Some("session-3.scope"),
        ),
        ("/.service/.scope".to_owned(), None),
        // The monitor of a container is not in it.
        (
            format!("/machine.slice/libpod-conmon-{A}.scope"),
            Some("libpod-conmon-A.scope"),
        ),
        (
            format!("/kubepods.slice/crio-conmon-{A}.scope"),
            Some("crio-conmon-A.scope"),
        ),
        // Too short, too long, no digits.
        (format!("/docker/{}", &A[1..]), None),
        (format!("/docker/{A}0"), None),
        (format!("/docker/{}", A.to_uppercase()), None),
        (format!("/docker/{}", "g".repeat(64)), None),
        ("/kubepods/podium/pod-1".to_owned(), None),
        (format!("/kubepods/pod{}", &POD[1..]), None),
        ("/kubepods-pod.slice".to_owned(), None),
    ] {
        let unit = unit.map(|unit| unit.replace("-A.", &format!("-{A}.")));
        assert_eq!(told(&path), [None, None, unit], "{path}");
    }
}

#[test]
fn a_term_is_a_path_with_all_below_it_or_one_name() {
    let cgroup = Cgroup::new("/system.slice/nginx.service/worker");
    for term in [
        "/",
        "/system.slice",
        "/system.slice/",
        "/system.slice/nginx.service/worker",
        "nginx.service",
        "worker",
        "system.slice",
    ] {
        assert!(cgroup.is_within(term), "{term}");
    }
    for term in [
        "/system",
        "/system.slice/nginx",
        "nginx",
        "/nginx.service",
        "system.slice/nginx.service",
    ] {
        assert!(!cgroup.is_within(term), "{term}");
    }
    assert!(Cgroup::new("/").is_within("/"));
    assert!(!Cgroup::new("/").is_within("/a"));
}
