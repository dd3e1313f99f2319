//! The walker over BTF made by hand, cut short, mutated and made up; and over this kernel's own.

#[path = "btf_tests/builder.rs"]
mod builder;
#[path = "btf_tests/kernel.rs"]
mod kernel;
#[path = "btf_tests/malformed.rs"]
mod malformed;

use std::path::Path;

use self::builder::Builder;
use super::*;

/// What the tests ask for.
const WANTED: [&str; 4] = ["sock", "net", "tcp_sock", "btf_trace_tcp_probe"];

fn parse(builder: &Builder) -> Btf {
    Btf::parse(builder.bytes(), &WANTED).unwrap()
}

#[track_caller]
fn assert_refused(answer: Result<u32, BtfError>, text: &str) {
    let error = answer.expect_err("it has an answer").to_string();
    assert_eq!(error, text);
}

/// `struct sock { int sk_err; char sk_shutdown; void *sk_socket; }` behind some other types.
fn simple() -> Builder {
    let mut types = Builder::default();
    let int = types.int("int", 4);
    let byte = types.int("unsigned char", 1);
    let pointer = types.pointer(0);
    types.structure("other", 4, &[("sk_err", int, 0)]);
    let members = [
        ("sk_err", int, 0),
        ("sk_shutdown", byte, 32),
        ("sk_socket", pointer, 64),
    ];
    types.structure("sock", 16, &members);
    types
}

#[test]
fn a_field_lies_where_its_struct_says() {
    let btf = parse(&simple());
    assert_eq!(btf.offset("sock", "sk_err", 4).unwrap(), 0);
    assert_eq!(btf.offset("sock", "sk_shutdown", 1).unwrap(), 4);
    assert_eq!(btf.offset("sock", "sk_socket", 8).unwrap(), 8);
    assert_eq!(btf.type_count(), 6);
}

#[test]
fn a_field_of_another_width_is_refused_with_both_widths() {
    let answer = parse(&simple()).offset("sock", "sk_err", 2);
    assert_refused(answer, "the kernel's sock.sk_err has 4 bytes, not 2");
}

#[test]
fn a_missing_type_or_field_is_named() {
    let btf = parse(&simple());
    assert_refused(
        btf.offset("sock", "sk_uid", 4),
        "the kernel's struct sock has no field sk_uid",
    );
    assert_refused(
        btf.offset("net", "ns.inum", 4),
        "the kernel has no struct net",
    );
    let answer = btf.typedef_id("btf_trace_tcp_probe");
    assert_refused(answer, "the kernel has no typedef btf_trace_tcp_probe");
    // A part of a name, a longer name, no name.
    for field in ["sk_er", "sk_err_soft", "", ".", "sk_err.", "sk_err.inum"] {
        assert!(btf.offset("sock", field, 4).is_err(), "{field:?}");
    }
}

#[test]
fn a_struct_that_was_not_wanted_is_not_kept() {
    let btf = parse(&simple());
    assert_refused(
        btf.offset("other", "sk_err", 4),
        "the kernel has no struct other",
    );
}

#[test]
fn members_without_a_name_are_looked_into() {
    let mut types = Builder::default();
    let int = types.int("int", 4);
    let long = types.int("long", 8);
    // struct sock { long first; union { long whole; struct { int low; union { int high; }; }; }; }
    let innermost = types.union("", 4, &[("high", int, 0)]);
    let halves = types.structure("", 8, &[("low", int, 0), ("", innermost, 32)]);
    let union = types.union("", 8, &[("whole", long, 0), ("", halves, 0)]);
    types.structure(
        "sock",
        16,
        &[("first", long, 0), ("", union, 64), ("last", int, 128)],
    );
    let btf = parse(&types);
    assert_eq!(btf.offset("sock", "whole", 8).unwrap(), 8);
    assert_eq!(btf.offset("sock", "low", 4).unwrap(), 8);
    assert_eq!(btf.offset("sock", "high", 4).unwrap(), 12);
    assert_eq!(btf.offset("sock", "last", 4).unwrap(), 16);
}

