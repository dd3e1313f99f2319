//! The text of each topic.

use super::{Explanation, Scene};
use crate::tracker::Verdict;

pub(super) const HANDSHAKE: Explanation = Explanation {
    meaning: "Three segments open a connection: SYN, SYN-ACK, ACK (RFC 9293, 3.5). The side that calls \
              connect() opens actively; the side that listens opens passively.",
    scenes: &[Scene::ActiveOpen, Scene::PassiveOpen],
    evidence: "handshake_us of an active open runs from the first SYN (SYN_SENT) to the SYN-ACK \
               (ESTABLISHED): the kernel shows both states (handshake_source syn_sent). For a passive \
               open the kernel shows SYN_RECV and ESTABLISHED microseconds apart, both at the final \
               ACK, because a request is no full socket before that. So tcptrace takes the time from \
               our SYN-ACK to its ACK (synack), or from the SYN to the ACK where functions cannot be \
               traced (sock_ops), or the first smoothed round trip (srtt). With SYN cookies, \
               TCP_DEFER_ACCEPT or TCP_REPAIR there is no time, and the field is absent.",
    causes: &[
        "syn_retransmits > 0: a SYN (or SYN-ACK) was lost or dropped; each retry waits twice as long, beginning with 1 s.",
        "A long active handshake without retransmits: the network is far, or the peer is slow to answer.",
        "A long passive handshake: the client's ACK is late, as from a busy or distant client.",
        "accept_wait_us: after the handshake the connection waits in the accept queue until the application calls accept(). A long wait is the application's.",
    ],
    advice: &[
        "tcptrace tail --slow 100ms shows slow handshakes and long waits for accept().",
        "tcptrace_handshake_duration_seconds and tcptrace_accept_wait_duration_seconds are the same as histograms.",
    ],
};

pub(super) const RELEASE: Explanation = Explanation {
    meaning: "Each direction is closed by its own FIN, which the other side acknowledges: four segments, \
              of which two may travel as one (RFC 9293, 3.6). Between the two FINs the connection is \
              half-closed: one side still sends. The side that closes first keeps TIME_WAIT afterwards.",
    scenes: &[
        Scene::LocalClose,
        Scene::RemoteClose,
        Scene::SimultaneousClose,
    ],
    evidence: "closed_by and the phases go by the FINs on the wire, not by close(): established_us runs to \
               the first FIN, half_closed_us from the first FIN to the second, fin_wait2_us from the \
               acknowledgement of our FIN to the peer's, last_ack_us from our FIN, after the peer's, to its \
               acknowledgement. A FIN of ours that waits behind data has no time, and neither has what \
               follows from it. The kernel has no event for TIME_WAIT: the full socket goes to CLOSE, and a \
               small one waits in its place. time_wait_source says how it is known that TIME_WAIT was \
               entered: the small socket's allocation (twsk_alloc), the full socket's last flags (flags), \
               or the kernel's own table (sock_diag). What becomes of it later is told by a release record.",
    causes: &[
        "Many connections in TIME_WAIT here: this side closes first. That is normal for a client, and it holds a local port for 60 s.",
        "A long half-closed phase with closed_by remote: the application here does not close its end (CLOSE_WAIT).",
        "A long half-closed phase with closed_by local: the peer does not close its end (FIN_WAIT2).",
    ],
    advice: &[
        "tcptrace tail --show connections,releases tells what became of TIME_WAIT.",
        "tcptrace_time_wait_entered_total and tcptrace_ephemeral_ports_in_use_max show whether ports run out.",
    ],
};

