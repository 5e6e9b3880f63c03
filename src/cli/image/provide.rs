//! `wharf image provide`: what the units of images run. It goes by the plan that the generator left.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::size;
use crate::bus::Systemd;
use crate::check::{DeclaredImage, From, Pull};
use crate::cli::output::{Exit, Failure, chain, complain, error_text};
use crate::host::Paths;
use crate::image::{Digest, ImageError, Imported, Options, Source, Store, import_admitted};
use crate::journal::{self, About, Kind};
use crate::plan::{ImagePlan, PLAN_FORMAT, STALLED};
use crate::registry::{self, Client, Credentials, Watch, WebAddress};
use crate::settings::{self, Settings};
use crate::spec::{ImageName, Reference};
use crate::trust::{self, Gate, Given, keys_folder};

/// What stands for "there is a network" (systemd.special(7)).
const ONLINE: &str = "network-online.target";

/// How long to wait for it: as systemd-networkd-wait-online(8) does by default.
const ONLINE_PATIENCE: Duration = Duration::from_secs(120);

/// How often systemd is told how far it is.
const TELL: Duration = Duration::from_secs(1);

/// How long a plan may be missing: systemd empties the generators' folder at the beginning of a reload, and this
/// may fall into it.
const RELOAD: Duration = Duration::from_secs(3);

/// Anything that keeps an image from being provided.
pub(in crate::cli) type Problem = Box<dyn Error + Send + Sync>;

/// Why an image isn't provided.
#[derive(Debug, thiserror::Error)]
enum ProvideError {
    #[error("there is no plan for the image {name} in {}; systemctl daemon-reload makes it from files", .folder.display())]
    NoPlan { name: ImageName, folder: PathBuf },
    #[error("the file of the image {name} has mistakes:\n{findings}")]
    Refused { name: ImageName, findings: String },
    #[error("can't read the plan {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the plan {} is from another version of Wharf; systemctl daemon-reload makes it anew", .0.display())]
    Stale(PathBuf),
}

/// Makes sure that the image is in the store; says what it did.
pub(super) fn run(paths: &Paths, name: &ImageName) -> Result<String, Failure> {
    let result = plan(paths, name).map_err(Problem::from).and_then(|plan| provide(paths, &plan.image));
    result.map_err(|problem| {
        tell(&[NotifyState::Status(&line(&format!("Not provided: {}", chain(problem.as_ref()))))]);
        let image = reference(paths, name).unwrap_or_else(|| name.to_string());
        let about = About { image: Some(image), unit: Some(name.unit()), ..About::default() };
        match journal::send(&about, 3, Some(Kind::NotProvided), &error_text(problem.as_ref(), false)) {
            true => Failure::told(Exit::Failed),
            false => Failure::usage(problem).ending(Exit::Failed),
        }
    })
}

/// What the image is called.
fn reference(paths: &Paths, name: &ImageName) -> Option<String> {
    let text = fs::read(paths.image_plans().join(format!("{name}.json"))).ok()?;
    serde_json::from_slice::<ImagePlan>(&text).ok().map(|plan| plan.image.reference.to_string())
}

