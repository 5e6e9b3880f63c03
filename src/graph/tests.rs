use super::*;
use crate::plan;
use crate::report::Source;

/// Files as they are read, checked and made a graph of.
fn graph_of(files: &[(&str, &str)]) -> Graph {
    let declared: Vec<Declared> = files
        .iter()
        .map(|(name, text)| {
            let name: crate::spec::ContainerName = name.parse().expect("a name");
            let main = Source::new(format!("/etc/wharf/containers/{name}.toml"), *text);
            let files = plan::Files { name: name.clone(), main, drop_ins: vec![], findings: vec![] };
            let container = plan::check(&files).container;
            Declared { refused: container.is_none(), name, container }
        })
        .collect();
    graph(&declared)
}

const TIERS: [(&str, &str); 4] = [
    (
        "web",
        "image = 'nginx:1'\npublish = ['8080:80']\nlinks = ['app']\nmounts.'/w' = { bind = '/srv', read-only = true }\n",
    ),
    ("app", "image = 'shop:2'\nlinks = ['db:database', 'host']\n"),
    (
        "db",
        "image = 'postgresql:17'\nmounts.'/data' = { volume = 'data' }\nmounts.'/cache' = { tmpfs = true }\n",
    ),
    ("other", "image = 'x'\nnetwork = 'none'\nmounts.'/data' = { volume = 'data' }\n"),
];

fn ids(graph: &Graph) -> Vec<&str> {
    graph.nodes.iter().map(|node| node.id.as_str()).collect()
}

#[test]
fn nodes_and_edges() {
    let graph = graph_of(&TIERS);
    assert_eq!(
        ids(&graph),
        [
            "container:app",
            "container:db",
            "container:other",
            "container:web",
            "port:8080/tcp",
            "host",
            "volume:data",
            "bind:/srv"
        ]
    );
    let edges: Vec<(&str, &str, Option<&str>, bool)> = graph
        .edges
        .iter()
        .map(|edge| (edge.from.as_str(), edge.to.as_str(), edge.label.as_deref(), edge.read_only))
        .collect();
    assert_eq!(
        edges,
        [
            ("container:app", "container:db", Some("database"), false),
            ("container:app", "host", None, false),
            ("container:db", "volume:data", Some("/data"), false),
            ("container:other", "volume:data", Some("/data"), false),
            ("container:web", "bind:/srv", Some("/w"), true),
            ("container:web", "container:app", None, false),
            ("port:8080/tcp", "container:web", Some("80/tcp"), false),
        ]
    );
}

#[test]
fn what_is_not_there_is_shown_as_such() {
    let graph =
        graph_of(&[("a", "image = 'x'\nlinks = ['bad', 'none', 'web@blue']\n"), ("bad", "imgae = 1\n")]);
    let problems: Vec<(&str, Option<Problem>)> =
        graph.nodes.iter().map(|node| (node.label.as_str(), node.problem)).collect();
    let missing = Some(Problem::NotDeclared);
    assert_eq!(
        problems,
        [("a", None), ("bad", Some(Problem::BadFile)), ("none", missing), ("web@blue", missing)]
    );
}

#[test]
fn around_a_container() {
    for (names, expected) in [
        // All that leads to it, and nothing of whoever only mounts the same.
        (&["db"][..], &["app", "db", "web", "8080", "data", "/srv"][..]),
        (&["web"], &["app", "db", "web", "8080", "host", "data", "/srv"]),
        (&["other"], &["other", "data"]),
        (&["app"], &["app", "db", "web", "8080", "host", "data", "/srv"]),
    ] {
        let graph = graph_of(&TIERS).around(names);
        let short = |id: &str| id.rsplit(':').next().unwrap_or_default().trim_end_matches("/tcp").to_owned();
        assert_eq!(graph.nodes.iter().map(|node| short(&node.id)).collect::<Vec<_>>(), expected, "{names:?}");
        let known = ids(&graph);
        let has = |id: &String| known.contains(&id.as_str());
        assert!(graph.edges.iter().all(|edge| has(&edge.from) && has(&edge.to)));
    }
}

#[test]
fn the_outline_tells_each_once() {
    let mut graph = graph_of(&TIERS);
    graph.states(|name| (name == "db").then(|| "failed".to_owned()));
    assert_eq!(
        text(&graph),
        "\
other (x:latest, no network)
└─ volume data at /data
web (nginx:1)
├─ published port :8080 → 80/tcp
├─ bind /srv at /w, read-only
└─ link to app (shop:2)
   ├─ link to db (postgresql:17, failed) as database
   │  └─ volume data at /data
   └─ link to this host
"
    );
    let circle =
        text(&graph_of(&[("a", "image = 'x'\nlinks = ['b']\n"), ("b", "image = 'x'\nlinks = ['a']\n")]));
    assert_eq!(circle, "a (x:latest)\n└─ link to b (x:latest)\n   └─ link to a, see above\n");
}

#[test]
fn ports_as_people_write_them() {
    let graph = graph_of(&[(
        "a",
        "image = 'x'\npublish = ['127.0.0.1:53:53/udp', '[::]:443:443', '8000-8010:9000-9010']\n",
    )]);
    let ports: Vec<(&str, &str)> = graph
        .nodes
        .iter()
        .filter(|node| node.kind == Kind::Port)
        .map(|node| (node.id.as_str(), node.label.as_str()))
        .collect();
    assert_eq!(
        ports,
        [
            ("port:127.0.0.1:53/udp", "127.0.0.1:53/udp"),
            ("port:8000-8010/tcp", ":8000-8010"),
            ("port:[::]:443/tcp", "[::]:443"),
        ]
    );
}
