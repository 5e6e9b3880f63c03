//! Three hosts and who keeps them, over ssh, by `examples/fleet`: machines that are joined by cables.

use std::time::Duration;

use super::containers::{NGINX, import};
use super::machine::{Kind, Machine, Output, Recipe, Result};
use super::packages::packages;
use super::stage::{On, Stage, Story, Told, install_wharf, project};

/// The stories of this module.
pub const STORIES: &[Story] = &[Story {
    name: "a fleet is rolled forward host by host, and a bad version stops at the first",
    on: On::FastIfAll,
    tell: fleet,
}];

/// A play goes over three hosts, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(580);

/// What its page has a person type.
const PAGE: &str = include_str!("../../examples/fleet/README.md");

/// The block of commands there that has these words.
fn typed(words: &str) -> &'static str {
    let blocks = PAGE.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks
        .into_iter()
        .find(|block| block.contains(words))
        .unwrap_or_else(|| panic!("the page has no {words}"))
}

/// The example, where a person would have it.
const AT: &str = "/root/fleet";

/// The hosts, and the last parts of their addresses: as in the example's inventory.
const HOSTS: [(&str, u32); 3] = [("one", 11), ("two", 12), ("three", 13)];

/// Who keeps them, and they.
struct Fleet {
    keeper: Machine,
    hosts: Vec<Machine>,
}

/// What a play came to.
struct Played {
    output: Output,
    /// Of each host in the order of [`HOSTS`]; nothing where the recap doesn't have it.
    changed: Vec<Option<u32>>,
}

impl Played {
    fn said(&self) -> String {
        format!("{}{}", self.output.stdout, self.output.stderr).replace("\\n", "\n")
    }
}

impl Fleet {
    /// Four machines in one network, of which one may log in at the others.
    fn new() -> Result<Fleet> {
        let keeper = Machine::boot(Kind::Fast, &Recipe::keeper())?;
        let names: String = HOSTS.iter().map(|(name, last)| format!("192.0.2.{last} {name}\n")).collect();
        keeper.sh(&format!(
            "ip link add fleet type bridge && ip addr add 192.0.2.1/24 dev fleet && ip link set fleet up; \
             echo '{names}' >>/etc/hosts; mkdir -p -m 700 /root/.ssh; ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519"
        ))?;
        let key = keeper.sh("cat /root/.ssh/id_ed25519.pub")?;
        let mut hosts = Vec::new();
        for (name, _) in HOSTS {
            // One will be without power, and then without what it had not written yet.
            let host = match name {
                "two" => Machine::strict(Kind::Fast, &Recipe::kept())?,
                _ => Machine::boot(Kind::Fast, &Recipe::kept())?,
            };
            host.sh(&format!("mkdir -p -m 700 /root/.ssh; echo '{key}' >/root/.ssh/authorized_keys"))?;
            hosts.push(host);
        }
        let fleet = Fleet { keeper, hosts };
        for at in 0..HOSTS.len() {
            fleet.plug(at)?;
        }
        fleet
            .keeper
            .sh("ssh-keyscan -T 20 192.0.2.11 192.0.2.12 192.0.2.13 >/root/.ssh/known_hosts 2>/dev/null")?;
        Ok(fleet)
    }

    /// A host into the network, as after each time that it was switched on.
    fn plug(&self, at: usize) -> Result<()> {
        let (name, last) = HOSTS[at];
        let (port, host) = (format!("to-{name}"), &self.hosts[at]);
        self.keeper.run(&format!("ip link del {port} 2>/dev/null"))?;
        self.keeper.cable(&port, host, "lan0")?;
        host.sh(&format!("ip addr add 192.0.2.{last}/24 dev lan0 && ip link set lan0 up"))?;
        self.keeper.sh(&format!("ip link set {port} master fleet up"))?;
        // Not before systemd has it, which is after the boot.
        host.sh("systemctl start ssh")?;
        Ok(())
    }

