//! Simple signatures: an OpenPGP message of a JSON text that names an image (the "atomic container signature" of
//! containers-signature(5)).

use std::io::{Cursor, Read};

use pgp::composed::Message;
use serde::{Deserialize, Serialize};

use super::Asked;
use super::identity::is_for;
use super::keys::{Keyring, Signer, careful};

/// The text has some hundred bytes. Compressed bytes may be many more than they look.
const TEXT_MAX: u64 = 1 << 16;

/// What `critical.type` must say.
const TYPE: &str = "atomic container signature";

/// The whole text. What is in `critical` must be known and true; what is in `optional` is for people.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Payload {
    pub(super) critical: Critical,
    #[serde(default)]
    pub(super) optional: Optional,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Critical {
    pub(super) identity: Identity,
    pub(super) image: Named,
    #[serde(rename = "type")]
    pub(super) kind: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    #[serde(rename = "docker-reference")]
    pub(super) reference: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    #[serde(rename = "docker-manifest-digest")]
    pub(super) digest: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Optional {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) creator: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timestamp: Option<i64>,
}

impl Payload {
    pub(super) fn new(reference: String, digest: String, timestamp: i64) -> Self {
        let creator = Some(format!("wharf {}", env!("CARGO_PKG_VERSION")));
        Self {
            critical: Critical {
                identity: Identity { reference },
                image: Named { digest },
                kind: TYPE.to_owned(),
            },
            optional: Optional { creator, timestamp: Some(timestamp) },
        }
    }
}

/// Whether it is a message, and not a signature that lies beside what it is of.
pub(super) fn is_message(bytes: &[u8]) -> bool {
    /// One-pass signature and compressed data (RFC 9580, section 5).
    const TAGS: [u8; 2] = [4, 8];
    match bytes.first() {
        Some(first) if first & 0xc0 == 0xc0 => TAGS.contains(&(first & 0x3f)),
        Some(first) if first & 0x80 != 0 => TAGS.contains(&((first >> 2) & 0x0f)),
        _ => String::from_utf8_lossy(bytes).contains("-----BEGIN PGP MESSAGE-----"),
    }
}

/// Whether a signature says of the image what was asked; else why not, as a sentence of its own.
pub(super) fn judge(
    bytes: &[u8],
    keyring: &Keyring,
    repository: &str,
    asked: Asked<'_>,
    now: u32,
) -> Result<Signer, String> {
    let (text, signer) = open(bytes, keyring, now)?;
    let payload: Payload = serde_json::from_slice(&text)
        .map_err(|error| format!("it is of something else than an image: {error}"))?;
    let Critical { identity, image, kind } = payload.critical;
    if kind != TYPE {
        return Err(format!("it is a signature of the type `{kind}`, and not `{TYPE}`"));
    }
    if image.digest != asked.digest.to_string() {
        return Err(format!("it is a signature of another image, {}", image.digest));
    }
    if !is_for(&identity.reference, repository, asked.reference, asked.digest) {
        let reference = asked.reference;
        return Err(format!(
            "it is a signature for `{}`, and not for {reference}{}",
            identity.reference,
            if repository == reference.name() { String::new() } else { format!(" (of {repository})") }
        ));
    }
    Ok(signer)
}

/// The text of a message that one of these keys has signed.
fn open(bytes: &[u8], keyring: &Keyring, now: u32) -> Result<(Vec<u8>, Signer), String> {
    let no_message = |why: String| format!("it is no signed OpenPGP message: {why}");
    let (text, judged) = careful(|| {
        let binary = bytes.first().is_some_and(|first| first & 0x80 != 0);
        let message = if binary {
            Message::from_bytes(Cursor::new(bytes.to_vec()))?
        } else {
            Message::from_armor(Cursor::new(bytes.to_vec()))?.0
        };
        let mut message = message.decompress()?;
        let mut text = Vec::new();
        let read = (&mut message).take(TEXT_MAX + 1).read_to_end(&mut text)?;
        if read as u64 > TEXT_MAX {
            return Ok((text, Err("it is of a text that is too long to be an image's".to_owned())));
        }
        let Message::Signed { reader, .. } = &message else {
            return Ok((text, Err("it is an OpenPGP message that nobody has signed".to_owned())));
        };
        if !reader.get_ref().is_literal() {
            return Ok((text, Err("it is a signature of another OpenPGP message".to_owned())));
        }
        let mut judged = Err("it is an OpenPGP message that nobody has signed".to_owned());
        for index in 0..reader.num_signatures() {
            let (Some(signature), Some(hash)) = (reader.signature(index), reader.hash(index)) else {
                continue;
            };
            judged = keyring.judge(signature, hash, now);
            if judged.is_ok() {
                break;
            }
        }
        Ok((text, judged))
    })
    .map_err(no_message)?;
    judged.map(|signer| (text, signer))
}
