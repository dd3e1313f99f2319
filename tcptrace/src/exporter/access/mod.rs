//! Who may ask, and how: the file of `--web.config.file`, in the format of Prometheus's
//! exporter-toolkit.
//!
//! The file, and the files it names, are checked when a client connects or asks, at most once a
//! second. An invalid file changes nothing, and neither does one that no longer asks for TLS,
//! client certificates or passwords; the log and a metric say so.

mod file;
mod logins;
mod tls;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    io::{self, ErrorKind},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use hyper::{
    header::{AUTHORIZATION, HeaderName, HeaderValue},
    http::request::Parts,
};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::privileges;

use self::{
    file::{AccessFile, Certificates, RateFile},
    logins::Logins,
};

/// The least time between two checks of the files.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest interval between requests that can be configured.
const A_DAY: Duration = Duration::from_secs(86_400);
/// How many correct passwords are remembered.
const REMEMBERED: usize = 64;
/// The highest cost of a bcrypt hash: a login takes a second of processor time.
const HIGHEST_COST: u32 = 14;
/// A hash without a password, except for its version and cost.
const NOBODY: &str = "abcdefghijklmnopqrstuuqAR3hbsFYRD9pn.Yz0vHSzVDYxCjM9e";

/// The rules of a file.
#[derive(Default)]
pub(super) struct Rules {
    /// Connections use TLS.
    pub(super) tls: Option<TlsAcceptor>,
    /// The headers of every response.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    certificates: Certificates,
    /// bcrypt hashes by user; without any, no password is asked for.
    users: BTreeMap<String, String>,
    /// The hash that an unknown user's password is checked against. It has the highest cost of the
    /// file, so that the time does not tell known users.
    nobody: String,
    rate: Option<Arc<Rate>>,
    /// Correct `Authorization` headers.
    right: Mutex<HashSet<Vec<u8>>>,
    /// When each file was changed, and its length.
    stamps: Vec<(PathBuf, Option<(SystemTime, u64)>)>,
}

/// The rate limit: a token bucket, full at first.
struct Rate {
    interval: Duration,
    burst: u32,
    /// When it is full again.
    full: Mutex<Instant>,
}

struct AccessState {
    rules: Arc<Rules>,
    /// When the files were last checked.
    looked: Option<Instant>,
    /// The files are valid and in use.
    is_valid: bool,
}

/// The decision on a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Anyone may ask.
    Public,
    /// The password is correct.
    Known,
    /// The password is missing or wrong.
    Denied,
    Busy,
}

/// The current rules.
pub(super) struct Access {
    path: Option<PathBuf>,
    state: Mutex<AccessState>,
    logins: Logins,
}

impl Access {
    /// Reads the file, if there is one. `check` tells whether a password matches a hash.
    pub(super) fn open(
        path: Option<&Path>,
        check: fn(&[u8], &str) -> bool,
    ) -> anyhow::Result<Self> {
        let rules = path.map(Rules::read).transpose()?.unwrap_or_default();
        Ok(Self {
            path: path.map(Path::to_owned),
            state: Mutex::new(AccessState {
                rules: Arc::new(rules),
                looked: None,
                is_valid: true,
            }),
            logins: Logins::new(check),
        })
    }