    fn ansible(&self, line: &str) -> Result<Output> {
        let line = format!("cd {AT} && HOME=/root LC_ALL=C.UTF-8 ANSIBLE_NOCOLOR=1 {line}");
        self.keeper.run_for(&line, PATIENCE)
    }

    fn play(&self, arguments: &str) -> Result<Played> {
        let output = self.ansible(&format!("ansible-playbook {arguments} site.yml"))?;
        let recap = output.stdout.split("PLAY RECAP").nth(1).unwrap_or_default();
        let changed = HOSTS.map(|(name, _)| {
            let line = recap.lines().find(|line| line.split_whitespace().next() == Some(name))?;
            line.split_whitespace().find_map(|word| word.strip_prefix("changed=")?.parse().ok())
        });
        Ok(Played { output, changed: changed.into() })
    }

    fn played(&self, arguments: &str) -> Result<Played> {
        let played = self.play(arguments)?;
        assert_eq!(played.output.code, 0, "{}", played.said());
        Ok(played)
    }

    /// What each host serves itself, `-` where it doesn't.
    fn versions(&self) -> Result<Vec<String>> {
        let page = |last: u32| {
            format!(
                "curl -s --max-time 5 --cacert {AT}/web.crt --resolve web.fleet.example:8443:192.0.2.{last} \
                 https://web.fleet.example:8443/ || echo -"
            )
        };
        HOSTS.iter().map(|(_, last)| self.keeper.sh(&page(*last))).collect()
    }

    /// The main processes of what runs on each host.
    fn processes(&self) -> Result<Vec<String>> {
        let line = "for name in web images front; do systemctl show -P MainPID $name-container; done | xargs";
        self.hosts.iter().map(|host| host.sh(line)).collect()
    }

    /// Makes a version of web as the page does. One that isn't whole lacks what its health is told by.
    fn make(&self, version: &str, whole: bool) -> Told {
        let mut lines = typed("wharf commit")
            .replace("version 1", &format!("version {version}"))
            .replace("web:1", &format!("web:{version}"));
        if !whole {
            lines = lines.replace(" && echo ok >healthz", "");
        }
        self.keeper.sh(&format!("set -e; cd {AT}; rm -f nginx.tar\n{lines}"))?;
        Ok(())
    }

    /// Signs it, and has it ready to be rolled out.
    fn publish(&self, version: &str) -> Told {
        let output = self.ansible(&format!("./publish web:{version}"))?;
        assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
        Ok(())
    }

    /// Asks the front ten times a second until it is told to end.
    fn load(&self) -> Result<()> {
        self.keeper.write(
            "/root/load",
            "while [ ! -e /root/enough ]; do \
                 curl -s -o /dev/null --max-time 5 -w '%{http_code}\\n' http://192.0.2.11:8080/ >>/root/answers & sleep .1; \
             done; wait\n",
        )?;
        self.keeper.sh("rm -f /root/enough /root/answers; systemd-run -q --unit load bash /root/load")?;
        Ok(())
    }

    /// How many requests were answered since, and how many weren't.
    fn answers(&self) -> Result<(u32, u32)> {
        self.keeper.sh("touch /root/enough; while systemctl is-active -q load; do sleep .1; done")?;
        let count = |which: &str| self.keeper.sh(&format!("grep -c {which} ^200$ /root/answers || :"));
        let number = |text: String| text.parse().unwrap_or(u32::MAX);
        Ok((number(count("-e")?), number(count("-ve")?)))
    }
}

fn fleet(_: &mut Stage) -> Told {
    let mut fleet = Fleet::new()?;
    prepare(&fleet)?;
    first(&fleet)?;
    forward(&fleet)?;
    canary(&fleet)?;
    cut_off(&mut fleet)
}

