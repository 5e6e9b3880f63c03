//! What is Wharf's own: leases, files, containers, images.

use super::unseen;
use crate::doctor::facts::{Containers, Files, Given, Ids, Look, Mark, Store};
use crate::doctor::{Line, count, few, size};
use crate::lease::IDS;

fn overlap(base: u32, first: u32, last: u32) -> bool {
    base <= last && first <= base.saturating_add(IDS - 1)
}

/// Where useradd would find ids for the next user: the first gap that is wide enough (`find_free_range` of shadow's
/// lib/subordinateio.c).
pub(super) fn next_given(given: &[Given], (min, max, count): (u32, u32, u32)) -> Option<(u32, u32)> {
    let mut taken: Vec<(u32, u32)> = given
        .iter()
        .filter(|given| given.file == "/etc/subuid")
        .map(|given| (given.first, given.last))
        .collect();
    taken.sort_unstable();
    let last = |first: u32| first.checked_add(count.checked_sub(1)?).filter(|last| *last <= max);
    let mut first = min;
    for (from, to) in taken {
        if to < first {
            continue;
        }
        if last(first).is_some_and(|last| last < from) {
            break;
        }
        first = to.checked_add(1)?;
    }
    Some((first, last(first)?))
}

pub(super) fn ids(ids: &Ids) -> Vec<Line> {
    const TOPIC: &str = "user ids";
    let Ids { leases, damaged, given, users, useradd } = ids;
    let mut lines = Vec::new();
    if !damaged.is_empty() {
        lines.push(Line::error(
            TOPIC,
            format!("the leases of {} can't be read", few(damaged)),
            "remove these files from /var/lib/wharf/leases/ids: the next start leases ids anew",
        ));
    }
    for (container, base) in leases {
        let last = base.saturating_add(IDS - 1);
        let mine = format!("{container} has {base} to {last}");
        let anew = format!(
            "take them away there; or give {container} others: stop it, remove /var/lib/wharf/leases/ids/{container}, start it"
        );
        if let Some((other, _)) = leases.iter().find(|(other, theirs)| other > container && theirs == base) {
            lines.push(Line::error(TOPIC, format!("{mine}, and so has {other}"), anew));
            continue;
        }
        if let Some(Given { file, owner, first, last }) =
            given.iter().find(|given| overlap(*base, given.first, given.last))
        {
            lines.push(Line::warning(
                TOPIC,
                format!("{mine}, and {file} gives {first} to {last} to {owner}, who could be its users"),
                anew,
            ));
        } else if let Some((id, user)) = users.iter().find(|(id, _)| overlap(*base, *id, *id)) {
            lines.push(Line::warning(TOPIC, format!("{mine}, and the user {user} is {id}"), anew));
        }
    }
    let next = useradd.and_then(|limits| next_given(given, limits));
    if let Some((first, last)) = next
        && let Some((container, _)) = leases.iter().find(|(_, base)| overlap(*base, first, last))
    {
        lines.push(Line::warning(
            TOPIC,
            format!("the next user that useradd makes gets {first} to {last}, which {container} has"),
            "in /etc/login.defs set SUB_UID_MIN and SUB_GID_MIN to 100000, SUB_UID_MAX and SUB_GID_MAX to 524287: ids from 524288 up are for containers",
        ));
    }
    if lines.is_empty() {
        let had = match leases.len() {
            0 => "none are leased yet".to_owned(),
            number => format!("{} of {IDS} each, nobody else's", count(number, "range")),
        };
        lines.push(Line::ok(TOPIC, had));
    }
    lines
}

pub(super) fn files(files: &Files) -> [Line; 1] {
    const TOPIC: &str = "files";
    let Files { checked, errors, warnings, bad } = files;
    let hint = "wharf check says what is wrong, with line and caret";
    [if *errors > 0 {
        Line::error(TOPIC, format!("{} in {}", count(*errors, "error"), few(bad)), hint)
    } else if *warnings > 0 {
        Line::warning(TOPIC, format!("{checked} checked: {}", count(*warnings, "warning")), hint)
    } else {
        Line::ok(TOPIC, format!("{checked} checked: nothing wrong"))
    }]
}

