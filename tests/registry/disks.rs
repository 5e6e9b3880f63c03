//! Disks that are full, and such as can't be written to: what the person sees who types the command, and what is left.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::server::{Made, Puller, Server};
use crate::support::{Home, Tar, run};

/// Something mounted where the store is.
struct Mounted(String);

impl Mounted {
    fn new(home: &Home, arguments: &[&str]) -> Self {
        let state = home.path("");
        fs::create_dir_all(&state).unwrap();
        let state = state.to_str().unwrap().to_owned();
        run("mount", &[arguments, &[&state]].concat());
        Self(state)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A test that failed shows why it did, and not this.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// One image on every way into a store: a tar of it, an archive of it, and a registry that has it.
struct Ways {
    home: Home,
    /// Kept for as long as it serves.
    _server: Server,
    commands: [Vec<String>; 3],
}

impl Ways {
    fn of(sizes: &[usize]) -> Self {
        let made = Made::of(sizes);
        let server = Server::start(move |asked| made.answer(asked));
        let reference = format!("{}/team/web:v1", server.host);
        let home = Home::new();
        let settings = home.folder.path().join("etc/wharf");
        fs::create_dir_all(&settings).unwrap();
        let insecure = format!("[registries.\"{}\"]\ninsecure = true\n", server.host);
        fs::write(settings.join("wharf.toml"), insecure).unwrap();
        let elsewhere = Home::new();
        let pulled = Puller::of(&[&server.host]).pull(&elsewhere.store, &reference).unwrap();
        let pulled = pulled.image.reference.unwrap();
        let file = |name: &str| home.folder.path().join(name);
        let mut archive = fs::File::create(file("archive.tar")).unwrap();
        wharf::image::save(
            &elsewhere.store,
            std::slice::from_ref(&pulled),
            Default::default(),
            &mut archive,
            &|_| (),
        )
        .unwrap();
        let mut root = fs::File::create(file("root.tar")).unwrap();
        wharf::image::export(&elsewhere.store, &pulled, &mut root, &|_| ()).unwrap();
        let path = |name: &str| file(name).to_str().unwrap().to_owned();
        let words = |line: &[&str]| line.iter().map(|word| (*word).to_owned()).collect();
        let commands = [
            words(&["image", "import", "--name", "web:1", &path("root.tar")]),
            words(&["image", "load", "--name", "web:1", "--input", &path("archive.tar")]),
            words(&["image", "pull", "--name", "web:1", &reference]),
        ];
        Self { home, _server: server, commands }
    }

    /// Exit status and what was said, on stdout and on stderr.
    fn wharf(&self, line: &[impl AsRef<std::ffi::OsStr>]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_wharf"))
            .args(line)
            .env("WHARF_ROOT", self.home.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    /// What a command left of its own, downloads that broke off included.
    fn left(&self) -> Vec<PathBuf> {
        let here = |name: &String| self.home.path(name);
        let contents = self.home.contents();
        let partial = fs::read_dir(self.home.path("partial")).into_iter().flatten().flatten();
        contents.iter().map(here).chain(partial.map(|entry| entry.path())).collect()
    }

    /// Each command either does its work or says in one error that there is no room, and leaves nothing then. Says
    /// how many did it.
    fn on_a_small_disk(&self, what: &str, mount: &[&str]) -> usize {
        let mut done = 0;
        for line in &self.commands {
            let _mounted = Mounted::new(&self.home, mount);
            let (code, out, err) = self.wharf(line);
            if code == 0 {
                done += 1;
                self.home.store.resolve(&"web:1".parse().unwrap()).unwrap();
                assert_eq!(fs::read_dir(self.home.path("incoming")).unwrap().count(), 0);
                continue;
            }
            let ending = " is full; nothing was changed\n  because No space left on device (os error 28)\n";
            assert_eq!((code, out.as_str()), (1, ""), "{what}, {line:?}");
            assert!(err.starts_with("error: the file system of "), "{what}, {line:?}: {err}");
            assert!(err.ends_with(ending) && err.lines().count() == 2, "{what}, {line:?}: {err}");
            assert_eq!(self.left(), Vec::<PathBuf>::new(), "{what}, {line:?}");
            let (code, out, err) = self.wharf(&["fsck"]);
            assert!(code == 0 && err.is_empty(), "{what}, {line:?}: {out}{err}");
        }
        done
    }
}

#[test]
fn a_full_disk_is_one_error_wherever_it_gets_full() {
    let ways = Ways::of(&[200_000, 700_000, 100_000]);
    for kilobytes in [8, 40, 120, 300, 600, 800, 950, 1000, 1050, 1100, 1500, 1900] {
        let size = format!("size={kilobytes}k");
        ways.on_a_small_disk(&size, &["-t", "tmpfs", "-o", &size, "wharf-test"]);
    }
    // No room for another name is no room either.
    for count in [2, 5, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36, 39] {
        let names = format!("nr_inodes={count}");
        ways.on_a_small_disk(&names, &["-t", "tmpfs", "-o", &names, "wharf-test"]);
    }
    assert_eq!(ways.on_a_small_disk("room", &["-t", "tmpfs", "-o", "size=8M", "wharf-test"]), 3);
}

#[test]
fn a_full_disk_with_a_real_file_system() {
    let ways = Ways::of(&[1_000_000, 4_000_000, 1_000_000]);
    let disk = ways.home.folder.path().join("disk");
    let disk = disk.to_str().unwrap();
    for (size, whole) in [("2M", 0), ("5M", 0), ("32M", 3)] {
        run("mkfs.ext4", &["-q", "-F", "-b", "1024", disk, size]);
        let done = ways.on_a_small_disk(size, &["-o", "loop", disk]);
        assert_eq!(done, whole, "{size}");
        fs::remove_file(disk).unwrap();
    }
}

#[test]
fn a_small_image_fits_where_a_large_one_did_not() {
    let ways = Ways::of(&[3_000_000]);
    for line in &ways.commands {
        let _mounted = Mounted::new(&ways.home, &["-t", "tmpfs", "-o", "size=2M", "wharf-test"]);
        assert_eq!(ways.wharf(line).0, 1, "{line:?}");
        ways.home.import_bytes(Tar::new().file("a", "").end(), "small").unwrap();
        assert_eq!(ways.home.store.list().unwrap().len(), 1);
    }
}

#[test]
fn a_store_that_cant_be_written_to_is_read_all_the_same() {
    let ways = Ways::of(&[3000, 4000]);
    let expected = "error: the file system of STORE is read-only; nothing was changed; mount it writable first\n  \
                    because Read-only file system (os error 30)\n";
    let refused = |line: &[String], store: &str| {
        let (code, out, err) = ways.wharf(line);
        assert_eq!((code, out.as_str()), (1, ""), "{line:?}: {err}");
        // Which of its files was to be written is of no interest.
        let mut words: Vec<&str> = err.split(' ').collect();
        for word in &mut words {
            if word.starts_with(store) {
                *word = "STORE";
            }
        }
        assert_eq!(words.join(" "), expected, "{line:?}");
    };
    let store = ways.home.path("");
    let store = store.to_str().unwrap().trim_end_matches('/');
    let above = ways.home.folder.path().join("var");
    fs::create_dir(&above).unwrap();
    {
        let above = above.to_str().unwrap();
        run("mount", &["-t", "tmpfs", "-o", "ro", "wharf-test", above]);
        let _mounted = Mounted(above.to_owned());
        for line in &ways.commands {
            refused(line, above);
        }
    }
    ways.home.import_bytes(Tar::new().file("a", "text").end(), "here:1").unwrap();
    let before = ways.left();
    let line = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    {
        let state = store.to_owned();
        run("mount", &["--bind", &state, &state]);
        let _mounted = Mounted(state.clone());
        run("mount", &["-o", "remount,bind,ro", &state]);
        for line in &ways.commands {
            refused(line, store);
        }
        for text in ["image tag here:1 there:1", "image remove here:1", "image prune"] {
            refused(&line(text), store);
        }
        for text in [
            "image list",
            "image inspect here:1",
            "image history here:1",
            "image save here:1",
            "image export here:1",
            "image prune --dry-run",
            "fsck",
        ] {
            let (code, _, err) = ways.wharf(&line(text));
            assert_eq!((code, err.as_str()), (0, ""), "{text}");
        }
    }
    assert_eq!(ways.left(), before);
    assert_eq!(ways.wharf(&line("image tag here:1 there:1")).0, 0);
}
