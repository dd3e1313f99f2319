//! The file of `--web.config.file`, as written.

use std::{collections::BTreeMap, path::PathBuf};

use jiff::SignedDuration;
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AccessFile {
    pub(super) tls_server_config: Option<TlsFile>,
    pub(super) http_server_config: HttpFile,
    pub(super) basic_auth_users: BTreeMap<String, String>,
    pub(super) rate_limit: Option<RateFile>,
}

/// `tls_server_config`. Certificates and keys are PEM, in a file or inline.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TlsFile {
    pub(super) cert: Option<String>,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key: Option<String>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) client_auth_type: ClientAuth,
    pub(super) client_ca: Option<String>,
    pub(super) client_ca_file: Option<PathBuf>,
    pub(super) client_allowed_sans: Option<Vec<String>>,
    pub(super) min_version: Version,
    pub(super) max_version: Version,
    pub(super) cipher_suites: Vec<String>,
    pub(super) prefer_server_cipher_suites: bool,
    pub(super) curve_preferences: Vec<String>,
}

impl Default for TlsFile {
    fn default() -> Self {
        Self {
            cert: None,
            cert_file: None,
            key: None,
            key_file: None,
            client_auth_type: ClientAuth::NoClientCert,
            client_ca: None,
            client_ca_file: None,
            client_allowed_sans: None,
            min_version: Version::Tls12,
            max_version: Version::Tls13,
            cipher_suites: Vec::new(),
            prefer_server_cipher_suites: true,
            curve_preferences: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Default)]
pub(super) struct Certificates {
    /// A certificate is required.
    pub(super) required: bool,
    /// A required certificate must be signed by a known authority.
    verified: bool,
    /// A required certificate must have one of some names.
    named: bool,
}

impl Certificates {
    /// Returns the requirements of a `tls_server_config`.
    pub(super) fn new(file: &TlsFile) -> Self {
        let how = file.client_auth_type;
        let verified = how == ClientAuth::RequireAndVerifyClientCert;
        Self {
            required: verified || how == ClientAuth::RequireAnyClientCert,
            verified,
            named: file.client_allowed_sans.is_some(),
        }
    }

    /// Whether a client that `before` refuses may be accepted.
    pub(super) const fn is_weaker_than(self, before: Self) -> bool {
        (before.required && !self.required)
            || (before.verified && !self.verified)
            || (before.named && !self.named)
    }
}

/// `http_server_config`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct HttpFile {
    /// Only over TLS.
    pub(super) http2: bool,
    pub(super) headers: BTreeMap<String, String>,
}

impl Default for HttpFile {
    fn default() -> Self {
        Self {
            http2: true,
            headers: BTreeMap::new(),
        }
    }
}

/// `rate_limit`: a token bucket of `burst` requests, one more every `interval`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RateFile {
    pub(super) interval: SignedDuration,
    pub(super) burst: u32,
}

/// Go's names (`tls.ClientAuthType`).
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum ClientAuth {
    #[serde(alias = "")]
    NoClientCert,
    RequestClientCert,
    #[serde(alias = "RequireClientCert")]
    RequireAnyClientCert,
    VerifyClientCertIfGiven,
    RequireAndVerifyClientCert,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) enum Version {
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}
