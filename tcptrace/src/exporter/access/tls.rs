//! TLS by `tls_server_config`.

use std::{fs, net::IpAddr, path::Path, sync::Arc};

use anyhow::{Context, bail, ensure};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        CertificateError, CipherSuite, DigitallySignedStruct, DistinguishedName, Error, NamedGroup,
        RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion,
        client::danger::HandshakeSignatureValid,
        crypto::{
            CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature,
            verify_tls13_signature,
        },
        pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
        server::{
            WebPkiClientVerifier,
            danger::{ClientCertVerified, ClientCertVerifier},
        },
        version::{TLS12, TLS13},
    },
};
use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use super::file::{ClientAuth, TlsFile, Version};

/// Creates the acceptor; `http2` offers that too.
pub(super) fn acceptor(file: &TlsFile, http2: bool) -> anyhow::Result<TlsAcceptor> {
    let versions: Vec<&SupportedProtocolVersion> =
        [(Version::Tls12, &TLS12), (Version::Tls13, &TLS13)]
            .into_iter()
            .filter(|(version, _)| (file.min_version..=file.max_version).contains(version))
            .map(|(_, version)| version)
            .collect();
    ensure!(!versions.is_empty(), "max_version is below min_version");
    let provider = Arc::new(provider(file)?);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .context("cipher_suites")?;
    let builder = match verifier(file, &provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let (pem, origin) = pem("cert", file.cert.as_deref(), file.cert_file.as_deref())?
        .context("missing one of cert and cert_file")?;
    let chain = certificates(&pem, &origin)?;
    let (pem, origin) = self::pem("key", file.key.as_deref(), file.key_file.as_deref())?
        .context("missing one of key and key_file")?;
    let key = PrivateKeyDer::from_pem_slice(&pem).with_context(|| format!("no key in {origin}"))?;
    let mut config = builder.with_single_cert(chain, key)?;
    config.ignore_client_order = file.prefer_server_cipher_suites;
    if http2 {
        config.alpn_protocols.push(b"h2".to_vec());
    }
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Returns the PEM of a setting that is inline or a file, and where it is.
fn pem(
    name: &str,
    inline: Option<&str>,
    file: Option<&Path>,
) -> anyhow::Result<Option<(Vec<u8>, String)>> {
    Ok(match (inline, file) {
        (Some(_), Some(_)) => bail!("both {name} and {name}_file are set: remove one"),
        (Some(text), None) => Some((text.into(), name.to_owned())),
        (None, Some(path)) => {
            let origin = path.display().to_string();
            let read = fs::read(path).with_context(|| format!("{name}_file {origin}"))?;
            Some((read, origin))
        }
        (None, None) => None,
    })
}

fn certificates(pem: &[u8], origin: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let failed = || format!("no certificates in {origin}");
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .with_context(failed)?;
    ensure!(!found.is_empty(), failed());
    Ok(found)
}

/// Returns the chosen ciphers and curves, in the file's order.
fn provider(file: &TlsFile) -> anyhow::Result<CryptoProvider> {
    let mut provider = ring::default_provider();
    if !file.cipher_suites.is_empty() {
        // Those of TLS 1.3 cannot be chosen, as in Go.
        let (mut chosen, choice): (Vec<_>, Vec<_>) = provider
            .cipher_suites
            .into_iter()
            .partition(|suite| suite.version().version == TLS13.version);
        let names = |suite: CipherSuite| suite.as_str().unwrap_or_default().to_owned();
        let tls13: Vec<String> = chosen
            .iter()
            .map(|suite| names(suite.suite()).replace("TLS13_", "TLS_"))
            .collect();
        for name in &file.cipher_suites {
            let named = choice.iter().find(|suite| names(suite.suite()) == *name);
            match named {
                Some(suite) => chosen.push(*suite),
                None if tls13.contains(name) => {}
                None => {
                    let known: Vec<String> =
                        choice.iter().map(|suite| names(suite.suite())).collect();
                    bail!("cipher_suites: {name} is none of {}", known.join(", "));
                }
            }
        }
        provider.cipher_suites = chosen;
    }
    if !file.curve_preferences.is_empty() {
        let wanted = file.curve_preferences.iter().map(|name| {
            let group = match name.as_str() {
                "X25519" => NamedGroup::X25519,
                "CurveP256" => NamedGroup::secp256r1,
                "CurveP384" => NamedGroup::secp384r1,
                _ => bail!("curve_preferences: {name} is none of X25519, CurveP256, CurveP384"),
            };
            let mut groups = provider.kx_groups.iter();
            let found = groups.find(|known| known.name() == group).copied();
            found.with_context(|| format!("curve_preferences: {name} is not available"))
        });
        provider.kx_groups = wanted.collect::<anyhow::Result<_>>()?;
    }
    Ok(provider)
}

/// Returns what verifies clients' certificates, if anything does.
fn verifier(
    file: &TlsFile,
    provider: &Arc<CryptoProvider>,
) -> anyhow::Result<Option<Arc<dyn ClientCertVerifier>>> {
    let how = file.client_auth_type;
    let authorities = pem(
        "client_ca",
        file.client_ca.as_deref(),
        file.client_ca_file.as_deref(),
    )?;
    if how == ClientAuth::NoClientCert {
        ensure!(
            authorities.is_none(),
            "client_ca and client_ca_file are of no use without client_auth_type"
        );
    }
    let must = match how {
        ClientAuth::RequireAnyClientCert | ClientAuth::RequireAndVerifyClientCert => true,
        ClientAuth::NoClientCert
        | ClientAuth::RequestClientCert
        | ClientAuth::VerifyClientCertIfGiven => false,
    };
    ensure!(
        must || file.client_allowed_sans.is_none(),
        "client_allowed_sans takes a client_auth_type of RequireAndVerifyClientCert or RequireAnyClientCert: \
         with others a client need not have a certificate"
    );
    let by_authority = match how {
        ClientAuth::NoClientCert => return Ok(None),
        ClientAuth::RequestClientCert | ClientAuth::RequireAnyClientCert => None,
        ClientAuth::VerifyClientCertIfGiven | ClientAuth::RequireAndVerifyClientCert => {
            let (pem, origin) =
                authorities.context("client_auth_type takes a client_ca or client_ca_file")?;
            let mut roots = RootCertStore::empty();
            for certificate in certificates(&pem, &origin)? {
                roots.add(certificate)?;
            }
            let roots = Arc::new(roots);
            let provider = Arc::clone(provider);
            Some(WebPkiClientVerifier::builder_with_provider(roots, provider).build()?)
        }
    };
    Ok(Some(Arc::new(Clients {
        by_authority,
        must,
        names: file.client_allowed_sans.clone(),
        algorithms: provider.signature_verification_algorithms,
    })))
}

/// Which client certificates are accepted.
#[derive(Debug)]
struct Clients {
    /// Signed by one of these; `None` accepts any signature.
    by_authority: Option<Arc<dyn ClientCertVerifier>>,
    must: bool,
    /// One of its subject alternative names must be among these.
    names: Option<Vec<String>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.must
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        match &self.by_authority {
            Some(authority) => authority.root_hint_subjects(),
            None => &[],
        }
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(authority) = &self.by_authority {
            authority.verify_client_cert(own, chain, now)?;
        }
        if let Some(allowed) = &self.names {
            let names = alternative_names(own)
                .ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
            if !names.iter().any(|name| allowed.contains(name)) {
                let refused = CertificateError::ApplicationVerificationFailure;
                return Err(Error::InvalidCertificate(refused));
            }
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, own, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, own, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Returns the names of hosts, addresses, mailboxes and URIs (RFC 5280, section 4.2.1.6) as text;
/// `None` if it is no certificate.
fn alternative_names(certificate: &CertificateDer<'_>) -> Option<Vec<String>> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let extension = certificate.tbs_certificate().get_extension();
    let Some((_, SubjectAltName(names))) = extension.ok()? else {
        return Some(Vec::new());
    };
    let names = names.into_iter().filter_map(|name| match name {
        GeneralName::DnsName(text)
        | GeneralName::Rfc822Name(text)
        | GeneralName::UniformResourceIdentifier(text) => Some(text.to_string()),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        GeneralName::OtherName(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EdiPartyName(_)
        | GeneralName::RegisteredId(_) => None,
    });
    Some(names.collect())
}
