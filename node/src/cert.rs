//! The cluster's private CA and the nodes' bundles.
//!
//! A CA is a directory: `ca.pem` (certificate), `ca.key` (its private key, 0600) and
//! `cluster.secret` (32 random bytes that all nodes share, 0600). A bundle is one file, 0600: the
//! node's certificate, the CA's, the node's private key, the secret. Keys are ECDSA P-256. The
//! node's certificate carries the DNS name `<node>.<cluster>.mesh` and serves both ends of a link.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cursormesh_mesh::proto::NodeName;
use pem::Pem;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use ring::rand::SecureRandom;
use x509_parser::prelude::{FromDer, X509Certificate};

const SECRET_TAG: &str = "CURSORMESH CLUSTER SECRET";
const CERTIFICATE_TAG: &str = "CERTIFICATE";
const KEY_TAG: &str = "PRIVATE KEY";
const SECRET_BYTES: usize = 32;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a CA is valid.
const CA_VALID: Duration = DAY.saturating_mul(3650);
/// How long a node's certificate is valid.
const NODE_VALID: Duration = DAY.saturating_mul(365);
/// Certificates begin this long before they are made, for clocks that disagree.
const SKEW: Duration = Duration::from_secs(60 * 60);
/// Largest certificate file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why a certificate could not be made, written or read. Files that were there are unchanged.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// A file or directory could not be read or written.
    #[error("{}: {error}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file is there already and was not to be replaced.
    #[error("{}: is there already and was left alone\n  remedy: {remedy}", .path.display())]
    Exists {
        /// Which.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
    },
    /// There is no CA in a directory.
    #[error(
        "{}: there is no CA here (no ca.pem)\n  remedy: make one with `cursormesh cert ca --out {0}`, or name its \
         directory with --ca", .dir.display()
    )]
    NoCa {
        /// The directory.
        dir: PathBuf,
    },
    /// A file's contents cannot be used.
    #[error("{}: {problem}\n  remedy: {remedy}", .path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Key generation or signing failed.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
}

