//! Who this node is to its peers, and what it demands of them: one bundle, mutual TLS 1.3.
//!
//! A node's certificate carries the DNS name `<node>.<cluster>.mesh`. TLS checks that the chain
//! ends in this cluster's CA, on both sides; names are checked right after the handshake, because
//! only then can a refusal carry a reason that the peer logs too.

use std::fmt;
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{DigitallySignedStruct, PeerIncompatible, RootCertStore};
use rustls::{SignatureScheme, server::ParsedCertificate};
use webpki::EndEntityCert;

use crate::proto::NodeName;

/// The ALPN protocol of a live connection.
pub(super) const ALPN_LIVE: &[u8] = b"cursormesh/1";
/// The ALPN protocol of a bulk connection.
pub(super) const ALPN_BULK: &[u8] = b"cursormesh-bulk/1";
/// The ALPN protocol of a connection that carries requests.
pub(super) const ALPN_CARRY: &[u8] = b"cursormesh-carry/1";

/// Why a bundle cannot be used. Nothing was kept of it.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The bytes are not PEM.
    #[error("the bundle is not valid PEM: {0}")]
    Pem(String),
    /// There is no private key.
    #[error("the bundle has no private key (a PEM section that ends in PRIVATE KEY)")]
    NoKey,
    /// There is more than one private key.
    #[error("the bundle has more than one private key")]
    ManyKeys,
    /// The private key is of an unsupported kind or damaged.
    #[error("the bundle's private key cannot be used: {0}")]
    Key(rustls::Error),
    /// A certificate cannot be read.
    #[error("a certificate in the bundle cannot be read: {0}")]
    Certificate(String),
    /// No certificate belongs to the private key.
    #[error("no certificate in the bundle belongs to its private key")]
    NoCertificate,
    /// There is no self-signed CA certificate.
    #[error("the bundle has no CA certificate (a self-signed certificate)")]
    NoCa,
    /// The node's certificate does not carry exactly one name of the right form.
    #[error("the node's certificate must carry one DNS name <node>.<cluster>.mesh: {0}")]
    Names(String),
    /// The node's certificate would not be accepted by a peer with the same CA.
    #[error("the node's certificate would be refused by peers: {0}")]
    Untrusted(rustls::Error),
}

/// What is wrong with PEM text, in words: the parser shows its sections as lists of bytes.
fn pem_problem(error: &pem::Error) -> String {
    let label = |bytes: &[u8]| String::from_utf8_lossy(bytes).escape_debug().to_string();
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            format!("its section {} has no end", label(end_marker))
        }
        pem::Error::IllegalSectionStart { line } => {
            format!("the line {} begins no section", label(line))
        }
        other => other.to_string(),
    }
}

