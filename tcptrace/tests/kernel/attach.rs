//! The ways to the transitions, and what is said when they are narrow or closed.

use std::{fs, io, net::TcpStream, os::unix::process::CommandExt};

use anyhow::{Context, ensure};
use caps::{CapSet, Capability};
use serde_json::{Value, json};

use crate::support::{
    Check, beside, ignored,
    namespace::Namespace,
    program::{Output, Running, tcptrace, tcptrace_as_nobody},
    record::path,
    sentinel,
    sockets::abort_at_close,
    surroundings::{NO_BTF, Surroundings},
    tail::Tail,
    talk::{IPV4, IPV6, MAPPED, Over, Talk},
    tests,
};

tests![
    the_classic_tracepoint_tells_the_same_over_ipv4,
    the_classic_tracepoint_tells_the_same_over_ipv6,
    the_classic_tracepoint_tells_the_same_over_mapped_ipv4,
    the_classic_tracepoint_tells_verdicts_too,
    without_btf_transitions_are_told_over_ipv4,
    without_btf_transitions_are_told_over_ipv6,
    without_btf_transitions_are_told_over_mapped_ipv4,
    without_btf_no_verdict_is_guessed,
    without_btf_and_tracefs_it_fails_and_says_what_to_do,
    tp_btf_alone_fails_without_btf,
    an_unprivileged_user_is_told_who_may_trace,
    a_missing_capability_is_named,
    connects_refused_while_it_starts_are_never_said_to_be_unreachable,
    a_renamed_field_disables_only_what_needs_it,
];

const EVERYTHING: Surroundings = Surroundings {
    tracefs: true,
    btf: true,
};
const NOTHING: Surroundings = Surroundings {
    tracefs: false,
    btf: false,
};

/// A tail of everything, with the classic tracepoint.
fn classic(namespace: &Namespace) -> anyhow::Result<Tail> {
    let inode = namespace.inode().to_string();
    let mut command = tcptrace(&["tail", "--format", "json", "--attach", "tracepoint"]);
    command.args(["--netns", &inode, "--show", "handshakes,connections"]);
    let running = EVERYTHING.run(|| Running::start(&mut command))?;
    Tail::attach(namespace, running)
}

fn the_classic_tracepoint_tells_the_same_over_ipv4() -> Check {
    classic_tells_the_same(&IPV4)
}

fn the_classic_tracepoint_tells_the_same_over_ipv6() -> Check {
    classic_tells_the_same(&IPV6)
}

fn the_classic_tracepoint_tells_the_same_over_mapped_ipv4() -> Check {
    classic_tells_the_same(&MAPPED)
}

fn classic_tells_the_same(over: &Over) -> Check {
    let mut talk = Talk::new()?;
    let tail = classic(talk.namespace())?;
    let said = talk.talk(over, 0)?;
    talk.check_records(&tail.finish_after(2)?, &said, over)
}

fn the_classic_tracepoint_tells_verdicts_too() -> Check {
    let namespace = Namespace::new()?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let tail = classic(&namespace)?;
    let (client, server) = namespace.pair(&listener)?;
    abort_at_close(&client)?;
    drop(client);
    drop(listener);
    ensure!(namespace.connect(address).is_err(), "somebody listens");
    let records = tail.finish_after(3)?;
    drop(server);
    for (verdict, role, errno) in [
        ("reset_by_us", "active", None),
        ("reset_received", "passive", Some("ECONNRESET")),
        ("refused", "active", Some("ECONNREFUSED")),
    ] {
        let record = records.only("connection", &json!({"verdict": verdict}))?;
        record.must_have(&json!({"role": role, "netns": namespace.inode()}))?;
        ensure!(record.text("errno") == errno, "{record}");
    }
    Ok(())
}

/// A tail that has nothing but the classic tracepoint's records, in which no namespace is.
fn without_btf(namespace: &Namespace, port: u16, show: &str) -> anyhow::Result<Tail> {
    let ports = format!("{port},{}", sentinel::PORT);
    let mut command = tcptrace(&["tail", "--format", "json", "--port", &ports]);
    command.args(["--show", show]);
    let running = NO_BTF.run(|| Running::start(&mut command))?;
    Tail::attach(namespace, running)
}

/// What is missing is said once, in one line, before the summary.
fn must_say_once_what_is_missing(output: &Output) -> Check {
    output.must_end_with(0)?;
    let lines: Vec<_> = output.stderr.lines().collect();
    let [said, summary] = lines[..] else {
        anyhow::bail!("not two lines: {:?}", output.stderr);
    };
    for word in ["only state transitions", "BTF", "tcptrace check"] {
        ensure!(said.contains(word), "no {word:?} in {said:?}");
    }
    ensure!(summary.ends_with(" 0 events lost"), "{summary:?}");
    Ok(())
}

