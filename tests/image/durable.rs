//! Nothing half done: kills, races, full disks, removal.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Home, Tar, run, unmount};

fn many_files(count: usize, size: usize) -> Vec<u8> {
    let text = "x".repeat(size);
    (0..count).fold(Tar::new(), |tar, index| tar.file(&format!("d{}/f{index}", index % 50), &text)).end()
}

fn wharf(home: &Home, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
    command.arg("image").args(arguments).env("WHARF_ROOT", home.folder.path());
    command
}

#[test]
fn killed_in_the_middle_leaves_nothing_after_the_next_import() {
    let home = Home::new();
    let tar = home.folder.path().join("big.tar");
    fs::write(&tar, many_files(4000, 4000)).unwrap();
    for milliseconds in [5, 10, 20, 40, 60, 80, 120] {
        let mut child = wharf(&home, &["import", "--name", "big", tar.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        #[expect(clippy::disallowed_methods, reason = "the moment of the kill, which is to be any")]
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let acknowledged = home.store.resolve(&"big".parse().unwrap()).is_ok();
    home.import_bytes(Tar::new().file("a", "").end(), "small").unwrap();
    let contents = home.contents();
    assert!(!contents.iter().any(|name| name.starts_with("incoming/")), "{contents:?}");
    let images = if acknowledged { 2 } else { 1 };
    assert_eq!(contents.len(), images * 4, "two blobs, one layer, one reference each: {contents:?}");
}

#[test]
fn a_crash_between_the_renames_is_cleared_up() {
    let home = Home::new();
    home.import_bytes(Tar::new().file("kept", "").end(), "kept").unwrap();
    home.import_bytes(Tar::new().file("lost", "").end(), "lost").unwrap();
    let kept = home.contents();
    // As if the last import had died before its reference: its parts are there, its note too.
    let lost = home.store.inspect(&"lost".parse().unwrap()).unwrap();
    fs::remove_file(home.path("refs/lost:latest")).unwrap();
    let staging = home.path("incoming/dead");
    fs::create_dir_all(&staging).unwrap();
    let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
    let note = format!(
        "blobs/sha256/{}\nlayers/{}\nlayers/../../etc\n",
        hex(&lost.listed.digest),
        hex(&lost.layer_details[0].diff_id)
    );
    fs::write(staging.join("note"), note).unwrap();
    // Until then nobody sees it.
    let pinned = format!("lost@{}", lost.listed.digest).parse().unwrap();
    assert!(matches!(home.store.resolve(&pinned), Err(wharf::image::ImageError::Missing { .. })));
    assert_eq!(home.store.list().unwrap().len(), 1);
    home.store.tag(&"kept".parse().unwrap(), &"again".parse().unwrap()).unwrap();
    let now = home.contents();
    assert!(home.store.resolve(&"again".parse().unwrap()).is_ok());
    assert!(!now.iter().any(|name| name.contains(&hex(&lost.layer_details[0].diff_id))), "{kept:?} {now:?}");
    assert!(!now.iter().any(|name| name.starts_with("incoming/")));
}

#[test]
fn many_at_once() {
    let home = Home::new();
    let shared = many_files(300, 2000);
    std::thread::scope(|scope| {
        for index in 0..8 {
            let (home, shared) = (&home, &shared);
            scope.spawn(move || {
                let name = format!("image{index}");
                home.import_bytes(shared.clone(), &name).unwrap();
                home.import_bytes(Tar::new().file(&name, "own").end(), &format!("own{index}")).unwrap();
                home.store.resolve(&name.parse().unwrap()).unwrap();
                if index % 2 == 0 {
                    home.store.remove(&name.parse().unwrap()).unwrap();
                }
            });
        }
    });
    let images = home.store.list().unwrap();
    assert_eq!(images.len(), 9);
    assert_eq!(images.iter().map(|image| image.references.len()).sum::<usize>(), 12);
    assert_eq!(fs::read_dir(home.path("layers")).unwrap().count(), 9);
    assert_eq!(fs::read_dir(home.path("incoming")).unwrap().count(), 0);
}

#[test]
fn a_full_disk_is_one_clear_error_and_leaves_nothing() {
    let home = Home::new();
    let state = home.path("");
    fs::create_dir_all(&state).unwrap();
    let state = state.to_str().unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=4M", "wharf-test", state]);
    let result = home.import_bytes(many_files(4000, 4000), "big");
    let contents = home.contents();
    let small = home.import_bytes(Tar::new().file("a", "").end(), "small");
    unmount(state);
    let error = result.expect_err("it can't fit").to_string();
    assert!(error.contains("is full"), "{error}");
    assert_eq!(contents, Vec::<String>::new());
    small.expect("there is room for a small one");
}

#[test]
fn removal_leaves_what_others_need() {
    let home = Home::new();
    let tar = Tar::new().file("a", "1").end();
    home.import_bytes(tar, "one:1").unwrap();
    home.store.tag(&"one:1".parse().unwrap(), &"registry.example/two:2".parse().unwrap()).unwrap();
    let removed = home.store.remove(&"one:1".parse().unwrap()).unwrap();
    assert_eq!((removed.image, removed.layers), (None, 0));
    assert!(home.tree("registry.example/two:2").join("a").exists());
    // What a name named before is kept under its digest.
    let before = home.store.inspect(&"registry.example/two:2".parse().unwrap()).unwrap().listed.digest;
    home.import_bytes(Tar::new().file("b", "2").end(), "registry.example/two:2").unwrap();
    let pinned = format!("registry.example/two@{before}").parse().unwrap();
    assert!(home.store.resolve(&pinned).is_ok());
    let removed = home.store.remove(&"registry.example/two:2".parse().unwrap()).unwrap();
    assert_eq!(removed.layers, 1);
    home.store.remove(&pinned).unwrap();
    assert_eq!(home.contents(), Vec::<String>::new());
}

#[test]
fn missing_images_name_what_looks_alike() {
    let home = Home::new();
    home.import_bytes(Tar::new().file("a", "").end(), "nginx:1.25").unwrap();
    let error = home.store.resolve(&"nginx:1.26".parse().unwrap()).unwrap_err().to_string();
    assert_eq!(
        error,
        "image nginx:1.26 is not in the store; import it with `wharf image import` (there is nginx:1.25)"
    );
}

#[test]
fn an_image_in_use_stays() {
    let home = Home::new();
    home.import_bytes(Tar::new().file("a", "").end(), "used").unwrap();
    home.import_bytes(Tar::new().file("b", "").end(), "other").unwrap();
    let mounted = home.folder.path().join("mounted");
    let empty = home.folder.path().join("empty");
    fs::create_dir(&mounted).unwrap();
    fs::create_dir(&empty).unwrap();
    let lower = format!("ro,lowerdir={}:{}", home.tree("used").display(), empty.display());
    let mounted = mounted.to_str().unwrap();
    run("mount", &["-t", "overlay", "-o", &lower, "wharf-test", mounted]);
    let used = home.store.remove(&"used".parse().unwrap());
    let other = home.store.remove(&"other".parse().unwrap());
    unmount(mounted);
    assert!(matches!(used, Err(wharf::image::ImageError::InUse(_))), "{used:?}");
    assert_eq!(other.unwrap().layers, 1);
    assert!(home.tree("used").join("a").exists());
    home.store.remove(&"used".parse().unwrap()).unwrap();
    assert_eq!(home.contents(), Vec::<String>::new());
}

#[test]
fn resolving_costs_next_to_nothing() {
    let home = Home::new();
    for index in 0..50 {
        let tar = Tar::new().file(&index.to_string(), "").end();
        home.import_bytes(tar, &format!("image{index}")).unwrap();
    }
    let reference = "image7".parse().unwrap();
    let start = std::time::Instant::now();
    for _ in 0..100 {
        home.store.resolve(&reference).unwrap();
    }
    // It is a part of every start; in the debug profile, on a busy machine, a millisecond is generous.
    let each = start.elapsed() / 100;
    assert!(each < Duration::from_millis(1), "{each:?}");
}
