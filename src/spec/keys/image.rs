//! The keys of `images/NAME.toml`.

use super::{Default, Key, Kind, key};

/// Words of other files.
pub(super) const HABITS: &[(&str, &str)] = &[
    ("arch", "platform"),
    ("architecture", "platform"),
    ("name", "image"),
    ("policy", "trust"),
    ("pull-policy", "pull"),
    ("reference", "image"),
    ("service", "systemd"),
    ("source", "from"),
    ("tag", "image"),
    ("url", "from"),
];

/// Every key of an image, ordered by path.
pub(super) const KEYS: &[Key] = &[
    key(
        "description",
        Kind::Text,
        Default::Words("the image's reference"),
        "description = \"The web server, as our builders make it\"",
        "One line for people; `systemctl status` shows it.",
    ),
    key(
        "digest",
        Kind::Text,
        Default::Words("any"),
        "digest = \"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"",
        "The digest that the image's manifest must have: another is refused, and containers of this image run this one and no other.",
    ),
    key(
        "from",
        Kind::Text,
        Default::Words("the reference itself"),
        "from = \"https://images.example/nginx.tar.zst\"",
        "Where it is fetched: a reference with its registry, the URL of an archive or of an OCI layout on a web server, or the path of an archive or layout on this host.",
    ),
    key(
        "image",
        Kind::Text,
        Default::Required,
        "image = \"nginx:1.26\"",
        "The reference that it has in the store, and that containers name it by.",
    ),
    key(
        "keys",
        Kind::Texts,
        Default::Words("all that are there"),
        "keys = [\"web.asc\"]",
        "With trust = \"signed\": whose signature counts, by the names of files in /etc/wharf/keys.",
    ),
    key(
        "pick",
        Kind::Text,
        Default::Words("the only one"),
        "pick = \"registry.example/web/nginx:1.26\"",
        "Which image of an archive or a layout that holds several, by its name there.",
    ),
    key(
        "platform",
        Kind::Text,
        Default::Words("this machine's"),
        "platform = \"linux/arm64\"",
        "Which of the images that an index holds for several kinds of machines.",
    ),
    key(
        "pull",
        Kind::Choice(&["missing", "always", "never"]),
        Default::Is("\"missing\""),
        "pull = \"always\"",
        "When it is fetched: where the store doesn't have it, before each start of a container that runs it, or never.",
    ),
    key(
        "systemd",
        Kind::Table,
        Default::Words("empty"),
        "systemd.Service.TimeoutStartSec = \"15min\"",
        "Settings that go into the unit as they are.",
    ),
    key(
        "systemd.Service",
        Kind::Settings,
        Default::Words("empty"),
        "systemd.Service.TimeoutStartSec = \"15min\"",
        "Settings of [Service], over Wharf's own; those that Wharf is built on are refused.",
    ),
    key(
        "systemd.Unit",
        Kind::Settings,
        Default::Words("empty"),
        "systemd.Unit.OnFailure = \"page-me@%N.service\"",
        "Settings of [Unit], in the same way.",
    ),
    key(
        "trust",
        Kind::Choice(&["any", "digest", "signed"]),
        Default::Words("what [trust] of wharf.toml says"),
        "trust = \"signed\"",
        "What the image must have: nothing, a pinned digest, or a valid signature.",
    ),
];
