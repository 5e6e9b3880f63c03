//! Names in signatures, and whether they are the name that was asked for. Pure.

use crate::image::Digest;
use crate::spec::Reference;

/// A repository as Docker completes it, which is what signers mean: `nginx` is `docker.io/library/nginx`.
fn completed(repository: &str) -> String {
    match repository.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => repository.to_owned(),
        Some(_) => format!("docker.io/{repository}"),
        None => format!("docker.io/library/{repository}"),
    }
}

/// The host of a repository's registry.
pub(super) fn host(repository: &str) -> String {
    let completed = completed(repository);
    completed.split('/').next().unwrap_or_default().to_owned()
}

/// Where signatures of an image are below a lookaside: the repository without its registry, and the digest with an
/// equals sign (containers-registries.d(5), and the client's own layout).
pub(super) fn lookaside_path(repository: &str, digest: &Digest) -> String {
    let completed = completed(repository);
    let path = completed.split_once('/').map_or(completed.as_str(), |(_, path)| path);
    format!("{path}@sha256={}", digest.hex())
}

/// Whether a signature for one reference is one for what was asked for, as containers-policy.json(5) has it by
/// `matchRepoDigestOrExact`: with a tag both must be the same, with a digest alone the repository is enough. The
/// digest itself is compared elsewhere.
pub(super) fn is_for(signed: &str, repository: &str, asked: &Reference, digest: &Digest) -> bool {
    let Ok(parsed) = signed.parse::<Reference>() else { return false };
    let other_digest = parsed.digest().is_some_and(|pinned| pinned != digest.to_string());
    if completed(parsed.name()) != completed(repository) || other_digest {
        return false;
    }
    match asked.tag() {
        None => true,
        // Written out: a signature for `nginx` alone names no image.
        Some(tag) => parsed.tag() == Some(tag) && signed.contains(&format!(":{tag}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn only_the_same_name_counts() {
        let digest = Digest::of(b"x");
        let other = Digest::of(b"y");
        let is_for = |signed: &str, asked: &str| {
            let settings = Settings {
                aliases: [("nginx".to_owned(), "registry.example/web/nginx".to_owned())].into(),
                ..Settings::default()
            };
            let asked: Reference = asked.parse().expect("a reference");
            super::is_for(signed, &super::super::repository(&settings, &asked), &asked, &digest)
        };
        let pinned = format!("registry.example/web/nginx@{digest}");
        for (signed, asked) in [
            ("registry.example/web/nginx:1", "registry.example/web/nginx:1"),
            ("registry.example/web/nginx:1", "nginx:1"),
            ("registry.example/web/nginx:1", &pinned),
            ("registry.example/web/nginx:1", &format!("nginx:1@{digest}")),
            (&pinned, &pinned),
            ("docker.io/library/redis:7", "redis:7"),
            ("redis:7", "docker.io/library/redis:7"),
            ("docker.io/team/redis:7", "team/redis:7"),
        ] {
            assert!(is_for(signed, asked), "{signed} is for {asked}");
        }
        for (signed, asked) in [
            ("registry.example/web/nginx:2", "registry.example/web/nginx:1"),
            ("registry.example/web/other:1", "registry.example/web/nginx:1"),
            ("evil.example/web/nginx:1", "nginx:1"),
            ("registry.example/web/nginx:2", &format!("nginx:1@{digest}")),
            (&format!("registry.example/web/nginx:1@{other}"), "nginx:1"),
            (&format!("registry.example/web/nginx@{other}"), &pinned),
            (&pinned, "nginx:1"),
            ("registry.example/web/nginx", "nginx:latest"),
            ("evil.example/web/nginx:1", &pinned),
            ("", "nginx:1"),
            ("NGINX:1", "nginx:1"),
        ] {
            assert!(!is_for(signed, asked), "{signed} is not for {asked}");
        }
    }

    #[test]
    fn places() {
        let digest = Digest::of(b"x");
        let at = |repository: &str| lookaside_path(repository, &digest);
        assert_eq!(at("registry.example:5000/web/nginx"), format!("web/nginx@sha256={}", digest.hex()));
        assert_eq!(at("nginx"), format!("library/nginx@sha256={}", digest.hex()));
        assert_eq!(host("registry.example:5000/web/nginx"), "registry.example:5000");
        assert_eq!(host("team/web"), "docker.io");
    }
}
