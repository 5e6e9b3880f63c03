//! Images to bring in: files on the host's own disk, and a registry on loopback.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use wharf::image::{Options, Source, Store, import};

use crate::server::{Made, Puller, Server, noise, unknown};
use crate::support::{Tar, describe};

/// What the layers of an image hold, the lowest first, each as [`describe`] says it.
pub type Trees = Vec<BTreeMap<Vec<u8>, String>>;

/// Where one comes from.
pub enum Place {
    /// A root file system tar.
    File(PathBuf),
    /// A reference, the registry's host included.
    Registry(String),
}

/// Something to bring in, and what it is when nothing is cut.
pub struct Sample {
    pub place: Place,
    pub digest: String,
    pub trees: Trees,
}

/// All of them, and who serves some.
pub struct Samples {
    pub all: Vec<Sample>,
    pub server: Server,
}

fn root(files: usize, size: usize, word: &str) -> Tar {
    let text = word.repeat(size / word.len());
    (0..files).fold(Tar::new().link("link", "d1/f1"), |tar, index| {
        tar.file(&format!("d{}/f{index}", index % 20), &format!("{index} {text}"))
    })
}

/// Tars for `folder`, and images of several layers. They have layers in common, with each other and with the tars,
/// and one hides something of its lowest layer, which has two forms then.
pub fn samples(folder: &Path) -> Samples {
    let many = root(900, 500, "many").hard("same", "d0/f0").end();
    let other = root(300, 9_000, "other").end();
    let above = root(120, 1_500, "above").file("d3/.wh.f3", "").file("d4/.wh..wh..opq", "").end();
    let blob = Tar::new().file("blob", &noise(900_000, 7)).end();
    let images = [
        ("team/three", vec![many.clone(), above.clone(), blob.clone()]),
        ("team/two", vec![above, blob, other.clone()]),
        ("team/own", vec![root(150, 4_000, "own").end(), root(30, 20_000, "top").end()]),
    ];
    let made = images.map(|(name, tars)| Made { repository: name.to_owned(), ..Made::of_tars(&tars) });
    let served = made.clone();
    let server = Server::start(move |asked| {
        let its = |made: &&Made| asked.path.starts_with(&format!("/v2/{}/", made.repository));
        served.iter().find(its).map_or_else(|| unknown("NAME_UNKNOWN", "unknown"), |made| made.answer(asked))
    });
    // In memory, if it can be: the host's own disk has others to write for, whom each import would wait for.
    let aside = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let store = Store::new(aside.path().join("whole"));
    let trees = |name: &str| {
        let layers = store.resolve(&name.parse().unwrap()).unwrap().layers;
        layers.iter().map(|layer| describe(layer, true)).collect()
    };
    let mut all = Vec::new();
    let tars = [
        ("small.tar", root(3, 100, "small").end()),
        ("many.tar", many),
        ("large.tar", root(20, 300_000, "large").end()),
        ("other.tar", other),
    ];
    for (name, bytes) in tars {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        let options = Options { name: Some("whole:1".parse().unwrap()), ..Options::default() };
        let imported = import(&store, Source::Path(path.clone()), &options, &|_| ()).unwrap();
        let digest = imported[0].digest.clone();
        all.push(Sample { place: Place::File(path), digest, trees: trees("whole:1") });
    }
    for made in made {
        let reference = format!("{}/{}:v1", server.host, made.repository);
        let pulled = Puller::of(&[&server.host]).pull(&store, &reference).unwrap();
        let digest = pulled.image.digest;
        assert_eq!(digest, made.digest());
        all.push(Sample { trees: trees(&reference), place: Place::Registry(reference), digest });
    }
    Samples { all, server }
}
