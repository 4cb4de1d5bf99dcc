//! Resume tokens: what a client keeps to be the same member again, on this node or another one.
//!
//! ```text
//! token      base64url without padding of: version (1 byte, 1), nonce (12), sealed text and tag
//! sealed     AES-256-GCM, key = HKDF-SHA256(secret, info "cursormesh resume v1")
//! text       member (16), epoch (u32), joined_at (u64), expiry (u64, Unix ms), room (u8 length and
//!            bytes), subject (the rest); numbers are little-endian
//! ```
//!
//! Nodes that share a secret open each other's tokens. Of several secrets the first one seals and
//! any opens, so that a secret can be replaced without a client losing its place.

use std::fmt;
use std::time::Duration;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use uuid::Uuid;

/// How long a token is good for.
pub(crate) const TOKEN_VALID: Duration = Duration::from_secs(120);

/// A token is never longer than this, in characters: a longer text is not looked at.
pub(crate) const TOKEN_CHARS_MAX: usize = 1024;

const VERSION: u8 = 1;
const INFO: &[u8] = b"cursormesh resume v1";
/// Bytes of the fields before the room's name.
const FIXED_BYTES: usize = 16 + 4 + 8 + 8;

/// A secret that the nodes of a cluster share. Its value is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A secret of any length; 32 random bytes are right.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The member.
    pub(crate) member: Uuid,
    /// Its epoch when the token was made.
    pub(crate) epoch: u32,
    /// When it first joined, in Unix milliseconds.
    pub(crate) joined_at: u64,
    /// The room it is in.
    pub(crate) room: String,
    /// Whom the connection was authenticated as; empty without authentication.
    pub(crate) subject: String,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenError {
    /// No token, sealed with another secret, or for another room.
    Invalid,
    /// It was good once.
    Expired,
    /// It belongs to somebody else.
    WrongSubject,
}

/// Seals and opens tokens.
pub(crate) struct Tokens {
    keys: Vec<LessSafeKey>,
    random: SystemRandom,
}

impl Tokens {
    /// With the secrets of the cluster, the one that seals first. Without any the node makes one of
    /// its own, and its tokens are good here alone.
    pub(crate) fn new(secrets: &[Secret]) -> Self {
        let random = SystemRandom::new();
        let mut own = vec![0; 32];
        let keys = if secrets.is_empty() {
            // Without randomness there is no key, and so no token: every resume is a new member.
            random
                .fill(&mut own)
                .ok()
                .and_then(|()| key(&own))
                .into_iter()
                .collect()
        } else {
            secrets.iter().filter_map(|secret| key(&secret.0)).collect()
        };
        Self { keys, random }
    }

    /// A token for `claim` that is good for [`TOKEN_VALID`] from `now_ms`. Empty, which no node
    /// accepts, if the system gave no randomness.
    pub(crate) fn seal(&self, claim: &Claim, now_ms: u64) -> String {
        let mut text = Vec::with_capacity(FIXED_BYTES + 1 + claim.room.len() + claim.subject.len());
        text.extend_from_slice(claim.member.as_bytes());
        text.extend_from_slice(&claim.epoch.to_le_bytes());
        text.extend_from_slice(&claim.joined_at.to_le_bytes());
        let expiry = now_ms.saturating_add(TOKEN_VALID.as_millis() as u64);
        text.extend_from_slice(&expiry.to_le_bytes());
        let Ok(room_length) = u8::try_from(claim.room.len()) else {
            return String::new();
        };
        text.push(room_length);
        text.extend_from_slice(claim.room.as_bytes());
        text.extend_from_slice(claim.subject.as_bytes());

        let mut nonce = [0; NONCE_LEN];
        let (Some(key), Ok(())) = (self.keys.first(), self.random.fill(&mut nonce)) else {
            return String::new();
        };
        let nonce_sealed = Nonce::assume_unique_for_key(nonce);
        if key
            .seal_in_place_append_tag(nonce_sealed, Aad::from([VERSION]), &mut text)
            .is_err()
        {
            return String::new();
        }
        let mut token = vec![VERSION];
        token.extend_from_slice(&nonce);
        token.extend_from_slice(&text);
        base64url(&token)
    }

    /// What `token` says, if it is good at `now_ms` for this room and subject.
    pub(crate) fn open(
        &self,
        token: &str,
        room: &str,
        subject: &str,
        now_ms: u64,
    ) -> Result<Claim, TokenError> {
        if token.len() > TOKEN_CHARS_MAX {
            return Err(TokenError::Invalid);
        }
        let bytes = from_base64url(token).ok_or(TokenError::Invalid)?;
        let (nonce, sealed) = match bytes.split_first() {
            Some((&VERSION, rest)) => rest
                .split_first_chunk::<NONCE_LEN>()
                .ok_or(TokenError::Invalid)?,
            _ => return Err(TokenError::Invalid),
        };
        let (claim, expiry) = self
            .keys
            .iter()
            .find_map(|key| {
                let nonce = Nonce::assume_unique_for_key(*nonce);
                let mut text = sealed.to_vec();
                let opened = key.open_in_place(nonce, Aad::from([VERSION]), &mut text);
                read(opened.ok()?)
            })
            .ok_or(TokenError::Invalid)?;
        if claim.room != room {
            return Err(TokenError::Invalid);
        }
        if claim.subject != subject {
            return Err(TokenError::WrongSubject);
        }
        if now_ms >= expiry {
            return Err(TokenError::Expired);
        }
        Ok(claim)
    }
}

