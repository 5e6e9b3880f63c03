//! What systemd and the files say, beside what is looked at.

use std::collections::BTreeSet;

use crate::bus::Systemd;
use crate::check::RootSource;
use crate::cli::declared::Declared;
use crate::cli::output::Failure;
use crate::cli::{check, ps};
use crate::doctor::facts::{Containers, Facts, Files, Look};
use crate::doctor::look::{self, Wanted, briefly};
use crate::generate;
use crate::host::Paths;
use crate::image::{ImageError, Store};
use crate::report::{self, Level};

/// Units that matter to containers, and are not theirs.
const UNITS: [&str; 7] = [
    "systemd-resolved.service",
    "systemd-machined.service",
    "systemd-journald.service",
    "wharf-*",
    "*-container.service",
    "*-container@*.service",
    "*-image.service",
];

/// All facts.
pub(super) fn facts(paths: &Paths) -> Facts {
    let here = paths.are_this_hosts();
    let of = || paths.clone();
    // What is asked of files first: what they declare says where else to look.
    let declared = {
        let paths = of();
        briefly(move || this(|| wanted(&paths)))
    };
    let files = {
        let paths = of();
        briefly(move || this(|| files(&paths)))
    };
    let asks = here && Systemd::runs();
    let units = asks.then(|| briefly(|| this(|| Ok(Systemd::connect()?.states(&UNITS)?))));
    let version = asks.then(|| briefly(|| this(|| Ok(Systemd::connect()?.version()?))));
    let containers = asks.then(|| {
        let paths = of();
        briefly(move || this(|| containers(&paths)))
    });
    let declared = declared.seen();
    let (wanted, missing_images) = match declared {
        Look::Seen(answer) => answer,
        Look::OnlyRoot => (Wanted::default(), Look::OnlyRoot),
        Look::Failed(why) => (Wanted::default(), Look::Failed(why)),
        Look::Late(limit) => (Wanted::default(), Look::Late(limit)),
        Look::Unasked => (Wanted::default(), Look::Unasked),
    };
    let mut facts = look::look(paths, &wanted);
    let ended = |look: Option<look::Under<_>>| look.map_or(Look::Unasked, look::Under::seen);
    facts.files = files.seen();
    facts.units = ended(units);
    facts.containers = containers.map_or(Look::Unasked, look::Under::seen);
    facts.missing_images = missing_images;
    if let (Look::Seen(systemd), Some(version)) = (&mut facts.systemd, version) {
        systemd.silent = match version.seen() {
            Look::Seen(version) => {
                // What it says itself counts: `257.8-1~deb13u2`, or `v260-rc1` of what isn't packaged.
                let digits = version.trim_start_matches(|c: char| !c.is_ascii_digit());
                let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
                systemd.version = digits[..end].parse().ok().or(systemd.version);
                None
            }
            Look::Late(limit) => Some(format!("nothing was heard within {} s", limit.as_secs())),
            Look::Failed(why) => Some(why),
            Look::OnlyRoot | Look::Unasked => None,
        };
    }
    facts
}

/// A failure in words.
fn this<T>(ask: impl FnOnce() -> Result<T, Failure>) -> Look<T> {
    match ask() {
        Ok(answer) => Look::Seen(answer),
        Err(failure) => Look::Failed(failure.line()),
    }
}

type Missing = Vec<(String, String)>;

/// What declared containers ask of the host, and the images that they can't have.
fn wanted(paths: &Paths) -> Result<(Wanted, Look<Missing>), Failure> {
    let declared = Declared::list(paths)?;
    let everything = generate::check_everything(paths, declared.listing());
    let containers: Vec<_> =
        everything.containers.iter().filter_map(|(_, checked)| checked.container.as_ref()).collect();
    let wanted = Wanted::of(containers.iter().copied());
    let store = Store::new(paths.state());
    let mut missing = BTreeSet::new();
    for container in containers {
        let fetched = container.supply.as_ref().is_some_and(|supply| supply.unit.is_some());
        if let RootSource::Image(reference) = &container.source
            && !fetched
        {
            match store.resolve(reference) {
                Err(ImageError::Missing { .. }) => {
                    missing.insert((reference.to_string(), container.name.to_string()));
                }
                Err(ImageError::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::PermissionDenied =>
                {
                    return Ok((wanted, Look::OnlyRoot));
                }
                // What is damaged is told of the store.
                Ok(_) | Err(_) => {}
            }
        }
    }
    Ok((wanted, Look::Seen(missing.into_iter().collect())))
}

fn files(paths: &Paths) -> Result<Files, Failure> {
    let (mut findings, checked) = check::everything(paths)?;
    report::sort(&mut findings);
    findings.dedup();
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let bad: BTreeSet<String> = findings
        .iter()
        .filter(|finding| finding.level == Level::Error)
        .map(|finding| finding.place.source.path.display().to_string())
        .collect();
    Ok(Files {
        checked: checked.to_string(),
        errors: count(Level::Error),
        warnings: count(Level::Warning),
        bad: bad.into_iter().collect(),
    })
}

fn containers(paths: &Paths) -> Result<Containers, Failure> {
    let rows = ps::all_rows(paths, false)?;
    let systemd = Systemd::connect()?;
    let is = |row: &ps::Row, state: &str| row.state.as_deref() == Some(state);
    let names = |wanted: &dyn Fn(&ps::Row) -> bool| -> Vec<String> {
        rows.iter().filter(|row| wanted(row)).map(|row| row.name.clone()).collect()
    };
    let outdated = systemd.outdated(&ps::PATTERNS)?;
    let deaf = rows.iter().filter(|row| row.is_deaf()).map(|row| {
        let socket = row.unit.replace(".service", ".socket");
        (
            row.name.clone(),
            Some(format!("nobody listens for it: systemctl status {socket}, and restart that")),
        )
    });
    let due = |row: &ps::Row| row.needs_reload() || outdated.contains(&row.unit);
    Ok(Containers {
        known: rows.len(),
        active: rows.iter().filter(|row| is(row, "active")).count(),
        failed: rows
            .iter()
            .filter(|row| is(row, "failed"))
            .map(|row| (row.name.clone(), row.status_text.clone()))
            .chain(deaf)
            .collect(),
        restarting: names(&ps::Row::is_restarting),
        unhealthy: names(&|row| row.health == Some("unhealthy")),
        reload_due: names(&due),
    })
}