/// What the example's page has a person do once.
fn prepare(fleet: &Fleet) -> Told {
    let Fleet { keeper, .. } = fleet;
    keeper.copy_in(project().join("examples/fleet"), AT)?;
    keeper.copy_in(project().join("packaging/ansible"), "/root/collection")?;
    install_wharf(keeper)?;
    keeper.copy_in(&packages()?[0], &format!("{AT}/wharf_0.1.0_amd64.deb"))?;
    import(keeper, &NGINX)?;
    keeper.sh(
        "gpg --batch -q --passphrase '' --quick-gen-key you@example.org ed25519 sign never 2>/dev/null; \
         echo of the vault >/root/fleet/vault-password",
    )?;
    let collection = "ansible-galaxy collection build --output-path /root /root/collection && \
                      ansible-galaxy collection install --offline /root/wharf-wharf-*.tar.gz";
    let output = fleet.ansible(&format!("{collection}\n{}", typed("./secrets")))?;
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    assert!(keeper.sh(&format!("head -n1 {AT}/group_vars/web/vault.yml"))?.starts_with("$ANSIBLE_VAULT;"));
    for (version, whole) in [("1", true), ("2", true), ("3", false), ("4", true)] {
        fleet.make(version, whole)?;
    }
    Ok(())
}

fn first(fleet: &Fleet) -> Told {
    fleet.publish("1")?;
    let played = fleet.played("")?;
    assert!(played.changed.iter().all(|changed| changed.is_some_and(|count| count > 0)), "{}", played.said());
    assert_eq!(fleet.versions()?, ["version 1"; 3]);
    assert!(!played.said().contains("PRIVATE KEY"), "{}", played.said());
    let before = fleet.processes()?;
    for arguments in ["", "--check --diff"] {
        let played = fleet.played(arguments)?;
        assert_eq!(played.changed, [Some(0); 3], "{}", played.said());
        assert_eq!(fleet.processes()?, before);
    }
    let secret = fleet.ansible("ansible-vault view group_vars/web/vault.yml | sed -n 3p")?.stdout;
    let secret = secret.trim();
    assert!(secret.len() > 30, "{secret}");
    for host in &fleet.hosts {
        // What signs and what is secret: neither is anywhere but where it belongs.
        host.sh("wharf image verify 192.0.2.11:8081/web:1")?;
        assert_eq!(
            host.run(&format!(
                "grep -rqsF '{secret}' /etc/wharf /run/systemd /run/wharf /var/lib/wharf /srv"
            ))?
            .code,
            1
        );
        assert_eq!(host.sh("stat -c %a /etc/credstore /etc/credstore/web-tls-key | xargs")?, "700 600");
    }
    assert_eq!(fleet.hosts[1].sh("systemctl show -P MemoryMax web-container")?, (128 << 20).to_string());

    // An image that nobody signed doesn't get anywhere, with the right digest or not.
    fleet
        .keeper
        .sh(&format!("mv {AT}/public/signatures /root/signatures && cp -r {AT}/group_vars /root/before"))?;
    fleet.publish("2")?;
    fleet.keeper.sh(&format!("rm -r {AT}/public/signatures && mkdir {AT}/public/signatures"))?;
    let refused = fleet.play("")?;
    assert!(refused.output.code == 2 && refused.said().contains("signature"), "{}", refused.said());
    assert_eq!(fleet.versions()?, ["version 1"; 3]);
    fleet.keeper.sh(&format!(
        "rm -r {AT}/public/signatures {AT}/group_vars && mv /root/signatures {AT}/public/ && mv /root/before {AT}/group_vars"
    ))?;
    let healed = fleet.played("")?;
    assert_eq!(&healed.changed[1..], [Some(0), Some(0)], "{}", healed.said());
    assert_eq!(fleet.processes()?, before);
    Ok(())
}

