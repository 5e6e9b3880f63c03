//! What is restored is what was there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
use wharf::volume::snapshot::{self, Kind};

use crate::child::{LABEL, VOLUME};
use crate::place::{Ground, Place};
use crate::support::{assert_same, describe, run};

/// A tree as text, with its root and what devices, holes and accesses there are.
pub fn described(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut described = describe(root, true);
    let metadata = root.metadata().unwrap();
    let text =
        format!("{:o} {}:{} {}", metadata.mode(), metadata.uid(), metadata.gid(), metadata.mtime_nsec());
    described.insert(Vec::new(), text);
    for path in described.keys().cloned().collect::<Vec<_>>() {
        let metadata = root.join(std::ffi::OsStr::from_bytes(&path)).symlink_metadata().unwrap();
        let sparse = metadata.is_file() && metadata.blocks() * 512 < metadata.len() / 2;
        let more = format!(" device {} links {} sparse {sparse}", metadata.rdev(), metadata.nlink());
        // The number of a folder's links says how many folders are in it, and on btrfs nothing.
        let more = if metadata.is_dir() { String::new() } else { more };
        described.entry(path).or_default().push_str(&more);
    }
    described
}

/// An access list as the kernel keeps it: user 1000 may read (linux/posix_acl_xattr.h).
fn access_list() -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 4, 1000), (4, 4, u32::MAX), (0x10, 4, u32::MAX), (0x20, 0, u32::MAX)]
    {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// Everything that a volume can have.
pub fn fill(volume: &Path, ground: Ground) {
    let script = "cd \"$1\"
        mkdir -m 2750 plain; echo first >plain/file; ln plain/file other-name; ln plain/file plain/third
        mkdir -p deep/1/2/3/4/5/6/7/8/9; echo deep >deep/1/2/3/4/5/6/7/8/9/file
        install -m 4755 /bin/true set-user-id
        truncate -s 64M sparse; printf x | dd of=sparse bs=1 seek=30000000 conv=notrunc status=none
        mkdir -m 0 closed; echo secret >closed/file; chmod 0 closed/file
        seq 100000 >large
        : >empty
        touch -d '1999-12-31 23:59:59.123456789' old
        printf x >\"$(printf 'a\\nb\\377c d')\"";
    run("bash", &["-ec", script, "bash", volume.to_str().unwrap()]);
    chown(volume.join("plain/file"), Some(70), Some(71)).unwrap();
    symlink("/etc/../nowhere", volume.join("link")).unwrap();
    std::os::unix::fs::lchown(volume.join("link"), Some(5), Some(6)).unwrap();
    let mode = Mode::from_raw_mode(0o642);
    mknodat(CWD, volume.join("pipe"), FileType::Fifo, mode, 0).unwrap();
    mknodat(CWD, volume.join("null"), FileType::CharacterDevice, mode, makedev(1, 3)).unwrap();
    drop(UnixListener::bind(volume.join("socket")).unwrap());
    let set = |name: &str, attribute: &str, value: &[u8]| {
        setxattr(volume.join(name), attribute, value, XattrFlags::empty()).unwrap();
    };
    set("large", "user.note", b"some \0 bytes");
    set("large", "trusted.hidden", b"1");
    set("large", "system.posix_acl_access", &access_list());
    set("plain", "system.posix_acl_default", &access_list());
    set("set-user-id", "security.capability", b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    rustix::fs::lsetxattr(volume.join("link"), "trusted.link", b"2", XattrFlags::empty()).unwrap();
    setxattr(volume.join("null"), "trusted.device", b"3", XattrFlags::empty()).unwrap();
    if !matches!(ground, Ground::Xfs | Ground::Ext4) {
        let script = "cd \"$1\"; mkdir nocow; chattr +C nocow; seq 50000 >nocow/file; : >nocow/empty";
        run("bash", &["-ec", script, "bash", volume.to_str().unwrap()]);
    }
    if ground == Ground::Nested {
        fs::write(volume.join("nested/file"), "nested").unwrap();
    }
    // Times of folders last, which all of this has changed.
    run("touch", &["-d", "2001-02-03 04:05:06.789", volume.join("plain").to_str().unwrap()]);
    chown(volume, Some(70), Some(70)).unwrap();
    run("chmod", &["1770", volume.to_str().unwrap()]);
    run("touch", &["-d", "2002-02-03 04:05:06.789", volume.to_str().unwrap()]);
}

fn without_socket(mut tree: BTreeMap<Vec<u8>, String>) -> BTreeMap<Vec<u8>, String> {
    tree.remove(b"socket".as_slice());
    tree
}

pub fn kept(ground: Ground) {
    let place = Place::new(ground);
    let (paths, volume) = (place.paths(), place.volume());
    fill(&volume, ground);
    let before = described(&volume);
    let kind = snapshot::possible(&paths, VOLUME).unwrap();
    assert_eq!(kind, if ground == Ground::Subvolume { Kind::Subvolume } else { Kind::Reflinks });
    let taken = snapshot::take(&paths, VOLUME, LABEL).unwrap();
    assert_same(&described(&volume), &before);
    // A subvolume is kept with its sockets; nobody listens there.
    let expected = if ground == Ground::Subvolume { before } else { without_socket(before) };
    assert_same(&described(&taken.tree), &expected);
    assert!(taken.taken.elapsed().unwrap().as_secs() < 600, "{:?}", taken.taken);
    assert_eq!(snapshot::list(&paths, VOLUME).unwrap(), [taken]);
    if ground == Ground::Btrfs {
        let flags = run(
            "lsattr",
            &[place.volumes().join(format!(".snapshots/{VOLUME}/{LABEL}/tree/nocow")).to_str().unwrap()],
        );
        assert!(flags.lines().all(|line| line.split(' ').next().unwrap().contains('C')), "{flags}");
    }

    for change in ["rm -r *", "rm -r deep large; echo other >plain/file; echo new >new", "true"] {
        run("bash", &["-ec", &format!("cd \"$1\"; {change}"), "bash", volume.to_str().unwrap()]);
        snapshot::restore(&paths, VOLUME, LABEL).unwrap();
        assert_same(&described(&volume), &expected);
        assert_eq!(place.leftovers(), Vec::<String>::new());
    }
    // What is written to it now isn't in the snapshot.
    fs::write(volume.join("large"), "changed").unwrap();
    fs::write(volume.join("after"), "").unwrap();
    let snapshots = snapshot::list(&paths, VOLUME).unwrap();
    assert_same(&described(&snapshots[0].tree), &expected);
    // A volume that somebody removed comes back.
    fs::remove_dir_all(&volume).unwrap();
    snapshot::restore(&paths, VOLUME, LABEL).unwrap();
    assert_same(&described(&volume), &expected);

    snapshot::drop(&paths, VOLUME, LABEL).unwrap();
    assert_eq!(snapshot::list(&paths, VOLUME).unwrap(), []);
    assert_same(&described(&volume), &expected);
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

/// Bytes in use, as they are when all is on disk.
fn used(place: &Place) -> u64 {
    run("sync", &["-f", place.root().to_str().unwrap()]);
    let look = rustix::fs::statvfs(place.root()).unwrap();
    (look.f_blocks - look.f_bfree) * look.f_frsize
}

pub fn shared(ground: Ground) {
    const SIZE: u64 = 200 << 20;
    let place = Place::new(ground);
    let content: Vec<u8> =
        (0..SIZE / 8).flat_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    fs::write(place.volume().join("large"), &content).unwrap();
    let before = used(&place);
    assert!(before >= SIZE);
    snapshot::take(&place.paths(), VOLUME, LABEL).unwrap();
    snapshot::restore(&place.paths(), VOLUME, LABEL).unwrap();
    let after = used(&place);
    assert!(after < before + SIZE / 10, "{before} bytes were in use, then {after}");
    assert!(fs::read(place.volume().join("large")).unwrap() == content);
}