/// A node's parsed and checked bundle: CA certificates, its own certificate chain, its key.
#[derive(Clone)]
pub struct Identity {
    node: NodeName,
    cluster: NodeName,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl Identity {
    /// Reads a bundle: PEM with one private key, the certificate that belongs to it, any
    /// intermediate certificates, and one or more self-signed CA certificates (two while a CA is
    /// being replaced), in any order. Other PEM sections are ignored.
    ///
    /// The certificate is checked as a peer would check it: signed by a CA of the bundle, valid
    /// now, allowed for both client and server.
    pub fn from_pem(bundle: &[u8]) -> Result<Self, IdentityError> {
        let mut keys = Vec::new();
        let mut certificates = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bundle) {
            let (kind, der) = section.map_err(|error| IdentityError::Pem(pem_problem(&error)))?;
            if kind == SectionKind::Certificate {
                certificates.push(CertificateDer::from(der));
            } else if let Some(key) = PrivateKeyDer::from_pem(kind, der) {
                keys.push(key);
            }
        }
        let key = keys.pop().ok_or(IdentityError::NoKey)?;
        if !keys.is_empty() {
            return Err(IdentityError::ManyKeys);
        }
        let provider = provider();
        let signer = provider
            .key_provider
            .load_private_key(key.clone_key())
            .map_err(IdentityError::Key)?;
        let public = signer.public_key().ok_or(IdentityError::NoCertificate)?;

        let mut roots = RootCertStore::empty();
        let mut leaf = None;
        let mut intermediates = Vec::new();
        for der in certificates {
            let bad = |error: &dyn fmt::Display| IdentityError::Certificate(error.to_string());
            let (is_leaf, is_root) = {
                let parsed = EndEntityCert::try_from(&der).map_err(|error| bad(&error))?;
                let spki = parsed.subject_public_key_info();
                (
                    spki.as_ref() == public.as_ref(),
                    parsed.issuer() == parsed.subject(),
                )
            };
            if is_leaf {
                leaf = Some(der);
            } else if is_root {
                roots.add(der).map_err(|error| bad(&error))?;
            } else {
                intermediates.push(der);
            }
        }
        let leaf = leaf.ok_or(IdentityError::NoCertificate)?;
        if roots.is_empty() {
            return Err(IdentityError::NoCa);
        }
        let (node, cluster) = names(&leaf).map_err(IdentityError::Names)?;
        let identity = Self {
            node,
            cluster,
            roots: Arc::new(roots),
            chain: std::iter::once(leaf).chain(intermediates).collect(),
            key: Arc::new(key),
        };
        identity.check_own_chain()?;
        Ok(identity)
    }

    /// The node's name, from the certificate.
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// The cluster's name, from the certificate.
    pub fn cluster(&self) -> &NodeName {
        &self.cluster
    }

    /// TLS for accepted connections: a client certificate signed by this cluster's CA is demanded.
    pub(super) fn server_config(&self) -> Result<QuicServerConfig, rustls::Error> {
        self.server_config_for(&[ALPN_LIVE, ALPN_BULK, ALPN_CARRY])
    }

    /// The same with these ALPN protocols alone.
    pub(super) fn server_config_for(
        &self,
        protocols: &[&[u8]],
    ) -> Result<QuicServerConfig, rustls::Error> {
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(self.client_verifier()?)
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        QuicServerConfig::try_from(config).map_err(no_suite)
    }

    /// TLS for dialled connections of one kind.
    pub(super) fn client_config(&self, alpn: &[u8]) -> Result<QuicClientConfig, rustls::Error> {
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(self.chain_only()))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_early_data = false;
        QuicClientConfig::try_from(config).map_err(no_suite)
    }

    fn check_own_chain(&self) -> Result<(), IdentityError> {
        let (leaf, intermediates) = self
            .chain
            .split_first()
            .ok_or(IdentityError::NoCertificate)?;
        let now = UnixTime::now();
        self.chain_only()
            .check(leaf, intermediates, now)
            .and_then(|()| {
                self.client_verifier()?
                    .verify_client_cert(leaf, intermediates, now)
                    .map(|_| ())
            })
            .map_err(IdentityError::Untrusted)
    }

    fn client_verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), provider())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))
    }

    fn chain_only(&self) -> ChainOnly {
        ChainOnly {
            roots: Arc::clone(&self.roots),
            algorithms: provider().signature_verification_algorithms,
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("node", &self.node)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// The node and cluster that a certificate names, or what is wrong with its names.
pub(super) fn names(der: &CertificateDer<'_>) -> Result<(NodeName, NodeName), String> {
    let certificate = EndEntityCert::try_from(der).map_err(|error| error.to_string())?;
    let mut all = certificate.valid_dns_names();
    let (Some(name), None) = (all.next(), all.next()) else {
        return Err(format!(
            "it carries {} DNS names",
            certificate.valid_dns_names().count()
        ));
    };
    let mut labels = name.split('.');
    match (labels.next(), labels.next(), labels.next(), labels.next()) {
        (Some(node), Some(cluster), Some("mesh"), None) => {
            let label = |text| NodeName::new(text).map_err(|error| format!("{name:?}: {error}"));
            Ok((label(node)?, label(cluster)?))
        }
        _ => Err(format!("it carries {name:?}")),
    }
}

/// Never the process default, which another part of the process may have set.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn no_suite(error: impl fmt::Display) -> rustls::Error {
    rustls::Error::General(error.to_string())
}

/// Checks a server's chain and handshake signature but not its name: whom one finds behind a
/// seed's address is not known before.
#[derive(Debug)]
struct ChainOnly {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ChainOnly {
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(leaf)?,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )
    }
}

