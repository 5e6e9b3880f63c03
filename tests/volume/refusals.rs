//! What is refused, in whole sentences, and with the volume as it was.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use wharf::host::Paths;
use wharf::volume;
use wharf::volume::snapshot::{self, SnapshotError, WhyNot};

use crate::child::{Call, LABEL, VOLUME};
use crate::place::{Ground, Place};
use crate::support::run;

/// The error and its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text += &format!(": {next}");
        cause = next.source();
    }
    text
}

fn assert_untouched(place: &Place) {
    assert_eq!(fs::read_to_string(place.volume().join("file")).unwrap(), "mine");
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

fn place(ground: Ground) -> Place {
    let place = Place::new(ground);
    fs::write(place.volume().join("file"), "mine").unwrap();
    place
}

pub fn file_system(ground: Ground) {
    let place = place(ground);
    let why = snapshot::possible(&place.paths(), VOLUME).unwrap_err();
    assert!(matches!(why, WhyNot::FileSystem { .. }), "{why:?}");
    let name = if ground == Ground::Ext4 { "ext4" } else { "xfs" };
    let volumes = place.volumes().display().to_string();
    assert_eq!(
        why.to_string(),
        format!(
            "volume data can't have snapshots: {volumes}/data is on {name}, where files can't share their content; \
             move {volumes} to btrfs or to XFS with reflinks (mkfs.xfs makes it so unless told otherwise), or say \
             snapshot = false and keep the data in another way"
        )
    );
    let error = snapshot::take(&place.paths(), VOLUME, LABEL).unwrap_err();
    assert_eq!(error.to_string(), why.to_string());
    assert_untouched(&place);
    assert!(!place.volumes().join(".snapshots").exists());
}

pub fn elsewhere() {
    let place = place(Ground::Xfs);
    let (volumes, other) = (place.volumes(), place.root().join("other"));
    let tell = |what: &str| {
        let error = told(&snapshot::take(&place.paths(), VOLUME, LABEL).unwrap_err());
        let wanted = format!("{}/data is {what}", volumes.display());
        assert!(error.contains(&wanted) && error.contains("mount the file system on"), "{error}");
    };
    fs::rename(place.volume(), &other).unwrap();
    std::os::unix::fs::symlink(&other, place.volume()).unwrap();
    tell("a link");
    fs::remove_file(place.volume()).unwrap();
    fs::write(place.volume(), "").unwrap();
    tell("no folder");
    fs::remove_file(place.volume()).unwrap();
    let none = snapshot::take(&place.paths(), VOLUME, LABEL).unwrap_err();
    assert!(matches!(none, SnapshotError::Impossible(WhyNot::NoVolume { .. })), "{none:?}");
    fs::create_dir(place.volume()).unwrap();
    run("mount", &["--bind", other.to_str().unwrap(), place.volume().to_str().unwrap()]);
    tell("a mount point");
    run("umount", &[place.volume().to_str().unwrap()]);
}

pub fn in_use() {
    let place = place(Ground::Xfs);
    let paths = place.paths();
    snapshot::take(&paths, VOLUME, LABEL).unwrap();
    let refused = |by: &str| {
        for result in
            [snapshot::restore(&paths, VOLUME, LABEL), snapshot::take(&paths, VOLUME, "another").map(drop)]
        {
            let error = result.unwrap_err();
            assert!(matches!(error, SnapshotError::InUse { .. }), "{error:?}");
            assert!(error.to_string().starts_with(&format!("volume data is in use by {by}")), "{error}");
        }
        assert_untouched(&place);
    };
    // Mounted in another mount namespace, by a process that ends with its standard input.
    let user = |script: &str| {
        let mut user = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
            .arg(place.volume())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(user.stdout.take().unwrap()), &mut line)
            .unwrap();
        (user, line.trim().to_owned())
    };
    fs::create_dir(place.volume().join("sub")).unwrap();
    // Also where the first process in that namespace has another root, from which it can't be seen.
    let rooted =
        "mount --bind \"$1/sub\" /mnt && exec 3<&0 && { cat <&3 & } && echo $! && exec chroot /usr /bin/cat";
    let (mut first, second) = user(rooted);
    until_rooted(first.id());
    refused(&format!("process {second} (cat)"));
    drop(first.stdin.take());
    first.wait().unwrap();
    // What it has started has the same input, and ends with it.
    while fs::exists(format!("/proc/{second}/ns/mnt")).unwrap() {
        std::thread::yield_now();
    }
    let (mut user, _) = user("mount --bind \"$1/sub\" /mnt && echo ready && exec cat");
    refused(&format!("process {} (", user.id()));
    // It may go, also while the volume is in use.
    snapshot::take(&paths, "other", LABEL).unwrap_err();
    snapshot::drop(&paths, VOLUME, LABEL).unwrap();
    drop(user.stdin.take());
    user.wait().unwrap();
    snapshot::take(&paths, VOLUME, LABEL).unwrap();

    // A container's record: another volume of its is none of this one's business.
    let record = |volume: &str| {
        let text = format!("image = \"x\"\n[mounts]\n\"/data\" = {{ volume = \"{volume}\" }}\n");
        let containers = place.root().join("etc/wharf/containers");
        fs::create_dir_all(&containers).unwrap();
        fs::write(containers.join("db.toml"), text).unwrap();
        let plan = Command::new(env!("CARGO_BIN_EXE_wharf"))
            .args(["plan", "--json", "db"])
            .env("WHARF_ROOT", place.root())
            .output()
            .unwrap();
        assert!(plan.status.success(), "{}", String::from_utf8_lossy(&plan.stderr));
        let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
        let container = find(&plan, "container").expect("a container in the plan").clone();
        let record = serde_json::json!({ "container": container, "source": "/etc/wharf/containers/db.toml" });
        let running = paths.running();
        fs::create_dir_all(&running).unwrap();
        fs::write(running.join("db.json"), record.to_string()).unwrap();
        assert_eq!(wharf::running::all(&Paths::new(place.root())).unwrap().len(), 1, "{record}");
    };
    record("data");
    refused("container db");
    record("another");
    snapshot::restore(&paths, VOLUME, LABEL).unwrap();
    assert_untouched(&place);
}

