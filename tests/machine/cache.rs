//! Roots and images, made once and kept under `target/machines`:
//!
//! ```text
//! target/machines/
//!   cache/KEY.lock          held while KEY is being made
//!   cache/KEY.half/         a half-made thing: never used, swept by the next maker
//!   cache/KEY/root/         the fast machine's root, or
//!   cache/KEY/disk          the same as a disk, or
//!   cache/KEY/{disk,vmlinuz,initrd.img,key}  the full machine's, or
//!   cache/KEY/image.tar     an image's root file system
//!   cache/KEY/essential.tar what all of them begin with
//!   runs.lock               held while a run is made or the dead ones are swept
//!   runs/PID-N/             a machine of a test: its private copy, gone with it
//!   named/NAME/             a machine started from the command line, until it is stopped
//! ```
//!
//! KEY is a hash of the recipe's content and of what is made of it. A thing is
//! made aside and renamed, so what is there under its name is whole.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::error::{Context, Error, Result};
use super::process::tool;
use super::recipe::Recipe;

/// Raised when the way of making things changes: what is cached from before then no longer counts.
const MAKING: u32 = 2;

/// Room on the full machine's disk. The file is sparse: only what is used takes space.
const DISK_SIZE: &str = "6G";

/// What the initramfs holds: without a list it takes every driver there is, and
/// an emulated processor unpacks it for seconds.
const INITRAMFS_MODULES: &str = "virtio_pci\nvirtio_blk\next4\ncrc32c_generic\n";

/// What is made of a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A directory tree that systemd-nspawn boots.
    Root,
    /// That tree on a disk.
    RootDisk,
    /// A disk that QEMU boots, its kernel, and the key to get in.
    Disk,
    /// A root file system as a tar file.
    Tar,
    /// The same with the lists of packages, for more to be installed into it.
    Essential,
}

/// Where everything of ours lies: `target/machines`.
pub fn base() -> PathBuf {
    // The target directory can be anywhere, but cargo marks it, and we run from inside it.
    let target = std::env::current_exe().ok().and_then(|exe| {
        exe.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file()).map(Path::to_path_buf)
    });
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target")).join("machines")
}

/// The recipe as `form`, from the cache or made now.
pub fn get(recipe: &Recipe, form: Form) -> Result<PathBuf> {
    let cache = base().join("cache");
    std::fs::create_dir_all(&cache).context(|| format!("create {}", cache.display()))?;
    let recipe = if form == Form::Disk { recipe.clone().with_kernel() } else { recipe.clone() };
    let key = recipe.key(&format!("{form:?} {MAKING}"));
    let (done, half) = (cache.join(&key), cache.join(format!("{key}.half")));
    if done.exists() {
        return Ok(done);
    }
    let lock = File::create(cache.join(format!("{key}.lock"))).context(|| "create a lock file")?;
    lock.lock().context(|| "lock the cache")?;
    if done.exists() {
        return Ok(done);
    }
    let started = std::time::Instant::now();
    eprintln!("machine: making {} as {form:?} from Debian packages (once)", recipe.name());
    remove(&half)?;
    std::fs::create_dir_all(half.join("files")).context(|| format!("create {}", half.display()))?;
    make(&recipe, form, &half)?;
    remove(&half.join("files"))?;
    std::fs::rename(&half, &done).context(|| format!("put {} in its place", done.display()))?;
    eprintln!("machine: {} is made, {:.1} s", recipe.name(), started.elapsed().as_secs_f32());
    Ok(done)
}

/// Removes a directory tree and whatever is in it, if it is there.
pub fn remove(dir: &Path) -> Result<()> {
    if dir.symlink_metadata().is_err() {
        return Ok(());
    }
    // rm keeps to one file system: should anything be mounted in there, it is not ours to empty.
    tool("rm", Path::new("/"), |rm| {
        rm.args(["-rf", "--one-file-system", "--"]).arg(dir);
    })?;
    Ok(())
}

fn make(recipe: &Recipe, form: Form, half: &Path) -> Result<()> {
    if form == Form::RootDisk {
        let root = get(recipe, Form::Root)?.join("root");
        return format_disk(half, &root);
    }
    write_files(recipe, &half.join("files"))?;
    bootstrap(recipe, form, half)?;
    match form {
        Form::Tar | Form::Essential | Form::RootDisk => Ok(()),
        Form::Root => {
            // Said here, since a machine without one would only be seen not to come up.
            let systemd = half.join("root/usr/lib/systemd/systemd");
            std::fs::metadata(systemd)
                .context(|| format!("find a systemd in the root of {}", recipe.name()))?;
            Ok(())
        }
        Form::Disk => make_disk(half),
    }
}

