//! The text of each topic.

use super::{Explanation, Scene};
use crate::tracker::Verdict;

pub(super) const HANDSHAKE: Explanation = Explanation {
    meaning: "Three segments open a connection: SYN, SYN-ACK, ACK (RFC 9293, 3.5). The side that calls \
              connect() opens actively; the side that listens opens passively.",
    scenes: &[Scene::ActiveOpen, Scene::PassiveOpen],
    evidence: "An active open: handshake_us runs from connect() (SYN_SENT) to the SYN-ACK \
               (ESTABLISHED); handshake_source is syn_sent. A passive open: the kernel makes \
               SYN_RECV and ESTABLISHED microseconds apart, both at the final ACK, so tcptrace \
               does not use them. handshake_us runs from our SYN-ACK to its ACK (synack); where \
               functions cannot be traced, from the SYN to the ACK (sock_ops), or it is the first \
               smoothed round-trip time (srtt). With SYN cookies, TCP_DEFER_ACCEPT or TCP_REPAIR \
               the field is absent.",
    causes: &[
        "syn_retransmits above 0: a SYN or SYN-ACK was lost or dropped. The first retry comes \
         after 1 s, and each later one after twice the time.",
        "A long active handshake without retransmits: the peer is far away or slow to answer.",
        "A long passive handshake: the client is far away or busy, so its ACK is late.",
        "A long accept_wait_us: the application is slow to call accept().",
    ],
    advice: &[
        "tcptrace tail --slow 100ms shows slow handshakes and long waits for accept().",
        "The metrics tcptrace_handshake_duration_seconds and \
         tcptrace_accept_wait_duration_seconds are histograms of the same times.",
    ],
};

pub(super) const RELEASE: Explanation = Explanation {
    meaning: "Each direction is closed by its own FIN, which the other side acknowledges: four \
              segments, of which two may be sent as one (RFC 9293, 3.6). Between the two FINs the \
              connection is half-closed: one side can still send. The side that closes first then \
              keeps TIME_WAIT.",
    scenes: &[
        Scene::LocalClose,
        Scene::RemoteClose,
        Scene::SimultaneousClose,
    ],
    evidence: "closed_by and the durations follow the FINs on the wire, not the calls of close(). \
               established_us ends at the first FIN, half_closed_us runs from the first FIN to \
               the second, fin_wait2_us from the acknowledgement of our FIN to the peer's FIN, \
               and last_ack_us from our FIN, if it is the second, to its acknowledgement. If our \
               FIN waited behind data, when it was sent is not known, and these fields are \
               absent. No event of the kernel tells TIME_WAIT: the full socket enters CLOSE, and \
               a small socket replaces it. time_wait_source says how the entry into TIME_WAIT is \
               known: from the allocation of the small socket (twsk_alloc), from the last flags \
               of the full socket (flags), or from the kernel's table (sock_diag). A release \
               record tells what became of it later.",
    causes: &[
        "Many connections in TIME_WAIT here: this side closes first. That is normal for a client. \
         Each holds a local port for 60 s.",
        "A long half-closed phase with closed_by remote: the application here does not close its \
         end (CLOSE_WAIT).",
        "A long half-closed phase with closed_by local: the peer does not close its end \
         (FIN_WAIT2).",
    ],
    advice: &[
        "tcptrace tail --show connections,releases shows what became of TIME_WAIT.",
        "tcptrace_time_wait_entered_total and tcptrace_ephemeral_ports_in_use_max show whether \
         ports run out.",
    ],
};

