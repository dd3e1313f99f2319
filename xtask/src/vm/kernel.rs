//! The kernels that guests boot, each kept with the modules that it needs.
//!
//! A series has one kernel at a time. It is replaced when the archive has a newer one, and used
//! without a network when it is there.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::{
    archive::{Archive, KERNELS, make_directory},
    modules,
    packages::{self, Choice, Package},
    series::Series,
};

/// What is known of a kernel that is kept, beside it.
const NOTE: &str = "kernel.toml";
/// Its image.
const IMAGE: &str = "vmlinuz";
/// Its modules, one file each.
const MODULES: &str = "modules";

/// A kernel that can be booted.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The series that it stands for.
    pub(crate) series: Series,
    /// What it is.
    pub(crate) note: Note,
    /// Where it is.
    directory: PathBuf,
}

/// What a kernel is, and where it came from.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// Its release, as `uname -r` says it.
    pub(crate) release: String,
    /// The modules that were wanted when it was unpacked.
    modules: Vec<String>,
    /// The packages that it was in.
    pub(crate) packages: Vec<Origin>,
}

/// A package that was unpacked.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// The SHA-256 of its file.
    pub(crate) sha256: String,
}

impl Kernel {
    /// The image, for the machine's monitor to load.
    pub(crate) fn image(&self) -> PathBuf {
        self.directory.join(IMAGE)
    }

    /// The modules: files that are to be loaded in the order of their names.
    pub(crate) fn modules(&self) -> Result<Vec<PathBuf>> {
        let directory = self.directory.join(MODULES);
        let failed = || format!("cannot list {}", directory.display());
        let mut files = fs::read_dir(&directory)
            .with_context(failed)?
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<Vec<_>>>()
            .with_context(failed)?;
        files.sort();
        Ok(files)
    }

    /// The kernel of a series that is kept, if there is one.
    fn kept(series: Series, directory: &Path) -> Option<Self> {
        let note = fs::read_to_string(directory.join(NOTE)).ok()?;
        Some(Self {
            series,
            note: toml::from_str(&note).ok()?,
            directory: directory.to_owned(),
        })
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: Linux {}", self.series, self.note.release)?;
        for Origin {
            name,
            version,
            sha256,
        } in &self.note.packages
        {
            write!(formatter, "\n  {name} {version}, SHA-256 {sha256}")?;
        }
        Ok(())
    }
}

/// Gets the newest kernel of each series, with the archive's state and the kernels below
/// `directory`.
pub(crate) fn get(all: &[Series], directory: &Path) -> Result<Vec<Kernel>> {
    let kernels = directory.join("kernels");
    let archive = Archive::open(&directory.join("apt"), KERNELS)?;
    let known = archive.kernels()?;
    let get = |series: &Series| one(*series, &archive, &known, &kernels.join(series.name()));
    all.iter().map(get).collect()
}

/// Gets the newest kernel of one series: the one that is kept, unless the archive has a newer one
/// that can be had.
fn one(
    series: Series,
    archive: &Archive<'_>,
    known: &BTreeMap<String, Package>,
    directory: &Path,
) -> Result<Kernel> {
    let kept = Kernel::kept(series, directory);
    let newest = packages::choose(known, series).and_then(|choice| {
        let wanted = note(&choice);
        match &kept {
            Some(kept) if kept.note == wanted => Ok(()),
            _ => unpack(archive, &choice, &wanted, directory),
        }
    });
    match (newest, kept) {
        (Ok(()), _) => Kernel::kept(series, directory)
            .with_context(|| format!("{} was just written and is gone", directory.display())),
        (Err(error), Some(kept)) => {
            eprintln!(
                "warning: {error:#}; going on with {}, which is here",
                kept.note.release
            );
            Ok(kept)
        }
        (Err(error), None) => Err(error.context(format!(
            "cannot get a kernel {series}, and none is kept here"
        ))),
    }
}

/// What will be known of a kernel.
fn note(choice: &Choice) -> Note {
    let origin = |package: &Package| Origin {
        name: package.name.clone(),
        version: package.version.as_str().to_owned(),
        sha256: package.sha256.clone(),
    };
    Note {
        release: choice.release.clone(),
        modules: modules::WANTED.map(str::to_owned).to_vec(),
        packages: choice.packages.iter().map(origin).collect(),
    }
}

/// Downloads a kernel and puts what guests need of it in the place of the one that is kept.
fn unpack(archive: &Archive<'_>, choice: &Choice, note: &Note, directory: &Path) -> Result<()> {
    let mut scratch = directory.as_os_str().to_owned();
    scratch.push(".new");
    let scratch = PathBuf::from(scratch);
    let whole = scratch.join("packages");
    remove(&scratch)?;
    make_directory(&whole)?;
    archive.unpack(&choice.packages, &whole)?;

    let image = find_image(&whole, &choice.release)?;
    let place = scratch.join(IMAGE);
    fs::rename(&image, &place)
        .with_context(|| format!("cannot move {} to {}", image.display(), place.display()))?;
    let modules = ["lib/modules", "usr/lib/modules"]
        .map(|place| whole.join(place).join(&choice.release).join("kernel"))
        .into_iter()
        .find(|place| place.is_dir())
        .with_context(|| format!("the packages of {} hold no modules", choice.release))?;
    modules::collect(&modules, &scratch.join(MODULES))?;
    remove(&whole)?;
    let path = scratch.join(NOTE);
    fs::write(&path, toml::to_string_pretty(note)?)
        .with_context(|| format!("cannot write {}", path.display()))?;

    remove(directory)?;
    fs::rename(&scratch, directory)
        .with_context(|| format!("cannot move {} into its place", scratch.display()))
}

/// The image lies in /boot, from 7.x on among the modules.
fn find_image(whole: &Path, release: &str) -> Result<PathBuf> {
    let places = [
        format!("boot/vmlinuz-{release}"),
        format!("usr/lib/modules/{release}/vmlinuz"),
        format!("lib/modules/{release}/vmlinuz"),
    ];
    let found = places.iter().map(|place| whole.join(place));
    match found.into_iter().find(|place| place.is_file()) {
        Some(image) => Ok(image),
        None => bail!(
            "the packages of {release} hold no kernel at {}",
            places.join(" or ")
        ),
    }
}

/// Removes a directory, if it is there.
fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}