fn write_files(recipe: &Recipe, dir: &Path) -> Result<()> {
    for (path, text) in recipe.files() {
        let file = dir.join(path.trim_start_matches('/'));
        let parent = file.parent().unwrap_or(dir);
        std::fs::create_dir_all(parent).context(|| format!("create {}", parent.display()))?;
        std::fs::write(&file, text).context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

/// Debian's essential packages are unpacked and set up once for all recipes, and the lists of packages read once. What
/// else a recipe has is installed into a copy of that.
fn bootstrap(recipe: &Recipe, form: Form, half: &Path) -> Result<()> {
    let output = match form {
        Form::Essential => ESSENTIAL,
        Form::Tar => "image.tar",
        Form::Root | Form::RootDisk | Form::Disk => "root",
    };
    let essential = match form {
        Form::Essential => None,
        _ => Some(get(&recipe.essential(), Form::Essential)?.join(ESSENTIAL)),
    };
    tool("mmdebstrap", half, |command| {
        // A locale of the host that the root does not have makes its scripts complain.
        command.env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
        // What it leaves behind when it is killed is then swept with the rest.
        command.env("TMPDIR", half);
        command.args(["--quiet", if output == "root" { "--format=directory" } else { "--format=tar" }]);
        for pattern in recipe.left_out() {
            command.arg(format!("--dpkgopt=path-exclude={pattern}"));
        }
        if let Some(essential) = &essential {
            // The list of what is left out has just been written, and may be longer than theirs.
            let tar = quoted(&essential.to_string_lossy());
            command.args(["--variant=custom", "--skip=update"]).arg(format!(
                "--setup-hook=tar -C \"$1\" --exclude=./etc/dpkg/dpkg.cfg.d/99mmdebstrap -xf {tar}"
            ));
        } else {
            command.args(["--variant=minbase", "--skip=cleanup/apt/lists"]);
        }
        if form == Form::Disk {
            command.arg(format!("--customize-hook={}", before_kernel()));
        }
        if !recipe.package_list().is_empty() {
            // Debian may have newer ones by now than the lists know.
            let apt = "chroot \"$1\" apt-get -q -y -o APT::Install-Recommends=false -o Dpkg::Options::=--force-unsafe-io";
            let install = format!("{apt} install {}", recipe.package_list());
            command.arg(format!("--customize-hook={install} || {{ {apt} update && {install}; }}"));
        }
        command.arg("--customize-hook=sync-in files /");
        for line in recipe.commands() {
            command.arg(format!("--customize-hook=chroot \"$1\" sh -c {}", quoted(line)));
        }
        command.args([recipe.suite(), output]);
    })?;
    Ok(())
}

/// The name of what other roots begin with.
const ESSENTIAL: &str = "essential.tar";

/// What must be there when the kernel's package makes its initramfs.
fn before_kernel() -> String {
    let list = quoted(INITRAMFS_MODULES);
    format!(
        "mkdir -p \"$1/etc/initramfs-tools/conf.d\" && \
         echo MODULES=list >\"$1/etc/initramfs-tools/conf.d/machine\" && \
         printf %s {list} >\"$1/etc/initramfs-tools/modules\""
    )
}

fn make_disk(half: &Path) -> Result<()> {
    let root = half.join("root");
    tool("ssh-keygen", half, |command| {
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", "machine", "-f", "key"]);
    })?;
    let ssh = root.join("root/.ssh");
    std::fs::create_dir_all(&ssh).context(|| format!("create {}", ssh.display()))?;
    std::fs::copy(half.join("key.pub"), ssh.join("authorized_keys"))
        .context(|| "let our key into the machine")?;
    for name in ["vmlinuz", "initrd.img"] {
        let file = newest_boot_file(&root.join("boot"), name)?;
        std::fs::copy(&file, half.join(name)).context(|| format!("copy {}", file.display()))?;
    }
    format_disk(half, &root)?;
    remove(&root)
}

fn format_disk(half: &Path, root: &Path) -> Result<()> {
    tool("truncate", half, |command| {
        command.args(["-s", DISK_SIZE, "disk"]);
    })?;
    // mke2fs lives in sbin, which is not in everyone's path.
    tool("/sbin/mke2fs", half, |command| {
        command.args(["-q", "-t", "ext4", "-L", "root", "-d"]).arg(root).arg("disk");
    })?;
    Ok(())
}

fn newest_boot_file(boot: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = std::fs::read_dir(boot).context(|| format!("read {}", boot.display()))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix)))
        .collect();
    found.sort();
    found.pop().ok_or_else(|| Error::Io {
        what: format!("find {prefix} in {}", boot.display()),
        source: std::io::ErrorKind::NotFound.into(),
    })
}

/// A word as a shell reads it.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
