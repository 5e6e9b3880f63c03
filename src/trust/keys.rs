//! OpenPGP keys, and whether a signature of one of them counts (RFC 9580).

use std::fs;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use pgp::composed::{Deserializable, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType, SubpacketData};
use pgp::types::{KeyDetails, KeyVersion, Tag, VerifyingKey};

use super::{TrustError, read_small};

/// A key with many certifications has some hundred kB; a whole keyring isn't meant to be put here.
const KEY_MAX: u64 = 4 << 20;

/// Who has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The fingerprint of the primary key, in upper-case hexadecimal digits.
    pub fingerprint: String,
    /// The first user id of the key, as it is written there.
    pub user: String,
    /// When, in seconds since 1970, as the signature says.
    pub signed: Option<u32>,
}

/// Keys that may sign.
#[derive(Debug, Default)]
pub struct Keyring {
    keys: Vec<SignedPublicKey>,
}

/// One key of several that hang together: the primary one or a subkey.
enum Part<'k> {
    Primary(&'k SignedPublicKey),
    Sub(&'k SignedPublicKey, &'k SignedPublicSubKey),
}

impl Keyring {
    /// Reads keys, armored or binary: the named files of a folder, or all of them.
    ///
    /// # Errors
    /// [`TrustError::Key`], [`TrustError::NoKeys`].
    pub fn load(folder: &Path, names: &[String]) -> Result<Self, TrustError> {
        let mut files = Vec::new();
        for name in names {
            if name.contains('/') || matches!(name.as_str(), "" | "." | "..") {
                let why = "it must be the name of a file in that folder".to_owned();
                return Err(TrustError::Key { path: folder.join(name), why });
            }
            files.push(folder.join(name));
        }
        if names.is_empty() {
            let entries = match fs::read_dir(folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(TrustError::Key { path: folder.to_owned(), why: error.to_string() });
                }
                other => other.into_iter().flatten().flatten(),
            };
            // What editors and package managers leave behind is no key.
            let is_meant = |name: &str| !name.starts_with('.') && !name.ends_with('~');
            files = entries
                .filter(|entry| entry.file_name().to_str().is_some_and(is_meant))
                .map(|entry| entry.path())
                .collect();
            files.sort();
        }
        let mut keyring = Self::default();
        for path in files {
            keyring.read(&path)?;
        }
        if keyring.keys.is_empty() {
            return Err(TrustError::NoKeys(folder.to_owned()));
        }
        Ok(keyring)
    }

    fn read(&mut self, path: &Path) -> Result<(), TrustError> {
        let bad = |why: String| TrustError::Key { path: path.to_owned(), why };
        let bytes = read_small(path, KEY_MAX).map_err(|error| bad(error.to_string()))?;
        let keys = careful(|| -> pgp::errors::Result<Vec<SignedPublicKey>> {
            let (keys, _) = SignedPublicKey::from_reader_many(Cursor::new(&bytes))?;
            keys.collect()
        });
        let keys = keys.map_err(|why| bad(format!("it is no OpenPGP public key: {why}")))?;
        if keys.is_empty() {
            return Err(bad("it holds no OpenPGP public key; write it with `gpg --export`".to_owned()));
        }
        self.keys.extend(keys);
        Ok(())
    }

    /// Whether a signature counts, over data of which `hash` is the hash, the signature's own part included.
    pub(super) fn judge(&self, signature: &Signature, hash: &[u8], now: u32) -> Result<Signer, String> {
        let config = signature.config().ok_or("it is of a version that is not known")?;
        if config.typ() != SignatureType::Binary {
            return Err("it is a signature of something else than a file".to_owned());
        }
        if !is_strong(config.hash_alg) {
            return Err(format!("it was made with {}, which can be forged", config.hash_alg));
        }
        let bytes = signature.signature().ok_or("it is of a version that is not known")?;
        let issuer = issuer(signature);
        let mut why = format!("it was made by the key {issuer}, which is not one of the trusted keys");
        for part in self.parts().filter(|part| part.may_have_made(signature)) {
            let key = part.key();
            let same_age =
                (key.version() == KeyVersion::V6) == (config.version() == pgp::packet::SignatureVersion::V6);
            let begins = signature.signed_hash_value().is_some_and(|begin| hash.starts_with(&begin));
            if !(same_age && begins && key.verify(config.hash_alg, hash, bytes).is_ok()) {
                why = format!("it is not valid: what the key {issuer} has signed was changed");
                continue;
            }
            if let Some(life) = signature.signature_expiration_time().filter(|life| life.as_secs() > 0)
                && ends(signature.created().map_or(0, |time| time.as_secs()), life.as_secs()) <= now
            {
                why = format!("it has expired, though the key {issuer} may still be good");
                continue;
            }
            match part.usable(now) {
                Ok(()) => {
                    return Ok(Signer {
                        signed: signature.created().map(|time| time.as_secs()),
                        ..part.signer()
                    });
                }
                Err(reason) => {
                    why = format!("it was made by the key {}, which {reason}", part.signer().fingerprint)
                }
            }
        }
        Err(why)
    }

    /// Whether a key that has signed once, by the fingerprint of its primary key, may still sign.
    pub(super) fn still_good(&self, fingerprint: &str, now: u32) -> Result<Signer, String> {
        let mut why = format!("it was made by the key {fingerprint}, which is not one of the trusted keys");
        for part in self.parts().filter(|part| part.signer().fingerprint == fingerprint) {
            match part.usable(now) {
                Ok(()) => return Ok(part.signer()),
                Err(reason) => why = format!("it was made by the key {fingerprint}, which {reason}"),
            }
        }
        Err(why)
    }

    fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        self.keys.iter().flat_map(|key| {
            let subkeys = key.public_subkeys.iter().map(move |subkey| Part::Sub(key, subkey));
            std::iter::once(Part::Primary(key)).chain(subkeys)
        })
    }
}

