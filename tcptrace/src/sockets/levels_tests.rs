use super::*;

#[test]
fn counters_are_found_by_name_whatever_else_there_is() {
    let text = "TcpExt: SyncookiesSent Other ListenDrops ListenOverflows TCPTimeWaitOverflow\n\
                TcpExt: 5 9 4 3 1\n\
                IpExt: SyncookiesSent\n\
                IpExt: 77\n";
    assert_eq!(counters(text), Some([1, 3, 4, 0, 5]));
    for text in ["", "TcpExt: ListenDrops\n", "IpExt: A\nIpExt: 1\n"] {
        assert_eq!(counters(text), None, "{text:?}");
    }
    let malformed = "TcpExt: ListenDrops ListenOverflows\nTcpExt: x 2\n";
    assert_eq!(counters(malformed), Some([0, 2, 0, 0, 0]));
}

#[test]
fn a_range_of_ports_is_two_numbers_in_order() {
    assert_eq!(range("32768\t60999\n"), Some((32_768, 60_999)));
    assert_eq!(range("1 1"), Some((1, 1)));
    for text in ["", "1", "2 1", "a b", "1 65536"] {
        assert_eq!(range(text), None, "{text:?}");
    }
}

#[test]
fn the_fullest_queue_of_a_port_is_the_one_nearest_to_its_limit() {
    let queue = |length, limit| Queue { length, limit };
    let mut queues = BTreeMap::new();
    for (length, limit, expected) in [
        (0, 128, queue(0, 128)),
        (1, 4096, queue(1, 4096)),
        (64, 128, queue(64, 128)),
        (65, 4096, queue(64, 128)),
        (1, 0, queue(1, 0)),
    ] {
        fuller(&mut queues, 80, queue(length, limit));
        assert_eq!(queues[&80], expected);
    }
}

#[test]
fn a_poll_rests_by_what_it_worked_and_not_for_long() {
    let second = Duration::from_secs(1);
    let rest_of = |took_ms, worked_ms| {
        let ms = Duration::from_millis;
        rest(15 * second, ms(took_ms), ms(worked_ms)).as_millis()
    };
    // Nothing to speak of.
    assert_eq!(rest_of(10, 10), 14_990);
    // It waited for a processor most of the time.
    assert_eq!(rest_of(20_000, 100), 1_900);
    // A large host.
    assert_eq!(rest_of(1_000, 1_000), 19_000);
    // No longer than four intervals.
    assert_eq!(rest_of(60_000, 60_000), 60_000);
}

#[test]
fn a_counter_that_is_lower_is_another_namespaces() {
    assert_eq!(increase(None, [9, 0, 1, 0, 0]), [9, 0, 1, 0, 0]);
    assert_eq!(
        increase(Some([9, 0, 1, 0, 0]), [9, 2, 1, 0, 5]),
        [0, 2, 0, 0, 5]
    );
    // 9, then 6 of another: 15 in all.
    assert_eq!(
        increase(Some([9, 0, 1, 0, 0]), [6, 3, 1, 0, 0]),
        [6, 3, 1, 0, 0]
    );
}
