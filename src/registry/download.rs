//! Layers on their way: several at a time, each into its own file, read from there while it grows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::client::Client;
use super::connection::broken;
use super::error::RegistryError;
use super::message::{Answer, Ask};
use super::partial::{Had, Partial};
use super::place::Endpoint;
use super::retry::Cancel;
use crate::image::{Digest, ImageError, Store, Wanted};

/// How many layers are fetched at a time: one connection seldom fills a line, and more than these seldom help.
pub(super) const WORKERS: usize = 4;

/// What is read at once.
const BLOCK: usize = 128 << 10;

/// How often it is looked whether another command is done with a blob.
const LOOK: Duration = Duration::from_millis(100);

/// All layers of one pull.
pub(super) struct Downloads<'a> {
    client: &'a Client,
    store: &'a Store,
    endpoints: &'a [Endpoint],
    /// As the image is called in messages.
    image: String,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Nobody waits for anything any more.
    closed: AtomicBool,
    /// What the store has of the layers is damaged.
    pub(super) anew: bool,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Arc<Download>>,
    all: BTreeMap<Digest, Arc<Download>>,
}

/// One layer.
struct Download {
    wanted: Wanted,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    phase: Phase,
    partial: Option<Arc<Partial>>,
    /// Bytes that can be read.
    available: u64,
    /// Bytes that came over the network.
    fetched: u64,
    /// Some of it is of an earlier command, or of a server that failed in the middle.
    resumed: bool,
    /// Where the last of it came from.
    from: Option<Endpoint>,
    /// Hosts that gave something else.
    refused: BTreeSet<String>,
}

enum Phase {
    /// Nobody fetches it yet.
    Queued,
    Growing,
    Whole,
    /// Another command has put the layer into the store.
    Stored,
    Failed(Option<RegistryError>),
}