fn without_btf_transitions_are_told_over_ipv4() -> Check {
    tells_transitions_without_btf(&IPV4)
}

fn without_btf_transitions_are_told_over_ipv6() -> Check {
    tells_transitions_without_btf(&IPV6)
}

fn without_btf_transitions_are_told_over_mapped_ipv4() -> Check {
    tells_transitions_without_btf(&MAPPED)
}

fn tells_transitions_without_btf(over: &Over) -> Check {
    let mut talk = Talk::new()?;
    let port = talk.namespace().free_port()?;
    let mut tail = without_btf(talk.namespace(), port, "handshakes,connections")?;
    let said = talk.talk(over, port)?;
    tail.wait_count("connection", 2)?;
    let (records, output) = tail.interrupt()?;
    must_say_once_what_is_missing(&output)?;
    talk.check_known_without_btf(&records, &said, over)?;
    for record in &records.0 {
        record.must_lack(&["netns", "syn_retransmits", "srtt_us"])?;
    }
    // SYN_RECV→ESTABLISHED are microseconds within one function, and no handshake.
    for record in records
        .0
        .iter()
        .filter(|record| record.text("role") == Some("passive"))
    {
        record.must_lack(&["handshake_us", "handshake_source"])?;
        if record.is("handshake") {
            record.must_lack(&["pid", "comm"])?;
        }
    }
    for record in records.of("connection") {
        record.must_have(&json!({"verdict": "unknown"}))?;
        record.must_lack(&[
            "accept_wait_us",
            "uid",
            "cgroup_id",
            "errno",
            "errno_number",
            "peer_fin",
            "bytes_sent",
            "bytes_received",
            "segments_sent",
            "segments_received",
            "retransmits",
        ])?;
    }
    Ok(())
}

fn without_btf_no_verdict_is_guessed() -> Check {
    let namespace = Namespace::new()?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let mut tail = without_btf(&namespace, address.port(), "transitions,connections")?;
    let (client, server) = namespace.pair(&listener)?;
    abort_at_close(&client)?;
    drop(client);
    drop(listener);
    ensure!(namespace.connect(address).is_err(), "somebody listens");
    tail.wait_count("connection", 3)?;
    let (records, output) = tail.interrupt()?;
    drop(server);
    must_say_once_what_is_missing(&output)?;
    for record in records.of("connection") {
        record.must_have(&json!({"verdict": "unknown"}))?;
        record.must_lack(&["errno", "closed_by"])?;
    }
    let refused = records.only("connection", &json!({"established": false}))?;
    refused.must_have(&json!({"role": "active", "last_state": "SYN_SENT"}))?;
    let steps = records.steps(&json!({"role": "passive"}))?;
    ensure!(
        steps == path("LISTEN SYN_RECV ESTABLISHED CLOSE"),
        "the path was {steps:?}"
    );
    Ok(())
}

fn without_btf_and_tracefs_it_fails_and_says_what_to_do() -> Check {
    for command in ["tail", "daemon"] {
        let mut arguments = vec![command];
        if command == "daemon" {
            arguments.extend(["--web.listen-address", "127.0.0.1:0"]);
        }
        let output = NOTHING.run(|| Running::to_end(&mut tcptrace(&arguments)))?;
        output.must_end_with(1)?;
        ensure!(output.stdout.is_empty(), "{output:?}");
        output.must_complain("tcptrace: cannot attach to inet_sock_set_state")?;
        output.must_complain("/sys/kernel/btf/vmlinux")?;
        output.must_complain("mount -t tracefs tracefs /sys/kernel/tracing")?;
    }
    Ok(())
}

fn tp_btf_alone_fails_without_btf() -> Check {
    let mut command = tcptrace(&["tail", "--attach", "tp_btf"]);
    let output = NO_BTF.run(|| Running::to_end(&mut command))?;
    output.must_end_with(1)?;
    output.must_complain("no BTF")?;
    output.must_complain("tcptrace check")
}

fn an_unprivileged_user_is_told_who_may_trace() -> Check {
    let (mut command, _binary) = tcptrace_as_nobody(&["tail"])?;
    let output = Running::to_end(&mut command)?;
    output.must_end_with(1)?;
    ensure!(output.stdout.is_empty(), "{output:?}");
    for word in ["root", "sudo", "CAP_BPF", "CAP_PERFMON"] {
        output.must_complain(word)?;
    }
    Ok(())
}

