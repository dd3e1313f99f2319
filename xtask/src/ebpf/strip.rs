//! Taking out of an object what no loader reads.
//!
//! DWARF is five sixths of it. BTF stays, with the source lines for the verifier's log; of its
//! relocations no loader wants any, since they are against the start of each section and so already
//! applied.

use anyhow::{Context as _, Result};
use object::{
    build::elf::{Builder, SectionData},
    elf::SHT_STRTAB,
};

/// Removes DWARF, the relocations of DWARF and BTF, and the symbols that only those used.
pub(super) fn strip(object: &[u8]) -> Result<Vec<u8>> {
    let mut elf = Builder::read(object).context("it is no ELF object")?;
    for section in &mut elf.sections {
        let name: &[u8] = &section.name;
        let bare = name.strip_prefix(b".rel").unwrap_or(name);
        let relocates = bare.len() != name.len();
        section.delete = bare.starts_with(b".debug_") || (relocates && bare.starts_with(b".BTF"));
    }
    elf.delete_orphans();
    // LLVM keeps the names of sections among those of symbols; the writer wants them apart.
    if !elf
        .sections
        .iter()
        .any(|section| matches!(section.data, SectionData::SectionString))
    {
        let names = elf.sections.add();
        names.name = ".shstrtab".into();
        names.sh_type = SHT_STRTAB;
        names.data = SectionData::SectionString;
    }
    let mut stripped = Vec::new();
    elf.write(&mut stripped)
        .context("it cannot be written again")?;
    Ok(stripped)
}

#[cfg(test)]
mod tests;
