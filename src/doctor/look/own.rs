//! What is Wharf's own: leases, marks, the store.

use std::fs;

use super::{as_root, found, is_denied, is_root, text};
use crate::doctor::facts::{Given, Ids, Look, Mark, Store};
use crate::held;
use crate::host::Paths;
use crate::image::fsck::{Thoroughness, check};
use crate::image::{self, ImageError};
use crate::lease::{self, IDS, LeaseError};
use crate::plan::held::State;

pub(super) fn ids(paths: &Paths) -> Look<Ids> {
    let leased = match lease::leased_ids(&paths.state()) {
        Ok(leased) => leased,
        Err(LeaseError::Io { source, .. }) if is_denied(&source) => return Look::OnlyRoot,
        Err(error) => return Look::Failed(image::chain(&error)),
    };
    let mut ids = Ids::default();
    for (name, base) in leased {
        match base {
            Some(base) => ids.leases.push((name.to_string(), base)),
            None => ids.damaged.push(name.to_string()),
        }
    }
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = fs::read_to_string(paths.host(file)).unwrap_or_default();
        ids.given.extend(lease::given_in(&text).map(|(owner, first, last)| Given {
            file: file.to_owned(),
            owner: owner.to_owned(),
            first,
            last,
        }));
    }
    let within =
        |id: u32| ids.leases.iter().any(|(_, base)| (*base..=base.saturating_add(IDS - 1)).contains(&id));
    let passwd = text(paths.host("/etc/passwd")).unwrap_or_default();
    let users = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        within(id).then(|| (id, name.to_owned()))
    });
    ids.users = users.collect();
    if paths.are_this_hosts() {
        // A directory of users may know more than the file; of each range its first is asked for, as a lease does.
        let asked = ids.leases.iter().filter_map(|(_, base)| {
            let user = nix::unistd::User::from_uid((*base).into()).ok()??;
            Some((*base, user.name))
        });
        let asked: Vec<_> = asked.filter(|user| !ids.users.contains(user)).collect();
        ids.users.extend(asked);
    }
    ids.useradd = text(paths.host("/etc/login.defs")).map(|settings| {
        let number = |key: &str, default: u32| {
            let line = settings.lines().find_map(|line| {
                let mut words = line.split_whitespace();
                (words.next() == Some(key)).then(|| words.next()).flatten()
            });
            line.and_then(|value| value.parse().ok()).unwrap_or(default)
        };
        // The defaults of login.defs(5).
        (number("SUB_UID_MIN", 100_000), number("SUB_UID_MAX", 600_100_000), number("SUB_UID_COUNT", 65_536))
    });
    Look::Seen(ids)
}

pub(super) fn marks(paths: &Paths) -> Look<Vec<Mark>> {
    let folder = held::folder(paths);
    match fs::read_dir(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return found(Err(error)),
        _ => {}
    }
    let live = held::live(paths);
    let mark = |(name, mark): (crate::spec::ContainerName, crate::plan::held::Held)| Mark {
        container: name.to_string(),
        failed: mark.state == State::Failed,
        watched: live.as_ref().is_some_and(|live| *live == mark.run),
    };
    Look::Seen(held::all(paths).into_iter().map(mark).collect())
}

/// Presence and sizes of everything.
pub(super) fn store(paths: &Paths) -> Look<Store> {
    match fs::read_dir(paths.state()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Look::Seen(Store::default()),
        Err(error) => return found(Err(error)),
        Ok(_) => {}
    }
    let look = || -> Result<Store, ImageError> {
        let report = check(&image::Store::new(paths.state()), Thoroughness { quick: true }, &|_| {})?;
        let damage = report.damage.iter().map(|damage| {
            let file = damage.file.as_ref().map(|file| format!("/tree/{file}")).unwrap_or_default();
            format!("{}{file}", damage.part.display())
        });
        Ok(Store {
            images: report.images,
            bytes: report.bytes,
            damage: damage.collect(),
            leftovers: report.leftovers.len(),
        })
    };
    let look = || match look() {
        Ok(store) => Look::Seen(store),
        Err(error) => Look::Failed(image::chain(&error)),
    };
    // In another root it may be anybody's.
    if paths.are_this_hosts() && !is_root() { as_root(look) } else { look() }
}