pub(super) const fn of_verdict(verdict: Verdict) -> Explanation {
    match verdict {
        Verdict::Graceful => Explanation {
            meaning: "Both sides closed with a FIN. For an established connection this is the \
                      only normal end.",
            scenes: &[Scene::LocalClose, Scene::RemoteClose],
            evidence: "The socket ended without an error and without a RST, and a FIN was \
                       acknowledged. closed_by says whose FIN came first.",
            causes: &[],
            advice: &["tcptrace explain release describes the four segments and TIME_WAIT."],
        },
        Verdict::Refused => Explanation {
            meaning: "The peer's host answered our SYN with a RST: connect() fails with \
                      ECONNREFUSED.",
            scenes: &[Scene::Of(Verdict::Refused)],
            evidence: "The error is ECONNREFUSED in SYN_SENT, and a RST was seen \
                       (tcp_receive_reset). Without a RST the same error comes from ICMP, and the \
                       verdict is unreachable.",
            causes: &[
                "Nothing listens on that port: the service is down, starting, or bound to another \
                 address.",
                "A firewall rejects with a RST (REJECT --reject-with tcp-reset).",
                "A load balancer or proxy has no healthy backend.",
            ],
            advice: &[
                "On the peer: ss -ltn 'sport = :PORT'.",
                "If the RST comes much faster than a usual handshake, something nearer than the \
                 peer sent it.",
            ],
        },
        Verdict::HandshakeTimeout => Explanation {
            meaning: "No SYN was answered: connect() fails with ETIMEDOUT.",
            scenes: &[Scene::Of(Verdict::HandshakeTimeout)],
            evidence: "The error is ETIMEDOUT in SYN_SENT. syn_retransmits is how many times the \
                       SYN was sent again. The kernel gives up after net.ipv4.tcp_syn_retries (6) \
                       retries, or after TCP_USER_TIMEOUT.",
            causes: &[
                "A firewall or security group drops the SYN, or the answer.",
                "The host is down, or no host has that address.",
                "The peer's accept queue is full, so it drops SYNs.",
            ],
            advice: &[
                "On the peer: tcpdump 'tcp[tcpflags] & tcp-syn != 0' shows whether the SYN \
                 arrives.",
                "On the peer: nstat -az TcpExtListenOverflows TcpExtListenDrops, or \
                 tcptrace_listen_overflows_total.",
            ],
        },
        Verdict::Unreachable => Explanation {
            meaning: "There is no way to the peer: an ICMP error arrived during the handshake, or \
                      this host has no route.",
            scenes: &[Scene::Of(Verdict::Unreachable)],
            evidence: "The error is EHOSTUNREACH, ENETUNREACH or a similar one in SYN_SENT, or \
                       ECONNREFUSED without a RST (an ICMP port unreachable). Without a route \
                       connect() fails before SYN_SENT, and last_state is CLOSE; seeing that \
                       needs the hook tcp_v4_connect (tcptrace check). errno names the error.",
            causes: &[
                "No route (ENETUNREACH), a route of type unreachable (EHOSTUNREACH) or blackhole (EINVAL), or no local \
                 IPv6 address to use (EADDRNOTAVAIL).",
                "The neighbour does not answer ARP or neighbour discovery (EHOSTUNREACH, after \
                 some seconds).",
                "A router or firewall rejects with ICMP.",
            ],
            advice: &[
                "ip route get ADDRESS and ip neigh show ADDRESS show the route and the \
                       neighbour.",
            ],
        },
        Verdict::Cancelled => Explanation {
            meaning: "The application gave up: it closed the socket before connect() finished.",
            scenes: &[Scene::Of(Verdict::Cancelled)],
            evidence: "The socket left SYN_SENT without an error, by close(), shutdown() or \
                       connect(AF_UNSPEC). duration_us is how long the application waited.",
            causes: &[
                "The application's connect timeout is shorter than the handshake takes.",
                "Happy Eyeballs (RFC 8305): the other address family was faster.",
                "The process ended.",
            ],
            advice: &[
                "Compare duration_us with the application's connect timeout. If they are equal, \
                 the timeout expired.",
                "syn_retransmits above 0: a SYN was lost or dropped. See handshake_timeout.",
            ],
        },
        Verdict::NoLocalPort => Explanation {
            meaning: "No SYN was sent: every local port to this destination is in use. connect() fails with \
                      EADDRNOTAVAIL.",
            scenes: &[Scene::Of(Verdict::NoLocalPort)],
            evidence: "The socket left SYN_SENT without an error, and its local port is still 0.",
            causes: &[
                "Very many connections to one address and port, most of them in TIME_WAIT here.",
                "A narrow net.ipv4.ip_local_port_range, or many reserved ports.",
            ],
            advice: &[
                "Reuse connections: the side that closes first holds the port for 60 s.",
                "Widen net.ipv4.ip_local_port_range; use more source or destination addresses.",
                "Watch tcptrace_ephemeral_ports_in_use_max against tcptrace_ephemeral_ports.",
            ],
        },
        Verdict::Forbidden => Explanation {
            meaning: "A policy of this host forbade the connection: connect() fails with EPERM or EACCES, and no SYN is \
                      sent.",
            scenes: &[Scene::Of(Verdict::Forbidden)],
            evidence: "connect() failed before SYN_SENT: in a security module or a cgroup's \
                       program (known where functions can be traced), or with EPERM or EACCES. \
                       errno names the error.",
            causes: &[
                "A cgroup's eBPF program: systemd's IPAddressDeny, a CNI plug-in or a container \
                 runtime.",
                "A route or a rule of type prohibit.",
                "SELinux, AppArmor or Landlock.",
            ],
            advice: &[
                "ip route get ADDRESS and ip rule show a prohibiting route; bpftool cgroup tree \
                 shows programs.",
                "ausearch -m avc, or journalctl -k, shows what SELinux and AppArmor refused.",
            ],
        },
        Verdict::HandshakeFailed => Explanation {
            meaning: "The handshake failed for another reason: a half-open connection ended, or \
                      connect() failed on this host.",
            scenes: &[Scene::Of(Verdict::HandshakeFailed)],
            evidence: "The socket went from SYN_RECV to CLOSE; or it left SYN_SENT without an \
                       error and without a SYN sent; or connect() failed before SYN_SENT, and \
                       neither a missing route nor a policy was the cause.",
            causes: &[
                "A RST during a simultaneous open, or during a Fast Open that was not served.",
                "The kernel could not send: no memory, or a filter on this host.",
                "A link-local IPv6 address without its interface (EINVAL).",
            ],
            advice: &["errno and last_state say what is known."],
        },
        Verdict::ResetReceived => Explanation {
            meaning: "The peer sent a RST: read() fails with ECONNRESET, write() with EPIPE.",
            scenes: &[Scene::Of(Verdict::ResetReceived)],
            evidence: "The socket's error is ECONNRESET (EPIPE in CLOSE_WAIT), and the peer did \
                       not send data after our close.",
            causes: &[
                "The peer's process crashed, or closed the socket with unread data.",
                "The peer forgot the connection: a restart, or a NAT, firewall or load balancer \
                 whose idle timeout ran out.",
                "The peer closes with SO_LINGER 0.",
            ],
            advice: &[
                "Compare the established_us of several connections. The same round number (60 s, \
                 350 s) means an idle timeout on the path: send keepalives more often.",
                "tcptrace on the peer shows the other end: unread_data, reset_by_us or \
                 not_accepted.",
            ],
        },
        Verdict::ResetByUs => Explanation {
            meaning: "This host ended the connection with a RST because the application asked for \
                      it.",
            scenes: &[Scene::Of(Verdict::ResetByUs)],
            evidence: "The application closed the socket with nothing unread and without an \
                       error: SO_LINGER with 0, connect(AF_UNSPEC), or TCP_LINGER2 below 0. From \
                       Linux 6.10 on, reset_reason is the kernel's own reason.",
            causes: &[
                "The application sets SO_LINGER to 0 to avoid TIME_WAIT.",
                "A proxy or load balancer resets idle or failed connections.",
            ],
            advice: &[
                "The peer gets ECONNRESET, and data on its way is lost. Unless that is intended, \
                 close with a FIN.",
            ],
        },
        Verdict::UnreadData => Explanation {
            meaning: "The application closed the socket before it had read all data. The kernel \
                      sends a RST so that the peer learns that data was lost (RFC 2525, 2.17).",
            scenes: &[Scene::Of(Verdict::UnreadData)],
            evidence: "The application closed the socket with bytes in the receive queue.",
            causes: &[
                "A server responds and closes without reading the whole request, for example \
                 after an error.",
                "A client stops reading a response early.",
                "The process crashed or was killed with unread data.",
            ],
            advice: &[
                "Read until the end before close(). Or call shutdown(SHUT_WR) first, and read \
                 until the peer's FIN.",
            ],
        },
        Verdict::DataAfterClose => Explanation {
            meaning: "The peer sent data after the application here had closed. The kernel \
                      answers with a RST.",
            scenes: &[Scene::Of(Verdict::DataAfterClose)],
            evidence: "Data arrived in FIN_WAIT1, FIN_WAIT2, CLOSING or LAST_ACK after close(), \
                       and a RST was sent (tcp_send_reset).",
            causes: &[
                "The application closed before the peer's response was complete: a timeout, or a \
                 cancelled download.",
                "The two sides do not agree on who closes.",
            ],
            advice: &["bytes_received is how much had arrived before."],
        },
        Verdict::NotAccepted => Explanation {
            meaning: "The handshake was complete, but the application did not call accept() \
                      before its listener closed. The kernel ended the waiting connection with a \
                      RST.",
            scenes: &[Scene::Of(Verdict::NotAccepted)],
            evidence: "The socket never had a file descriptor.",
            causes: &[
                "The server stopped or restarted with connections in the accept queue.",
                "One of several SO_REUSEPORT listeners closed.",
            ],
            advice: &[
                "Before you close a listener, remove it from the load balancer, and accept until \
                 the queue is empty.",
                "tcptrace_listener_accept_queue_length is the number of connections that wait.",
            ],
        },
        Verdict::KeepaliveTimeout => Explanation {
            meaning: "The connection was idle, and the peer did not answer any keepalive probe.",
            scenes: &[Scene::Of(Verdict::KeepaliveTimeout)],
            evidence: "The error is ETIMEDOUT or from ICMP, keepalive probes were unanswered, and \
                       no data was unacknowledged.",
            causes: &[
                "The peer's host is gone: power, network, or a deleted or moved virtual machine.",
                "A firewall or NAT on the path forgot the connection and drops its segments.",
            ],
            advice: &[
                "Keepalive works as configured: TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT set \
                 the times.",
            ],
        },
        Verdict::RetransmissionTimeout => Explanation {
            meaning: "Data, or our FIN, was retransmitted and never acknowledged.",
            scenes: &[Scene::Of(Verdict::RetransmissionTimeout)],
            evidence: "The error is ETIMEDOUT or from ICMP, data was unacknowledged, and the \
                       peer's window was open. The kernel gives up after net.ipv4.tcp_retries2 \
                       (15) or TCP_USER_TIMEOUT; for an orphan after net.ipv4.tcp_orphan_retries.",
            causes: &[
                "The path or the peer failed during the connection.",
                "Large segments are lost and small ones are not: path MTU discovery is broken.",
            ],
            advice: &[
                "retransmits and last_state show how far the connection came.",
                "ping -M do -s 1472 ADDRESS shows whether full-sized packets pass.",
            ],
        },
        Verdict::ZeroWindowTimeout => Explanation {
            meaning: "The peer's receive window stayed closed, and the kernel gave up waiting.",
            scenes: &[Scene::Of(Verdict::ZeroWindowTimeout)],
            evidence: "The error is ETIMEDOUT or from ICMP, data was unacknowledged, and the send \
                       window was 0.",
            causes: &[
                "The peer's application does not read: it hangs or is overloaded.",
                "TCP_USER_TIMEOUT is shorter than the peer's pauses.",
            ],
            advice: &["Check the peer's process, not the network."],
        },
        Verdict::FinWaitTimeout => Explanation {
            meaning: "The application closed, and the peer acknowledged that but did not close \
                      its own side. The kernel gave up waiting.",
            scenes: &[Scene::Of(Verdict::FinWaitTimeout)],
            evidence: "The full socket left FIN_WAIT2 with a RST after close() (TCP_LINGER2, or \
                       net.ipv4.tcp_fin_timeout above 60 s). Otherwise a small socket waits, and \
                       its release record has the outcome no_fin.",
            causes: &[
                "The peer's application does not close (CLOSE_WAIT on its side).",
                "The peer is gone.",
            ],
            advice: &["On the peer: ss -tan state close-wait."],
        },
        Verdict::Killed => Explanation {
            meaning: "An administrator or a program on this host ended the connection: ss -K, \
                      sock_diag, or bpf_sock_destroy().",
            scenes: &[Scene::Of(Verdict::Killed)],
            evidence: "The socket's error is ECONNABORTED, which only tcp_abort() sets.",
            causes: &[
                "ss -K, or a network manager that ends the connections of a removed address.",
                "A service mesh or a CNI plug-in after a policy change.",
            ],
            advice: &["Find the program: it needs CAP_NET_ADMIN."],
        },
        Verdict::Checkpointed => Explanation {
            meaning: "The application closed the socket in TCP_REPAIR mode: nothing was sent, and \
                      the peer does not know. This is how a checkpoint ends; the connection may \
                      continue elsewhere.",
            scenes: &[Scene::Of(Verdict::Checkpointed)],
            evidence: "The application closed the socket while TCP_REPAIR was on.",
            causes: &[
                "CRIU: a container or process was checkpointed or migrated (podman checkpoint, \
                 docker checkpoint).",
            ],
            advice: &[
                "On the host that restores it, tcptrace shows a connection without a handshake \
                 time.",
            ],
        },
        Verdict::Unknown => Explanation {
            meaning: "Why the connection ended is not known. tcptrace does not guess.",
            scenes: &[Scene::Of(Verdict::Unknown)],
            evidence: "No rule matches what was seen. Without BTF the socket's fields cannot be \
                       read; or events were lost; or two causes look the same, and the hook that \
                       distinguishes them is missing.",
            causes: &[
                "A hook is missing: tcptrace check lists what this kernel does not allow.",
                "Events were lost: completeness is gap or partial, or end_seen is false.",
            ],
            advice: &[
                "errno, last_state and completeness say what is known.",
                "If events were lost, use a larger --ring-size.",
            ],
        },
    }
}