/// What reads hostile bytes with a library that may panic on them.
pub(super) fn careful<T>(read: impl FnOnce() -> pgp::errors::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it can't be parsed".to_owned()),
    }
}

fn ends(begin: u32, life: u32) -> u32 {
    begin.saturating_add(life)
}

/// MD5 and SHA-1 have collisions, RIPEMD-160 is too short for comfort (RFC 9580, section 9.5).
fn is_strong(hash: HashAlgorithm) -> bool {
    use HashAlgorithm as Hash;
    matches!(
        hash,
        Hash::Sha256 | Hash::Sha384 | Hash::Sha512 | Hash::Sha224 | Hash::Sha3_256 | Hash::Sha3_512
    )
}

/// What a signature says about who made it.
fn issuer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(|print| format!("{print:X}"));
    let id = || signature.issuer_key_id().first().map(|id| id.to_string().to_uppercase());
    fingerprint.or_else(id).unwrap_or_else(|| "of an unnamed signer".to_owned())
}

impl<'k> Part<'k> {
    fn key(&self) -> &'k dyn VerifyingKey {
        match self {
            Self::Primary(key) => &key.primary_key,
            Self::Sub(_, subkey) => &subkey.key,
        }
    }

    fn whole(&self) -> &'k SignedPublicKey {
        match self {
            Self::Primary(key) | Self::Sub(key, _) => key,
        }
    }

    fn may_have_made(&self, signature: &Signature) -> bool {
        let (prints, ids) = (signature.issuer_fingerprint(), signature.issuer_key_id());
        let key = self.key();
        match (prints.is_empty(), ids.is_empty()) {
            (true, true) => true,
            (true, false) => ids.contains(&&key.legacy_key_id()),
            (false, _) => prints.contains(&&key.fingerprint()),
        }
    }

    fn signer(&self) -> Signer {
        let key = self.whole();
        let user = key.details.users.first().map(|user| String::from_utf8_lossy(user.id.id()).into_owned());
        Signer {
            fingerprint: format!("{:X}", key.primary_key.fingerprint()),
            user: user.unwrap_or_default(),
            signed: None,
        }
    }

    /// Whether it may sign at this time; else a sentence, from the verb on.
    fn usable(&self, now: u32) -> Result<(), String> {
        let whole = self.whole();
        let primary = &whole.primary_key;
        if !matches!(primary.version(), KeyVersion::V4 | KeyVersion::V6) {
            return Err("is of a version that is no longer trusted".to_owned());
        }
        let details = &whole.details;
        if details.revocation_signatures.iter().any(|revocation| revocation.verify_key(primary).is_ok()) {
            return Err("was revoked".to_owned());
        }
        let own = newest(own_signatures(whole), now).ok_or("has no valid signature of its own")?;
        not_expired(primary.created_at().as_secs(), own, now)?;
        match self {
            Self::Primary(_) => {
                // A key that says nothing about its use may be used for all.
                if has_flags(own) && !own.key_flags().sign() {
                    return Err("is not meant to sign".to_owned());
                }
            }
            Self::Sub(_, subkey) => {
                let valid =
                    |signature: &&Signature| signature.verify_subkey_binding(primary, &subkey.key).is_ok();
                let of = |kind| {
                    let signatures =
                        subkey.signatures.iter().filter(move |signature| signature.typ() == Some(kind));
                    signatures.filter(valid)
                };
                if of(SignatureType::SubkeyRevocation).next().is_some() {
                    return Err("has a signing key that was revoked".to_owned());
                }
                let binding = newest(of(SignatureType::SubkeyBinding), now)
                    .ok_or("has a signing key that is not bound to it")?;
                not_expired(subkey.key.created_at().as_secs(), binding, now)?;
                if !binding.key_flags().sign() {
                    return Err("has a subkey that is not meant to sign".to_owned());
                }
                let back = binding.embedded_signature();
                if back.is_none_or(|back| back.verify_primary_key_binding(&subkey.key, primary).is_err()) {
                    return Err("has a signing key that does not acknowledge it".to_owned());
                }
            }
        }
        Ok(())
    }
}

