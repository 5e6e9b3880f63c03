//! Many commands at once, of all kinds, as processes of their own.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Home, Tar};

/// How many there are in all, and how many at a time.
const COMMANDS: usize = 200;
const AT_ONCE: usize = 16;

#[test]
fn two_hundred_commands_leave_a_clean_store() {
    let home = Home::new();
    let folder = home.folder.path().to_owned();
    for number in 0..6 {
        // Two of three are the same but for their names.
        let text = (number / 2).to_string();
        let tar =
            (0..60).fold(Tar::new(), |tar, file| tar.file(&format!("d{file}/f"), &text.repeat(500))).end();
        fs::write(folder.join(format!("{number}.tar")), tar).unwrap();
    }
    let next = AtomicUsize::new(0);
    let refused = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= COMMANDS {
                        return;
                    }
                    let (image, other) = (format!("image{}:1", number % 6), format!("image{}:2", number % 5));
                    let tar = folder.join(format!("{}.tar", number % 6)).display().to_string();
                    let line: Vec<&str> = match number % 10 {
                        0..=2 => vec!["image", "import", "--name", &image, &tar],
                        3 => vec!["image", "tag", &image, &other],
                        4 => vec!["image", "remove", &other],
                        5 => vec!["image", "prune"],
                        6 => vec!["image", "list", "--json"],
                        7 => vec!["fsck"],
                        8 => vec!["image", "remove", &image],
                        _ => vec!["image", "prune", "--dry-run", "--all"],
                    };
                    let output = Command::new(env!("CARGO_BIN_EXE_wharf"))
                        .args(&line)
                        .env("WHARF_ROOT", &folder)
                        .stdin(Stdio::null())
                        .output()
                        .unwrap();
                    let said = String::from_utf8_lossy(&output.stderr).into_owned();
                    if output.status.success() {
                        continue;
                    }
                    refused.fetch_add(1, Ordering::Relaxed);
                    // What is named may be gone by then. Nothing else may go wrong, and no damage be seen.
                    let gone = said.contains("is not in the store") && matches!(number % 10, 3 | 4 | 8);
                    assert!(gone, "{line:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
                }
            });
        }
    });
    assert!(refused.into_inner() < COMMANDS / 2, "most of them had something to do");
    let output =
        Command::new(env!("CARGO_BIN_EXE_wharf")).arg("fsck").env("WHARF_ROOT", &folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.ends_with("nothing is damaged\n"), "{said}");
    assert!(!said.contains("orphan") && !said.contains("cut off"), "{said}");
    assert_eq!(fs::read_dir(home.path("incoming")).unwrap().count(), 0);
    // All that is left can go, and then nothing is.
    let all: Vec<String> =
        home.store.list().unwrap().into_iter().flat_map(|image| image.references).collect();
    for reference in all {
        home.store.remove(&reference.parse().unwrap()).unwrap();
    }
    home.store.prune(&Default::default(), Default::default()).unwrap();
    assert_eq!(home.contents(), Vec::<String>::new());
}