/// How far one answer led.
enum Came {
    ToTheEnd,
    /// The connection broke.
    SoFar(RegistryError),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Download {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut locked(&self.state));
        self.changed.notify_all();
    }

    fn wait<'state>(&'state self, state: MutexGuard<'state, State>) -> MutexGuard<'state, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Downloads<'a> {
    pub(super) fn new(
        client: &'a Client,
        store: &'a Store,
        endpoints: &'a [Endpoint],
        image: String,
    ) -> Self {
        let closed = AtomicBool::new(false);
        Self {
            client,
            store,
            endpoints,
            image,
            queue: Mutex::default(),
            wake: Condvar::new(),
            closed,
            anew: false,
        }
    }

    /// Layers that are going to be needed, in this order.
    pub(super) fn begin(&self, wanted: &[Wanted]) {
        let mut queue = locked(&self.queue);
        for wanted in wanted {
            if queue.all.contains_key(&wanted.digest) {
                continue;
            }
            let state = State {
                phase: Phase::Queued,
                partial: None,
                available: 0,
                fetched: 0,
                resumed: false,
                from: None,
                refused: BTreeSet::new(),
            };
            let download =
                Arc::new(Download { wanted: *wanted, state: Mutex::new(state), changed: Condvar::new() });
            queue.all.insert(wanted.digest, Arc::clone(&download));
            queue.waiting.push_back(download);
        }
        self.wake.notify_all();
    }

    fn requeue(&self, download: &Arc<Download>) {
        let mut queue = locked(&self.queue);
        locked(&download.state).phase = Phase::Queued;
        queue.waiting.push_front(Arc::clone(download));
        self.wake.notify_all();
    }

    /// What a worker does, until [`Downloads::close`].
    pub(super) fn work(&self) {
        loop {
            let mut queue = locked(&self.queue);
            let download = loop {
                if self.closed.load(Ordering::SeqCst) {
                    return;
                }
                match queue.waiting.pop_front() {
                    Some(download) => break download,
                    None => queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(queue);
            if let Err(error) = self.fetch(&download) {
                download.change(|state| state.phase = Phase::Failed(Some(error)));
            }
        }
    }

    /// Nothing more is wanted: what is under way ends at its next byte.
    pub(super) fn close(&self) {
        let _queue = locked(&self.queue);
        self.closed.store(true, Ordering::SeqCst);
        self.wake.notify_all();
    }

    fn check(&self) -> Result<(), RegistryError> {
        if self.closed.load(Ordering::SeqCst) {
            Err(RegistryError::Cancelled)
        } else {
            self.client.cancel.check()
        }
    }

    /// The disk is full, and what is here of these layers is a part of that.
    pub(super) fn give_up(&self) {
        for download in locked(&self.queue).all.values() {
            if let Some(partial) = &locked(&download.state).partial {
                partial.remove();
            }
        }
    }

    /// The layers are in the store: their files go. Says how many bytes came over the network.
    pub(super) fn done(&self) -> u64 {
        let mut fetched = 0;
        for download in locked(&self.queue).all.values() {
            let state = locked(&download.state);
            fetched += state.fetched;
            if let Some(partial) = &state.partial {
                partial.remove();
            }
        }
        fetched
    }

    fn what(&self, digest: &Digest) -> String {
        format!("the layer {digest} of {}", self.image)
    }

    fn download(&self, digest: &Digest) -> Result<Arc<Download>, RegistryError> {
        locked(&self.queue).all.get(digest).cloned().ok_or_else(|| {
            RegistryError::Unclear(format!("{} isn't one that was asked for", self.what(digest)))
        })
    }

    /// Its bytes, as they come; nothing where the layer is in the store by now.
    pub(super) fn open(&self, digest: &Digest) -> Result<Option<Box<dyn Read + Send>>, RegistryError> {
        let download = self.download(digest)?;
        let mut state = locked(&download.state);
        loop {
            match &mut state.phase {
                Phase::Stored => {
                    // Should it be gone again when it is looked for, this is asked once more.
                    state.phase = Phase::Failed(None);
                    return Ok(None);
                }
                Phase::Failed(None) => {
                    drop(state);
                    self.requeue(&download);
                    state = locked(&download.state);
                }
                Phase::Failed(Some(_)) => {
                    let failed = std::mem::replace(&mut state.phase, Phase::Failed(None));
                    let Phase::Failed(Some(error)) = failed else { continue };
                    return Err(error);
                }
                Phase::Growing | Phase::Whole => {
                    if let Some(partial) = &state.partial {
                        let partial = Arc::clone(partial);
                        let download = Arc::clone(&download);
                        let cancel = self.client.cancel.clone();
                        return Ok(Some(Box::new(Growing { download, partial, cancel, at: 0 })));
                    }
                    state = download.wait(state);
                }
                Phase::Queued => state = download.wait(state),
            }
        }
    }

    /// What to do about an error of unpacking: nothing is returned where it is worth another try.
    pub(super) fn again(&self, digest: &Digest, error: ImageError) -> Result<(), RegistryError> {
        self.client.cancel.check()?;
        let download = self.download(digest)?;
        let mut state = locked(&download.state);
        if let Phase::Failed(failed @ Some(_)) = &mut state.phase {
            // What unpacking says of it is only what follows from this.
            return Err(failed.take().unwrap_or(RegistryError::Cancelled));
        }
        let ImageError::Digest { expected, found, .. } = &error else { return Err(error.into()) };
        if *expected != digest.to_string() {
            // It is the blob that was promised, and the config promised another content.
            return Err(error.into());
        }
        if let Some(partial) = state.partial.take() {
            partial.remove();
        }
        let from = state.from.clone();
        let host = from.as_ref().map_or_else(|| self.image.clone(), |from| from.host.clone());
        let mismatch = RegistryError::Digest {
            what: self.what(digest),
            host: host.clone(),
            expected: expected.clone(),
            found: found.clone(),
        };
        if state.resumed {
            // An earlier command's part may have been damaged by a power cut.
            self.client.watch.note(&format!(
                "{} was fetched in parts that don't make a whole; fetching all of it again",
                self.what(digest)
            ));
        } else if from.is_some_and(|from| from.is_mirror) {
            self.client.watch.note(&format!("{mismatch}; asking the next"));
            state.refused.insert(host);
        } else {
            return Err(mismatch);
        }
        drop(state);
        self.requeue(&download);
        Ok(())
    }

    /// Fetches one layer, from the first server that gives it.
    fn fetch(&self, download: &Download) -> Result<(), RegistryError> {
        let Wanted { digest, size, .. } = &download.wanted;
        let Some((partial, is_own)) = self.partial(&download.wanted)? else {
            download.change(|state| state.phase = Phase::Stored);
            return Ok(());
        };
        let partial = Arc::new(partial);
        let mut have = partial.length()?;
        if have > *size {
            partial.empty()?;
            have = 0;
        }
        let refused = locked(&download.state).refused.clone();
        download.change(|state| {
            state.phase = Phase::Growing;
            state.partial = Some(Arc::clone(&partial));
            state.available = have;
            state.resumed = have > 0;
            state.from = None;
        });
        let name = digest.to_string();
        self.client.watch.layer(&name, *size);
        self.client.watch.received(&name, have);
        if have < *size {
            let mut endpoints = self.endpoints.iter().filter(|one| !refused.contains(&one.host)).peekable();
            while let Some(endpoint) = endpoints.next() {
                locked(&download.state).from = Some(endpoint.clone());
                let before = have;
                match self.from(endpoint, download, &partial, &mut have) {
                    Ok(()) => break,
                    Err(error) if error.is_the_servers() && endpoints.peek().is_some() => {
                        note_failure(self.client, endpoint, &error);
                        // Should the digest be wrong in the end, nobody knows whose part it was.
                        if have > before {
                            let mut state = locked(&download.state);
                            state.refused.insert(endpoint.host.clone());
                            state.resumed = true;
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        if is_own {
            partial.share()?;
        }
        download.change(|state| state.phase = Phase::Whole);
        Ok(())
    }

    /// The file, as soon as nobody else fetches into it; nothing where the layer is in the store by then.
    fn partial(&self, wanted: &Wanted) -> Result<Option<(Partial, bool)>, RegistryError> {
        let mut waited = false;
        loop {
            match Partial::have(self.store.state(), &wanted.digest, wanted.size)? {
                // Who had it may have finished with it, since the import looked.
                Had::Own(partial) if !self.anew && self.store.has_layer(&wanted.diff_id, wanted.bottom) => {
                    partial.remove();
                    return Ok(None);
                }
                Had::Own(partial) => return Ok(Some((partial, true))),
                Had::Whole(partial) => return Ok(Some((partial, false))),
                Had::Busy => {
                    if !waited {
                        let what = self.what(&wanted.digest);
                        self.client.watch.note(&format!("another command fetches {what}; waiting for it"));
                    }
                    waited = true;
                    self.check()?;
                    self.client.cancel.pause(LOOK)?;
                }
            }
        }
    }

    /// All that is missing, from one server, over as many connections as it takes.
    fn from(
        &self,
        endpoint: &Endpoint,
        download: &Download,
        partial: &Partial,
        have: &mut u64,
    ) -> Result<(), RegistryError> {
        let patience = self.client.patience;
        let mut failures = 0;
        loop {
            let before = *have;
            let error = match self.part(endpoint, download, partial, have)? {
                Came::ToTheEnd => return Ok(()),
                Came::SoFar(error) => error,
            };
            self.check()?;
            failures = if *have > before { 1 } else { failures + 1 };
            if failures >= patience.tries {
                return Err(error);
            }
            self.client.cancel.pause(patience.pause_after(failures))?;
        }
    }

    fn ask(&self, endpoint: &Endpoint, digest: &Digest, from: u64) -> Result<Answer, RegistryError> {
        let mut ask = Ask::get(self.what(digest), endpoint.blob(digest));
        if from > 0 {
            ask.headers.push(("range", format!("bytes={from}-")));
        }
        let scopes = endpoint.scope(false);
        self.client.send(&endpoint.host, endpoint.repository(), &scopes, &ask, endpoint.is_mirror)
    }

    /// What one answer brings.
    fn part(
        &self,
        endpoint: &Endpoint,
        download: &Download,
        partial: &Partial,
        have: &mut u64,
    ) -> Result<Came, RegistryError> {
        let Wanted { digest, size, .. } = &download.wanted;
        let mut answer = self.ask(endpoint, digest, *have)?;
        let goes_on = |answer: &Answer, have: u64| {
            answer.status == 206 && answer.header("content-range").is_some_and(|range| begins_at(range, have))
        };
        if answer.status == 416 || (answer.status == 206 && !goes_on(&answer, *have)) {
            answer = self.ask(endpoint, digest, 0)?;
        }
        let what = self.what(digest);
        let answer = self.client.accepted(answer, &what, &endpoint.host, endpoint.repository())?;
        // A server that doesn't know ranges sends everything; what is here of it isn't read again.
        let mut skip = if answer.status == 206 { 0 } else { *have };
        let wrong = |found| RegistryError::Size {
            what: what.clone(),
            host: endpoint.host.clone(),
            expected: *size,
            found,
        };
        if let Some(length) = answer.length() {
            let announced = length.saturating_add(*have - skip);
            if announced != *size {
                return Err(wrong(announced));
            }
        }
        let name = digest.to_string();
        let mut reader = answer.reader();
        let mut block = vec![0; BLOCK];
        loop {
            let count = match reader.read(&mut block) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Came::SoFar(broken(&endpoint.host, error))),
            };
            if count == 0 && *have == *size {
                return Ok(Came::ToTheEnd);
            }
            if count == 0 {
                let text = format!("the connection ended after {have} of {size} bytes");
                let source = io::Error::new(io::ErrorKind::UnexpectedEof, text);
                return Ok(Came::SoFar(RegistryError::Unreachable { host: endpoint.host.clone(), source }));
            }
            self.check()?;
            let known = skip.min(count as u64);
            skip -= known;
            let new = &block[usize::try_from(known).unwrap_or(count)..count];
            let after = *have + new.len() as u64;
            if after > *size {
                return Err(wrong(after));
            }
            partial.write(new, *have)?;
            *have = after;
            download.change(|state| {
                state.available = after;
                state.fetched += count as u64;
            });
            self.client.watch.received(&name, after);
        }
    }
}

/// Whether `Content-Range: bytes 7-9/10` (RFC 9110, 14.4) begins there.
fn begins_at(range: &str, at: u64) -> bool {
    range
        .trim()
        .strip_prefix("bytes")
        .and_then(|rest| rest.trim_start().split_once('-'))
        .is_some_and(|(first, _)| first.parse() == Ok(at))
}

/// A mirror didn't help; it goes on with the next.
pub(super) fn note_failure(client: &Client, endpoint: &Endpoint, error: &RegistryError) {
    if client.cancel.is_cancelled() {
        return;
    }
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    client.watch.note(&format!("the mirror {} is passed over: {error}{cause}", endpoint.host));
}

/// Reads a file that another thread writes.
struct Growing {
    download: Arc<Download>,
    partial: Arc<Partial>,
    cancel: Cancel,
    at: u64,
}

impl Read for Growing {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.cancel.check().map_err(io::Error::other)?;
        let mut state = locked(&self.download.state);
        let available = loop {
            if state.available > self.at {
                break state.available;
            }
            match state.phase {
                Phase::Growing => state = self.download.wait(state),
                Phase::Whole => return Ok(0),
                // The reason is kept for who asks by `Downloads::again`.
                _ => return Err(io::Error::other("its download failed")),
            }
        };
        drop(state);
        let most = usize::try_from(available - self.at).unwrap_or(usize::MAX).min(into.len());
        let count = self.partial.read(&mut into[..most], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_compared() {
        assert!(begins_at("bytes 7-9/10", 7));
        assert!(begins_at(" bytes 0-9/*", 0));
        for bad in ["bytes 8-9/10", "7-9/10", "bytes */10", ""] {
            assert!(!begins_at(bad, 7), "{bad}");
        }
    }
}
