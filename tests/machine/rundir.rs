//! A machine's own directory: its private copy of the root or the disk, its console.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::cache::{base, remove};
use super::error::{Context, Result};

/// The directory of one machine. A temporary one goes with this value.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Held as long as the directory is in use. The kernel lets go of it however
    /// we end, which is how the next sweep knows.
    lock: Option<File>,
}

impl RunDir {
    /// A directory that goes with the value, after sweeping those whose program was killed.
    pub fn temporary() -> Result<RunDir> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let base = base();
        let runs = base.join("runs");
        std::fs::create_dir_all(&runs).context(|| format!("create {}", runs.display()))?;
        // Between a directory's creation and its lock nobody may sweep.
        let guard = File::create(base.join("runs.lock")).context(|| "create a lock file")?;
        guard.lock().context(|| "lock the running machines")?;
        sweep(&runs)?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = runs.join(format!("{}-{number}", std::process::id()));
        std::fs::create_dir(&path).context(|| format!("create {}", path.display()))?;
        let lock = File::create(path.join("lock")).context(|| "create a lock file")?;
        lock.lock().context(|| "lock a machine's directory")?;
        Ok(RunDir { path, lock: Some(lock) })
    }

    /// A directory that stays until it is removed.
    pub fn named(name: &str) -> Result<RunDir> {
        let path = RunDir::path_of(name);
        std::fs::create_dir_all(&path).context(|| format!("create {}", path.display()))?;
        Ok(RunDir { path, lock: None })
    }

    /// Where the machine of that name lies.
    pub fn path_of(name: &str) -> PathBuf {
        base().join("named").join(name)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it now.
    pub fn remove(&mut self) -> Result<()> {
        remove(&self.path)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // What cannot be removed now is swept by the next one.
            let _ = self.remove();
        }
    }
}

fn sweep(runs: &Path) -> Result<()> {
    for entry in std::fs::read_dir(runs).context(|| format!("read {}", runs.display()))? {
        let path = entry.context(|| format!("read {}", runs.display()))?.path();
        let lock =
            File::create(path.join("lock")).context(|| format!("open the lock in {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => remove(&path)?,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error).context(|| "try a lock"),
        }
    }
    Ok(())
}
