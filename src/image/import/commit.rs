//! A new image of what a running container has made of its own: the same layers, and one more that comes in as every
//! other does.

use std::io::{self, BufWriter, Write};

use serde_json::{Value, json};

use super::{Changes, Import, Imported, Options, empty, synthesized, to_json};
use crate::image::changes::{Change, Live, compare, write};
use crate::image::digest::Digest;
use crate::image::documents::Documents;
use crate::image::error::{Doing, ImageError};
use crate::image::merge::Merged;
use crate::image::staging::Staging;
use crate::image::store::Store;
use crate::image::stream::Passed;
use crate::plan::Footprint;
use crate::settings::Unpack;
use crate::spec::Reference;

/// What is said about a new image.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// What it runs, where that is to be something else than what the container's image does.
    pub changes: Changes,
    /// When it is made, RFC 3339.
    pub created: String,
    /// By what, for its history.
    pub created_by: String,
    /// What somebody says about it, for its history.
    pub comment: String,
    /// How large the new layer may be. It is the program that has written it, and not the administrator: a sparse
    /// file of some exabytes costs that nothing, and would take years to read.
    pub unpack: Unpack,
}

/// What a live root has of its own, beside its image: folders before what is in them, and by name.
///
/// # Errors
/// The image isn't there any more, or either can't be read.
pub fn differences(
    store: &Store,
    image: &Digest,
    live: &Live,
    made: &Footprint,
) -> Result<Vec<Change>, ImageError> {
    compare(&merged(store, &store.documents_by_digest(image)?)?, live, made)
}

fn merged(store: &Store, documents: &Documents) -> Result<Merged, ImageError> {
    let layers = documents.layers();
    let trees: Vec<_> = layers.map(|(id, bottom)| store.layer_path(&id, bottom).join("tree")).collect();
    Merged::open(&trees)
}

/// Makes an image of a live root: the layers of its own image and, if anything differs, one more. When this returns,
/// it is durable.
///
/// What the program changes meanwhile may be in or not.
///
/// # Errors
/// Those of [`differences`] and of an import; [`ImageError::Changed`] for a file that got shorter while it was read.
pub fn commit(
    store: &Store,
    image: &Digest,
    live: &Live,
    made: &Footprint,
    reference: &Reference,
    options: &CommitOptions,
) -> Result<Imported, ImageError> {
    crate::image::store::storable(reference)?;
    let documents = store.documents_by_digest(image)?;
    let staging = Staging::begin(store)?;
    for (diff_id, bottom) in documents.layers() {
        staging.pin_layer(&diff_id, bottom)?;
    }
    let changes = compare(&merged(store, &documents)?, live, made)?;
    let limited = Options { unpack: options.unpack, ..Options::default() };
    let mut import = Import {
        store,
        staging,
        options: &limited,
        progress: &|_| (),
        what: "the container's root".to_owned(),
        file_name: None,
        unpacked: 0,
        imported: Vec::new(),
    };
    let mut new = empty();
    new.layers = documents.diff_ids.len();
    let mut layers = Vec::new();
    for (diff_id, bottom) in documents.layers() {
        layers.push((diff_id, store.summary(&diff_id, bottom)?.tar_bytes));
    }
    if !changes.is_empty() {
        let passed = import.changed(live, &changes, &mut new)?;
        new.layers += 1;
        layers.push((passed.diff_id, passed.tar_bytes));
    }
    let diff_ids: Vec<_> = layers.iter().map(|(diff_id, _)| *diff_id).collect();
    let config = config(&documents, &diff_ids, options)?;
    let manifest = synthesized(&config, &layers)?;
    import.add(&config, &manifest, std::slice::from_ref(reference), new)?;
    let Import { staging, mut imported, .. } = import;
    staging.commit()?;
    Ok(imported.remove(0))
}

impl Import<'_, '_> {
    /// The layer of what has changed: its tar is written by a thread, and comes through a pipe.
    fn changed(
        &mut self,
        live: &Live,
        changes: &[Change],
        image: &mut Imported,
    ) -> Result<Passed, ImageError> {
        let (input, output) = io::pipe().doing("make", "a pipe")?;
        let what = self.what.clone();
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("tar".to_owned());
            let writer = thread.spawn_scoped(scope, move || {
                let mut out = BufWriter::with_capacity(64 << 10, output);
                write(live, changes, &mut out)?;
                out.flush().map_err(|source| ImageError::Output { source })
            });
            let writer = writer.doing("start", "a thread")?;
            let unpacked = self.unpack(&what, input, None, None, false, image);
            let written = writer.join().unwrap_or_else(|_| {
                Err(ImageError::Output {
                    source: io::Error::other("the writing thread stopped unexpectedly"),
                })
            });
            match (written, unpacked) {
                // It only saw that nobody reads any more.
                (Err(ImageError::Output { .. }), Err(error)) => Err(error),
                (Err(error), _) => Err(error),
                (Ok(()), unpacked) => unpacked.map(|(_, passed)| passed),
            }
        })
    }
}

/// The config of the image that it is made from, with what is new. Nothing that Wharf doesn't know is lost.
fn config(
    documents: &Documents,
    diff_ids: &[Digest],
    options: &CommitOptions,
) -> Result<Vec<u8>, ImageError> {
    let malformed =
        |why: String| ImageError::Malformed { what: format!("the config of {}", documents.digest), why };
    let mut config: Value = serde_json::from_slice(&documents.config_bytes)
        .map_err(|error| malformed(format!("is not the config of an image: {error}")))?;
    if !config.is_object() {
        return Err(malformed("is not the config of an image".to_owned()));
    }
    config["created"] = options.created.clone().into();
    let digests: Vec<_> = diff_ids.iter().map(ToString::to_string).collect();
    config["rootfs"] = json!({ "type": "layers", "diff_ids": digests });
    if !config["config"].is_object() {
        config["config"] = json!({});
    }
    change(&mut config["config"], &options.changes);
    if !config["history"].is_array() {
        config["history"] = json!([]);
    }
    if let Some(history) = config["history"].as_array_mut() {
        let with_layer = history.iter().filter(|entry| entry["empty_layer"] != Value::Bool(true)).count();
        // Programs that count find an entry for each layer, also for those that nobody wrote anything about.
        for _ in with_layer..documents.diff_ids.len() {
            history.push(json!({}));
        }
        let mut entry = json!({ "created": options.created, "created_by": options.created_by });
        if !options.comment.is_empty() {
            entry["comment"] = options.comment.clone().into();
        }
        if diff_ids.len() == documents.diff_ids.len() {
            entry["empty_layer"] = true.into();
        }
        history.push(entry);
    }
    to_json(&config)
}

fn change(run: &mut Value, changes: &Changes) {
    let Changes { entrypoint, command, environment, user, working_directory, stop_signal } = changes;
    if !entrypoint.is_empty() {
        run["Entrypoint"] = entrypoint.clone().into();
        // The old words were meant for the old program.
        run["Cmd"] = Value::Null;
    }
    if !command.is_empty() {
        run["Cmd"] = command.clone().into();
    }
    if !environment.is_empty() {
        let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
        let mut all: Vec<String> = serde_json::from_value(run["Env"].clone()).unwrap_or_default();
        for variable in environment {
            match all.iter_mut().find(|old| name(old) == name(variable)) {
                Some(old) => old.clone_from(variable),
                None => all.push(variable.clone()),
            }
        }
        run["Env"] = all.into();
    }
    for (key, value) in [("User", user), ("WorkingDir", working_directory), ("StopSignal", stop_signal)] {
        if !value.is_empty() {
            run[key] = value.clone().into();
        }
    }
}