impl ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::net::certs::Ca;

    fn refused(bundle: &str) -> IdentityError {
        Identity::from_pem(bundle.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_bundle_names_its_node_and_cluster_in_any_order_of_sections() {
        let ca = Ca::new();
        let (certificate, key) = ca.issue(&["n1.red.mesh".into()]);
        let ca = ca.pem();
        let other = "-----BEGIN SOMETHING ELSE-----\nAAAA\n-----END SOMETHING ELSE-----\n";
        for bundle in [
            format!("{ca}{certificate}{key}"),
            format!("{key}{certificate}{ca}"),
            format!("{certificate}{other}{ca}{key}"),
        ] {
            let identity = Identity::from_pem(bundle.as_bytes()).unwrap();
            assert_eq!(identity.node().as_str(), "n1");
            assert_eq!(identity.cluster().as_str(), "red");
            assert!(!format!("{identity:?}").contains("key"));
        }
    }

    #[test]
    fn two_ca_certificates_are_taken_while_one_replaces_the_other() {
        let (old, new) = (Ca::new(), Ca::new());
        let bundle = format!("{}{}", old.pem(), new.bundle("n1", "red"));
        assert_eq!(
            Identity::from_pem(bundle.as_bytes()).unwrap().roots.len(),
            2
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let ca = Ca::new();
        let (certificate, key) = ca.issue(&["n1.red.mesh".into()]);
        let (_, other_key) = ca.issue(&["n1.red.mesh".into()]);
        let ca = ca.pem();
        assert!(matches!(refused(""), IdentityError::NoKey));
        assert!(matches!(
            refused(&format!("{ca}{certificate}")),
            IdentityError::NoKey
        ));
        assert!(matches!(
            refused(&format!("{ca}{certificate}{key}{other_key}")),
            IdentityError::ManyKeys
        ));
        assert!(matches!(
            refused(&format!("{ca}{certificate}{other_key}")),
            IdentityError::NoCertificate
        ));
        assert!(matches!(
            refused(&format!("{certificate}{key}")),
            IdentityError::NoCa
        ));
        assert!(matches!(
            refused("-----BEGIN CERTIFICATE-----\n"),
            IdentityError::Pem(_)
        ));
        let error = refused("-----BEGIN CERTIFICATE-----\nAAAA\n").to_string();
        assert!(
            error.ends_with("its section CERTIFICATE has no end"),
            "{error}"
        );
        assert!(matches!(
            refused(&format!(
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{key}"
            )),
            IdentityError::Certificate(_)
        ));
    }

    #[test]
    fn a_certificate_of_another_ca_is_refused_at_home_already() {
        let (certificate, key) = Ca::new().issue(&["n1.red.mesh".into()]);
        let bundle = format!("{}{certificate}{key}", Ca::new().pem());
        assert!(matches!(refused(&bundle), IdentityError::Untrusted(_)));
    }

    #[test]
    fn names_of_another_form_are_refused() {
        let ca = Ca::new();
        for names in [
            vec![],
            vec!["n1.red"],
            vec!["n1.red.mesh.example"],
            vec!["n1.red.mash"],
            vec!["N1.red.mesh"],
            vec!["n1.red.mesh", "n2.red.mesh"],
        ] {
            let names: Vec<String> = names.into_iter().map(Into::into).collect();
            let (certificate, key) = ca.issue(&names);
            let error = refused(&format!("{}{certificate}{key}", ca.pem()));
            assert!(matches!(error, IdentityError::Names(_)), "{names:?}");
        }
    }
}
