//! What is no BTF, or BTF no compiler makes: an error, in bounded time, and never a panic.

use proptest::prelude::*;

use super::*;

/// Where the header keeps the lengths and offsets of its sections.
const HEADER_WORDS: [usize; 5] = [4, 8, 12, 16, 20];

/// Asks for everything; what the answers are does not matter.
fn ask(bytes: Vec<u8>) -> bool {
    let Ok(btf) = Btf::parse(bytes, &WANTED) else {
        return false;
    };
    let fields = [
        "sk_err",
        "sk_shutdown",
        "deep",
        "ns.inum",
        "a.b.c",
        "bit",
        "",
    ];
    WANTED.iter().any(|name| {
        let found = fields
            .iter()
            .filter(|field| btf.offset(name, field, 4).is_ok());
        found.count() > 0 || btf.typedef_id(name).is_ok()
    })
}

/// A bit of everything.
fn rich() -> Builder {
    let mut types = simple();
    let int = types.int("u32", 4);
    let typedef = types.typedef("btf_trace_tcp_probe", int);
    let constant = types.add("", KIND_CONST, 0, false, typedef, &[]);
    let comm = types.array(constant, 1);
    let inner = types.structure("", 8, &[("deep", comm, 0), ("b", int, 32)]);
    let union = types.union("", 8, &[("a", inner, 0), ("", inner, 0)]);
    let ns = types.structure("ns_common", 4, &[("inum", constant, 0)]);
    types.structure("net", 16, &[("ns", ns, 0), ("", union, 64)]);
    let members = [("bit", int, 1 << 24 | 3), ("sk_err", int, 32)];
    types.add_members("tcp_sock", KIND_STRUCT, 8, true, &members);
    types
}

#[test]
fn the_sample_answers() {
    assert!(ask(rich().bytes()));
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = rich().bytes();
    for length in 0..bytes.len() {
        let error = Btf::parse(bytes[..length].to_vec(), &WANTED).err();
        assert!(
            matches!(error, Some(BtfError::Invalid { .. })),
            "{length} bytes"
        );
    }
}

#[test]
fn another_magic_or_byte_order_is_an_error() {
    let bytes = rich().bytes();
    for magic in [0_u16, 0x9feb, 0xeb9e, u16::MAX] {
        let mut other = bytes.clone();
        other[..2].copy_from_slice(&magic.to_ne_bytes());
        let error = Btf::parse(other, &WANTED).err().unwrap();
        assert!(error.to_string().contains("magic"), "{error}");
    }
}

#[test]
fn a_section_that_reaches_past_the_end_is_an_error() {
    let bytes = rich().bytes();
    let length = u32::try_from(bytes.len()).unwrap();
    for at in HEADER_WORDS {
        for value in [length, length + 1, i32::MAX.unsigned_abs(), u32::MAX] {
            let mut other = bytes.clone();
            other[at..at + 4].copy_from_slice(&value.to_ne_bytes());
            assert!(Btf::parse(other, &WANTED).is_err(), "{value} at {at}");
        }
    }
}

#[test]
fn a_type_section_that_ends_within_a_type_is_an_error() {
    let bytes = simple().bytes();
    let length = read_u32(&bytes, 12).unwrap();
    for short in 1..48 {
        let mut other = bytes.clone();
        other[12..16].copy_from_slice(&(length - short).to_ne_bytes());
        // 3 members of 12 bytes, and the 12 of the struct itself.
        assert_eq!(
            Btf::parse(other, &WANTED).is_err(),
            short < 48,
            "{short} bytes short"
        );
    }
}

#[test]
fn a_kind_that_is_not_known_is_an_error() {
    for kind in (0..=0).chain(20..32) {
        let mut types = simple();
        types.add("", kind, 0, false, 0, &[]);
        let error = Btf::parse(types.bytes(), &WANTED).err().unwrap();
        assert!(
            error.to_string().contains("kind of type"),
            "kind {kind}: {error}"
        );
    }
}