/// Waits for a process to have a root of its own.
fn until_rooted(pid: u32) {
    while fs::read_link(format!("/proc/{pid}/root")).unwrap() != Path::new("/usr") {
        std::thread::yield_now();
    }
}

/// A value in a document, however deep.
fn find<'a>(value: &'a serde_json::Value, key: &str) -> Option<&'a serde_json::Value> {
    match value {
        serde_json::Value::Object(map) => map
            .get(key)
            .filter(|value| value.is_object())
            .or_else(|| map.values().find_map(|value| find(value, key))),
        serde_json::Value::Array(values) => values.iter().find_map(|value| find(value, key)),
        _ => None,
    }
}

pub fn labels() {
    let place = place(Ground::Xfs);
    let paths = place.paths();
    snapshot::take(&paths, VOLUME, LABEL).unwrap();
    snapshot::take(&paths, VOLUME, "second").unwrap();
    let error = snapshot::take(&paths, VOLUME, LABEL).unwrap_err().to_string();
    assert_eq!(error, "volume data has a snapshot before already; remove it first, or take another name");
    for result in [snapshot::restore(&paths, VOLUME, "third"), snapshot::drop(&paths, VOLUME, "third")] {
        assert_eq!(
            result.unwrap_err().to_string(),
            "volume data has no snapshot third; there is before, second"
        );
    }
    assert_untouched(&place);
}

pub fn content() {
    let place = place(Ground::Xfs);
    let paths = place.paths();
    let volume = place.volume();
    let path = |name: &str| volume.join(name).to_str().unwrap().to_owned();
    fs::create_dir(volume.join("sub")).unwrap();
    fs::write(volume.join("sub/fixed"), "").unwrap();
    run("chattr", &["+i", &path("sub/fixed")]);
    let error = told(&snapshot::take(&paths, VOLUME, LABEL).unwrap_err());
    let wanted =
        "can't copy `sub/fixed`: nobody may change it (chattr +i or +a); take that off with `chattr -i -a`";
    assert!(error.ends_with(wanted), "{error}");
    run("chattr", &["-i", &path("sub/fixed")]);
    assert_untouched(&place);
    run("mount", &["-t", "tmpfs", "wharf-test", &path("sub")]);
    fs::write(volume.join("sub/precious"), "").unwrap();
    // Not copied as if it were the volume's, and above all not removed with it.
    let (mut out, tar) = (Vec::<u8>::new(), fs::File::open("/dev/null").unwrap());
    for error in [
        told(&snapshot::take(&paths, VOLUME, LABEL).unwrap_err()),
        told(&volume::export(&paths, VOLUME, false, &mut out, &|_| ()).unwrap_err()),
        told(&volume::export(&paths, VOLUME, true, &mut out, &|_| ()).unwrap_err()),
        told(&volume::import(&paths, VOLUME, true, tar, &|_| ()).unwrap_err()),
        told(&volume::remove(&paths, VOLUME).unwrap_err()),
    ] {
        assert!(error.contains(&format!("something is mounted on {} in it", path("sub"))), "{error}");
        assert!(error.contains("unmount that first") && out.is_empty(), "{error}");
    }
    // Where it was mounted after that was looked at, nothing goes into it all the same.
    let removing = place.volumes().join(".removing-data");
    fs::create_dir_all(removing.join("mounted")).unwrap();
    let mounted = removing.join("mounted").to_str().unwrap().to_owned();
    run("mount", &["--bind", &path("sub"), &mounted]);
    let error = told(&volume::clear(&paths).unwrap_err());
    assert!(
        error.ends_with("can't remove `mounted`: another file system is mounted there; unmount it"),
        "{error}"
    );
    run("umount", &[&mounted]);
    volume::clear(&paths).unwrap();
    assert!(volume.join("sub/precious").exists());
    assert_eq!(volume::size(&paths, VOLUME).unwrap().entries, 2, "what is mounted there isn't counted");
    run("umount", &[&path("sub")]);
    assert_untouched(&place);
    snapshot::take(&paths, VOLUME, LABEL).unwrap();
}

/// While a start has the volume on its way to being mounted, a snapshot waits; it doesn't see the mount yet.
pub fn start_waits() {
    let place = place(Ground::Xfs);
    let state = place.paths().state();
    let hold = wharf::volume::hold(&state, VOLUME).unwrap();
    let another_start =
        wharf::volume::try_hold(&state, VOLUME).unwrap().expect("starts don't wait for each other");
    let mut child = Call::Take.command(&place.root(), &[]).spawn().unwrap();
    #[expect(clippy::disallowed_methods, reason = "nothing tells that it waits")]
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it waits for the start");
    drop(hold);
    drop(another_start);
    assert!(child.wait().unwrap().success());
}
