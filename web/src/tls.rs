//! What a node proves to browsers that it is who they called.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

/// A certificate chain and its key, ready to serve TLS 1.3 and 1.2 with.
#[derive(Debug, Clone)]
pub struct Tls(Arc<ServerConfig>);

/// Why a certificate or a key cannot be served with.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The file of certificates has none, or one that cannot be read.
    #[error("no certificate chain in PEM: {0}")]
    Certificate(pem::Error),
    /// The file of the key has none, or one that cannot be read.
    #[error("no private key in PEM: {0}")]
    Key(pem::Error),
    /// The two do not belong together, or are of a kind that is not supported.
    #[error(transparent)]
    Unusable(#[from] rustls::Error),
}

impl Tls {
    /// Serves with the certificates in `chain`, the node's own first, and the private key in `key`
    /// (PKCS #8, PKCS #1 or SEC 1), both PEM. Only HTTP/1.1 is offered, as WebSockets need it.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(TlsError::Certificate)?;
        if chain.is_empty() {
            return Err(TlsError::Certificate(pem::Error::NoItemsFound));
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(TlsError::Key)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.0.clone()
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Tls {}