#[test]
fn typedefs_that_lead_to_each_other_lead_nowhere() {
    let mut types = Builder::default();
    types.typedef("a", 2);
    types.typedef("b", 1);
    types.structure(
        "sock",
        8,
        &[("sk_err", 1, 0), ("beyond", 99, 0), ("last", u32::MAX, 0)],
    );
    let btf = parse(&types);
    for field in ["sk_err", "beyond", "last", "sk_err.x", "beyond.x"] {
        let error = btf.offset("sock", field, 4).unwrap_err();
        assert!(
            error.to_string().contains("leads nowhere"),
            "{field}: {error}"
        );
    }
}

#[test]
fn an_array_of_itself_has_no_width() {
    let mut types = Builder::default();
    types.array(1, 2);
    types.structure("sock", 8, &[("sk_err", 1, 0)]);
    assert!(parse(&types).offset("sock", "sk_err", 4).is_err());
}

#[test]
fn an_array_wider_than_a_number_is_as_wide_as_the_number() {
    let mut types = Builder::default();
    let long = types.int("long", 8);
    let array = types.array(long, u32::MAX);
    types.structure("sock", 8, &[("sk_err", array, 0)]);
    assert!(parse(&types).offset("sock", "sk_err", 8).is_err());
}

#[test]
fn a_struct_that_contains_itself_many_times_is_looked_through_in_bounded_time() {
    let mut types = Builder::default();
    let int = types.int("int", 4);
    let itself = 2;
    let mut members = vec![("", itself, 0); 60];
    members.push(("sk_err", int, 0));
    types.structure("sock", 8, &members);
    assert!(parse(&types).offset("sock", "no_such_field", 4).is_err());
}

#[test]
fn anonymous_members_that_lie_past_any_memory_are_refused() {
    let mut types = Builder::default();
    let int = types.int("int", 4);
    let inner = types.structure("", 8, &[("sk_err", int, u32::MAX - 7)]);
    types.structure("sock", 8, &[("", inner, u32::MAX - 7)]);
    assert!(parse(&types).offset("sock", "sk_err", 4).is_err());
}

#[test]
fn a_name_that_is_no_text_or_past_the_strings_is_no_name() {
    let mut types = Builder::default();
    let int = types.int("int", 4);
    types.structure("sock", 4, &[("sk_err", int, 0)]);
    let bytes = types.bytes();
    let strings = 24 + read_u32(&bytes, 16).unwrap() as usize;
    let at = strings + 1 + "int".len() + 1;
    assert_eq!(&bytes[at..at + 6], b"sk_err");
    let mut other = bytes.clone();
    other[at] = 0xff;
    let btf = Btf::parse(other, &WANTED).unwrap();
    assert!(btf.offset("sock", "sk_err", 4).is_err());
    // The struct's own name, past the end.
    let mut other = bytes;
    let name = 24 + TYPE_SIZE + 4;
    other[name..name + 4].copy_from_slice(&u32::MAX.to_ne_bytes());
    let btf = Btf::parse(other, &WANTED).unwrap();
    assert!(btf.offset("sock", "sk_err", 4).is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(!ask(bytes));
    }

    #[test]
    fn no_bytes_behind_a_valid_header_panic(
        types in prop::collection::vec(any::<u8>(), 0..300),
        strings in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        let (types_len, strings_len) = (types.len() as u32, strings.len() as u32);
        for word in [24, 0, types_len, types_len, strings_len] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(types);
        bytes.extend(strings);
        prop_assert!(!ask(bytes), "nobody writes these names by chance");
    }

    #[test]
    fn no_mutation_panics_or_runs_on(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut bytes = rich().bytes();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let before = bytes.clone();
        let answered = ask(bytes);
        prop_assert_eq!(ask(before), answered, "the same bytes, the same answer");
    }
}