fn has_flags(signature: &Signature) -> bool {
    signature.config().is_some_and(|config| {
        config.hashed_subpackets().any(|packet| matches!(packet.data, SubpacketData::KeyFlags(_)))
    })
}

/// The primary key's signatures of itself and of its user ids, as far as they are valid.
fn own_signatures(key: &SignedPublicKey) -> impl Iterator<Item = &Signature> {
    let primary = &key.primary_key;
    let direct = key.details.direct_signatures.iter();
    let direct = direct.filter(move |signature| signature.verify_key(primary).is_ok());
    let users = key.details.users.iter().flat_map(move |user| {
        let valid: Vec<&Signature> = user
            .signatures
            .iter()
            .filter(|signature| signature.verify_certification(primary, Tag::UserId, &user.id).is_ok())
            .collect();
        let revoked = valid
            .iter()
            .filter(|signature| signature.typ() == Some(SignatureType::CertRevocation))
            .filter_map(|signature| signature.created())
            .max();
        valid.into_iter().filter(move |signature| {
            signature.typ() != Some(SignatureType::CertRevocation) && signature.created() > revoked
        })
    });
    direct.chain(users)
}

/// The last one counts, of those that haven't expired themselves. MD5 proves nothing any more.
fn newest<'s>(signatures: impl Iterator<Item = &'s Signature>, now: u32) -> Option<&'s Signature> {
    signatures
        .filter(|signature| signature.hash_alg() != Some(HashAlgorithm::Md5))
        .filter(|signature| {
            let begin = signature.created().map_or(0, |time| time.as_secs());
            let life = signature.signature_expiration_time().map_or(0, |life| life.as_secs());
            life == 0 || ends(begin, life) > now
        })
        .max_by_key(|signature| signature.created())
}

fn not_expired(created: u32, signature: &Signature, now: u32) -> Result<(), String> {
    match signature.key_expiration_time().map(|life| life.as_secs()) {
        Some(life) if life > 0 && ends(created, life) <= now => {
            let end = jiff::Timestamp::from_second(i64::from(ends(created, life)));
            let end = end.map(|end| end.strftime("%Y-%m-%d").to_string()).unwrap_or_default();
            Err(format!("expired on {end}"))
        }
        _ => Ok(()),
    }
}
