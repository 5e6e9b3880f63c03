//! The keys of `wharf.toml`.

use super::{Default, Key, Kind, key};

/// Words of other files.
pub(super) const HABITS: &[(&str, &str)] = &[
    ("alias", "aliases"),
    ("insecure-registries", "registries"),
    ("limits", "unpack"),
    ("mirrors", "registries"),
    ("policy", "trust"),
    ("registry", "registries"),
    ("registry-mirrors", "registries"),
];

/// Every key of the host's settings, ordered by path.
pub(super) const KEYS: &[Key] = &[
    key(
        "aliases",
        Kind::Map,
        Default::Words("none"),
        "aliases.nginx = \"docker.io/library/nginx\"",
        "Whole repositories for short names. A short name that isn't here is looked for in no registry.",
    ),
    key(
        "registries",
        Kind::Tables,
        Default::Words("none"),
        "registries.\"registry.example:5000\".insecure = true",
        "How to speak to registries, by host.",
    ),
    key(
        "registries.*.authorities",
        Kind::Texts,
        Default::Is("[]"),
        "registries.\"registry.example\".authorities = [\"/etc/wharf/ca.pem\"]",
        "Files of certificates (PEM) that may vouch for it, beside the system's.",
    ),
    key(
        "registries.*.insecure",
        Kind::Flag,
        Default::Is("false"),
        "registries.\"registry.example:5000\".insecure = true",
        "Speaks plain HTTP to this host: anybody on the way can read and change what is said.",
    ),
    key(
        "registries.*.mirrors",
        Kind::Texts,
        Default::Is("[]"),
        "registries.\"docker.io\".mirrors = [\"mirror.example/docker\", \"10.0.0.5:5000\"]",
        "Who is asked before it, in this order: a host, perhaps with a path below which its repositories are.",
    ),
    key(
        "registries.*.signatures",
        Kind::Text,
        Default::Words("none are looked for"),
        "registries.\"registry.example\".signatures = \"https://sigs.example/sigstore\"",
        "Where signatures of its images are: a URL, or a folder of this host.",
    ),
    key(
        "trust",
        Kind::Table,
        Default::Words("every image is trusted"),
        "trust.policy = \"digest\"",
        "Which images may enter the store and run.",
    ),
    key(
        "trust.keys",
        Kind::Texts,
        Default::Words("all that are there"),
        "trust = { policy = \"signed\", keys = [\"ops.asc\"] }",
        "With policy = \"signed\": whose signature counts, by the names of files in /etc/wharf/keys.",
    ),
    key(
        "trust.policy",
        Kind::Choice(&["any", "digest", "signed"]),
        Default::Is("\"any\""),
        "trust.policy = \"signed\"",
        "What an image must have that no rule is about: nothing, a pinned digest, or a valid signature.",
    ),
    key(
        "trust.rules",
        Kind::Tables,
        Default::Words("none"),
        "trust.rules.\"registry.example/web\".policy = \"signed\"",
        "The same for a registry, a repository, or what repositories begin with; of several the longest counts.",
    ),
    key(
        "trust.rules.*.keys",
        Kind::Texts,
        Default::Words("all that are there"),
        "trust.rules.\"registry.example/web\" = { policy = \"signed\", keys = [\"web.asc\"] }",
        "With policy = \"signed\": whose signature counts here.",
    ),
    key(
        "trust.rules.*.policy",
        Kind::Choice(&["any", "digest", "signed"]),
        Default::Required,
        "trust.rules.\"registry.example/web\".policy = \"digest\"",
        "What these images must have.",
    ),
    key(
        "unpack",
        Kind::Table,
        Default::Words("as below"),
        "unpack.bytes = \"1T\"",
        "How much one layer of an image may unpack to. No real image meets the defaults.",
    ),
    key(
        "unpack.bytes",
        Kind::TextOrNumber,
        Default::Is("\"512G\""),
        "unpack.bytes = \"1T\"",
        "The bytes of all its files, holes included, with K, M, G or T.",
    ),
    key(
        "unpack.entries",
        Kind::Number,
        Default::Is("4000000"),
        "unpack.entries = 8000000",
        "How many files, folders and links.",
    ),
    key(
        "unpack.ratio",
        Kind::Number,
        Default::Is("5000"),
        "unpack.ratio = 20000",
        "How many bytes may come out for each that was read, once more than a gigabyte has.",
    ),
];