/// A cluster's CA with its private key and the cluster's secret.
pub struct Authority {
    cluster: NodeName,
    certificate_der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
    key_der: Vec<u8>,
    secret: Vec<u8>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// A new CA for a cluster, in memory.
    pub fn new(cluster: &NodeName) -> Result<Self, CertError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, cluster.as_str());
        params
            .distinguished_name
            .push(DnType::CommonName, "cursormesh CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, CA_VALID);
        let certificate = params.self_signed(&key)?;
        let mut secret = vec![0; SECRET_BYTES];
        ring::rand::SystemRandom::new()
            .fill(&mut secret)
            .map_err(|_| CertError::Random)?;
        Ok(Self {
            cluster: cluster.clone(),
            certificate_der: certificate.der().to_vec(),
            key_der: key.serialize_der(),
            issuer: Issuer::new(params, key),
            secret,
        })
    }

    /// The CA in a directory.
    pub fn load(dir: &Path) -> Result<Self, CertError> {
        let (certificate_path, key_path, secret_path) = paths(dir);
        if !certificate_path.exists() {
            return Err(CertError::NoCa {
                dir: dir.to_owned(),
            });
        }
        let certificate_der = one_section(&certificate_path, CERTIFICATE_TAG)?;
        let key_der = one_section(&key_path, KEY_TAG)?;
        let secret = one_section(&secret_path, SECRET_TAG)?;
        let unusable = |path: &Path, problem: String| CertError::Unusable {
            path: path.to_owned(),
            problem,
            remedy: "restore it, or make a new CA with `cursormesh cert ca --force` and new \
                     bundles for all nodes",
        };
        if secret.len() != SECRET_BYTES {
            return Err(unusable(
                &secret_path,
                format!("is not {SECRET_BYTES} bytes long"),
            ));
        }
        let (_, parsed) = X509Certificate::from_der(&certificate_der)
            .map_err(|error| unusable(&certificate_path, error.to_string()))?;
        let cluster = parsed
            .subject()
            .iter_organization()
            .next()
            .and_then(|name| name.as_str().ok())
            .and_then(|name| NodeName::new(name).ok())
            .ok_or_else(|| unusable(&certificate_path, "does not name a cluster".to_owned()))?;
        if !parsed.validity().is_valid() {
            return Err(unusable(
                &certificate_path,
                "this CA has expired".to_owned(),
            ));
        }
        let key = KeyPair::try_from(key_der.as_slice())
            .map_err(|error| unusable(&key_path, error.to_string()))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(unusable(
                &key_path,
                "does not belong to ca.pem beside it".to_owned(),
            ));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate_der.as_slice().into(), key)?;
        Ok(Self {
            cluster,
            certificate_der,
            issuer,
            key_der,
            secret,
        })
    }

    /// Writes the CA into a directory, made (0700) if it is missing. Refuses to replace a CA
    /// unless `force` is set: bundles of the old one are then worth nothing.
    pub fn save(&self, dir: &Path, force: bool) -> Result<(), CertError> {
        make_dir(dir)?;
        let (certificate_path, key_path, secret_path) = paths(dir);
        let remedy = "name another directory with --out; or replace it with --force, which makes \
                      the bundles of all nodes worthless";
        for path in [&certificate_path, &key_path, &secret_path] {
            if !force && path.exists() {
                return Err(CertError::Exists {
                    path: path.clone(),
                    remedy,
                });
            }
        }
        let text = |tag, bytes: &[u8]| encode(&[Pem::new(tag, bytes)]);
        write_file(
            &key_path,
            &text(KEY_TAG, &self.key_der),
            0o600,
            force,
            remedy,
        )?;
        write_file(
            &secret_path,
            &text(SECRET_TAG, &self.secret),
            0o600,
            force,
            remedy,
        )?;
        // Last: a directory with ca.pem is complete.
        write_file(
            &certificate_path,
            &text(CERTIFICATE_TAG, &self.certificate_der),
            0o644,
            force,
            remedy,
        )
    }

    /// The cluster that the CA is for.
    pub fn cluster(&self) -> &NodeName {
        &self.cluster
    }

    /// A bundle for a node of the CA's cluster, valid for a year from now.
    pub fn bundle(&self, node: &NodeName) -> Result<String, CertError> {
        self.bundle_for(node, &self.cluster)
    }

    /// A bundle that names another cluster than the CA's: for tests of the refusal, and for a
    /// throwaway CA, which serves whatever cluster is tried out.
    pub fn bundle_for(&self, node: &NodeName, cluster: &NodeName) -> Result<String, CertError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![format!("{node}.{cluster}.mesh")])?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, cluster.as_str());
        params
            .distinguished_name
            .push(DnType::CommonName, node.as_str());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, NODE_VALID);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(encode(&[
            Pem::new(CERTIFICATE_TAG, certificate.der().to_vec()),
            Pem::new(CERTIFICATE_TAG, self.certificate_der.clone()),
            Pem::new(KEY_TAG, key.serialize_der()),
            Pem::new(SECRET_TAG, self.secret.clone()),
        ]))
    }

    /// The throwaway CA in `dir` (0700), made if it is not there. A lock file in it keeps nodes
    /// that start at the same time from making several.
    pub fn throwaway(dir: &Path, cluster: &NodeName) -> Result<Self, CertError> {
        make_dir(dir)?;
        let lock_path = dir.join("lock");
        let io = |error| CertError::Io {
            path: lock_path.clone(),
            error,
        };
        let lock = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io)?;
        // Released when the file is closed, also by a crash.
        lock.lock().map_err(io)?;
        match Self::load(dir) {
            Ok(authority) => Ok(authority),
            // Half a CA can only be left of a crash while it was made: nobody uses it yet.
            Err(CertError::NoCa { .. }) => {
                let authority = Self::new(cluster)?;
                authority.save(dir, true)?;
                Ok(authority)
            }
            Err(CertError::Unusable { path, problem, .. }) => Err(CertError::Unusable {
                path,
                problem,
                remedy: "delete the directory .mesh-dev and start again: it holds a throwaway CA",
            }),
            Err(error) => Err(error),
        }
    }
}

/// Writes a bundle, 0600. Refuses to replace a file unless `force` is set.
pub fn write_bundle(path: &Path, bundle: &str, force: bool) -> Result<(), CertError> {
    let remedy = "name another directory with --out, or replace it with --force";
    write_file(path, bundle, 0o600, force, remedy)
}

/// What a certificate says, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The CA's certificate, not a node's.
    pub is_ca: bool,
    /// DNS names of a node's certificate.
    pub names: Vec<String>,
    /// The cluster, as the subject names it; empty if it does not.
    pub cluster: String,
    /// Subject in the usual notation.
    pub subject: String,
    /// Issuer in the usual notation.
    pub issuer: String,
    /// First moment of validity, seconds since the Unix epoch.
    pub not_before: i64,
    /// Last moment of validity, seconds since the Unix epoch.
    pub not_after: i64,
    /// SHA-256 of the certificate, in hexadecimal with colons.
    pub fingerprint: String,
}

/// What a PEM file holds, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Its certificates in order.
    pub certificates: Vec<Summary>,
    /// Whether a private key is in it.
    pub has_key: bool,
    /// Whether a cluster secret is in it.
    pub has_secret: bool,
}

