//! The generator's shell: reads the search path, writes the output folder, and does nothing else.
//!
//! What it writes:
//!
//! ```text
//! NORMAL/NAME-container.service            the unit
//! NORMAL/NAME-container.{timer,socket}     what starts it, with services of their own (see plan::companions)
//! NORMAL/multi-user.target.wants/…         links for those that start at boot
//! NORMAL/{timers,sockets}.target.wants/…   for those whose timer or sockets do
//! NORMAL/wharf/NAME.json                   the plan, mode 0600
//! NORMAL/wharf/NAME.findings               instead of it, where a container is refused
//! NORMAL/NAME-container.service            and its plan too, of what runs and has no file any more
//! NORMAL/NAME-image.service                the unit of an image that can be fetched
//! NORMAL/wharf/images/NAME.json            its plan, or NAME.findings
//! /run/wharf/findings.json                 every finding, by rename
//! ```
//!
//! systemd waits for its generators at boot and at each reload and has emptied NORMAL before. No fsync: the
//! output lies in memory and is made again at each boot.

mod images;
mod read;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

pub use images::{ImageListing, image_name, images, settings};
pub use read::{Found, Listing, container_name, last_good, list, loose, read};

use crate::check::{Checked, CheckedImage, CheckedSettings, Container, DeclaredImage, Supplies};
use crate::held;
use crate::host::{HostFacts, Paths};
use crate::plan::held::Held;
use crate::plan::{self, Files};
use crate::report::{self, Finding, Source};
use crate::running::{self, Running};
use crate::spec::{ContainerName, ImageName, Reference};
use crate::transient;

/// From this many containers on a second thread earns more than it costs.
const WORTH_A_THREAD: usize = 64;

/// More threads than this only wait for the kernel's lock on the output folder.
const THREADS_MAX: usize = 4;