#[test]
fn a_named_member_is_entered_only_by_its_name() {
    let mut types = Builder::default();
    let int = types.int("unsigned int", 4);
    let ns_common = types.structure("ns_common", 16, &[("ops", int, 0), ("inum", int, 64)]);
    types.structure("net", 64, &[("passive", int, 0), ("ns", ns_common, 96)]);
    let btf = parse(&types);
    assert_eq!(btf.offset("net", "ns.inum", 4).unwrap(), 20);
    assert!(btf.offset("net", "inum", 4).is_err());
    assert!(btf.offset("net", "passive.inum", 4).is_err());
}

#[test]
fn a_member_behind_a_pointer_is_not_part_of_the_struct() {
    let mut types = Builder::default();
    let int = types.int("int", 4);
    let inner = types.structure("inner", 4, &[("x", int, 0)]);
    let pointer = types.pointer(inner);
    types.structure("sock", 8, &[("p", pointer, 0), ("", pointer, 64)]);
    let btf = parse(&types);
    assert!(btf.offset("sock", "p.x", 4).is_err());
    assert!(btf.offset("sock", "x", 4).is_err());
}

#[test]
fn a_width_is_found_behind_typedefs_and_qualifiers() {
    let mut types = Builder::default();
    let short = types.int("unsigned short", 2);
    let mut chain = types.typedef("__u16", short);
    for kind in [
        KIND_CONST,
        KIND_VOLATILE,
        KIND_RESTRICT,
        KIND_TYPE_TAG,
        KIND_TYPEDEF,
    ] {
        chain = types.add("", kind, 0, false, chain, &[]);
    }
    let inner = types.structure("", 2, &[("sk_protocol", chain, 0)]);
    let hidden = types.add("", KIND_CONST, 0, false, inner, &[]);
    types.structure("sock", 4, &[("", hidden, 16)]);
    assert_eq!(parse(&types).offset("sock", "sk_protocol", 2).unwrap(), 2);
}

#[test]
fn every_kind_of_type_that_can_be_a_field_has_its_width() {
    let mut types = Builder::default();
    let char = types.int("char", 1);
    let pointer = types.pointer(0);
    let small = types.add("e", KIND_ENUM, 2, false, 4, &[0, 0, 0, 1]);
    let wide = types.add("e64", KIND_ENUM64, 1, false, 8, &[0, 0, 0]);
    let float = types.add("double", KIND_FLOAT, 0, false, 8, &[]);
    let comm = types.array(char, 16);
    let matrix = types.array(comm, 3);
    let pointers = types.array(pointer, 2);
    let pair = types.union("pair", 24, &[("a", char, 0)]);
    let widths = [
        ("char", char, 1),
        ("pointer", pointer, 8),
        ("small", small, 4),
        ("wide", wide, 8),
        ("float", float, 8),
        ("comm", comm, 16),
        ("matrix", matrix, 48),
        ("pointers", pointers, 16),
        ("pair", pair, 24),
    ];
    let members = widths.map(|(name, id, _)| (name, id, 512));
    types.structure("sock", 128, &members);
    let btf = parse(&types);
    for (name, _, width) in widths {
        assert_eq!(btf.offset("sock", name, width).unwrap(), 64, "{name}");
        assert!(btf.offset("sock", name, width + 1).is_err(), "{name}");
    }
}

#[test]
fn a_field_of_a_type_without_a_width_is_refused() {
    let mut types = Builder::default();
    let prototype = types.add("", KIND_FUNC_PROTO, 1, false, 0, &[0, 0]);
    let forward = types.add("later", KIND_FWD, 0, false, 0, &[]);
    types.structure(
        "sock",
        8,
        &[("f", prototype, 0), ("l", forward, 0), ("v", 0, 0)],
    );
    let btf = parse(&types);
    for field in ["f", "l", "v"] {
        let error = btf.offset("sock", field, 8).unwrap_err();
        assert!(
            matches!(error, BtfError::Invalid { .. }),
            "{field}: {error}"
        );
    }
}