    /// Returns the current rules.
    pub(super) fn rules(&self) -> Arc<Rules> {
        let mut state = self.state.lock();
        let AccessState {
            rules,
            looked,
            is_valid,
        } = &mut *state;
        let Some(path) = &self.path else {
            return Arc::clone(rules);
        };
        if looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            *looked = Some(Instant::now());
            let is_same = |(path, before): &(PathBuf, _)| stamp(path) == *before;
            if !rules.stamps.iter().all(is_same) {
                let read = Rules::read(path).and_then(|read| {
                    rules
                        .must_be_as_strict(&read)
                        .with_context(|| format!("--web.config.file {}", path.display()))?;
                    Ok(read)
                });
                *is_valid = read.is_ok();
                match read {
                    Ok(read) => {
                        tracing::info!("{} was read again", path.display());
                        *rules = Arc::new(read);
                    }
                    Err(error) => {
                        let cause = error.root_cause().downcast_ref::<io::Error>();
                        let cause = cause.map(io::Error::kind);
                        let why = match cause {
                            Some(ErrorKind::PermissionDenied) if privileges::is_sandboxed() => {
                                "; the sandbox lets it read only the directories that the files were \
                                 in at the start, and no capability helps: restart tcptrace"
                            }
                            Some(_) | None => "",
                        };
                        tracing::error!("{error:#}; keeping the previous version{why}");
                        let stamps = rules.stamps.iter();
                        let stamps = stamps.map(|(path, _)| (path.clone(), stamp(path)));
                        *rules = Arc::new(rules.with_stamps(stamps.collect()));
                    }
                }
            }
        }
        Arc::clone(rules)
    }

    /// Returns the directories that its files are in, by name and behind links.
    pub(super) fn directories(&self) -> Vec<PathBuf> {
        let rules = self.rules();
        let paths = rules.stamps.iter().map(|(path, _)| path);
        let real = paths.clone().filter_map(|path| fs::canonicalize(path).ok());
        let all = paths.cloned().chain(real);
        let directories: BTreeSet<PathBuf> = all
            .filter_map(|path| path.parent().map(Path::to_owned))
            .map(|directory| match directory.as_os_str().is_empty() {
                true => PathBuf::from("."),
                false => directory,
            })
            .collect();
        directories.into_iter().collect()
    }

    /// Whether the files are valid and in use.
    pub(super) fn is_valid(&self) -> bool {
        let state = self.state.lock();
        state.is_valid
    }

    /// Decides on a request from the address `from`.
    pub(super) async fn admits(
        &self,
        rules: &Arc<Rules>,
        from: IpAddr,
        request: &Parts,
    ) -> Admission {
        if rules.users.is_empty() {
            return Admission::Public;
        }
        let Some(sent) = request
            .headers
            .get(AUTHORIZATION)
            .map(HeaderValue::as_bytes)
        else {
            return Admission::Denied;
        };
        let right = || rules.right.lock();
        if right().contains(sent) {
            return Admission::Known;
        }
        let Some((user, password)) = credentials(sent) else {
            return Admission::Denied;
        };
        let known = rules.users.get(&user);
        let is_known = known.is_some();
        let hash = known.unwrap_or(&rules.nobody).clone();
        match self.logins.check(from, password, hash).await {
            None => return Admission::Busy,
            Some(true) if is_known => {}
            Some(_) => return Admission::Denied,
        }
        let mut right = right();
        if right.len() >= REMEMBERED {
            right.clear();
        }
        right.insert(sent.to_vec());
        Admission::Known
    }
}

