//! The kernel modules that guests load, and those that these need.
//!
//! A guest has nothing that would load a module when it is asked for. Which modules a module needs
//! stands in itself; `modules.dep` is only written when a kernel is installed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _};

use super::archive::make_directory;

/// What tests use, where a kernel has it as a module: sock_diag for TCP and for MPTCP, devices, and
/// IPv6. What a kernel has built in or not at all is none of its modules.
pub(crate) const WANTED: [&str; 6] = ["tcp_diag", "mptcp_diag", "dummy", "tun", "veth", "ipv6"];

/// How modules may be compressed, and what undoes it.
const COMPRESSIONS: [(&str, &str); 3] = [("xz", "xz"), ("zst", "zstd"), ("gz", "gzip")];

/// Copies the modules that are wanted from below `from` to `to`, uncompressed, and named so that
/// each comes after those that it needs.
pub(crate) fn collect(from: &Path, to: &Path) -> Result<()> {
    let mut files = BTreeMap::new();
    index(from, &mut files)?;
    let mut images = BTreeMap::new();
    let needs = |name: &str| -> Result<Option<Vec<String>>> {
        let Some(path) = files.get(name) else {
            return Ok(None);
        };
        let image = read(path)?;
        let needs = depends(&image).with_context(|| format!("{} is no module", path.display()))?;
        images.insert(name.to_owned(), image);
        Ok(Some(needs))
    };
    let order = in_order(&WANTED, needs)?;

    make_directory(to)?;
    for (number, name) in order.iter().enumerate() {
        let path = to.join(format!("{number:02}-{name}.ko"));
        fs::write(&path, &images[name])
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Puts the modules that are there after those that they need. `needs` answers with nothing for one
/// that is not there.
fn in_order(
    wanted: &[&str],
    mut needs: impl FnMut(&str) -> Result<Option<Vec<String>>>,
) -> Result<Vec<String>> {
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    // A module stands here twice: until its needs are looked up, and until they are met.
    let mut stack: Vec<(String, bool)> = Vec::new();
    for name in wanted.iter().rev() {
        stack.push(((*name).to_owned(), false));
    }
    while let Some((name, met)) = stack.pop() {
        if met {
            order.push(name);
            continue;
        }
        if !seen.insert(name.clone()) {
            continue;
        }
        let Some(needed) = needs(&name)? else {
            continue;
        };
        stack.push((name, true));
        stack.extend(needed.into_iter().rev().map(|needed| (needed, false)));
    }
    Ok(order)
}

/// Finds all modules below a directory, by name.
fn index(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let failed = || format!("cannot list {}", directory.display());
    for entry in fs::read_dir(directory).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        if path.is_dir() {
            index(&path, files)?;
        } else if let Some(name) = name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// A module's name: modules name each other with underscores, and files may have hyphens.
fn name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (name, ending) = file.split_once(".ko")?;
    let compressed = |(suffix, _): &(&str, &str)| ending.strip_prefix('.') == Some(*suffix);
    (ending.is_empty() || COMPRESSIONS.iter().any(compressed)).then(|| name.replace('-', "_"))
}

/// Reads a module as it is to be loaded.
fn read(path: &Path) -> Result<Vec<u8>> {
    let suffix = path.extension().unwrap_or_default();
    let Some((_, program)) = COMPRESSIONS.iter().find(|(known, _)| suffix == *known) else {
        return fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    };
    let output = Command::new(program)
        .args(["--decompress", "--stdout"])
        .arg(path)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {program}, which unpacks kernel modules"))?;
    if !output.status.success() {
        bail!("{program} failed on {}: {}", path.display(), output.status);
    }
    Ok(output.stdout)
}

/// The names of the modules that a module needs.
fn depends(image: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(image)?;
    let section = file.section_by_name(".modinfo");
    let information = section.context("it has no section .modinfo")?.data()?;
    let mut fields = information.split(|byte| *byte == 0);
    let needed = fields.find_map(|field| field.strip_prefix(b"depends="));
    let needed = String::from_utf8_lossy(needed.unwrap_or_default()).replace('-', "_");
    let names = needed.split(',').filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who needs whom.
    fn needs(name: &str) -> Result<Option<Vec<String>>> {
        let needed: &[&str] = match name {
            "tcp_diag" | "mptcp_diag" => &["inet_diag"],
            "inet_diag" | "tun" => &[],
            "veth" => &["tun", "tcp_diag"],
            _ => return Ok(None),
        };
        Ok(Some(needed.iter().map(|name| (*name).to_owned()).collect()))
    }

    #[test]
    fn a_module_comes_after_those_that_it_needs() {
        let order = in_order(&["veth", "mptcp_diag", "tcp_diag"], needs).expect("an order");
        assert_eq!(
            order,
            ["tun", "inet_diag", "tcp_diag", "veth", "mptcp_diag"]
        );
    }

    #[test]
    fn one_that_is_not_there_is_left_out() {
        let order = in_order(&["ipv6", "tun"], needs).expect("an order");
        assert_eq!(order, ["tun"]);
    }

    #[test]
    fn files_are_named_in_several_ways() {
        for file in ["nf-log.ko", "nf_log.ko.xz", "nf-log.ko.zst", "nf_log.ko.gz"] {
            assert_eq!(name(Path::new(file)).as_deref(), Some("nf_log"), "{file}");
        }
        for file in ["modules.dep", "nf_log.ko.bak", "nf_log.kobj"] {
            assert_eq!(name(Path::new(file)), None, "{file}");
        }
    }
}
