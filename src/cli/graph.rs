//! `wharf graph`: what leads where, as an outline, DOT, SVG or JSON.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use super::declared::{Declared, DeclaredError};
use super::output::{Exit, Failure, print};
use crate::bus::Systemd;
use crate::generate;
use crate::graph;
use crate::host::Paths;
use crate::plan;
use crate::spec::ContainerName;

const AFTER_HELP: &str = "\
Examples:
  wharf graph                                an outline, for a terminal
  wharf graph --svg >wharf.svg               a picture, for a wiki or a repository
  wharf graph shop-db --output shop-db.svg   the database, and everything that leads to it
  wharf graph --dot | dot -Tpdf >wharf.pdf   by graphviz
  wharf graph --root build/rootfs            the tree of an image in the making

The SVG is one file with nothing in it that it would fetch; it is light or
dark as its reader is. It is the same for the same files, unless --state is
given.

A volume or path of the host that several containers mount is one node. A
dashed red container is one whose files have errors, or that another one links
to and nothing declares. Its network is said where it isn't the default.

JSON: one object with the keys
  nodes  an array of objects: id, kind (container, template, port, volume, bind or host), label,
         description, image, rootfs, network, problem (bad-file or not-declared) and state;
         null where there is none
  edges  an array of objects: from and to (ids of nodes), kind (link, publish or mount), label
         (a link's alias, the container's port, the target of a mount) and read_only

Exit status: 0 shown (also files with errors, which `wharf check` explains), 1
it failed or nothing declares a container that is named, 2 for wrong usage.";

/// Show containers, their links, published ports, volumes and binds
///
/// All that is declared; with names, those containers, what they reach by links and what reaches them.
/// It looks at the files as they are now.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct GraphArgs {
    /// Containers; everything where none is given
    #[arg(value_name = "NAME")]
    names: Vec<ContainerName>,
    /// For graphviz
    #[arg(long, group = "form")]
    dot: bool,
    /// A picture
    #[arg(long, group = "form")]
    svg: bool,
    /// One object, as below
    #[arg(long, group = "form")]
    json: bool,
    /// Write into FILE; its ending (.svg, .dot, .gv or .json) says what, where no option does
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Ask systemd how containers are, and show it
    #[arg(long)]
    state: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Dot,
    Svg,
    Json,
}

/// The file that was asked for can't be written.
#[derive(Debug, thiserror::Error)]
#[error("can't write {}", .file.display())]
struct WriteError {
    file: PathBuf,
    #[source]
    source: io::Error,
}

/// Runs the command.
pub fn run(args: &GraphArgs, paths: &Paths) -> Result<Exit, Failure> {
    let GraphArgs { names, dot, svg, json, output, state } = args;
    let form = match (dot, svg, json) {
        (true, _, _) => Form::Dot,
        (_, true, _) => Form::Svg,
        (_, _, true) => Form::Json,
        _ => output.as_deref().map_or(Form::Text, by_ending),
    };
    if *state && !paths.are_this_hosts() {
        return Err(Failure::usage(
            "--state is about this host's containers, and not those under another root",
        ));
    }
    let declared = Declared::list(paths)?;
    let mut graph = graph::graph(&all(paths, &declared, names)?);
    if !names.is_empty() {
        graph = graph.around(&names.iter().map(ContainerName::as_str).collect::<Vec<_>>());
    }
    if *state {
        let states = states()?;
        // What systemd hasn't loaded doesn't run.
        graph.states(|name| Some(states.get(name).cloned().unwrap_or_else(|| "inactive".to_owned())));
    }
    let text = match form {
        Form::Text => graph::text(&graph),
        Form::Dot => graph::dot(&graph),
        Form::Svg => graph::svg(&graph),
        Form::Json => serde_json::to_string_pretty(&graph)? + "\n",
    };
    match output {
        Some(file) => {
            fs::write(file, text).map_err(|source| WriteError { file: file.clone(), source })?;
        }
        None if text.is_empty() => {
            print("No container is declared; put a file into /etc/wharf/containers.\n")?;
        }
        None => print(&text)?,
    }
    Ok(Exit::Done)
}

fn by_ending(file: &Path) -> Form {
    match file.extension().and_then(|end| end.to_str()) {
        Some("svg") => Form::Svg,
        Some("dot" | "gv") => Form::Dot,
        Some("json") => Form::Json,
        _ => Form::Text,
    }
}

/// Every declared container, and instances that are asked for by name or linked to: their template's files say
/// what they are.
fn all(
    paths: &Paths,
    declared: &Declared<'_>,
    names: &[ContainerName],
) -> Result<Vec<graph::Declared>, DeclaredError> {
    let mut found: BTreeMap<ContainerName, graph::Declared> = BTreeMap::new();
    for (files, checked) in generate::check_all(paths, declared.listing()) {
        let refused = checked.container.is_none();
        // A mistake that only others' files make one, like a link to nowhere, shows in the picture.
        let container = checked.container.or_else(|| plan::check(&files).container);
        found.insert(files.name.clone(), graph::Declared { name: files.name, container, refused });
    }
    let one = |name: &ContainerName| {
        let container = plan::check(&declared.files(name)?).container;
        Ok(graph::Declared { name: name.clone(), refused: container.is_none(), container })
    };
    for name in names {
        if !found.contains_key(name) {
            found.insert(name.clone(), one(name)?);
        }
    }
    // What an instance links to may be an instance again.
    let mut ways: Vec<ContainerName> = found.keys().cloned().collect();
    while let Some(name) = ways.pop() {
        let links = found.get(&name).and_then(|one| one.container.as_ref()).map(|container| &container.links);
        let targets = links.into_iter().flatten().filter_map(|link| link.to.container().cloned());
        for target in targets.filter(|target| target.instance().is_some()).collect::<Vec<_>>() {
            if !found.contains_key(&target)
                && let Ok(instance) = one(&target) as Result<_, DeclaredError>
            {
                found.insert(target.clone(), instance);
                ways.push(target);
            }
        }
    }
    Ok(found.into_values().collect())
}

/// The state of every loaded container, by name.
fn states() -> Result<BTreeMap<String, String>, Failure> {
    let patterns = ["*-container.service", "*-container@*.service"];
    let units = Systemd::connect()?.units(&patterns, |unit, _| ContainerName::from_unit(unit).is_some())?;
    let named =
        |unit: crate::bus::UnitStatus| Some((ContainerName::from_unit(&unit.unit)?.to_string(), unit.active));
    Ok(units.into_iter().filter_map(named).collect())
}