/// What the generator left.
fn plan(paths: &Paths, name: &ImageName) -> Result<ImagePlan, ProvideError> {
    let folder = paths.image_plans();
    let read = |end: &str| {
        let path = folder.join(format!("{name}.{end}"));
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some((path, text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ProvideError::Read { path, source }),
        }
    };
    let until = Instant::now() + RELOAD;
    loop {
        if let Some((path, text)) = read("json")? {
            let plan = serde_json::from_str(&text).ok().filter(|plan: &ImagePlan| plan.format == PLAN_FORMAT);
            return plan.ok_or(ProvideError::Stale(path));
        }
        if let Some((_, findings)) = read("findings")? {
            return Err(ProvideError::Refused {
                name: name.clone(),
                findings: findings.trim_end().to_owned(),
            });
        }
        if Instant::now() >= until {
            return Err(ProvideError::NoPlan { name: name.clone(), folder });
        }
        #[expect(clippy::disallowed_methods, reason = "nothing tells when a reload is over")]
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Makes sure that an image is in the store, by the rules of its file; says what it did.
pub(in crate::cli) fn provide(paths: &Paths, image: &DeclaredImage) -> Result<String, Problem> {
    let store = Store::new(paths.state());
    match store.resolve(&image.stored()) {
        // What is pinned can't have changed where it comes from.
        Ok(found) if image.pull != Pull::Always || image.pinned().is_some() => {
            return Ok(format!("{} is in the store: {}\n", image.reference, found.digest));
        }
        Ok(_) | Err(ImageError::Missing { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let settings = settings::load(paths)?;
    let progress = Arc::new(Progress::default());
    let imported = progress.told(&image.reference, || fetch(paths, &store, image, &settings, &progress))?;
    let line = |image: Imported| {
        let Imported { reference, digest, layers, new_layers, devices: _ } = image;
        let name = reference.map_or_else(|| digest.clone(), |reference| reference.to_string());
        format!("{name} {digest} ({layers} layers, {new_layers} new)\n")
    };
    Ok(imported.into_iter().map(line).collect())
}

/// Gets the image from where it comes from into the store.
pub(in crate::cli) fn fetch(
    paths: &Paths,
    store: &Store,
    image: &DeclaredImage,
    settings: &Settings,
    progress: &Arc<Progress>,
) -> Result<Vec<Imported>, Problem> {
    let options = Options {
        name: Some(image.reference.clone()),
        pick: image.pick.clone(),
        platform: image.platform.clone(),
        digest: image.pinned().map(str::parse::<Digest>).transpose()?,
        unpack: settings.unpack,
        ..Options::default()
    };
    let given =
        Given { by_digest: options.digest.is_some(), policy: image.trust.clone(), ..Given::default() };
    let client =
        Client::new(settings.clone(), Credentials::of_host(paths), Arc::clone(progress) as Arc<dyn Watch>);
    let client = Arc::new(client);
    let signature = |address: &str, most| registry::get(&client, address, most);
    let keys = keys_folder(paths);
    let gate = Gate::new(settings, &keys, given, &signature, trust::now());
    let add = |bytes| progress.add(bytes);
    let pulled = match &image.from {
        Some(From::Path(path)) => {
            let path = paths.host(path);
            let file = fs::metadata(&path).ok().filter(fs::Metadata::is_file);
            progress.expect(file.map_or(0, |file| file.len()));
            return Ok(import_admitted(store, Source::Path(path), &options, &gate, &add)?);
        }
        Some(From::Url(url)) => {
            let address = WebAddress::parse(url)?;
            wait_for_network(paths, progress);
            registry::pull_from_web(&client, store, &address, &options, &gate, &add)?
        }
        from => {
            let reference = match from {
                Some(From::Registry(reference)) => reference,
                _ => &image.reference,
            };
            wait_for_network(paths, progress);
            vec![registry::pull(&client, store, reference, &options, &gate)?]
        }
    };
    Ok(pulled.into_iter().map(|pulled| pulled.image).collect())
}

/// Waits until the host is online, as systemd sees it. The unit isn't ordered after that, so that a boot with all
/// images in the store needs no network. Where it can't be had, the fetch fails in words of its own.
fn wait_for_network(paths: &Paths, progress: &Progress) {
    if !paths.are_this_hosts() || !Systemd::runs() {
        return;
    }
    let (sender, answer) = mpsc::channel();
    std::thread::spawn(move || {
        let result = Systemd::connect().and_then(|systemd| systemd.start(ONLINE));
        let _ = sender.send(result);
    });
    let problem = match answer.recv_timeout(ONLINE_PATIENCE) {
        Ok(Ok(result)) if result == "done" => None,
        Ok(Ok(result)) => Some(format!("its job ended with `{result}`")),
        Ok(Err(error)) => Some(chain(&error)),
        Err(_) => Some(format!("it isn't reached after {} seconds", ONLINE_PATIENCE.as_secs())),
    };
    if let Some(problem) = problem {
        complain(&format!("{ONLINE}: {problem}; trying all the same\n"));
    }
    progress.alive();
}

/// How far a fetch is, for systemd.
#[derive(Debug, Default)]
pub(in crate::cli) struct Progress {
    bytes: AtomicU64,
    /// 0 where it isn't known.
    total: AtomicU64,
    /// Changes whenever something was got done.
    steps: AtomicU64,
    /// How much of each layer is here.
    layers: Mutex<BTreeMap<String, u64>>,
}

impl Watch for Progress {
    fn note(&self, text: &str) {
        complain(&format!("{text}\n"));
        self.alive();
    }

    fn layer(&self, _digest: &str, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
        self.alive();
    }

    fn received(&self, digest: &str, bytes: u64) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let before = layers.insert(digest.to_owned(), bytes).unwrap_or_default();
        self.add(bytes.saturating_sub(before));
    }
}

impl Progress {
    /// How many bytes there will be.
    fn expect(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
    }

    /// So many more.
    fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.alive();
    }

    /// It isn't stuck.
    fn alive(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells systemd about the work while it lasts, and asks for time as long as there is progress.
    fn told<T>(&self, reference: &Reference, work: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            let (done, ended) = mpsc::channel::<()>();
            scope.spawn(move || {
                let (mut seen, mut said) = (0, String::new());
                loop {
                    let status = self.status(reference);
                    if status != said {
                        tell(&[NotifyState::Status(&status)]);
                        said = status;
                    }
                    let steps = self.steps.load(Ordering::Relaxed);
                    if steps != seen {
                        seen = steps;
                        let more = u32::try_from(STALLED.as_micros()).unwrap_or(u32::MAX);
                        tell(&[NotifyState::ExtendTimeoutUsec(more)]);
                    }
                    if ended.recv_timeout(TELL) != Err(RecvTimeoutError::Timeout) {
                        break;
                    }
                }
            });
            let result = work();
            drop(done);
            result
        })
    }

    fn status(&self, reference: &Reference) -> String {
        let (bytes, total) = (self.bytes.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        match total {
            0 if bytes == 0 => format!("Fetching {reference}"),
            0 => format!("Fetching {reference}: {}", size(bytes)),
            total => format!("Fetching {reference}: {} of {}", size(bytes.min(total)), size(total)),
        }
    }
}

/// That systemd can't be told, or isn't there, is no reason to stop.
fn tell(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}

/// A text that can stand in a notification: a line break would end it.
fn line(text: &str) -> String {
    const LONGEST: usize = 1024;
    let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.truncate(text.floor_char_boundary(LONGEST));
    text
}