/// Parses the user and password of `Basic …` (RFC 7617).
fn credentials(sent: &[u8]) -> Option<(String, Vec<u8>)> {
    let (scheme, rest) = sent.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(rest.trim_ascii()).ok()?;
    let colon = decoded.iter().position(|&byte| byte == b':')?;
    let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((user, decoded[colon + 1..].to_vec()))
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

impl Rules {
    fn read(path: &Path) -> anyhow::Result<Self> {
        Self::read_all(path).with_context(|| format!("--web.config.file {}", path.display()))
    }

    fn read_all(path: &Path) -> anyhow::Result<Self> {
        let mut stamps = vec![(path.to_owned(), stamp(path))];
        let text = fs::read_to_string(path)?;
        ensure!(
            !text.trim().is_empty(),
            "it is empty; who wants neither TLS nor passwords gives no file"
        );
        // Only its first line: the others quote the file, and with it its secrets.
        let file: AccessFile = serde_saphyr::from_str(&text).map_err(|error| {
            let error = error.to_string();
            anyhow::anyhow!("{}", error.lines().next().unwrap_or_default())
        })?;
        let mut highest = 0;
        for (user, hash) in &file.basic_auth_users {
            let cost = hash
                .parse::<bcrypt::HashParts>()
                .with_context(|| format!("basic_auth_users: the hash of {user} is not bcrypt's"))?
                .get_cost();
            ensure!(
                cost <= HIGHEST_COST,
                "basic_auth_users: the hash of {user} has the cost {cost}, with which a login takes a processor \
                 for too long: {HIGHEST_COST} at most"
            );
            highest = highest.max(cost);
        }
        let headers = file.http_server_config.headers.iter().map(|(name, value)| {
            let header = (name.parse(), value.parse());
            match header {
                (Ok(name), Ok(value)) => Ok((name, value)),
                _ => bail!("http_server_config: {name}: {value} is no header"),
            }
        });
        let headers = headers.collect::<anyhow::Result<_>>()?;
        let http2 = file.http_server_config.http2;
        let certificates = file.tls_server_config.as_ref().map(Certificates::new);
        let certificates = certificates.unwrap_or_default();
        let tls = file
            .tls_server_config
            .map(|mut tls| {
                let directory = path.parent().unwrap_or(Path::new("."));
                let files = [
                    &mut tls.cert_file,
                    &mut tls.key_file,
                    &mut tls.client_ca_file,
                ];
                for file in files.into_iter().flatten() {
                    *file = directory.join(&*file);
                    stamps.push((file.clone(), stamp(file)));
                }
                tls::acceptor(&tls, http2).context("tls_server_config")
            })
            .transpose()?;
        let rate = file
            .rate_limit
            .as_ref()
            .map(Rate::new)
            .transpose()?
            .flatten();
        Ok(Self {
            tls,
            headers,
            certificates,
            users: file.basic_auth_users,
            nobody: format!("$2b${highest:02}${NOBODY}"),
            rate: rate.map(Arc::new),
            right: Mutex::default(),
            stamps,
        })
    }

    /// Returns the same rules, for files that were changed since and are not valid.
    fn with_stamps(&self, stamps: Vec<(PathBuf, Option<(SystemTime, u64)>)>) -> Self {
        Self {
            tls: self.tls.clone(),
            headers: self.headers.clone(),
            certificates: self.certificates,
            users: self.users.clone(),
            nobody: self.nobody.clone(),
            rate: self.rate.clone(),
            right: Mutex::default(),
            stamps,
        }
    }

    /// Fails if `new` removes protection: a truncated or half-copied file would.
    fn must_be_as_strict(&self, new: &Self) -> anyhow::Result<()> {
        let taken = [
            ("TLS", self.tls.is_some() && new.tls.is_none()),
            (
                "the check of client certificates",
                new.certificates.is_weaker_than(self.certificates),
            ),
            (
                "the passwords",
                !self.users.is_empty() && new.users.is_empty(),
            ),
        ];
        for (what, is_taken) in taken {
            ensure!(
                !is_taken,
                "it takes {what} away, for which a restart is needed"
            );
        }
        Ok(())
    }

    /// Returns the hash that unknown users' passwords are checked against.
    #[cfg(test)]
    pub(super) fn nobody(&self) -> &str {
        &self.nobody
    }

    /// Whether one more request is allowed.
    pub(super) fn has_token(&self) -> bool {
        self.rate.as_ref().is_none_or(|rate| rate.try_acquire())
    }

    /// Whether clients need a certificate.
    pub(super) const fn knows_clients(&self) -> bool {
        self.certificates.required
    }

    /// Whether outsiders can neither read along nor ask.
    pub(super) fn protects(&self) -> bool {
        self.tls.is_some() || !self.users.is_empty()
    }
}

impl Rate {
    /// Returns `None` for an interval of 0, which is no limit.
    fn new(file: &RateFile) -> anyhow::Result<Option<Self>> {
        let interval = Duration::try_from(file.interval);
        let interval = interval.context("rate_limit: interval is negative")?;
        ensure!(
            interval <= A_DAY,
            "rate_limit: interval is longer than a day"
        );
        ensure!(
            interval.is_zero() || file.burst > 0,
            "rate_limit: burst is 0, with which nothing is answered"
        );
        Ok((!interval.is_zero()).then(|| Self {
            interval,
            burst: file.burst,
            full: Mutex::new(Instant::now()),
        }))
    }

    fn try_acquire(&self) -> bool {
        let now = Instant::now();
        let mut full = self.full.lock();
        let lacks = full.saturating_duration_since(now);
        let taken = lacks <= self.interval.saturating_mul(self.burst - 1);
        if taken {
            *full = now.max(*full) + self.interval;
        }
        taken
    }
}
