//! Paths of the host and paths inside, as texts.

use std::path::PathBuf;

/// Why a path can't be used, and what to write.
pub struct PathFinding {
    /// Continues "`KEY`".
    pub message: &'static str,
    /// What to write.
    pub hint: String,
}

/// A path of the host: absolute, without `..`; comes back without `.`, `//` and a `/` at the end.
pub fn host(text: &str) -> Result<PathBuf, PathFinding> {
    normal(text).map(PathBuf::from)
}

/// A path inside, which must be written in its normal form, since it is a key or means a place.
pub fn inside(text: &str) -> Result<String, PathFinding> {
    let normal = normal(text)?;
    if normal == text {
        Ok(normal)
    } else {
        Err(PathFinding { message: "is not in its shortest form", hint: format!("write {normal:?}") })
    }
}

fn normal(text: &str) -> Result<String, PathFinding> {
    let error = |message, hint: String| Err(PathFinding { message, hint });
    if text.is_empty() {
        return error("is empty", "write an absolute path".into());
    }
    if text.chars().any(char::is_control) {
        return error("has a control character", "rename the file".into());
    }
    if !text.starts_with('/') {
        let hint = if text.starts_with('~') {
            "write the home folder out: the container isn't started from a login".into()
        } else if text.contains("..") {
            "write where it is from / on: there is no working directory to start from".into()
        } else {
            format!(
                "write \"/{}\" or the like: there is no working directory to start from",
                text.trim_start_matches("./")
            )
        };
        return error("is not an absolute path", hint);
    }
    // 4096 is the kernel's PATH_MAX, with the NUL.
    if text.len() > 4095 {
        return error("is longer than a path can be", "use a shorter path".into());
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return error("has `..` in it", "write the path without it".into());
    }
    Ok(format!("/{}", parts.join("/")))
}