#[test]
fn a_bitfield_is_refused_and_its_neighbours_are_not() {
    let mut types = Builder::default();
    let byte = types.int("unsigned char", 1);
    let bit = |width: u32, at: u32| width << 24 | at;
    let nested = types.add_members("", KIND_STRUCT, 1, true, &[("deep", byte, bit(8, 0))]);
    let members = [
        ("reuse", byte, bit(4, 8)),
        ("reuseport", byte, bit(1, 12)),
        ("whole_byte", byte, bit(8, 16)),
        ("plain", byte, bit(0, 24)),
        ("", nested, bit(0, 32)),
    ];
    types.add_members("sock", KIND_STRUCT, 5, true, &members);
    let btf = parse(&types);
    for field in ["reuse", "reuseport", "whole_byte", "deep"] {
        let text = format!("the kernel's struct sock has no field {field} at a byte");
        assert_refused(btf.offset("sock", field, 1), &text);
    }
    assert_eq!(btf.offset("sock", "plain", 1).unwrap(), 3);
}

#[test]
fn a_struct_and_a_typedef_of_one_name_are_told_apart() {
    let mut types = Builder::default();
    let int = types.int("int", 4);
    let typedef = types.typedef("sock", int);
    types.union("sock", 4, &[("in_union", int, 0)]);
    types.structure("sock", 8, &[("in_struct", int, 32)]);
    let btf = parse(&types);
    assert_eq!(btf.typedef_id("sock").unwrap(), typedef);
    assert_eq!(btf.offset("sock", "in_struct", 4).unwrap(), 4);
    assert!(btf.offset("sock", "in_union", 4).is_err());
}

#[test]
fn the_first_of_two_structs_of_one_name_counts() {
    let mut types = Builder::default();
    let int = types.int("int", 4);
    types.structure("sock", 8, &[("x", int, 0)]);
    types.structure("sock", 8, &[("x", int, 32)]);
    assert_eq!(parse(&types).offset("sock", "x", 4).unwrap(), 0);
}

#[test]
fn every_kind_of_type_is_stepped_over_by_its_length() {
    let mut types = Builder::default();
    for count in 0..3_u32 {
        let words = |each: u32| vec![0; (count * each) as usize];
        for kind in [
            KIND_PTR,
            KIND_FWD,
            KIND_TYPEDEF,
            KIND_VOLATILE,
            KIND_CONST,
            KIND_RESTRICT,
            KIND_FUNC,
            KIND_FLOAT,
            KIND_TYPE_TAG,
        ] {
            // Of a function the count is its linkage.
            types.add("", kind, count, false, 0, &[]);
        }
        for kind in [KIND_INT, KIND_VAR, KIND_DECL_TAG] {
            types.add("", kind, 0, false, 0, &[0]);
        }
        types.add("", KIND_ARRAY, 0, false, 0, &[0, 0, 0]);
        for kind in [KIND_STRUCT, KIND_UNION, KIND_DATASEC, KIND_ENUM64] {
            types.add("", kind, count, false, 0, &words(3));
        }
        for kind in [KIND_ENUM, KIND_FUNC_PROTO] {
            types.add("", kind, count, false, 0, &words(2));
        }
    }
    let last = types.typedef("btf_trace_tcp_probe", 0);
    assert_eq!(last, 3 * 19 + 1);
    assert_eq!(
        parse(&types).typedef_id("btf_trace_tcp_probe").unwrap(),
        last
    );
}

#[test]
fn only_named_keeps_each_at_its_number() {
    let wanted = [
        (7, "btf_trace_b"),
        (3, "btf_trace_a"),
        (90_000, "btf_trace_c"),
    ];
    let named = wanted.map(|(id, name)| (id, NamedKind::Typedef, name.to_owned()));
    let names = wanted.map(|(_, name)| name);
    let btf = Btf::parse(only_named(&named), &names).unwrap();
    for (id, name) in wanted {
        assert_eq!(btf.typedef_id(name).unwrap(), id);
    }
    assert_eq!(btf.type_count(), 90_001);
}

#[test]
fn only_named_of_nothing_is_btf_of_nothing() {
    let btf = Btf::parse(only_named(&[]), &WANTED).unwrap();
    assert_eq!(btf.type_count(), 1);
    assert!(btf.typedef_id("sock").is_err());
}

#[test]
fn a_file_that_is_not_there_is_named_in_the_error() {
    let error = read(Path::new("/nonexistent/vmlinux")).unwrap_err();
    assert!(
        error.to_string().starts_with("/nonexistent/vmlinux: "),
        "{error}"
    );
}
