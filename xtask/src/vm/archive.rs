//! Debian's archive as a private state of apt: the machine's own lists and settings stay as they
//! are, and no root is needed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::packages::{self, Package};
use crate::{apt, command::run, ebpf::sha256};

/// Whose signatures count.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Where the archive is, for machines that have no mirror of their own.
const ARCHIVE: &str = "http://deb.debian.org/debian";
const SECURITY: &str = "http://deb.debian.org/debian-security";
/// The name of the file with apt's settings.
const CONFIGURATION: &str = "apt.conf";
/// Written when the lists were fetched.
const STAMP: &str = "updated";
/// For so long lists are taken for new.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// Which part of the archive.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    /// As Debian calls it.
    pub(crate) architecture: &'a str,
    pub(crate) suites: &'a [&'a str],
    pub(crate) security_suites: &'a [&'a str],
}

/// Where kernels are.
pub(crate) const KERNELS: Part<'_> = Part {
    architecture: "amd64",
    suites: &[
        "bullseye",
        "bookworm",
        "bookworm-backports",
        "trixie-backports",
        "sid",
    ],
    security_suites: &["bullseye-security", "bookworm-security"],
};

/// The archive, as it was when the lists were fetched.
pub(crate) struct Archive<'a> {
    /// Where apt keeps all that it knows.
    directory: PathBuf,
    part: Part<'a>,
}

impl<'a> Archive<'a> {
    /// Opens it, and fetches the lists if they are a day old. Without a network the old ones do.
    pub(crate) fn open(directory: &Path, part: Part<'a>) -> Result<Self> {
        for below in ["lists/partial", "cache/archives/partial"] {
            make_directory(&directory.join(below))?;
        }
        let archive = Self {
            directory: directory.to_owned(),
            part,
        };
        let configuration = configuration(directory, archive.part.architecture);
        archive.write(CONFIGURATION, &configuration)?;
        if !archive.is_fresh() {
            archive.update()?;
        }
        Ok(archive)
    }

    /// Every kernel that the lists know, with its parts.
    pub(crate) fn kernels(&self) -> Result<BTreeMap<String, Package>> {
        let found = self.ask(&["search", "--names-only", packages::NAMES])?;
        let names: BTreeSet<&str> = found
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let show: Vec<&str> = ["show"].into_iter().chain(names).collect();
        Ok(packages::parse(&self.ask(&show)?))
    }

    /// A package in this very version.
    pub(crate) fn package(&self, name: &str, version: &str) -> Result<Package> {
        let shown = self.ask(&["show", &format!("{name}={version}")])?;
        let package = packages::parse(&shown).remove(name);
        package.with_context(|| format!("the package lists have no {name} {version}"))
    }

    /// Installs packages on this machine, preferring one suite for all that is new.
    pub(crate) fn install(&self, packages: &[&str], suite: &str) -> Result<()> {
        apt::install_from(&self.configuration(), suite, packages)
    }

    /// Downloads packages, checks their hashes, and unpacks them into a directory.
    pub(crate) fn unpack(&self, packages: &[Package], directory: &Path) -> Result<()> {
        for package in packages {
            let download = directory.join(format!(".{}", package.name));
            make_directory(&download)?;
            let file = self.download(package, &download)?;
            run(Command::new("dpkg-deb")
                .arg("--extract")
                .arg(&file)
                .arg(directory))?;
            fs::remove_dir_all(&download)
                .with_context(|| format!("cannot remove {}", download.display()))?;
        }
        Ok(())
    }

    /// Downloads one package into an empty directory, and checks its hash: apt has done so as well,
    /// unless it is told not to somewhere.
    fn download(&self, package: &Package, directory: &Path) -> Result<PathBuf> {
        let Package {
            name,
            version,
            sha256: wanted,
            ..
        } = package;
        run(self
            .command("apt-get")
            .args(["--quiet=2", "download"])
            .arg(format!("{name}={}", version.as_str()))
            .current_dir(directory))?;
        let mut files = fs::read_dir(directory)
            .with_context(|| format!("cannot list {}", directory.display()))?;
        let file = files
            .next()
            .with_context(|| format!("apt-get download {name} left nothing"))??
            .path();
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let hash = sha256(&bytes);
        if hash != *wanted {
            bail!(
                "{} has the SHA-256 {hash}, and the archive's lists say {wanted}",
                file.display()
            );
        }
        Ok(file)
    }

