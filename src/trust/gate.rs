//! Who enters the store: the policies at an import.

use std::io::Read;
use std::path::Path;

use super::archive::{Archive, Tap};
use super::keys::Keyring;
use super::lookaside::{self, Fetch};
use super::{Asked, TrustError, repository, simple};
use crate::image::{Admission, Digest, Entering, ImageError};
use crate::settings::{Policy, Settings};
use crate::spec::Reference;

/// Signatures that come with what is imported.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// That somebody named: one of them must be good, whatever the policy is.
    pub named: Vec<Vec<u8>>,
    /// That were found beside the archive: looked at where the policy asks for one.
    pub beside: Vec<Vec<u8>>,
    /// The digest that the image's manifest must have.
    pub pinned: Option<Digest>,
    /// It is asked for by a digest, perhaps that of an index, which is checked where it comes from.
    pub by_digest: bool,
    /// What the image's own file asks for, whatever `wharf.toml` does.
    pub policy: Option<Policy>,
}

/// The gate of the store.
pub struct Gate<'a> {
    settings: &'a Settings,
    keys: &'a Path,
    fetch: &'a Fetch<'a>,
    given: Given,
    tap: Tap,
    unreadable: Vec<String>,
    now: u32,
}

impl<'a> Gate<'a> {
    /// For one import. `keys` is the folder of keys.
    pub fn new(settings: &'a Settings, keys: &'a Path, given: Given, fetch: &'a Fetch<'a>, now: u32) -> Self {
        let all = given.named.iter().chain(&given.beside);
        let detached: Vec<_> = all.filter(|bytes| !simple::is_message(bytes)).cloned().collect();
        let (tap, unreadable) = Tap::new(&detached);
        Self { settings, keys, fetch, given, tap, unreadable, now }
    }

    fn has_detached(&self) -> bool {
        self.given.named.iter().chain(&self.given.beside).any(|bytes| !simple::is_message(bytes))
    }

    fn is_pinned(&self, reference: &Reference) -> bool {
        self.given.pinned.is_some() || self.given.by_digest || reference.digest().is_some()
    }

    /// Whether any policy asks for signatures.
    fn asks_for_signatures(&self) -> bool {
        let signed = |policy: &Policy| matches!(policy, Policy::Signed { .. });
        self.given.policy.as_ref().is_some_and(signed)
            || signed(&self.settings.trust.policy)
            || self.settings.trust.rules.values().any(signed)
    }

    /// Lets one in, with what is to be kept of its signatures.
    fn one(&self, entering: &Entering, archive: Option<&Archive>) -> Result<Vec<Vec<u8>>, TrustError> {
        let Entering { reference, digest, kept } = entering;
        let asked = Asked { reference, digest };
        if let Some(pinned) = self.given.pinned.filter(|pinned| pinned != digest) {
            let (reference, pinned, found) = (reference.to_string(), pinned.to_string(), digest.to_string());
            return Err(TrustError::Other { reference, pinned, found });
        }
        let repository = repository(self.settings, reference);
        let policy = self.settings.policy(reference, self.given.policy.as_ref());
        let names = match policy {
            Policy::Signed { keys } => keys.as_slice(),
            Policy::Digest if !self.is_pinned(reference) => {
                // It can't be called by a digest here; that it must be this one has to be said beside.
                let pinned = format!("--digest {digest}, if that is what it must be");
                return Err(TrustError::Unpinned { reference: reference.to_string(), repository, pinned });
            }
            Policy::Any | Policy::Digest if self.given.named.is_empty() => return Ok(Vec::new()),
            Policy::Any | Policy::Digest => &[],
        };
        let keyring = Keyring::load(self.keys, names)?;
        let mut reasons = self.unreadable.clone();
        let mut keep = Vec::new();
        let judge = |bytes: &[u8], keep: &mut Vec<Vec<u8>>, reasons: &mut Vec<String>| match simple::judge(
            bytes,
            &keyring,
            &repository,
            asked,
            self.now,
        ) {
            Ok(_) => keep.push(bytes.to_vec()),
            Err(why) => reasons.push(why),
        };
        let given = if self.given.named.is_empty() { &self.given.beside } else { &self.given.named };
        for bytes in given.iter().filter(|bytes| simple::is_message(bytes)) {
            judge(bytes, &mut keep, &mut reasons);
        }
        match archive.map(|archive| archive.judge(&keyring, &repository, asked, self.now)) {
            Some(Ok((_, record))) => keep.extend(serde_json::to_vec(&record).ok()),
            Some(Err(more)) => reasons.extend(more),
            None => {}
        }
        if !keep.is_empty() {
            return Ok(keep);
        }
        let what = asked.what();
        if !self.given.named.is_empty() {
            // Whoever named one wants that one to be good, whatever else there is.
            return Err(TrustError::Bad { what, reasons });
        }
        match super::signed(&keyring, &repository, asked, kept, self.now) {
            Ok(_) => return Ok(Vec::new()),
            Err(TrustError::Bad { reasons: more, .. }) => reasons.extend(more),
            Err(_) => {}
        }
        // Last, as it may take a network.
        let served = lookaside::signatures(self.settings, &repository, digest, self.fetch)?;
        let looked = served.as_ref().map(|served| format!(", nor at {}", served.place)).unwrap_or_default();
        for bytes in served.iter().flat_map(|served| &served.signatures) {
            judge(bytes, &mut keep, &mut reasons);
        }
        match (keep.is_empty(), reasons.is_empty()) {
            (false, _) => Ok(keep),
            (true, true) => Err(TrustError::Unsigned { what, repository, looked }),
            (true, false) => Err(TrustError::Bad { what, reasons }),
        }
    }
}

impl Admission for Gate<'_> {
    fn watches(&self) -> bool {
        self.has_detached() && (!self.given.named.is_empty() || self.asks_for_signatures())
    }

    fn watch(&self, input: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
        self.tap.on(input)
    }

    fn admit(&self, entering: &[Entering]) -> Result<Vec<(Digest, Vec<u8>)>, ImageError> {
        let archive = match self.watches() {
            true => Some(self.tap.finish().map_err(|error| ImageError::Refused(Box::new(error)))?),
            false => None,
        };
        let mut keep = Vec::new();
        for one in entering {
            let signatures =
                self.one(one, archive.as_ref()).map_err(|error| ImageError::Refused(Box::new(error)))?;
            keep.extend(signatures.into_iter().map(|bytes| (one.digest, bytes)));
        }
        Ok(keep)
    }
}
