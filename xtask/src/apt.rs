//! Packages of Debian and of the distributions made from it.
//!
//! Other distributions have other packages: there the missing ones are named, to be installed by
//! hand.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::command::{as_root, exists, run};

/// The keys that sign the archive.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The archive, for machines without a mirror of their own.
const MIRRORS: [(&str, &str); 2] = [
    ("debian", "http://deb.debian.org/debian"),
    ("debian-security", "http://deb.debian.org/debian-security"),
];

/// Returns the version of a package, if it is installed.
pub(crate) fn version(package: &str) -> Option<String> {
    let output = Command::new("dpkg-query")
        .args([
            "--show",
            "--showformat=${db:Status-Abbrev}${Version}",
            package,
        ])
        .output()
        .ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    said.strip_prefix("ii ")
        .map(|version| version.trim().to_owned())
}

/// Updates the package lists, as far as the archives can be reached.
pub(crate) fn update() -> Result<()> {
    if !exists("apt-get") {
        bail!("--install needs apt-get, and this system has none: install by hand what was named");
    }
    let updated =
        run(as_root("apt-get").args(["update", "--quiet=2", "-o", "DPkg::Lock::Timeout=300"]));
    if let Err(error) = updated {
        // An archive that is not ours may be out of reach.
        eprintln!("warning: {error:#}; going on with the lists of packages that are here");
    }
    Ok(())
}

/// Installs packages, without those that they only recommend. Never removes one: apt then names the
/// conflict, and this fails.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    run(install_command(&[]).args(packages)).context(
        "the packages could not be installed: apt says why above, and a release other than \
         Debian 12 may not have them",
    )
}

/// Installs packages of this machine's release or, if they conflict with installed ones, of its
/// backports, whose lists are kept in `directory`.
pub(crate) fn install_or_backport(packages: &[&str], directory: &Path) -> Result<()> {
    let Err(error) = install(packages) else {
        return Ok(());
    };
    eprintln!("warning: {error:#}; trying the backports of this release");
    let release = fs::read_to_string("/etc/os-release").context("cannot tell the release")?;
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("/etc/os-release has no VERSION_CODENAME")?;
    let backports = format!("{name}-backports");
    let archive = Archive::open(directory, native_architecture()?, &[name, &backports])?;
    let lists = format!("APT_CONFIG={}", archive.configuration().display());
    run(install_command(&[&lists])
        .args(["--target-release", &backports])
        .args(packages))
}

/// Returns the command that installs packages, with variables for apt-get.
fn install_command(variables: &[&str]) -> Command {
    let mut command = as_root("env");
    command
        .args(["DEBIAN_FRONTEND=noninteractive"])
        .args(variables)
        .args(["apt-get", "install", "--yes", "--quiet"])
        .args(["--no-remove", "--no-install-recommends"])
        .args(["-o", "DPkg::Lock::Timeout=300"])
        // Without it dpkg writes a progress bar into a log.
        .args(["-o", "Dpkg::Use-Pty=0"]);
    command
}

/// Returns Debian's name of this machine's architecture.
fn native_architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("nothing is known here of Debian on {other}"),
    }
}

/// Extracts files from a package into `directory`, without installing the package: that would start
/// a server.
pub(crate) fn extract(package: &str, files: &[String], directory: &Path) -> Result<()> {
    let scratch = directory.join(format!(".{package}"));
    unpack(
        &mut Command::new("apt-get"),
        &[package.to_owned()],
        &scratch,
    )?;
    for file in files {
        let from = scratch.join(file);
        let name = from.file_name().context("the file has no name")?;
        fs::rename(&from, directory.join(name))
            .with_context(|| format!("the package {package} does not hold {file} any more"))?;
    }
    remove_directory(&scratch)
}

/// Downloads packages, `name` or `name=version`, and unpacks them into a new directory. apt checks
/// the hashes: it downloads only what its signed lists contain.
fn unpack(apt_get: &mut Command, packages: &[String], directory: &Path) -> Result<()> {
    let download = directory.join(".download");
    remove_directory(directory)?;
    make_directory(&download)?;
    run(apt_get
        .args(["download", "--quiet=2", "-o", "APT::Sandbox::User=root"])
        .args(packages)
        .current_dir(&download))?;
    let files =
        fs::read_dir(&download).with_context(|| format!("cannot list {}", download.display()))?;
    for file in files {
        run(Command::new("dpkg-deb")
            .arg("--extract")
            .arg(file?.path())
            .arg(directory))?;
    }
    remove_directory(&download)
}

/// Debian's archive as a private state of apt: the machine's own lists and settings stay unchanged,
/// and root is not needed.
pub(crate) struct Archive {
    directory: PathBuf,
}

