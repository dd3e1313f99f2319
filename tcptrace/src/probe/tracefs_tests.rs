//! The text of `format` as kernels write it, as some vendors do, and as nobody does.

use proptest::prelude::*;

use super::*;

/// Linux 5.10 to 7.3: byte-identical.
const FORMAT: &str = "\
name: inet_sock_set_state
ID: 1469
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:const void * skaddr;\toffset:8;\tsize:8;\tsigned:0;
\tfield:int oldstate;\toffset:16;\tsize:4;\tsigned:1;
\tfield:int newstate;\toffset:20;\tsize:4;\tsigned:1;
\tfield:__u16 sport;\toffset:24;\tsize:2;\tsigned:0;
\tfield:__u16 dport;\toffset:26;\tsize:2;\tsigned:0;
\tfield:__u16 family;\toffset:28;\tsize:2;\tsigned:0;
\tfield:__u16 protocol;\toffset:30;\tsize:2;\tsigned:0;
\tfield:__u8 saddr[4];\toffset:32;\tsize:4;\tsigned:0;
\tfield:__u8 daddr[4];\toffset:36;\tsize:4;\tsigned:0;
\tfield:__u8 saddr_v6[16];\toffset:40;\tsize:16;\tsigned:0;
\tfield:__u8 daddr_v6[16];\toffset:56;\tsize:16;\tsigned:0;

print fmt: \"family=%s protocol=%s sport=%hu dport=%hu saddr=%pI4 daddr=%pI4 saddrv6=%pI6c daddrv6=%pI6c oldstate=%s newstate=%s\", __print_symbolic(REC->family, { 2, \"AF_INET\" }, { 10, \"AF_INET6\" }), __print_symbolic(REC->protocol, { 6, \"IPPROTO_TCP\" }), REC->sport, REC->dport, REC->saddr, REC->daddr, REC->saddr_v6, REC->daddr_v6, REC->oldstate, REC->newstate
";

const LAYOUT: RecordLayout = RecordLayout {
    skaddr: 8,
    oldstate: 16,
    newstate: 20,
    sport: 24,
    dport: 26,
    family: 28,
    protocol: 30,
    protocol_size: 2,
    saddr: 32,
    daddr: 36,
    saddr_v6: 40,
    daddr_v6: 56,
};

/// Every field by name, with its size.
const FIELDS: [(&str, u32); 11] = [
    ("skaddr", 8),
    ("oldstate", 4),
    ("newstate", 4),
    ("sport", 2),
    ("dport", 2),
    ("family", 2),
    ("protocol", 2),
    ("saddr", 4),
    ("daddr", 4),
    ("saddr_v6", 16),
    ("daddr_v6", 16),
];

