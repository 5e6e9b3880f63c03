//! JSON schemas of the files, for editors (JSON Schema draft 7, which taplo reads).
//!
//! They are looser than `wharf check`, which has the last word: a drop-in needn't have what a whole file must have, so
//! no key is required.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};
use wharf::spec::keys::{CONTAINER, Default, HOST, IMAGE, Key, Kind, Vocabulary};

use super::packaging;

/// Each schema and the files that it is about.
const SCHEMAS: [(&str, &Vocabulary); 3] =
    [("container.json", &CONTAINER), ("image.json", &IMAGE), ("wharf.json", &HOST)];

/// The schemas, by name.
pub fn schemas() -> Vec<(String, String)> {
    let text = |(name, vocabulary): (&str, &Vocabulary)| {
        let mut schema = json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "title": format!("/etc/wharf/{}", vocabulary.file),
        });
        merge(&mut schema, table(vocabulary, ""));
        (name.to_owned(), serde_json::to_string_pretty(&schema).expect("JSON") + "\n")
    };
    SCHEMAS.map(text).into()
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

fn table(vocabulary: &Vocabulary, path: &str) -> Value {
    let keys = vocabulary.below(path).filter(|(name, _)| *name != "*");
    let properties: Map<String, Value> =
        keys.map(|(name, key)| (name.to_owned(), of(vocabulary, key))).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn of(vocabulary: &Vocabulary, key: &Key) -> Value {
    let Key { path, kind, default, doc, example } = key;
    let texts = || json!({ "type": "array", "items": { "type": "string" } });
    let mut schema = match kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Texts | Kind::Command => texts(),
        Kind::CommandOrShell | Kind::TextOrTexts => json!({ "anyOf": [{ "type": "string" }, texts()] }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::TextOrNumber | Kind::Duration => json!({ "type": ["string", "integer"] }),
        Kind::TextOrTrue => json!({ "anyOf": [{ "type": "string" }, { "const": true }] }),
        Kind::Number => json!({ "type": "integer" }),
        Kind::Table => table(vocabulary, path),
        Kind::Map => json!({
            "type": "object",
            "additionalProperties": { "type": ["string", "integer", "boolean"] },
        }),
        Kind::Settings => json!({
            "type": "object",
            "additionalProperties": { "type": ["string", "integer", "boolean", "array"] },
        }),
        Kind::Tables => json!({
            "type": "object",
            "additionalProperties": table(vocabulary, &format!("{path}.*")),
        }),
    };
    let default = match default {
        Default::Required => "It must be written.".to_owned(),
        Default::Is(value) => format!("Default: {value}."),
        Default::Words(words) => format!("Without it: {words}."),
    };
    let doc = format!("{doc}\n\n{default}\n\n{example}").replace('`', "");
    merge(&mut schema, json!({ "description": doc }));
    schema
}

/// What a validator says of files, each with its schema; nothing where they are right.
fn wrong(files: &[(&str, PathBuf)]) -> String {
    const VALIDATE: &str = "import json, sys, tomllib, jsonschema\n\
        for schema, file in zip(sys.argv[1::2], sys.argv[2::2]):\n    \
            schema = json.load(open(schema))\n    \
            jsonschema.Draft7Validator.check_schema(schema)\n    \
            for error in jsonschema.Draft7Validator(schema).iter_errors(tomllib.load(open(file, 'rb'))):\n        \
                print(file, error.json_path, error.message)\n";
    let said = Command::new("python3")
        .args(["-c", VALIDATE])
        .args(files.iter().flat_map(|(schema, file)| [packaging("schema").join(schema), file.clone()]))
        .output()
        .expect("python3, which tests/run installs");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).expect("text")
}

/// Every TOML file below a folder that is of one kind.
fn files(folder: &Path, kind: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, kind, found);
        } else if path.extension().is_some_and(|end| end == "toml")
            && (folder.ends_with(kind) || folder.parent().is_some_and(|above| above.ends_with(kind)))
        {
            found.push(path);
        }
    }
}

#[test]
fn files_that_are_right_validate() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    files(&here.join("examples"), "examples", &mut all);
    files(&here.join("examples/ansible"), "containers", &mut all);
    let examples = all.len();
    let mut all: Vec<_> = all.into_iter().map(|path| ("container.json", path)).collect();
    for (schema, kind) in [("container.json", "containers"), ("image.json", "images")] {
        let mut accepted = Vec::new();
        files(&here.join("tests/accept"), kind, &mut accepted);
        assert!(!accepted.is_empty(), "{kind}");
        all.extend(accepted.into_iter().map(|path| (schema, path)));
    }
    assert!(examples > 5);
    // A link that hides a file, and one that is written `-> TARGET`, are no TOML; what is broken there on purpose isn't
    // either.
    let toml = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        toml::from_str::<toml::Table>(&text).is_ok()
    };
    all.retain(|(_, file)| toml(file));
    assert_eq!(wrong(&all), "");
}

/// What is shown anywhere: each key's example, and the blocks of the README and of the pages.
#[test]
fn what_is_shown_validates() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    let mut show = |schema, text: &str| {
        let file = folder.path().join(format!("{}.toml", all.len()));
        std::fs::write(&file, text).unwrap();
        all.push((schema, file));
    };
    let mut keys = 0;
    for (schema, vocabulary) in SCHEMAS {
        for key in vocabulary.keys {
            show(schema, key.example);
            keys += 1;
        }
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(here.join("README.md")).unwrap();
    let of_readme = readme.split("\n```toml\n").skip(1).map(|rest| rest.split("\n```\n").next().unwrap());
    let pages: Vec<String> =
        super::keys::pages().into_iter().map(|(_, page)| page.replace("\\-", "-")).collect();
    let of_pages = pages.iter().flat_map(|page| page.split("\n.EX\n").skip(1));
    let of_pages = of_pages.map(|rest| rest.split("\n.EE").next().unwrap().trim_end_matches(".EE"));
    let mut blocks = 0;
    for block in of_readme.chain(of_pages) {
        let Some(path) = block.lines().next().and_then(|line| line.strip_prefix("# /etc/wharf/")) else {
            continue;
        };
        let schema = match path.split('/').next().unwrap() {
            "containers" | "container.toml.d" => "container.json",
            "images" => "image.json",
            _ => "wharf.json",
        };
        show(schema, &block.replace("\\e", "\\").replace("\\(dq", "\""));
        blocks += 1;
    }
    assert!(keys > 100 && blocks > 14, "{keys} {blocks}");
    assert_eq!(wrong(&all), "");
}

#[test]
fn mistakes_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.toml");
    for (schema, text, said) in [
        ("container.json", "imge = 'x'", "'imge' was unexpected"),
        ("container.json", "[mounts.'/x']\nvolme = 'x'", "'volme' was unexpected"),
        ("container.json", "root = 'rw'", "'rw' is not one of"),
        ("image.json", "pull = true", "is not one of"),
        ("wharf.json", "[registries.'x']\nmirrors = 'y'", "is not of type 'array'"),
    ] {
        std::fs::write(&file, text).unwrap();
        let found = wrong(&[(schema, file.clone())]);
        assert!(found.contains(said), "{text}: {found}");
    }
}