/// Why nothing could be generated at all.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The output folder can't be made.
    #[error("can't make {path}")]
    Folder {
        /// The folder.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Makes every unit and plan; gives all findings, notes too.
pub fn run(paths: &Paths, normal: &Path) -> Result<Vec<Finding>, GenerateError> {
    let facts = HostFacts::read(paths);
    let listing = list(paths);
    let Everything { mut containers, images, listing_of_images, supplies, settings } =
        check_everything(paths, &listing);
    let mut findings = listing.findings;
    findings.extend(listing_of_images.findings);
    // A broken wharf.toml stops no container, and what needs it says so itself.
    findings.extend(settings.findings);
    let gone = gone(paths, &containers);
    if !listing.containers.is_empty() || !images.is_empty() || !gone.is_empty() {
        let out = write::Folder::make(normal)?;
        let threads = threads(containers.len());
        let host = &settings.settings;
        let marks = held::all(paths);
        let live = if marks.is_empty() { None } else { held::live(paths) };
        let stands = |held: &Held, container: Option<&Container>| {
            let now =
                container.map(|container| held::fingerprint(paths, container, &plan::trust(container, host)));
            held.is_in_unit(now.as_ref(), live.as_deref())
        };
        // An instance without files of its own has no unit of its own either, unless it is held back.
        let mut instances = Vec::new();
        for (name, held) in &marks {
            let (Some(instance), Some(template)) = (name.instance(), name.template()) else { continue };
            let of = |wanted: &ContainerName| containers.iter().find(|(files, _)| files.name == *wanted);
            if of(name).is_none()
                && let Some((files, Checked { container: Some(container), .. })) = of(&template)
                && stands(held, Some(&container.instance(instance)))
            {
                instances.push((held, report::Place::file(&files.main)));
            }
        }
        for (held, place) in instances {
            if let Some(output) = plan::held_output(held, facts, host) {
                findings.push(held_back(held, &place));
                findings.extend(out.put(&output).err().map(|error| unwritten(&place, &error)));
            }
        }
        for running in &gone {
            let Running { container, source, .. } = running;
            let place = report::Place::file(&Source::new(source, ""));
            if let Some(output) = plan::gone_output(container, source, facts) {
                findings.push(undeclared(container, &place));
                findings.extend(out.put(&output).err().map(|error| unwritten(&place, &error)));
            }
        }
        let left = in_parts(&mut containers, threads, |(files, checked)| {
            let mark = marks.get(&files.name);
            let held = mark.filter(|held| stands(held, checked.container.as_ref()));
            let output = held.and_then(|held| plan::held_output(held, facts, host)).unwrap_or_else(|| {
                // Its tag may name by now what failed: the mark knows with which image the same has worked.
                let good = || match (last_good(paths, &files.name), mark) {
                    (Some(plan), Some(mark))
                        if mark.is_behind(
                            &plan.container,
                            &held::fingerprint(paths, &plan.container, &plan.trust),
                        ) =>
                    {
                        Some(mark.plan(facts, host))
                    }
                    (plan, mark) => plan.or_else(|| Some(mark?.plan(facts, host))),
                };
                plan::output(files, checked, good, facts, host)
            });
            let mut findings = std::mem::take(&mut checked.findings);
            findings.extend(held.map(|held| held_back(held, &report::Place::file(&files.main))));
            if let Err(error) = out.put(&output) {
                findings.push(unwritten(&report::Place::file(&files.main), &error));
            }
            (findings, output.image, report::Place::file(&files.main))
        });
        let mut implicit = BTreeMap::new();
        for (found, image, place) in left {
            findings.extend(found);
            // What a last good plan names may have gone from wharf.toml since; it is fetched all the same.
            if let Some((reference, unit)) = image
                && unit == ImageName::of_reference(&reference).unit()
                && !supplies.is_declared(&reference)
            {
                implicit.entry(reference).or_insert(place);
            }
        }
        let mut fetched = Vec::new();
        for (files, checked) in images {
            let output = plan::image_output(&files, &checked);
            fetched.extend(output.map(|output| (output, report::Place::file(&files.main))));
            findings.extend(checked.findings);
        }
        let named = implicit.into_iter().filter_map(|(reference, place)| {
            Some((plan::implicit_output(&supplies.implicit(&reference))?, place))
        });
        fetched.extend(named);
        if !fetched.is_empty() {
            out.make_for_images()?;
        }
        let threads = self::threads(fetched.len());
        let left = in_parts(&mut fetched, threads, |(output, place)| {
            out.put_image(output).err().map(|error| unwritten(place, &error))
        });
        findings.extend(left.into_iter().flatten());
    }
    report::sort(&mut findings);
    // A drop-in for all with a mistake has it for all.
    findings.dedup();
    write::findings(paths, &findings);
    Ok(findings)
}

/// All that is declared, checked, each with the others in view.
pub struct Everything {
    /// Containers; what is masked is left out.
    pub containers: Vec<(Files, Checked)>,
    /// Images that have files.
    pub images: Vec<(Files<ImageName>, CheckedImage)>,
    /// The rest of what was seen on the way to them.
    pub listing_of_images: ImageListing,
    /// What containers go by.
    pub supplies: Supplies,
    /// `wharf.toml`.
    pub settings: CheckedSettings,
}

impl Everything {
    /// The image of a reference, as the files say; of a pinned one too, where its file has the pin.
    pub fn image(&self, reference: &Reference) -> DeclaredImage {
        let declared = self.images.iter().filter_map(|(_, checked)| checked.image.as_ref());
        let mut declared =
            declared.filter(|image| image.reference == *reference || image.stored() == *reference);
        declared.next().cloned().unwrap_or_else(|| self.supplies.implicit(reference))
    }

    /// The file of an image that pins it, where a container's reference has its pin from there.
    pub fn pinned_in(&self, reference: &Reference) -> Option<&Path> {
        let pins = |checked: &CheckedImage| {
            checked.image.as_ref().is_some_and(|image| image.digest.is_some() && image.stored() == *reference)
        };
        self.images.iter().find(|(_, checked)| pins(checked)).map(|(files, _)| files.main.path.as_path())
    }
}

/// Reads and checks all that is declared.
pub fn check_everything(paths: &Paths, listing: &Listing) -> Everything {
    let settings = plan::check_settings(&settings(paths));
    let mut listing_of_images = images(paths);
    let files = std::mem::take(&mut listing_of_images.images).into_iter();
    let mut images: Vec<_> = files
        .map(|files| {
            let checked = plan::check_image(&files);
            (files, checked)
        })
        .collect();
    let (for_all, found) = plan::for_all_images(&listing_of_images.for_all);
    listing_of_images.findings.extend(found);
    let supplies = plan::compare_images(&mut images, &settings.settings, for_all);
    let mut found: Vec<_> = listing.containers.iter().collect();
    let (threads, facts) = (threads(found.len()), HostFacts::read(paths));
    let checked = in_parts(&mut found, threads, |(name, found)| {
        let files = read(paths, listing, name, found)?;
        let mut checked = plan::check(&files);
        plan::warn_of_age(&files, &mut checked, facts);
        Some((files, checked))
    });
    let mut containers: Vec<_> = checked.into_iter().flatten().collect();
    plan::compare(&mut containers, &supplies);
    Everything { containers, images, listing_of_images, supplies, settings }
}

/// Reads and checks all containers, each with all else that is declared in view; what is masked is left out.
pub fn check_all(paths: &Paths, listing: &Listing) -> Vec<(Files, Checked)> {
    check_everything(paths, listing).containers
}

fn threads(containers: usize) -> usize {
    match containers {
        0..WORTH_A_THREAD => 1,
        _ => std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX),
    }
}