fn key(secret: &[u8]) -> Option<LessSafeKey> {
    let salt = Salt::new(HKDF_SHA256, &[]);
    let expanded = salt.extract(secret);
    let expanded = expanded.expand(&[INFO], &AES_256_GCM).ok()?;
    Some(LessSafeKey::new(UnboundKey::from(expanded)))
}

fn read(text: &[u8]) -> Option<(Claim, u64)> {
    let (member, rest) = text.split_first_chunk::<16>()?;
    let (epoch, rest) = rest.split_first_chunk::<4>()?;
    let (joined_at, rest) = rest.split_first_chunk::<8>()?;
    let (expiry, rest) = rest.split_first_chunk::<8>()?;
    let (room_length, rest) = rest.split_first()?;
    let (room, subject) = rest.split_at_checked(usize::from(*room_length))?;
    let claim = Claim {
        member: Uuid::from_bytes(*member),
        epoch: u32::from_le_bytes(*epoch),
        joined_at: u64::from_le_bytes(*joined_at),
        room: String::from_utf8(room.to_vec()).ok()?,
        subject: String::from_utf8(subject.to_vec()).ok()?,
    };
    Some((claim, u64::from_le_bytes(*expiry)))
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// RFC 4648 §5, without padding.
fn base64url(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .fold(0u32, |group, byte| (group << 8) | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for index in 0..=chunk.len() {
            let digit = (group >> (18 - 6 * index)) & 63;
            text.push(char::from(DIGITS[digit as usize]));
        }
    }
    text
}

/// The bytes of `text`; `None` if it is not what [`base64url`] writes.
fn from_base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for chunk in text.as_bytes().chunks(4) {
        let mut group = 0u32;
        for byte in chunk {
            let digit = DIGITS.iter().position(|digit| digit == byte)?;
            group = (group << 6) | digit as u32;
        }
        let bits = 6 * chunk.len();
        let whole = bits / 8;
        if whole == 0 || group & ((1 << (bits % 8)) - 1) != 0 {
            return None;
        }
        group <<= 24 - bits;
        bytes.extend_from_slice(&group.to_be_bytes()[1..=whole]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn claim() -> Claim {
        Claim {
            member: Uuid::from_u128(7),
            epoch: 3,
            joined_at: 1_764_000_000_000,
            room: "café".into(),
            subject: "ada".into(),
        }
    }

    fn secret(byte: u8) -> Secret {
        Secret::new(vec![byte; 32])
    }

    #[test]
    fn a_token_says_what_it_was_told_on_any_node_of_the_cluster() {
        let sealed = Tokens::new(&[secret(1)]).seal(&claim(), 1_000);
        let elsewhere = Tokens::new(&[secret(1)]);
        assert_eq!(elsewhere.open(&sealed, "café", "ada", 1_000), Ok(claim()));
    }

    #[test]
    fn a_token_ends() {
        let tokens = Tokens::new(&[secret(1)]);
        let sealed = tokens.seal(&claim(), 1_000);
        assert!(tokens.open(&sealed, "café", "ada", 120_999).is_ok());
        assert_eq!(
            tokens.open(&sealed, "café", "ada", 121_000),
            Err(TokenError::Expired)
        );
    }

    #[test]
    fn a_token_is_for_one_room_and_one_subject() {
        let tokens = Tokens::new(&[secret(1)]);
        let sealed = tokens.seal(&claim(), 0);
        assert_eq!(
            tokens.open(&sealed, "cafe", "ada", 0),
            Err(TokenError::Invalid)
        );
        assert_eq!(
            tokens.open(&sealed, "café", "bob", 0),
            Err(TokenError::WrongSubject)
        );
    }

    #[test]
    fn the_first_secret_seals_and_any_opens() {
        let sealed = Tokens::new(&[secret(1)]).seal(&claim(), 0);
        let rotated = Tokens::new(&[secret(2), secret(1)]);
        assert!(rotated.open(&sealed, "café", "ada", 0).is_ok());
        let newer = rotated.seal(&claim(), 0);
        assert!(
            Tokens::new(&[secret(2)])
                .open(&newer, "café", "ada", 0)
                .is_ok()
        );
        assert_eq!(
            Tokens::new(&[secret(1)]).open(&newer, "café", "ada", 0),
            Err(TokenError::Invalid)
        );
        assert_eq!(
            Tokens::new(&[]).open(&newer, "café", "ada", 0),
            Err(TokenError::Invalid)
        );
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", secret(9)), "Secret(..)");
    }

    proptest! {
        #[test]
        fn base64url_is_read_as_it_was_written(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            prop_assert_eq!(from_base64url(&base64url(&bytes)), Some(bytes));
        }

        #[test]
        fn what_is_no_token_is_refused(text in "[A-Za-z0-9_=+ -]{0,200}") {
            prop_assert!(Tokens::new(&[secret(1)]).open(&text, "r", "", 0).is_err());
        }

        #[test]
        fn a_changed_token_is_refused(at in any::<prop::sample::Index>(), digit in 0usize..64) {
            let tokens = Tokens::new(&[secret(1)]);
            let sealed = tokens.seal(&claim(), 0);
            let mut changed = sealed.clone().into_bytes();
            let at = at.index(changed.len());
            changed[at] = DIGITS[digit];
            let changed = String::from_utf8(changed).unwrap();
            prop_assume!(changed != sealed);
            prop_assert!(tokens.open(&changed, "café", "ada", 0).is_err());
        }
    }
}