fn a_missing_capability_is_named() -> Check {
    for lacking in [Capability::CAP_BPF, Capability::CAP_PERFMON] {
        let mut command = tcptrace(&["tail", "--duration", "100ms"]);
        // What is in the bounding set root has again at each exec.
        let without = move || {
            for capability in [lacking, Capability::CAP_SYS_ADMIN] {
                caps::drop(None, CapSet::Bounding, capability).map_err(io::Error::other)?;
            }
            Ok(())
        };
        // SAFETY: system calls, and memory only where it fails.
        unsafe { command.pre_exec(without) };
        let output = Running::to_end(&mut command)?;
        output.must_end_with(1)?;
        output.must_complain(&format!("lacks {lacking};"))?;
    }
    Ok(())
}

/// The reset hooks are attached before the transitions: else a connect refused between the two
/// would look like one whose RST never came.
fn connects_refused_while_it_starts_are_never_said_to_be_unreachable() -> Check {
    const STARTS: usize = 5;
    const SHOWN: usize = 200;
    let namespace = Namespace::new()?;
    // Nobody listens there any more.
    let (_, address) = namespace.listen("127.0.0.1:0")?;
    let inode = namespace.inode().to_string();
    let count = SHOWN.to_string();
    let refused = || {
        let refused = namespace.run(|| Ok(TcpStream::connect(address).is_err()))?;
        ensure!(refused, "somebody listens");
        // What starts beside it needs the processor, too: a guest has one.
        std::thread::sleep(std::time::Duration::from_millis(1));
        Ok(())
    };
    let (outputs, _) = beside(refused, || {
        let tail = || {
            Running::to_end(&mut tcptrace(&[
                "tail", "--format", "json", "--netns", &inode, "--count", &count,
            ]))
        };
        (0..STARTS)
            .map(|_| tail())
            .collect::<anyhow::Result<Vec<_>>>()
    })?;
    for output in outputs {
        output.must_end_with(0)?;
        for line in output.stdout.lines() {
            let record: Value = serde_json::from_str(line)?;
            // One that was under way already may not be known.
            let known = record["completeness"] != "full" || record["verdict"] == "refused";
            ensure!(known, "{record}");
        }
    }
    Ok(())
}

/// A kernel to come renames a field: what it is for is absent and said to be, and all else is as
/// it was.
fn a_renamed_field_disables_only_what_needs_it() -> Check {
    let directory = tempfile::tempdir()?;
    let types = fs::read("/sys/kernel/btf/vmlinux")
        .map_err(|why| ignored(format!("this kernel has no BTF: {why}")))?;
    for (field, said, absent) in [
        ("sk_uid", "a socket's user", &["uid"][..]),
        ("sk_cgrp_data", "a socket's cgroup", &["cgroup_id"]),
        (
            "snd_wnd",
            "the fields of a closing socket",
            &[
                "bytes_sent",
                "segments_sent",
                "retransmits",
                "srtt_us",
                "peer_fin",
            ],
        ),
        ("group_leader", "a task's process", &[]),
    ] {
        let name = format!("\0{field}\0");
        let at = types
            .windows(name.len())
            .position(|window| window == name.as_bytes())
            .with_context(|| format!("no {field} in BTF"))?;
        let mut renamed = types.clone();
        renamed[at + 1] = b'X';
        let path = directory.path().join(field);
        fs::write(&path, renamed)?;

        let namespace = Namespace::new()?;
        let (listener, _) = namespace.listen("127.0.0.1:0")?;
        let inode = namespace.inode().to_string();
        let mut command = tcptrace(&["tail", "--format", "json", "--netns", &inode]);
        let running = EVERYTHING.run_with_types(&path, || Running::start(&mut command))?;
        let tail = Tail::attach(&namespace, running)?;
        let pair = namespace.pair(&listener)?;
        drop(pair);
        let (records, output) = tail.interrupt()?;
        output.must_end_with(0)?;
        output.must_complain(said)?;
        for role in ["active", "passive"] {
            let record = records.only("connection", &json!({"role": role}))?;
            record.must_lack(absent)?;
            let all = [
                "uid",
                "cgroup_id",
                "bytes_sent",
                "segments_sent",
                "srtt_us",
                "comm",
                "pid",
            ];
            for kept in all.iter().filter(|kept| !absent.contains(kept)) {
                ensure!(
                    record.get(kept).is_some(),
                    "without {field}, no {kept} in {record}"
                );
            }
        }
    }
    Ok(())
}