/// A good version, host by host, while requests come in.
fn forward(fleet: &Fleet) -> Told {
    let before = fleet.processes()?;
    fleet.publish("2")?;
    // What would change is shown, and stays as it is.
    let shown = fleet.played("--check --diff")?;
    let adds = |line: &&str| line.starts_with("+description") && line.contains("version 2");
    assert_eq!(shown.said().lines().filter(adds).count(), HOSTS.len(), "{}", shown.said());
    assert_eq!((fleet.versions()?, fleet.processes()?), (vec!["version 1".to_owned(); 3], before.clone()));
    fleet.load()?;
    let played = fleet.played("")?;
    let (answered, lost) = fleet.answers()?;
    println!("    rolled forward under 10 requests a second: {answered} answered, {lost} lost");
    assert_eq!(fleet.versions()?, ["version 2"; 3]);
    let after = fleet.processes()?;
    let [_, images, front] = parts(&before[0]);
    assert_eq!(parts(&after[0])[1..], [images, front], "only web is restarted: {}", played.said());
    assert!(answered > 50, "{answered} of {}", answered + lost);
    // The front asks another host where one restarts.
    assert!(lost * 100 <= answered, "{lost} lost, {answered} answered");
    Ok(())
}

fn parts(pids: &str) -> [&str; 3] {
    let mut words = pids.split_whitespace();
    [(); 3].map(|()| words.next().unwrap_or_default())
}

/// A version that never gets healthy stops at the first host, which has the old one back.
fn canary(fleet: &Fleet) -> Told {
    let before = fleet.processes()?;
    fleet.publish("3")?;
    fleet.load()?;
    let failed = fleet.play("")?;
    let (answered, lost) = fleet.answers()?;
    println!("    a canary that fails under 10 requests a second: {answered} answered, {lost} lost");
    assert_eq!(failed.output.code, 2, "{}", failed.said());
    assert!(failed.said().contains("web: rolled-back"), "{}", failed.said());
    assert_eq!(fleet.versions()?, ["version 2"; 3]);
    assert_eq!(fleet.processes()?[1..], before[1..], "no other host was touched");
    for host in &fleet.hosts[1..] {
        assert_eq!(host.run("grep -rq web:3 /etc/wharf")?.code, 1);
    }
    assert!(lost * 100 <= answered, "{lost} lost, {answered} answered");
    // Back to the good one, and all is as before.
    fleet.publish("2")?;
    let healed = fleet.played("")?;
    assert_eq!(
        (&healed.changed[1..], fleet.versions()?),
        (&[Some(0), Some(0)][..], vec!["version 2".to_owned(); 3])
    );
    Ok(())
}

/// A host loses power while it is its turn; the others go on, and the next run finishes.
fn cut_off(fleet: &mut Fleet) -> Told {
    fleet.publish("4")?;
    let play =
        format!("cd {AT} && HOME=/root LC_ALL=C.UTF-8 ansible-playbook -T 10 site.yml >/root/play.log 2>&1");
    fleet.load()?;
    fleet.keeper.sh(&format!("systemd-run -q --unit play bash -c '{play}'"))?;
    let turn = "for i in $(seq 3000); do grep -q web:4 /etc/wharf/containers/web.toml && exit; sleep .1; done; exit 1";
    fleet.hosts[1].run_for(turn, PATIENCE)?;
    fleet.hosts[1].power_cut()?;
    fleet.keeper.run_for("while systemctl is-active -q play; do sleep .2; done", PATIENCE)?;
    let said = fleet.keeper.sh("cat /root/play.log")?;
    assert!(said.contains("unreachable=1"), "{said}");
    let (answered, lost) = fleet.answers()?;
    println!("    a host without power under 10 requests a second: {answered} answered, {lost} lost");
    assert!(answered > 50, "{answered} answered, {lost} lost");
    let served = fleet.versions()?;
    // It was the second's turn, and so the first's no more.
    assert_eq!(served[..2], ["version 4", "-"], "{said}");
    assert!(["version 2", "version 4"].contains(&served[2].as_str()), "{served:?}: {said}");
    fleet.hosts[1].boot_again()?;
    fleet.plug(1)?;
    let healed = fleet.played("")?;
    assert_eq!(fleet.versions()?, ["version 4"; 3], "{}", healed.said());
    assert_eq!(fleet.played("")?.changed, [Some(0); 3]);
    Ok(())
}