/// Reads what a bundle or CA file holds. An error if there is nothing of ours in it.
pub fn show(path: &Path) -> Result<Contents, CertError> {
    let unusable = |problem: String| CertError::Unusable {
        path: path.to_owned(),
        problem,
        remedy: "name a bundle (n1.pem) or a CA certificate (ca.pem) that `cursormesh cert` wrote",
    };
    let sections = sections(path)?;
    let mut contents = Contents {
        certificates: Vec::new(),
        has_key: false,
        has_secret: false,
    };
    for section in &sections {
        match section.tag() {
            CERTIFICATE_TAG => {
                contents
                    .certificates
                    .push(summary(section.contents()).map_err(unusable)?);
            }
            SECRET_TAG => contents.has_secret = true,
            tag if tag.ends_with(KEY_TAG) => contents.has_key = true,
            _ => {}
        }
    }
    if contents.certificates.is_empty() && !contents.has_key && !contents.has_secret {
        return Err(unusable("holds no certificate".to_owned()));
    }
    Ok(contents)
}

/// The cluster's secret in a bundle's text; `None` if there is none.
pub(crate) fn secret(bundle: &[u8]) -> Option<Vec<u8>> {
    let sections = pem::parse_many(bundle).ok()?;
    let section = sections
        .into_iter()
        .find(|section| section.tag() == SECRET_TAG)?;
    Some(section.into_contents()).filter(|secret| secret.len() == SECRET_BYTES)
}

fn summary(der: &[u8]) -> Result<Summary, String> {
    let (_, certificate) = X509Certificate::from_der(der)
        .map_err(|error| format!("a certificate cannot be read: {error}"))?;
    let names = match certificate.subject_alternative_name() {
        Ok(Some(extension)) => extension
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                x509_parser::extensions::GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    let cluster = certificate
        .subject()
        .iter_organization()
        .next()
        .and_then(|name| name.as_str().ok())
        .unwrap_or_default()
        .to_owned();
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    let pairs: Vec<String> = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(Summary {
        is_ca: certificate.is_ca(),
        names,
        cluster,
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        fingerprint: pairs.join(":"),
    })
}

/// A date as `2026-01-31`, from seconds since the Unix epoch (UTC).
pub fn date(seconds: i64) -> String {
    match x509_parser::time::ASN1Time::from_timestamp(seconds) {
        Ok(time) => {
            let day = time.to_datetime();
            format!(
                "{:04}-{:02}-{:02}",
                day.year(),
                u8::from(day.month()),
                day.day()
            )
        }
        Err(_) => format!("{seconds} s"),
    }
}

fn paths(dir: &Path) -> (PathBuf, PathBuf, PathBuf) {
    (
        dir.join("ca.pem"),
        dir.join("ca.key"),
        dir.join("cluster.secret"),
    )
}

fn set_validity(params: &mut CertificateParams, valid: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - SKEW).into();
    params.not_after = (now + valid).into();
}

fn encode(sections: &[Pem]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    sections
        .iter()
        .map(|section| pem::encode_config(section, config))
        .collect()
}

fn sections(path: &Path) -> Result<Vec<Pem>, CertError> {
    let io = |error| CertError::Io {
        path: path.to_owned(),
        error,
    };
    let unusable = |problem: String| CertError::Unusable {
        path: path.to_owned(),
        problem,
        remedy: "name a file that `cursormesh cert` wrote",
    };
    let meta = fs::metadata(path).map_err(io)?;
    if meta.len() > FILE_BYTES_MAX {
        return Err(unusable(format!("is larger than {FILE_BYTES_MAX} bytes")));
    }
    let bytes = fs::read(path).map_err(io)?;
    pem::parse_many(bytes).map_err(|error| unusable(format!("is not PEM: {error}")))
}

fn one_section(path: &Path, tag: &str) -> Result<Vec<u8>, CertError> {
    sections(path)?
        .into_iter()
        .find(|section| section.tag() == tag)
        .map(Pem::into_contents)
        .ok_or_else(|| CertError::Unusable {
            path: path.to_owned(),
            problem: format!("has no PEM section {tag}"),
            remedy: "restore it, or make a new CA with `cursormesh cert ca --force` and new \
                     bundles for all nodes",
        })
}

fn make_dir(dir: &Path) -> Result<(), CertError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| CertError::Io {
            path: dir.to_owned(),
            error,
        })
}

