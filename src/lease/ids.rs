//! Ranges of ids: a container's user namespace.

use std::fs;
use std::path::Path;

use super::{Book, LeaseError, hash};
use crate::spec::ContainerName;

/// The folder of these leases.
pub(super) const KIND: &str = "ids";

/// How many ids a container has: what its files may say (0 to 65535), and what systemd's own tools use.
pub const IDS: u32 = 65_536;

/// The ids that systemd sets aside for containers (systemd's `UIDS-GIDS` page): 524288 to 1879048191.
const FIRST: u32 = 524_288;
const RANGES: u32 = (1_879_048_191 - FIRST + 1) / IDS;

/// The first of the container's ids, where it has a lease already; nothing is made.
///
/// # Errors
/// [`LeaseError::Io`] and [`LeaseError::Damaged`].
pub fn found_ids(state: &Path, name: &ContainerName) -> Result<Option<u32>, LeaseError> {
    book(state).find(name.as_str())
}

/// The first of the container's ids, leased now if it has none yet. `state` is `/var/lib/wharf`.
///
/// # Errors
/// [`LeaseError`].
pub fn ids(state: &Path, name: &ContainerName) -> Result<u32, LeaseError> {
    let good =
        |base: u32| base >= FIRST && (base - FIRST).is_multiple_of(IDS) && (base - FIRST) / IDS < RANGES;
    let book = Book::new(state, KIND, "the first id of a range", good);
    if let Some(base) = book.find(name.as_str())? {
        return Ok(base);
    }
    let _lock = book.lock(state)?;
    // Somebody may have been faster.
    if let Some(base) = book.find(name.as_str())? {
        return Ok(base);
    }
    let mut taken: Vec<(u32, u32)> = book.all()?.into_iter().map(|base| (base, base + (IDS - 1))).collect();
    taken.extend(given_away());
    let start = hash(name.as_str()) % RANGES;
    let base = (0..RANGES)
        .map(|step| FIRST + (start + step) % RANGES * IDS)
        .find(|base| !taken.iter().any(|(from, to)| *base <= *to && *from < base + IDS) && !in_use(*base))
        .ok_or_else(|| LeaseError::Exhausted(format!("range of {IDS} ids from {FIRST} up")))?;
    book.keep(name.as_str(), base)?;
    Ok(base)
}

fn book(state: &Path) -> Book {
    let good =
        |base: u32| base >= FIRST && (base - FIRST).is_multiple_of(IDS) && (base - FIRST) / IDS < RANGES;
    Book::new(state, KIND, "the first id of a range", good)
}

/// Every lease: its container, and the first of the ids, or nothing where that can't be read.
///
/// # Errors
/// [`LeaseError::Io`], where leases can't be listed.
pub fn leased_ids(state: &Path) -> Result<Vec<(ContainerName, Option<u32>)>, LeaseError> {
    let book = book(state);
    let names = match fs::read_dir(&book.folder) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(super::failed("list", &book.folder)(error)),
    };
    let mut names: Vec<ContainerName> =
        names.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    names.sort();
    let lease = |name: ContainerName| match book.find(name.as_str()) {
        Ok(Some(base)) => Some((name, Some(base))),
        Ok(None) => None,
        Err(_) => Some((name, None)),
    };
    Ok(names.into_iter().filter_map(lease).collect())
}

/// Ranges that /etc/subuid and /etc/subgid give to somebody, first and last id.
fn given_away() -> Vec<(u32, u32)> {
    // Without the file nobody has been given any.
    let texts = ["/etc/subuid", "/etc/subgid"].map(|file| fs::read_to_string(file).unwrap_or_default());
    let given = texts.iter().flat_map(|text| given_in(text));
    given.map(|(_, first, last)| (first, last)).collect()
}

/// What a subuid(5) or subgid(5) gives away: to whom, and the first and last id.
pub fn given_in(text: &str) -> impl Iterator<Item = (&str, u32, u32)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':').map(str::trim);
        let owner = fields.next()?;
        let mut numbers = fields.map(|field| field.parse::<u32>());
        let (Some(Ok(first)), Some(Ok(count))) = (numbers.next(), numbers.next()) else { return None };
        Some((owner, first, first.saturating_add(count.saturating_sub(1))))
    })
}

/// Whether a user has the range's first id, or systemd-nspawn runs something with the range: it keeps a lock
/// of that name (systemd's `src/nspawn/nspawn.c`, `uid_shift_pick`).
fn in_use(base: u32) -> bool {
    Path::new("/run/systemd/nspawn-uid").join(base.to_string()).exists()
        || nix::unistd::User::from_uid(base.into()).is_ok_and(|user| user.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ContainerName {
        text.parse().expect("a good name")
    }

    #[test]
    fn a_lease_stays_and_is_nobody_elses() {
        let state = tempfile::tempdir().expect("a folder");
        let mut bases: Vec<u32> =
            (0..200).map(|n| ids(state.path(), &name(&format!("c{n}"))).expect("a lease")).collect();
        assert_eq!(ids(state.path(), &name("c7")).expect("a lease"), bases[7]);
        assert!(bases.iter().all(|base| base.is_multiple_of(IDS) && *base >= FIRST));
        bases.sort_unstable();
        bases.dedup();
        assert_eq!(bases.len(), 200);
    }

    #[test]
    fn a_collision_goes_to_the_next_range() {
        let state = tempfile::tempdir().expect("a folder");
        let first = ids(state.path(), &name("a")).expect("a lease");
        fs::rename(state.path().join("leases/ids/a"), state.path().join("leases/ids/b")).expect("renamed");
        let second = ids(state.path(), &name("a")).expect("a lease");
        assert_eq!((second - FIRST) / IDS, ((first - FIRST) / IDS + 1) % RANGES);
    }

    #[test]
    fn all_leases_in_order() {
        let state = tempfile::tempdir().expect("a folder");
        assert_eq!(leased_ids(state.path()).expect("listed"), []);
        let base = ids(state.path(), &name("b")).expect("a lease");
        fs::write(state.path().join("leases/ids/a"), "nonsense").expect("written");
        assert_eq!(leased_ids(state.path()).expect("listed"), [(name("a"), None), (name("b"), Some(base))]);
        assert_eq!(given_in("a:100000:65536\nx\nb:1:\n").collect::<Vec<_>>(), [("a", 100_000, 165_535)]);
    }

    #[test]
    fn a_damaged_lease_is_named() {
        let state = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(state.path().join("leases/ids")).expect("made");
        for text in ["", "nonsense", "0", "524289", "4294967295"] {
            fs::write(state.path().join("leases/ids/a"), text).expect("written");
            let error = ids(state.path(), &name("a")).expect_err("damaged");
            assert!(matches!(error, LeaseError::Damaged { .. }), "{text:?}: {error}");
        }
    }
}
