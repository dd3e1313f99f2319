//! Who may ask, and how: the file of `--web.config.file`, in the format of Prometheus's
//! exporter-toolkit.
//!
//! The file, and what it names, are looked at when somebody connects or asks, at most once a second.
//! One that is no longer valid changes nothing, and neither does one that no longer asks for TLS, client
//! certificates or passwords; the log and a metric say so.

mod file;
mod logins;
mod tls;

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use hyper::{
    header::{AUTHORIZATION, HeaderName, HeaderValue},
    http::request::Parts,
};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use self::{
    file::{Certificates, File, RateFile},
    logins::Logins,
};

/// Between two looks at the files.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest interval between requests that can be asked for.
const A_DAY: Duration = Duration::from_secs(86_400);
/// Passwords whose bcrypt is remembered.
const REMEMBERED: usize = 64;
/// The highest cost of a bcrypt hash: a login takes a second of a processor's time.
const HIGHEST_COST: u32 = 14;
/// The hash of no password but for its version and cost.
const NOBODY: &str = "abcdefghijklmnopqrstuuqAR3hbsFYRD9pn.Yz0vHSzVDYxCjM9e";

/// What a file asks for.
#[derive(Default)]
pub(super) struct Rules {
    /// Connections are by TLS.
    pub(super) tls: Option<TlsAcceptor>,
    /// Those that every response has.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// The requirements on a client's certificate.
    certificates: Certificates,
    /// bcrypt hashes by user; nobody is asked when there are none.
    users: BTreeMap<String, String>,
    /// The hash that an unknown user's password is checked against. It has the highest cost of the file, so
    /// that a known user is not told by the time.
    nobody: String,
    rate: Option<Arc<Rate>>,
    /// What was sent as `Authorization` and was right.
    right: Mutex<HashSet<Vec<u8>>>,
    /// When a file was changed, and how long it is.
    stamps: Vec<(PathBuf, Option<(SystemTime, u64)>)>,
}

/// How many requests are answered: a token bucket, full at first.
struct Rate {
    interval: Duration,
    burst: u32,
    /// When it is full again.
    full: Mutex<Instant>,
}

struct State {
    rules: Arc<Rules>,
    /// When the files were looked at last.
    looked: Option<Instant>,
    /// What the files say now is what holds.
    is_valid: bool,
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Everybody may ask.
    Public,
    /// It has a right password.
    Known,
    /// It has none, or a wrong one.
    Denied,
    /// Too many passwords wait to be checked.
    Busy,
}

/// The rules of the moment.
pub(super) struct Access {
    path: Option<PathBuf>,
    state: Mutex<State>,
    logins: Logins,
}

impl Access {
    /// Reads the file, if there is one. `check` says whether a password is the one of a hash.
    pub(super) fn open(
        path: Option<&Path>,
        check: fn(&[u8], &str) -> bool,
    ) -> anyhow::Result<Self> {
        let rules = path.map(Rules::read).transpose()?.unwrap_or_default();
        Ok(Self {
            path: path.map(Path::to_owned),
            state: Mutex::new(State {
                rules: Arc::new(rules),
                looked: None,
                is_valid: true,
            }),
            logins: Logins::new(check),
        })
    }

    /// The rules that hold now.
    pub(super) fn rules(&self) -> Arc<Rules> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State {
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
                        tracing::error!("{error:#}; what it said before holds");
                        let stamps = rules.stamps.iter();
                        let stamps = stamps.map(|(path, _)| (path.clone(), stamp(path)));
                        *rules = Arc::new(rules.with_stamps(stamps.collect()));
                    }
                }
            }
        }
        Arc::clone(rules)
    }

    /// The files say what holds: they were not changed to what is not valid.
    pub(super) fn is_valid(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_valid
    }

    /// Whether a request comes from somebody who may ask. `from` is the address that it came from.
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
        let right = || rules.right.lock().unwrap_or_else(PoisonError::into_inner);
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

/// User and password of `Basic …` (RFC 7617).
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
        // Only its first line: the others show the place in the file, and with it what is there.
        let file: File = serde_saphyr::from_str(&text).map_err(|error| {
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
        let certificates = file.tls_server_config.as_ref().map(Certificates::of);
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

    /// The same, of files that were changed since and are not valid.
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

    /// Fails if `new` takes away what keeps strangers out: a file that was truncated, or copied by half,
    /// does.
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

    /// The hash of no password that is made for unknown users.
    #[cfg(test)]
    pub(super) fn nobody(&self) -> &str {
        &self.nobody
    }

    /// There is a token for one more request, or no limit.
    pub(super) fn has_token(&self) -> bool {
        self.rate.as_ref().is_none_or(|rate| rate.take())
    }

    /// Nobody without a certificate gets as far as to ask.
    pub(super) const fn knows_clients(&self) -> bool {
        self.certificates.required
    }

    /// Whether strangers can neither read along nor ask.
    pub(super) fn protects(&self) -> bool {
        self.tls.is_some() || !self.users.is_empty()
    }
}

impl Rate {
    /// `None` for an interval of 0, which is no limit.
    fn new(file: &RateFile) -> anyhow::Result<Option<Self>> {
        let interval = Duration::try_from(file.interval);
        let interval = interval.context("rate_limit: interval is negative")?;
        ensure!(interval <= A_DAY, "rate_limit: interval is above a day");
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

    fn take(&self) -> bool {
        let now = Instant::now();
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let lacks = full.saturating_duration_since(now);
        let taken = lacks <= self.interval.saturating_mul(self.burst - 1);
        if taken {
            *full = now.max(*full) + self.interval;
        }
        taken
    }
}
