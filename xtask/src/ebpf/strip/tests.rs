//! What stays of an object.

use object::{
    Architecture, BinaryFormat, Endianness, Object as _, ObjectSection as _, ObjectSymbol as _,
    RelocationFlags, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
    read::elf::ElfFile64,
    write::{Object, Relocation, Symbol, SymbolSection},
};

use super::strip;

/// An object with a program, DWARF and BTF, and relocations of both.
fn object() -> Vec<u8> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let program = object.add_section(Vec::new(), b"tracepoint".to_vec(), SectionKind::Text);
    object.append_section_data(program, &[0x95, 0, 0, 0, 0, 0, 0, 0], 8);
    object.add_symbol(Symbol {
        name: b"program".to_vec(),
        value: 0,
        size: 8,
        kind: SymbolKind::Text,
        scope: SymbolScope::Linkage,
        weak: false,
        section: SymbolSection::Section(program),
        flags: SymbolFlags::None,
    });
    let target = object.section_symbol(program);
    for name in [".BTF", ".BTF.ext", ".debug_info", ".debug_str"] {
        let kind = if name == ".BTF" {
            SectionKind::Other
        } else {
            SectionKind::Debug
        };
        let section = object.add_section(Vec::new(), name.as_bytes().to_vec(), kind);
        object.append_section_data(section, name.as_bytes(), 4);
        let flags = RelocationFlags::Elf {
            r_type: object::elf::R_BPF_64_32,
        };
        let relocation = Relocation {
            offset: 0,
            symbol: target,
            addend: 0,
            flags,
        };
        object.add_relocation(section, relocation).unwrap();
    }
    object.write().unwrap()
}

#[test]
fn dwarf_goes_and_the_rest_stays() {
    let stripped = strip(&object()).unwrap();
    let file: ElfFile64<'_> = ElfFile64::parse(stripped.as_slice()).unwrap();
    let names: Vec<&str> = file
        .sections()
        .map(|section| section.name().unwrap())
        .collect();
    for (name, stays) in [
        ("tracepoint", true),
        (".BTF", true),
        (".BTF.ext", true),
        (".symtab", true),
        (".rel.BTF", false),
        (".rel.BTF.ext", false),
        (".debug_info", false),
        (".rel.debug_info", false),
        (".debug_str", false),
    ] {
        assert_eq!(names.contains(&name), stays, "{name} in {names:?}");
    }
    let data = |name| file.section_by_name(name).unwrap().data().unwrap();
    assert_eq!(data("tracepoint"), [0x95, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(data(".BTF"), b".BTF");
    assert_eq!(data(".BTF.ext"), b".BTF.ext");
    assert!(file.symbols().any(|symbol| symbol.name() == Ok("program")));
}

#[test]
fn what_is_stripped_stays_as_it_is() {
    let once = strip(&object()).unwrap();
    assert!(strip(&once).unwrap() == once);
}

#[test]
fn what_is_no_object_is_an_error() {
    assert!(strip(b"no ELF").is_err());
}