/// The lines of `FORMAT`, the one that declares `field` changed; `None` leaves it out.
fn with_line(field: &str, change: impl Fn(&str) -> Option<String>) -> String {
    let declares = |line: &str| {
        let declared = line.trim().split(';').next().unwrap_or_default();
        declared
            .split(['[', ' '])
            .any(|word| word == field && line.contains("field:"))
    };
    assert_eq!(FORMAT.lines().filter(|line| declares(line)).count(), 1);
    FORMAT
        .lines()
        .filter_map(|line| {
            if declares(line) {
                change(line)
            } else {
                Some(line.to_owned())
            }
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[track_caller]
fn assert_lacks(text: &str, name: &str) {
    match parse(text) {
        Err(TracefsError::Field { field, .. }) => assert_eq!(field, name),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn the_record_of_kernels_5_10_to_7_3_is_found() {
    assert_eq!(parse(FORMAT).unwrap(), LAYOUT);
}

#[test]
fn a_wider_common_header_moves_every_field() {
    // RT kernels add common_migrate_disable and common_preempt_lazy_count, and padding.
    let text = FORMAT
        .lines()
        .map(|line| {
            let Some((before, rest)) = line.split_once("offset:") else {
                return line.to_owned();
            };
            let (offset, rest) = rest.split_once(';').unwrap();
            let offset: u32 = offset.parse().unwrap();
            let offset = if offset < 8 { offset } else { offset + 8 };
            format!("{before}offset:{offset};{rest}")
        })
        .collect::<Vec<_>>()
        .join("\n");
    let moved = RecordLayout {
        skaddr: 16,
        oldstate: 24,
        newstate: 28,
        sport: 32,
        dport: 34,
        family: 36,
        protocol: 38,
        protocol_size: 2,
        saddr: 40,
        daddr: 44,
        saddr_v6: 48,
        daddr_v6: 64,
    };
    assert_eq!(parse(&text).unwrap(), moved);
}

#[test]
fn a_protocol_of_one_byte_is_read_as_one() {
    // Before Linux 5.6.
    let text = with_line("protocol", |_| {
        Some("\tfield:__u8 protocol;\toffset:30;\tsize:1;\tsigned:0;".to_owned())
    });
    let expected = RecordLayout {
        protocol_size: 1,
        ..LAYOUT
    };
    assert_eq!(parse(&text).unwrap(), expected);
}

#[test]
fn spaces_for_tabs_and_carriage_returns_change_nothing() {
    assert_eq!(parse(&FORMAT.replace('\t', "  ")).unwrap(), LAYOUT);
    assert_eq!(parse(&FORMAT.replace('\n', "\r\n")).unwrap(), LAYOUT);
}

#[test]
fn a_pointer_is_named_without_its_star() {
    for declared in ["const void *skaddr", "void*skaddr", "const void *\tskaddr"] {
        let text = FORMAT.replace("const void * skaddr", declared);
        assert_eq!(parse(&text).unwrap().skaddr, 8, "{declared}");
    }
}

#[test]
fn a_missing_field_is_an_error_that_names_it() {
    for (name, _) in FIELDS {
        assert_lacks(&with_line(name, |_| None), name);
    }
}

#[test]
fn a_field_of_another_name_does_not_stand_in() {
    // saddr_v6 begins with saddr; a field may end with another's name.
    for (name, _) in FIELDS {
        assert_lacks(
            &FORMAT.replace(&format!(" {name}"), &format!(" x{name}")),
            name,
        );
        let text = with_line(name, |line| Some(line.replace(name, &format!("{name}_x"))));
        assert_lacks(&text, name);
    }
}

#[test]
fn every_other_size_is_an_error_that_names_the_field() {
    for (name, size) in FIELDS {
        for other in (0..=32).filter(|&other| other != size) {
            if name == "protocol" && other == 1 {
                continue;
            }
            let text = with_line(name, |line| {
                Some(line.replace(&format!("size:{size};"), &format!("size:{other};")))
            });
            assert_lacks(&text, name);
        }
    }
}

#[test]
fn a_field_without_an_offset_or_a_size_it_can_be_read_by_is_missing() {
    for bad in ["", "x", "-8", "4096", "99999999999999999999", "8 8", "0x8"] {
        assert_lacks(
            &FORMAT.replace("offset:8;", &format!("offset:{bad};")),
            "skaddr",
        );
    }
    for bad in ["", "x", "-8", "99999999999999999999"] {
        assert_lacks(
            &FORMAT.replace("size:8;", &format!("size:{bad};")),
            "skaddr",
        );
    }
    assert_lacks(&FORMAT.replace("\toffset:8;", ""), "skaddr");
    assert_lacks(&FORMAT.replace("\tsize:8;", ""), "skaddr");
}

#[test]
fn a_text_cut_short_lacks_what_was_cut() {
    let fields_end = FORMAT.find("print fmt").unwrap();
    let last_value = FORMAT.find("size:16;\tsigned:0;\n\nprint").unwrap() + "size:16".len();
    for end in 0..fields_end {
        assert_eq!(
            parse(&FORMAT[..end]).is_ok(),
            end >= last_value,
            "cut at {end}"
        );
    }
}

#[test]
fn garbage_lacks_every_field() {
    for text in [
        "",
        "\n",
        "field:",
        "field:;",
        "field:protocol;;;",
        "::::;;;;",
        "\0\0\0\0",
    ] {
        assert_lacks(text, "protocol");
    }
}

#[test]
fn the_error_says_what_is_missing_and_how_wide_it_should_be() {
    let text = parse("").unwrap_err().to_string();
    assert_eq!(
        text,
        "the record of sock:inet_sock_set_state has no protocol of 1 or 2 bytes"
    );
}

#[test]
fn this_kernels_record_is_found_where_tracefs_is_mounted() {
    if mounted().is_err() {
        println!("skipped: tracefs is not mounted here");
        return;
    }
    match read_record_layout() {
        Ok(layout) => assert!(layout.skaddr >= 8 && layout.newstate == layout.oldstate + 4),
        Err(TracefsError::Read { path, error }) => println!("skipped: {path}: {error}"),
        Err(
            error @ (TracefsError::NotMounted
            | TracefsError::NotAllowed { .. }
            | TracefsError::Field { .. }),
        ) => panic!("{error}"),
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        prop_assert!(parse(&text).is_err());
    }

    #[test]
    fn no_text_of_the_right_words_panics(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "field:", "\n", ";", ":", "\t", " ", "*", "[", "]", "offset", "size:", "8", "4",
                "skaddr", "protocol", "saddr_v6", "16", "common_type", "offset:18446744073709551616",
            ]),
            0..60,
        ),
    ) {
        prop_assert!(parse(&words.concat()).is_err());
    }

    #[test]
    fn no_change_of_one_byte_panics(at in any::<prop::sample::Index>(), byte in 0..128_u8) {
        let mut bytes = FORMAT.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let text = String::from_utf8(bytes).unwrap();
        if let Ok(layout) = parse(&text) {
            prop_assert!(layout.daddr_v6 < 4096 && layout.skaddr < 4096);
        }
    }
}