/// Writes a whole file or nothing: beside its place first, then moved there.
fn write_file(
    path: &Path,
    text: &str,
    mode: u32,
    force: bool,
    remedy: &'static str,
) -> Result<(), CertError> {
    let io = |error| CertError::Io {
        path: path.to_owned(),
        error,
    };
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        make_dir(dir)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(name);
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| {
            if force {
                fs::rename(&beside, path)
            } else {
                // A link, unlike a rename, never replaces what is there.
                fs::hard_link(&beside, path).and_then(|()| fs::remove_file(&beside))
            }
        });
    written.map_err(|error| {
        // Whatever was written is of no use; nothing more can be done if this fails too.
        let _ = fs::remove_file(&beside);
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            CertError::Exists {
                path: path.to_owned(),
                remedy,
            }
        } else {
            io(error)
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn name(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn scratch(test: &str) -> PathBuf {
        let dir =
            std::env::temp_dir().join(format!("cursormesh-cert-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_ca_survives_its_directory_and_keeps_secrets_private() {
        let dir = scratch("save");
        let made = Authority::new(&name("dev")).unwrap();
        made.save(&dir, false).unwrap();
        assert_eq!(mode(&dir), 0o700);
        assert_eq!(mode(&dir.join("ca.key")), 0o600);
        assert_eq!(mode(&dir.join("cluster.secret")), 0o600);
        let loaded = Authority::load(&dir).unwrap();
        assert_eq!(loaded.cluster(), &name("dev"));
        assert_eq!(loaded.certificate_der, made.certificate_der);
        assert_eq!(loaded.secret, made.secret);
        loaded.bundle(&name("n1")).unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn nothing_is_replaced_without_force() {
        let dir = scratch("force");
        let first = Authority::new(&name("dev")).unwrap();
        first.save(&dir, false).unwrap();
        let second = Authority::new(&name("dev")).unwrap();
        let refused = second.save(&dir, false).unwrap_err().to_string();
        assert!(refused.contains("--force"), "{refused}");
        assert_eq!(Authority::load(&dir).unwrap().secret, first.secret);
        second.save(&dir, true).unwrap();
        assert_eq!(Authority::load(&dir).unwrap().secret, second.secret);

        let bundle = dir.join("n1.pem");
        write_bundle(&bundle, "one", false).unwrap();
        assert!(matches!(
            write_bundle(&bundle, "two", false),
            Err(CertError::Exists { .. })
        ));
        assert_eq!(fs::read_to_string(&bundle).unwrap(), "one");
        write_bundle(&bundle, "two", true).unwrap();
        assert_eq!(fs::read_to_string(&bundle).unwrap(), "two");
        assert_eq!(mode(&bundle), 0o600);
        let left: Vec<_> = fs::read_dir(&dir)
            .unwrap()
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .ends_with(".new")
            })
            .collect();
        assert!(left.is_empty());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn show_tells_names_and_expiry() {
        let dir = scratch("show");
        let authority = Authority::new(&name("prod")).unwrap();
        let path = dir.join("n1.pem");
        write_bundle(&path, &authority.bundle(&name("n1")).unwrap(), false).unwrap();
        let contents = show(&path).unwrap();
        assert!(contents.has_key && contents.has_secret);
        let [node, ca] = contents.certificates.as_slice() else {
            panic!("{contents:?}");
        };
        assert_eq!(node.names, ["n1.prod.mesh"]);
        assert_eq!((node.is_ca, ca.is_ca), (false, true));
        assert_eq!(ca.cluster, "prod");
        let year = i64::try_from(NODE_VALID.as_secs() + SKEW.as_secs()).unwrap();
        assert!((node.not_after - node.not_before - year).abs() <= 1);
        assert_eq!(node.fingerprint.len(), 95);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn files_that_are_not_ours_are_named_with_a_remedy() {
        let dir = scratch("garbage");
        make_dir(&dir).unwrap();
        let path = dir.join("x.pem");
        fs::write(&path, "no pem at all").unwrap();
        let error = show(&path).unwrap_err().to_string();
        assert!(
            error.contains("x.pem") && error.contains("remedy"),
            "{error}"
        );
        fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
        show(&path).unwrap_err();
        fs::write(
            &path,
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        show(&path).unwrap_err();
        let error = Authority::load(&dir).unwrap_err().to_string();
        assert!(error.contains("cert ca"), "{error}");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_bundle_is_an_identity_of_the_mesh() {
        let authority = Authority::new(&name("dev")).unwrap();
        let bundle = authority.bundle(&name("n1")).unwrap();
        let identity = cursormesh_mesh::net::Identity::from_pem(bundle.as_bytes()).unwrap();
        assert_eq!(identity.node(), &name("n1"));
        assert_eq!(identity.cluster(), &name("dev"));
    }

    #[test]
    fn nodes_that_start_at_once_share_one_throwaway_ca() {
        let dir = scratch("throwaway");
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let dir = dir.clone();
                std::thread::spawn(move || {
                    Authority::throwaway(&dir, &name("dev"))
                        .unwrap()
                        .certificate_der
                })
            })
            .collect();
        let mut made: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        made.dedup();
        assert_eq!(made.len(), 1);
        assert_eq!(mode(&dir), 0o700);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn dates_are_calendar_days() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(1_767_225_599), "2025-12-31");
    }
}