impl Archive {
    /// Opens the archive and updates its lists. A suite that is gone or out of reach is no failure:
    /// the others, or older lists, may suffice.
    pub(crate) fn open(directory: &Path, architecture: &str, suites: &[&str]) -> Result<Self> {
        for below in ["lists/partial", "cache/archives/partial"] {
            make_directory(&directory.join(below))?;
        }
        let archive = Self {
            directory: directory.to_owned(),
        };
        let repositories = Command::new("apt-get")
            .args(["indextargets", "--format", "$(REPO_URI)"])
            .output()
            .context("cannot run apt-get")?;
        let repositories = String::from_utf8_lossy(&repositories.stdout);
        for (name, text) in [
            ("apt.conf", configuration(directory, architecture)),
            ("sources.list", sources(architecture, suites, &repositories)),
        ] {
            let path = directory.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        if let Err(error) = run(archive.command("apt-get").args(["--quiet=2", "update"])) {
            eprintln!("warning: {error:#}; going on with the lists that are here");
        }
        Ok(archive)
    }

    /// Returns the versions of a package, newest first.
    pub(crate) fn versions(&self, package: &str) -> Result<Vec<String>> {
        let said = self.ask(&["madison", package])?;
        let version = |line: &str| Some(line.split('|').nth(1)?.trim().to_owned());
        Ok(said.lines().filter_map(version).collect())
    }

    /// Returns the names of the packages that one depends on, with all alternatives.
    pub(crate) fn depends(&self, package: &str, version: &str) -> Result<Vec<String>> {
        let said = self.ask(&["show", &format!("{package}={version}")])?;
        let depends = said.lines().find_map(|line| line.strip_prefix("Depends: "));
        let names = depends.unwrap_or_default().split([',', '|']);
        Ok(names
            .filter_map(|name| Some(name.split_whitespace().next()?.to_owned()))
            .collect())
    }

    /// Downloads packages, `name=version`, and unpacks them into a new directory.
    pub(crate) fn unpack(&self, packages: &[String], directory: &Path) -> Result<()> {
        unpack(&mut self.command("apt-get"), packages, directory)
    }

    /// Returns the output of apt-cache.
    fn ask(&self, arguments: &[&str]) -> Result<String> {
        let output = self
            .command("apt-cache")
            .args(arguments)
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run apt-cache")?;
        if !output.status.success() {
            bail!(
                "apt-cache {} failed: {}",
                arguments.join(" "),
                output.status
            );
        }
        String::from_utf8(output.stdout).context("apt-cache says what is no UTF-8")
    }

    /// Returns a command of apt with this state.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.configuration());
        command
    }

    /// Returns the file that makes apt use this state.
    fn configuration(&self) -> PathBuf {
        self.directory.join("apt.conf")
    }
}

/// Returns apt's configuration for a private state. The rest, such as proxies, comes from the
/// machine's settings.
fn configuration(directory: &Path, architecture: &str) -> String {
    let directory = directory.display();
    format!(
        "\
APT::Architecture \"{architecture}\";
APT::Architectures {{ \"{architecture}\"; }};
Dir::Etc::SourceList \"{directory}/sources.list\";
Dir::Etc::SourceParts \"/dev/null\";
Dir::Etc::Preferences \"/dev/null\";
Dir::Etc::PreferencesParts \"/dev/null\";
Dir::State::Lists \"{directory}/lists\";
Dir::Cache \"{directory}/cache\";
// Without this, lists that cannot be fetched cause only a warning.
APT::Update::Error-Mode \"any\";
// As root, apt would download as another user, who may not write here.
APT::Sandbox::User \"root\";
"
    )
}

/// Returns the sources: suites, from the machine's own mirrors if it has any.
fn sources(architecture: &str, suites: &[&str], repositories: &str) -> String {
    let source = |suite: &&str| {
        let (name, default) = MIRRORS[usize::from(suite.ends_with("-security"))];
        let address = repositories
            .lines()
            .map(|line| line.trim_end_matches('/'))
            .find(|address| address.rsplit('/').next() == Some(name))
            .unwrap_or(default);
        format!(
            "deb [arch={architecture} target=Packages signed-by={KEYRING}] {address} {suite} main\n"
        )
    };
    suites.iter().map(source).collect()
}

pub(crate) fn make_directory(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))
}

pub(crate) fn remove_directory(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_taken_from_the_machines_own_mirrors_and_else_from_everybodys() {
        let repositories = "https://packages.example/apt/\nhttp://mirror.example/pub/debian/\n";
        let signed = format!("deb [arch=arm64 target=Packages signed-by={KEYRING}]");
        assert_eq!(
            sources("arm64", &["sid", "bookworm-security"], repositories),
            format!(
                "{signed} http://mirror.example/pub/debian sid main\n\
                 {signed} http://deb.debian.org/debian-security bookworm-security main\n"
            )
        );
    }
}