pub(super) fn containers(containers: &Containers) -> Vec<Line> {
    const TOPIC: &str = "containers";
    let Containers { known, active, failed, restarting, unhealthy, reload_due } = containers;
    let mut lines = Vec::new();
    let unit_of = |name: &String| {
        name.parse::<crate::spec::ContainerName>().map_or_else(|_| name.clone(), |name| name.unit())
    };
    for (name, why) in failed {
        let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let unit = unit_of(name);
        lines.push(Line::error(
            TOPIC,
            format!("{name} has failed{why}"),
            format!("journalctl -x -u {unit}; then: systemctl restart {unit}"),
        ));
    }
    if let Some(first) = restarting.first() {
        let hint = format!(
            "journalctl -x -u {} says why; wharf ps, how long each waits for its next start",
            unit_of(first)
        );
        lines.push(Line::error(
            TOPIC,
            format!("started again and again, and ends each time: {}", few(restarting)),
            hint,
        ));
    }
    if !unhealthy.is_empty() {
        let hint = "systemctl status says what the last check said; journalctl -u what the program says";
        lines.push(Line::warning(TOPIC, format!("unhealthy: {}", few(unhealthy)), hint));
    }
    if !reload_due.is_empty() {
        lines.push(Line::warning(
            TOPIC,
            format!("systemd hasn't read the files of {} as they are now", few(reload_due)),
            "systemctl daemon-reload, or wharf apply, which also restarts what has changed",
        ));
    }
    if lines.is_empty() {
        lines.push(Line::ok(TOPIC, format!("{known} known, {active} active, none failed")));
    }
    lines
}

pub(super) fn marks(marks: &[Mark]) -> Vec<Line> {
    const TOPIC: &str = "changes";
    let names = |wanted: fn(&Mark) -> bool| -> Vec<String> {
        marks.iter().filter(|mark| wanted(mark)).map(|mark| mark.container.clone()).collect()
    };
    let held = names(|mark| mark.failed);
    let cut = names(|mark| !mark.failed && !mark.watched);
    let tried = names(|mark| !mark.failed && mark.watched);
    let mut lines = Vec::new();
    if !held.is_empty() {
        let hint =
            format!("wharf changed says why; edit the files, or: wharf apply --retry {}", held.join(" "));
        lines.push(Line::warning(TOPIC, format!("held back, as they failed: {}", few(&held)), hint));
    }
    if !cut.is_empty() {
        let message =
            format!("a wharf apply was cut off while it tried {}: the last good plan starts", few(&cut));
        lines.push(Line::warning(TOPIC, message, "wharf apply goes on with it"));
    }
    if !tried.is_empty() {
        let hint = "wait for its end, and look again";
        lines.push(Line::note(TOPIC, format!("a wharf apply tries {}", few(&tried)), hint));
    }
    if lines.is_empty() {
        lines.push(Line::ok(TOPIC, "none is held back"));
    }
    lines
}

pub(super) fn store(store: &Store, missing: &Look<Vec<(String, String)>>) -> Vec<Line> {
    const TOPIC: &str = "images";
    let Store { images, bytes, damage, leftovers } = store;
    let mut lines = Vec::new();
    if !damage.is_empty() {
        lines.push(Line::error(
            TOPIC,
            format!("{} damaged: {}", count(damage.len(), "part"), few(damage)),
            "wharf fsck looks at all of it, and wharf fsck --repair puts right what can be",
        ));
    }
    // Damage is known, and it is not known whether something is missing.
    lines.extend(unseen(TOPIC, missing));
    for (image, container) in missing.seen().into_iter().flatten() {
        lines.push(Line::error(
            TOPIC,
            format!("{image} is not in the store, and nothing fetches it: {container} can't start"),
            format!(
                "wharf image import --name {image} ARCHIVE, or say in a file of images/ where it comes from"
            ),
        ));
    }
    if lines.is_empty() {
        let left = match leftovers {
            0 => String::new(),
            _ => format!(
                "; what {} left goes with the next change",
                count(*leftovers, "command that was cut off")
            ),
        };
        let said = format!("{} of {}, everything present{left}", count(*images, "image"), size(*bytes));
        lines.push(Line::ok(TOPIC, said));
    }
    lines
}