/// What becomes of each, in order.
fn in_parts<T: Send, R: Send>(items: &mut [T], threads: usize, one: impl Fn(&mut T) -> R + Sync) -> Vec<R> {
    if threads == 1 {
        return items.iter_mut().map(one).collect();
    }
    let one = &one;
    std::thread::scope(|scope| {
        let parts: Vec<_> = items
            .chunks_mut(items.len().div_ceil(threads))
            .map(|part| scope.spawn(move || part.iter_mut().map(one).collect::<Vec<_>>()))
            .collect();
        // A thread can't panic in checking; should it in writing, the others' work stands.
        parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
    })
}

/// What runs and has lost its file, as it was started. systemd has what its unit says of its end from the unit's file,
/// and forgets it where a reload leaves none: it would send SIGTERM to every process, and run none of its commands.
fn gone(paths: &Paths, containers: &[(Files, Checked)]) -> Vec<Running> {
    let declared: BTreeSet<&ContainerName> = containers.iter().map(|(files, _)| &files.name).collect();
    let is_gone = |name: &ContainerName| {
        let template = name.template();
        // What `wharf run` has started has its unit from there.
        ![Some(name), template.as_ref()].into_iter().flatten().any(|name| declared.contains(name))
            && !transient::folder(paths, name).exists()
    };
    let names = running::names(paths).unwrap_or_default();
    names.iter().filter(|name| is_gone(name)).filter_map(|name| running::find(paths, name).ok()?).collect()
}

fn undeclared(container: &Container, place: &report::Place) -> Finding {
    let name = &container.name;
    Finding::warning(place.clone(), format!("{name} runs, and no file declares it any more"))
        .hint(format!("stop it: systemctl stop {}, or wharf apply", name.unit()))
}

fn held_back(held: &Held, place: &report::Place) -> Finding {
    let name = held.name();
    Finding::warning(
        place.clone(),
        format!("{name} is held back, and runs its last good plan: {}", held.reason()),
    )
    .hint(format!("edit its files, and then wharf apply; or try the same again: wharf apply --retry {name}"))
}

fn unwritten(place: &report::Place, error: &io::Error) -> Finding {
    Finding::error(place.clone(), format!("the unit can't be written: {error}")).hint("is /run full?")
}
