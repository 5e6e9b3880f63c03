//! What the units of images run: from files to an image in the store, and every way that it can't.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use crate::support::{Home, Tar};

const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

impl Home {
    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// What systemd does at a reload.
    fn reload(&self) {
        let out = self.folder.path().join("run/systemd/generator");
        let _ = fs::remove_dir_all(&out);
        let status = Command::new(env!("CARGO_BIN_EXE_wharf-generator"))
            .arg(&out)
            .env("WHARF_ROOT", self.folder.path())
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Exit status, and both outputs.
    fn provide(&self, name: &str) -> (i32, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_wharf"))
            .args(["image", "provide", name])
            .env("WHARF_ROOT", self.folder.path())
            .env("NOTIFY_SOCKET", self.folder.path().join("notify"))
            .output()
            .unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code().unwrap(), said)
    }

    /// The path that the unit's condition is about, and whether it is there.
    fn is_there(&self, unit: &str) -> bool {
        let unit = fs::read_to_string(self.folder.path().join("run/systemd/generator").join(unit)).unwrap();
        let line = unit.lines().find_map(|line| line.strip_prefix("ConditionPathExists=!/")).unwrap();
        self.folder.path().join(line.replace("%%", "%")).exists()
    }
}

fn declared(image: &str) -> Home {
    let home = Home::new();
    home.write("srv/x.tar", Tar::new().dir("etc").file("etc/x", "x").end());
    home.write("etc/wharf/images/x.toml", image);
    home.reload();
    home
}

const LOCAL: &str = "image = \"team/x:1\"\nfrom = \"/srv/x.tar\"\n";

#[test]
fn from_a_path_and_only_once() {
    let home = declared(LOCAL);
    let systemd = UnixDatagram::bind(home.folder.path().join("notify")).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert!(!home.is_there("x-image.service"));
    let (code, said) = home.provide("x");
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("team/x:1 sha256:") && said.contains("(1 layers, 1 new)"), "{said}");
    assert!(home.is_there("x-image.service"), "the unit's condition names what the store has");
    let mut told = [0; 4096];
    let length = systemd.recv(&mut told).unwrap();
    assert!(String::from_utf8_lossy(&told[..length]).starts_with("STATUS=Fetching team/x:1"));
    let (code, said) = home.provide("x");
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("team/x:1 is in the store: sha256:"), "{said}");
    home.write("srv/x.tar", Tar::new().file("y", "y").end());
    home.write("etc/wharf/images/x.toml", format!("{LOCAL}pull = \"always\"\n"));
    home.reload();
    let (code, said) = home.provide("x");
    assert!(code == 0 && said.contains("(1 layers, 1 new)"), "{said}");
}

#[test]
fn a_digest_holds() {
    let home = declared(LOCAL);
    home.provide("x");
    let digest = home.store.resolve(&"team/x:1".parse().unwrap()).unwrap().digest;
    home.write("etc/wharf/images/x.toml", format!("{LOCAL}digest = \"{digest}\"\n"));
    home.reload();
    assert!(home.is_there("x-image.service"));
    // Another one is wanted: the one that is here won't do, nor what the path has.
    home.write("etc/wharf/images/x.toml", format!("{LOCAL}digest = \"{DIGEST}\"\n"));
    home.reload();
    assert!(!home.is_there("x-image.service"));
    let before = home.contents();
    let (code, said) = home.provide("x");
    assert_eq!(code, 1);
    assert!(said.contains(&format!("has the digest {digest}, but {DIGEST} was promised")), "{said}");
    assert_eq!(home.contents(), before);
}

#[test]
fn a_container_goes_by_the_pin() {
    let home = declared(&format!("{LOCAL}digest = \"{DIGEST}\"\n"));
    home.write("etc/wharf/containers/c.toml", "image = \"team/x:1\"\nnetwork = \"none\"\n");
    home.reload();
    let output = Command::new(env!("CARGO_BIN_EXE_wharf-executor"))
        .args(["start", "c"])
        .env("WHARF_ROOT", home.folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(226), "{said}");
    assert!(said.contains(&format!("image team/x:1@{DIGEST} is not in the store")), "{said}");
    assert!(said.contains("its unit says why: systemctl status x-image\n"), "{said}");
}

#[test]
fn what_it_says_when_it_cant() {
    let home = declared("image = \"x:1\"\nfrom = \"/srv/gone.tar\"\n");
    let refused = |image: &str, name: &str, says: &str| {
        home.write("etc/wharf/images/x.toml", image);
        home.reload();
        let (code, said) = home.provide(name);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(says), "{said}");
        assert_eq!(home.contents(), Vec::<String>::new());
    };
    refused("image = \"x:1\"\nfrom = \"/srv/gone.tar\"\n", "x", "/srv/gone.tar");
    refused("image = \"x:1\"\nform = \"/srv/x.tar\"\n", "x", "hint: did you mean `from`?");
    refused(LOCAL, "y", "there is no plan for the image y");
    let signed = "image = \"x:1\"\nfrom = \"/srv/x.tar\"\ntrust = \"signed\"\n";
    refused(signed, "x", "there are no keys in ");
    home.write("etc/wharf/wharf.toml", "[trust]\npolicy = \"digest\"\n");
    refused(LOCAL, "x", "team/x:1 is not pinned to a digest");
    home.write("etc/wharf/wharf.toml", "[unpack]\nbytes = 0\n");
    refused(LOCAL, "x", "the settings in wharf.toml have mistakes");
    home.write("etc/wharf/wharf.toml", "[unpack]\nbytes = 1\nentries = 1\n");
    refused(LOCAL, "x", "raise `entries` under [unpack] in wharf.toml");
}