    /// Whether the lists were fetched lately.
    fn is_fresh(&self) -> bool {
        let stamp = self.directory.join(STAMP).metadata();
        let fetched = stamp.and_then(|stamp| stamp.modified());
        let age = fetched.ok().and_then(|fetched| fetched.elapsed().ok());
        age.is_some_and(|age| age < FRESH)
    }

    /// Fetches the lists. A suite that is gone or out of reach is no failure: what is known of the
    /// others may do.
    fn update(&self) -> Result<()> {
        self.write("sources.list", &sources(&self.part, &repositories()))?;
        match run(self.command("apt-get").args(["--quiet=2", "update"])) {
            Ok(()) => self.write(STAMP, ""),
            Err(error) => {
                eprintln!("warning: {error:#}; going on with the lists and packages that are here");
                Ok(())
            }
        }
    }

    /// Writes one of the files that this state consists of.
    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.directory.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// What apt-cache says.
    fn ask(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command("apt-cache");
        let output = command
            .args(arguments)
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run apt-cache")?;
        if !output.status.success() {
            bail!("apt-cache {} failed: {}", arguments[0], output.status);
        }
        String::from_utf8(output.stdout).context("apt-cache says what is no UTF-8")
    }

    /// One of apt's programs, on this state.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.configuration());
        command
    }

    /// The file that makes apt use this state.
    fn configuration(&self) -> PathBuf {
        self.directory.join(CONFIGURATION)
    }
}

/// What apt is told of this state. The rest, proxies for one, it has from the machine's settings.
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
// Without this, lists that cannot be fetched are only warned of.
APT::Update::Error-Mode \"any\";
// As root, apt would download as another user, who may not write here.
APT::Sandbox::User \"root\";
"
    )
}

/// The machine's own repositories, as addresses.
fn repositories() -> String {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)"])
        .output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

/// The sources: the part's suites, from the machine's own mirrors if it has any.
fn sources(part: &Part<'_>, repositories: &str) -> String {
    let mirror = |name: &str, default: &'static str| {
        let addresses = repositories.lines().map(|line| line.trim_end_matches('/'));
        let mut mirrors = addresses.filter(|address| address.rsplit('/').next() == Some(name));
        mirrors.next().unwrap_or(default).to_owned()
    };
    let archive = mirror("debian", ARCHIVE);
    let security = mirror("debian-security", SECURITY);
    let main = part.suites.iter().map(|suite| (&archive, suite));
    let secure = part.security_suites.iter().map(|suite| (&security, suite));
    let architecture = part.architecture;
    let all = main.chain(secure);
    all.map(|(address, suite)| {
        format!(
            "deb [arch={architecture} target=Packages signed-by={KEYRING}] {address} {suite} main\n"
        )
    })
    .collect()
}

/// Makes a directory and those above it.
pub(crate) fn make_directory(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suites_are_taken_from_the_machines_own_mirrors() {
        let sources = sources(
            &KERNELS,
            "https://packages.example/apt/\n\
             http://mirror.example/pub/debian/\n\
             http://mirror.example/pub/debian/\n\
             http://mirror.example/pub/debian-security/\n",
        );
        assert_eq!(
            sources.lines().count(),
            KERNELS.suites.len() + KERNELS.security_suites.len()
        );
        for line in [
            "http://mirror.example/pub/debian trixie-backports main",
            "http://mirror.example/pub/debian-security bullseye-security main",
        ] {
            assert!(sources.contains(&format!("] {line}\n")), "{sources}");
        }
        assert!(!sources.contains("packages.example"), "{sources}");
    }

    #[test]
    fn without_one_they_are_taken_from_everybodys() {
        let sources = sources(&KERNELS, "https://archive.ubuntu.example/ubuntu/\n");
        assert!(sources.contains("] http://deb.debian.org/debian sid main\n"));
    }
}
