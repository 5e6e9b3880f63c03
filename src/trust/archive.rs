//! A detached signature beside an archive, and what the store keeps of it.

use std::io::{self, Cursor, Read};
use std::sync::{Arc, Mutex, PoisonError};

use pgp::composed::{Deserializable, DetachedSignature};
use pgp::packet::{Signature, SignatureVersionSpecific};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Asked;
use super::identity::is_for;
use super::keys::{Keyring, Signer, careful};

/// What the store keeps: that an archive with a good signature held this image. The archive is gone, so it can't be
/// verified again; that the key is still trusted can. Who could write this file could as well change the layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The digest of the archive, as it was read.
    pub archive: String,
    /// The image's manifest.
    pub image: String,
    /// What it was called at the import, the repository after aliases.
    pub reference: String,
    /// The fingerprint of the primary key.
    pub key: String,
    /// When it was signed, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<u32>,
    /// The detached signature, in hexadecimal digits.
    pub signature: String,
}

impl Record {
    /// From a file of the store.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        bytes.starts_with(b"{").then(|| serde_json::from_slice(bytes).ok()).flatten()
    }

    /// Whether it is about this image under this name, and its key still good.
    pub(super) fn judge(
        &self,
        keyring: &Keyring,
        repository: &str,
        asked: Asked<'_>,
        now: u32,
    ) -> Result<Signer, String> {
        if self.image != asked.digest.to_string() {
            return Err(format!("it is a signature of an archive with another image, {}", self.image));
        }
        if !is_for(&self.reference, repository, asked.reference, asked.digest) {
            return Err(format!(
                "it is a signature of the archive from which {} was imported, and not {}",
                self.reference, asked.reference
            ));
        }
        let signer = keyring.still_good(&self.key, now)?;
        Ok(Signer { signed: self.signed, ..signer })
    }
}

/// Hashes an archive as it is read, for each of its detached signatures.
pub(super) struct Watched {
    /// What the archive has still left to read, once somebody reads it.
    input: Option<Box<dyn Read + Send>>,
    signatures: Vec<(Vec<u8>, Signature, Hashing)>,
    whole: Sha256,
}

/// Takes bytes as they come, and gives the hash that the signature is of when there are no more.
type Hashing = Box<dyn FnMut(Option<&[u8]>) -> Result<Box<[u8]>, String> + Send>;

fn hashing(signature: &Signature) -> pgp::errors::Result<Hashing> {
    let config = signature.config().ok_or_else(|| io::Error::other("an unknown version"))?.clone();
    let mut hasher = config.hash_alg.new_hasher()?;
    if let SignatureVersionSpecific::V6 { salt } = &config.version_specific {
        hasher.update(salt.as_ref());
    }
    Ok(Box::new(move |bytes| {
        match bytes {
            Some(bytes) => {
                hasher.update(bytes);
                Ok(Box::default())
            }
            // What the signature says of itself is signed, too (RFC 9580, section 5.2.4).
            None => careful(|| {
                let length = config.hash_signature_data(&mut hasher)?;
                hasher.update(&config.trailer(length)?);
                Ok(hasher.finalize_reset())
            }),
        }
    }))
}

/// The end of an archive that somebody reads, with all that has passed in view of its signatures.
#[derive(Clone)]
pub(super) struct Tap(Arc<Mutex<Watched>>);

impl Tap {
    /// For these detached signatures; those that can't be read are told.
    pub(super) fn new(files: &[Vec<u8>]) -> (Self, Vec<String>) {
        let mut signatures = Vec::new();
        let mut bad = Vec::new();
        for file in files {
            let parsed = careful(|| {
                let (all, _) = DetachedSignature::from_reader_many(Cursor::new(file))?;
                all.map(|one| {
                    let signature = one?.signature;
                    let hashing = hashing(&signature)?;
                    Ok((signature, hashing))
                })
                .collect::<pgp::errors::Result<Vec<_>>>()
            });
            match parsed {
                Ok(all) if all.is_empty() => bad.push("it holds no OpenPGP signature".to_owned()),
                Ok(all) => {
                    signatures.extend(all.into_iter().map(|(one, hasher)| (file.clone(), one, hasher)))
                }
                Err(why) => bad.push(format!("it is no OpenPGP signature: {why}")),
            }
        }
        (Self(Arc::new(Mutex::new(Watched { input: None, signatures, whole: Sha256::new() }))), bad)
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The archive, watched.
    pub(super) fn on(&self, input: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
        self.watched().input = Some(input);
        Box::new(self.clone())
    }

    /// What has to be known of the archive when all of it has passed; the import may not have read what comes after
    /// its end.
    pub(super) fn finish(&self) -> io::Result<Archive> {
        let mut block = vec![0; 64 << 10];
        while self.clone().read(&mut block)? > 0 {}
        let mut watched = self.watched();
        let was_read = watched.input.is_some();
        let digest = format!("sha256:{}", hex(&watched.whole.clone().finalize()));
        let mut hashed = Vec::new();
        for (file, signature, mut hasher) in watched.signatures.drain(..) {
            let hash = hasher(None);
            hashed.push((file, signature, hash));
        }
        Ok(Archive { digest, was_read, hashed })
    }
}

impl Read for Tap {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut watched = self.watched();
        let Some(input) = &mut watched.input else { return Ok(0) };
        let count = loop {
            match input.read(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        watched.whole.update(&into[..count]);
        for (_, _, hasher) in &mut watched.signatures {
            // Taking bytes can't fail.
            let _ = hasher(Some(&into[..count]));
        }
        Ok(count)
    }
}

/// An archive that was read to its end.
pub(super) struct Archive {
    digest: String,
    /// Not so for a folder, which has no bytes that a signature could be of.
    was_read: bool,
    hashed: Vec<Hashed>,
}

/// The signature's file, the signature, and the hash of all that it is of.
type Hashed = (Vec<u8>, Signature, Result<Box<[u8]>, String>);

impl Archive {
    /// Which of its signatures counts, and what to keep of it.
    pub(super) fn judge(
        &self,
        keyring: &Keyring,
        repository: &str,
        asked: Asked<'_>,
        now: u32,
    ) -> Result<(Signer, Record), Vec<String>> {
        if !self.was_read && !self.hashed.is_empty() {
            return Err(vec!["it is a signature of an archive, and what is imported is none".to_owned()]);
        }
        let mut reasons = Vec::new();
        for (file, signature, hash) in &self.hashed {
            let judged = hash.clone().and_then(|hash| {
                careful(|| Ok(keyring.judge(signature, &hash, now))).and_then(|judged| judged)
            });
            match judged {
                Ok(signer) => {
                    let tag = asked.reference.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
                    let record = Record {
                        archive: self.digest.clone(),
                        image: asked.digest.to_string(),
                        reference: format!("{repository}{tag}"),
                        key: signer.fingerprint.clone(),
                        signed: signer.signed,
                        signature: hex(file),
                    };
                    return Ok((signer, record));
                }
                Err(why) => reasons.push(why),
            }
        }
        Err(reasons)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