pub(super) const fn of_verdict(verdict: Verdict) -> Explanation {
    match verdict {
        Verdict::Graceful => Explanation {
            meaning: "Both sides said what they had to say and closed with FINs. It is the only verdict of an \
                      established connection that needs no attention.",
            scenes: &[Scene::LocalClose, Scene::RemoteClose],
            evidence: "The full socket ended without an error and without a RST, and a FIN was acknowledged. \
                       closed_by tells whose FIN was first.",
            causes: &[],
            advice: &["tcptrace explain release tells of the four segments and of TIME_WAIT."],
        },
        Verdict::Refused => Explanation {
            meaning: "The peer's host answered our SYN with a RST: connect() fails with ECONNREFUSED.",
            scenes: &[Scene::Of(Verdict::Refused)],
            evidence: "ECONNREFUSED in SYN_SENT, and a RST was seen (tcp_receive_reset). Without the RST the same \
                       error came by ICMP, which is unreachable.",
            causes: &[
                "Nothing listens on that port: the service is down, starting, or bound to another address.",
                "A firewall rejects with a RST (REJECT --reject-with tcp-reset).",
                "A load balancer or proxy has no healthy backend.",
            ],
            advice: &[
                "On the peer: ss -ltn 'sport = :PORT'.",
                "A RST that comes much faster than the usual handshake comes from something nearer than the peer.",
            ],
        },
        Verdict::HandshakeTimeout => Explanation {
            meaning: "No answer to any SYN: connect() fails with ETIMEDOUT.",
            scenes: &[Scene::Of(Verdict::HandshakeTimeout)],
            evidence: "ETIMEDOUT in SYN_SENT. syn_retransmits tells how often the SYN was sent again; \
                       net.ipv4.tcp_syn_retries (6) and TCP_USER_TIMEOUT say when the kernel gives up.",
            causes: &[
                "A firewall or security group drops the SYN, or the answer.",
                "The host is down, or the address is not there.",
                "The peer's accept queue is full, and it drops SYNs.",
            ],
            advice: &[
                "On the peer: tcpdump 'tcp[tcpflags] & tcp-syn != 0' shows whether the SYN arrives.",
                "On the peer: nstat -az TcpExtListenOverflows TcpExtListenDrops, or tcptrace_listen_overflows_total.",
            ],
        },
        Verdict::Unreachable => Explanation {
            meaning: "The network said that there is no way: an ICMP error, or no route on this host, during the \
                      handshake.",
            scenes: &[Scene::Of(Verdict::Unreachable)],
            evidence: "EHOSTUNREACH, ENETUNREACH and their kind in SYN_SENT; or ECONNREFUSED without a RST, which is \
                       an ICMP port unreachable. Without a route connect() fails before SYN_SENT, and last_state is \
                       CLOSE; tcptrace check says whether that can be seen (tcp_v4_connect). errno says which.",
            causes: &[
                "No route (ENETUNREACH), a route of type unreachable (EHOSTUNREACH) or blackhole (EINVAL), or no local \
                 IPv6 address to use (EADDRNOTAVAIL).",
                "The neighbour does not answer ARP or neighbour discovery (EHOSTUNREACH, after some seconds).",
                "A router or firewall rejects with ICMP.",
            ],
            advice: &["ip route get ADDRESS, and ip neigh show ADDRESS."],
        },
        Verdict::Cancelled => Explanation {
            meaning: "The application gave up before the handshake was over: it closed the socket while connect() was \
                      under way.",
            scenes: &[Scene::Of(Verdict::Cancelled)],
            evidence: "SYN_SENT was left without an error, by close(), shutdown() or connect(AF_UNSPEC). duration_us is \
                       how long the application waited.",
            causes: &[
                "The application's connect timeout is shorter than the network takes.",
                "Happy Eyeballs (RFC 8305): the other address family was faster.",
                "The process ended.",
            ],
            advice: &[
                "Compare duration_us with the application's timeout: equal values tell that it ran out.",
                "syn_retransmits > 0 means that the SYN was lost or dropped: read handshake_timeout.",
            ],
        },
        Verdict::NoLocalPort => Explanation {
            meaning: "No SYN was sent: every local port to this destination is in use. connect() fails with \
                      EADDRNOTAVAIL.",
            scenes: &[Scene::Of(Verdict::NoLocalPort)],
            evidence: "SYN_SENT was left without an error, and the local port is still 0.",
            causes: &[
                "Very many connections to one address and port, most of them in TIME_WAIT here.",
                "A narrow net.ipv4.ip_local_port_range, or many reserved ports.",
            ],
            advice: &[
                "Keep connections open and use them again: the side that closes first holds the port for 60 s.",
                "Widen net.ipv4.ip_local_port_range; use more source or destination addresses.",
                "Watch tcptrace_ephemeral_ports_in_use_max against tcptrace_ephemeral_ports.",
            ],
        },
        Verdict::Forbidden => Explanation {
            meaning: "A policy of this host forbade the connection: connect() fails with EPERM or EACCES, and no SYN is \
                      sent.",
            scenes: &[Scene::Of(Verdict::Forbidden)],
            evidence: "connect() failed before SYN_SENT, in a security module or a cgroup's program (where functions can \
                       be traced, the call itself tells), or with EPERM or EACCES. errno says which.",
            causes: &[
                "A cgroup's eBPF program: systemd's IPAddressDeny, a CNI plug-in or a container runtime.",
                "A route or a rule of type prohibit.",
                "SELinux, AppArmor or Landlock.",
            ],
            advice: &[
                "ip route get ADDRESS and ip rule show a prohibiting route; bpftool cgroup tree shows programs.",
                "ausearch -m avc, or journalctl -k, shows what SELinux and AppArmor refused.",
            ],
        },
        Verdict::HandshakeFailed => Explanation {
            meaning: "The handshake ended for another reason: a half-open connection went away, or connect() failed on \
                      this host.",
            scenes: &[Scene::Of(Verdict::HandshakeFailed)],
            evidence: "SYN_RECV was left for CLOSE; or SYN_SENT was, without an error and without a SYN sent; or \
                       connect() failed before that, and neither a missing route nor a policy was the cause.",
            causes: &[
                "A RST in the middle of a simultaneous open, or of a Fast Open that was not served.",
                "The kernel could not send: no memory, or a filter on this host.",
                "A link-local IPv6 address without the interface that it is on (EINVAL).",
            ],
            advice: &["errno and last_state tell what is known."],
        },
        Verdict::ResetReceived => Explanation {
            meaning: "The peer sent a RST: read() fails with ECONNRESET, write() with EPIPE.",
            scenes: &[Scene::Of(Verdict::ResetReceived)],
            evidence: "The socket's error is ECONNRESET (EPIPE in CLOSE_WAIT), and no data after our close explains it.",
            causes: &[
                "The peer's process crashed, or closed with data unread.",
                "The peer forgot the connection: a restart, or a NAT, firewall or load balancer whose idle timeout ran out.",
                "The peer closes with SO_LINGER 0.",
            ],
            advice: &[
                "Compare established_us of several: one round number (60 s, 350 s) is an idle timeout in between. Send keepalives more often than that.",
                "On the peer tcptrace shows the other end of it: unread_data, reset_by_us, not_accepted.",
            ],
        },
        Verdict::ResetByUs => Explanation {
            meaning: "This host ended it with a RST, as the application asked.",
            scenes: &[Scene::Of(Verdict::ResetByUs)],
            evidence: "Left with nothing unread by an application that held it, and not for an error: SO_LINGER with 0, \
                       connect(AF_UNSPEC), or TCP_LINGER2 below 0. From Linux 6.10 reset_reason is the kernel's own word.",
            causes: &[
                "The application sets SO_LINGER to 0 to avoid TIME_WAIT.",
                "A proxy or load balancer ends idle or failed connections so.",
            ],
            advice: &[
                "The peer sees ECONNRESET, and data under way is lost. Close with FIN unless that is wanted.",
            ],
        },
        Verdict::UnreadData => Explanation {
            meaning: "The application closed while data that had come was not read. The kernel tells the peer with a RST \
                      that it was thrown away (RFC 2525, 2.17).",
            scenes: &[Scene::Of(Verdict::UnreadData)],
            evidence: "Closed by the application with bytes in the receive queue.",
            causes: &[
                "A server answers and closes without reading the whole request, as after an error.",
                "A client stops reading a response early.",
                "The process crashed or was killed with data waiting.",
            ],
            advice: &[
                "Read to the end before close(), or shutdown(SHUT_WR) first and read until the peer's FIN.",
            ],
        },
        Verdict::DataAfterClose => Explanation {
            meaning: "The peer went on sending after the application here had closed. The kernel answers that with a RST.",
            scenes: &[Scene::Of(Verdict::DataAfterClose)],
            evidence: "Data came in FIN_WAIT1, FIN_WAIT2, CLOSING or LAST_ACK after close(), and a RST was seen to leave \
                       (tcp_send_reset).",
            causes: &[
                "The application closed in the middle of the peer's answer: a timeout, or a cancelled download.",
                "The two sides do not agree on who closes.",
            ],
            advice: &["bytes_received tells how much had come before that."],
        },
        Verdict::NotAccepted => Explanation {
            meaning: "The handshake was over, but the application never called accept(): its listener closed, and the \
                      kernel ended the waiting connection with a RST.",
            scenes: &[Scene::Of(Verdict::NotAccepted)],
            evidence: "The socket never had a descriptor.",
            causes: &[
                "The server stopped or restarted while connections waited in the accept queue.",
                "A SO_REUSEPORT listener went away.",
            ],
            advice: &[
                "Before closing a listener, take it out of the balancer and accept until the queue is empty.",
                "tcptrace_listener_accept_queue_length shows what waits.",
            ],
        },
        Verdict::KeepaliveTimeout => Explanation {
            meaning: "Nothing was under way, and the peer answered none of the keepalive probes.",
            scenes: &[Scene::Of(Verdict::KeepaliveTimeout)],
            evidence: "ETIMEDOUT or an ICMP error, probes unanswered, nothing unacknowledged.",
            causes: &[
                "The peer's host is gone: power, network, or a virtual machine that was moved or deleted.",
                "Something in between forgot the connection and drops what it does not know.",
            ],
            advice: &[
                "This is keepalive at work. Its times are TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT.",
            ],
        },
        Verdict::RetransmissionTimeout => Explanation {
            meaning: "Data (or our FIN) was sent again and again and never acknowledged.",
            scenes: &[Scene::Of(Verdict::RetransmissionTimeout)],
            evidence: "ETIMEDOUT or an ICMP error with unacknowledged data while the peer's window was open. \
                       net.ipv4.tcp_retries2 (15) and TCP_USER_TIMEOUT say when the kernel gives up; for an orphan \
                       net.ipv4.tcp_orphan_retries does.",
            causes: &[
                "The path or the peer broke in the middle of the connection.",
                "Large segments are lost and small ones are not: path MTU discovery does not work.",
            ],
            advice: &[
                "retransmits and last_state tell how far it came.",
                "ping -M do -s 1472 ADDRESS shows whether full-sized packets pass.",
            ],
        },
        Verdict::ZeroWindowTimeout => Explanation {
            meaning: "The peer had closed its window, and the kernel gave up waiting for it to open.",
            scenes: &[Scene::Of(Verdict::ZeroWindowTimeout)],
            evidence: "ETIMEDOUT or an ICMP error with unacknowledged data and a send window of 0.",
            causes: &[
                "The peer's application stopped reading: it hangs, or it is overloaded.",
                "TCP_USER_TIMEOUT is shorter than the peer's pauses.",
            ],
            advice: &["Look at the peer's process, not at the network."],
        },
        Verdict::FinWaitTimeout => Explanation {
            meaning: "The application had closed, the peer acknowledged that, and never closed its own side. The kernel \
                      gave up waiting.",
            scenes: &[Scene::Of(Verdict::FinWaitTimeout)],
            evidence: "An orphan left FIN_WAIT2 on the full socket by a RST (TCP_LINGER2, or net.ipv4.tcp_fin_timeout \
                       above 60 s). Otherwise a small socket waits, and its release record tells no_fin.",
            causes: &[
                "The peer's application does not close (CLOSE_WAIT on its side).",
                "The peer is gone.",
            ],
            advice: &["On the peer: ss -tan state close-wait."],
        },
        Verdict::Killed => Explanation {
            meaning: "An administrator or a program on this host ended it: ss -K, sock_diag's destroy, \
                      bpf_sock_destroy().",
            scenes: &[Scene::Of(Verdict::Killed)],
            evidence: "The socket's error is ECONNABORTED, which only tcp_abort() sets.",
            causes: &[
                "ss -K, or a network manager that ends connections of an address that went away.",
                "A service mesh or a CNI plug-in after a policy change.",
            ],
            advice: &["Look for who ran it: it needs CAP_NET_ADMIN."],
        },
        Verdict::Checkpointed => Explanation {
            meaning: "The application closed the socket in TCP_REPAIR mode: nothing was sent, and the peer knows of no \
                      end. A checkpoint ends so, and the connection may go on elsewhere.",
            scenes: &[Scene::Of(Verdict::Checkpointed)],
            evidence: "Closed by the application while TCP_REPAIR was on.",
            causes: &[
                "CRIU: a container or process was checkpointed or migrated (podman checkpoint, docker checkpoint).",
            ],
            advice: &[
                "Where it is restored, tcptrace shows a connection without a handshake time.",
            ],
        },
        Verdict::Unknown => Explanation {
            meaning: "How it ended cannot be shown. tcptrace does not guess.",
            scenes: &[Scene::Of(Verdict::Unknown)],
            evidence: "No rule matches what was seen: without BTF the socket's fields cannot be read; events were lost; \
                       or two causes leave the same traces and the hook that tells them apart is missing.",
            causes: &[
                "tcptrace check names what this kernel does not allow.",
                "completeness gap or partial, or end_seen false: events were lost, or it ended before it was seen.",
            ],
            advice: &[
                "errno, last_state and completeness tell what is known.",
                "Losses: a larger --ring-size.",
            ],
        },
    }
}
