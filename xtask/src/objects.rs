//! Building the object for every architecture, and telling objects apart.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _, read::elf::ElfFile64};

use crate::ebpf::compile::Build;

/// The architectures that one object serves; little-endian, as it is.
pub(crate) const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// Builds the object for each of [`ARCHITECTURES`], and fails unless they are all the same.
///
/// Each has a target directory of its own within that of `build`: in a shared one cargo would build
/// `core` again every time, since the flags differ.
pub(crate) fn build(build: &Build<'_>) -> Result<Vec<u8>> {
    let mut first: Option<(&str, Vec<u8>)> = None;
    for architecture in ARCHITECTURES {
        eprintln!("building the eBPF programs for {architecture}");
        let target = build.target.join(architecture);
        let object = Build {
            target: &target,
            ..*build
        }
        .object(architecture)?;
        match &first {
            Some((other, bytes)) if *bytes != object => bail!(
                "the object for {architecture} is not the one for {other}: they differ in {}. \
                 One object is shipped for both, so the programs must not depend on \
                 bpf_target_arch: pt_regs, and with it kprobes, are out",
                differences(bytes, &object)?
            ),
            Some(_) => {}
            None => first = Some((architecture, object)),
        }
    }
    let (_, object) = first.context("there is no architecture to build for")?;
    Ok(object)
}

/// The names of the sections in which two objects differ.
pub(crate) fn differences(one: &[u8], other: &[u8]) -> Result<String> {
    let (one, other) = (sections(one)?, sections(other)?);
    let mut names: Vec<&str> = one
        .keys()
        .chain(other.keys())
        .filter(|name| one.get(*name) != other.get(*name))
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names.dedup();
    match names.as_slice() {
        [] => Ok("no section, but in the tables of symbols or relocations".to_owned()),
        names => Ok(names.join(", ")),
    }
}

/// The contents of every section by its name.
fn sections(object: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
    let file: ElfFile64<'_> = ElfFile64::parse(object).context("this is no ELF object")?;
    let section = |section: object::read::elf::ElfSection64<'_, '_>| {
        Ok((section.name()?.to_owned(), section.data()?.to_vec()))
    };
    file.sections().map(section).collect()
}
