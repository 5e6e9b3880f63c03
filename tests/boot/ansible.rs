//! A host that Ansible keeps, by the collection in `packaging/ansible` and by Ansible's own modules alone: the playbooks
//! of `examples/ansible`, run by Debian's ansible-core in the machine itself.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::containers::{NGINX, import, property, until};
use super::machine::{Context, Machine, Output, Recipe, Result};
use super::packages::packages;
use super::stage::{On, Stage, Story, Told, install_wharf, project};
use super::trust::{Signer, put};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "Ansible keeps a host, and a second run changes nothing", on: On::Fast, tell: keeps },
    Story {
        name: "each module of the collection does its work once, and Ansible's own will do",
        on: On::FastIfAll,
        tell: single,
    },
    Story { name: "Ansible 2.14 of Debian 12 keeps a host, too", on: On::FastIfAll, tell: older },
];

/// A run of Ansible may compile its modules, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(400);

/// The playbooks, where a person would have them.
const AT: &str = "/root/ansible";

/// How a play ended.
struct Played {
    output: Output,
    changed: u32,
}

/// Runs something of Ansible's, without colours and by its own words. What it has gathered about the host it knows the
/// next time.
fn ansible(machine: &Machine, line: &str) -> Result<Output> {
    let line = format!(
        "cd {AT} && HOME=/root LC_ALL=C.UTF-8 ANSIBLE_NOCOLOR=1 ANSIBLE_PYTHON_INTERPRETER=/usr/bin/python3 \
         ANSIBLE_GATHERING=smart ANSIBLE_CACHE_PLUGIN=jsonfile ANSIBLE_CACHE_PLUGIN_CONNECTION=/root/facts {line}"
    );
    machine.run_for(&line, PATIENCE)
}

fn play(machine: &Machine, arguments: &str) -> Result<Played> {
    let output = ansible(machine, &format!("ansible-playbook -i inventory.ini {arguments}"))?;
    let recap = output.stdout.lines().rev().find(|line| line.contains("changed=")).unwrap_or_default();
    let changed = recap.split_whitespace().find_map(|word| word.strip_prefix("changed=")?.parse().ok());
    Ok(Played { changed: changed.unwrap_or(u32::MAX), output })
}

/// A play that has to end well; how much it has changed, and what it said.
fn played(machine: &Machine, arguments: &str) -> Result<(u32, String)> {
    let Played { output, changed } = play(machine, arguments)?;
    assert_eq!(output.code, 0, "{arguments}: {}{}", output.stdout, output.stderr);
    Ok((changed, output.stdout + &output.stderr))
}

/// A play that has to fail; what it said, with line breaks as such.
fn refused(machine: &Machine, arguments: &str) -> Result<String> {
    let Played { output, .. } = play(machine, arguments)?;
    assert_eq!(output.code, 2, "{arguments}: {}{}", output.stdout, output.stderr);
    Ok((output.stdout + &output.stderr).replace("\\n", "\n").replace("\\\"", "\""))
}

/// A play of these tasks.
fn tasks(machine: &Machine, name: &str, tasks: &str) -> Result<String> {
    let play = format!("- hosts: all\n  gather_facts: false\n  tasks:\n{tasks}");
    machine.write(&format!("{AT}/{name}.yml"), play)?;
    Ok(format!("{name}.yml"))
}

/// How often systemd has reloaded since it booted.
fn reloads(machine: &Machine) -> Result<u32> {
    let count =
        "journalctl --sync; journalctl -q -b -o cat _PID=1 | grep -Ec '^Reloading( finished.*|[.])$' || :";
    Ok(machine.sh(count)?.parse().unwrap_or(u32::MAX))
}

fn page(machine: &Machine) -> Result<String> {
    machine.sh("curl -sS --max-time 5 http://localhost:8080/")
}

fn pids(machine: &Machine) -> Result<[String; 2]> {
    Ok([property(machine, "web", "MainPID")?, property(machine, "hello", "MainPID")?])
}

fn keeps(stage: &mut Stage) -> Told {
    let machine = Machine::boot(stage.kind(), &Recipe::managed())?;
    collection(&machine)?;
    installs(&machine)?;
    site(&machine)?;
    mistakes(&machine)
}

fn single(stage: &mut Stage) -> Told {
    let machine = Machine::boot(stage.kind(), &Recipe::managed())?;
    machine.copy_in(project().join("examples/ansible"), AT)?;
    // The collection is the one that comes with Wharf.
    install_wharf(&machine)?;
    pages(&machine)?;
    tarball(&machine)?;
    image(&machine)?;
    modules(&machine)?;
    supplies(&machine)?;
    plain(&machine)
}

fn older(stage: &mut Stage) -> Told {
    let machine = Machine::boot(stage.kind(), &Recipe::older_managed())?;
    collection(&machine)?;
    let version = ansible(&machine, "ansible --version")?;
    assert!(version.stdout.starts_with("ansible [core 2.14."), "{}{}", version.stdout, version.stderr);
    repository(&machine)?;
    image(&machine)?;
    site(&machine)?;
    supplies(&machine)
}

/// The collection, built and installed as from a server of such, and its pages.
fn collection(machine: &Machine) -> Told {
    machine.copy_in(project().join("examples/ansible"), AT)?;
    machine.copy_in(project().join("packaging/ansible"), "/root/collection")?;
    let made = "ansible-galaxy collection build --output-path /root /root/collection && \
                HOME=/root LC_ALL=C.UTF-8 ansible-galaxy collection install --offline /root/wharf-wharf-*.tar.gz";
    let made = ansible(machine, made)?;
    assert_eq!(made.code, 0, "{}{}", made.stdout, made.stderr);
    pages(machine)
}

/// What Ansible knows of the collection.
fn pages(machine: &Machine) -> Told {
    let listed = ansible(machine, "ansible-galaxy collection list wharf.wharf")?;
    assert!(listed.code == 0 && listed.stdout.contains("0.1.0"), "{}{}", listed.stdout, listed.stderr);
    let modules =
        ["apply", "container", "credential", "files", "host_facts", "image", "network", "settings", "volume"];
    let names = modules.map(|module| format!("wharf.wharf.{module}")).join(" ");
    let pages = ansible(machine, &format!("ansible-doc {names}"))?;
    assert_eq!(
        (pages.code, pages.stdout.matches("EXAMPLES:").count()),
        (0, modules.len()),
        "{}",
        pages.stderr
    );
    let role = ansible(machine, "ansible-doc --type role wharf.wharf.wharf")?;
    assert!(role.stdout.contains("wharf_purge_keys"), "{}{}", role.stdout, role.stderr);
    Ok(())
}

/// Addresses that nobody would choose by chance.
const POOLS: &str = "-e '{\"wharf_pools\": {\"ipv4\": \"10.77.0.0/16\", \"ipv6\": \"fd12:3456::/64\"}}'";

/// The Debian package, in a place of its own.
fn package(machine: &Machine, to: &str) -> Result<()> {
    let all = packages()?;
    let first =
        all.first().ok_or_else(|| std::io::Error::other("there is none")).context(|| "take a package")?;
    machine.copy_in(first, to)
}

/// The role takes Wharf from a repository of packages.
fn repository(machine: &Machine) -> Told {
    package(machine, "/srv/repository/wharf.deb")?;
    machine.sh(
        "cd /srv/repository && { dpkg-deb -f wharf.deb; echo Filename: ./wharf.deb; echo Size: $(stat -c %s wharf.deb); \
         echo SHA256: $(sha256sum <wharf.deb | cut -d' ' -f1); } >Packages && list=/etc/apt/sources.list.d/own.list && \
         echo 'deb [trusted=yes] file:/srv/repository ./' >$list && \
         apt-get -q update -o Dir::Etc::SourceList=$list -o Dir::Etc::SourceParts=-",
    )?;
    let only = role(machine)?;
    let (changed, said) = played(machine, &format!("-e wharf_apply=false {POOLS} {only}"))?;
    assert!(changed > 0, "{said}");
    machine.sh("wharf --version && test -x /usr/libexec/wharf/wharf-executor")?;
    let (changed, said) = played(machine, &format!("-e wharf_apply=false {POOLS} {only}"))?;
    assert_eq!(changed, 0, "{said}");
    Ok(())
}

/// The role takes Wharf from a tarball, over what is there; cut off in the middle, the next run goes on.
fn tarball(machine: &Machine) -> Told {
    let folder = tempfile::tempdir().context(|| "make a directory for a tarball")?;
    let built = Path::new(env!("CARGO_BIN_EXE_wharf")).parent().unwrap_or(Path::new("/"));
    let mut make = Command::new(project().join("packaging/tarball"));
    let done = make.arg("--built").arg(built).arg(folder.path()).output().context(|| "make the tarball")?;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let made = String::from_utf8_lossy(&done.stdout).trim().to_owned();
    machine.copy_in(Path::new(&made), "/srv/wharf.tar.xz")?;
    let only = role(machine)?;
    let install =
        format!("-e wharf_install=tarball -e wharf_source=/srv/wharf.tar.xz -e wharf_apply=false {only}");
    let (changed, said) = played(machine, &format!("--check {install}"))?;
    assert!(changed > 0, "{said}");
    machine
        .sh("cp -p /srv/wharf.tar.xz /var/cache/wharf-ansible.tar; rm /usr/libexec/wharf/wharf-executor")?;
    let (changed, said) = played(machine, &install)?;
    assert!(changed > 0, "{said}");
    machine.sh("test -x /usr/libexec/wharf/wharf-executor && ls /usr/share/wharf/ansible-*")?;
    let (changed, said) = played(machine, &install)?;
    assert_eq!(changed, 0, "{said}");
    // By hand, too, plans are made by the generator that has just come.
    machine.sh(
        "tar -xf /srv/wharf.tar.xz -C /root && rm /run/wharf/findings.json && /root/wharf-*/install && \
         test -e /run/wharf/findings.json && rm -r /root/wharf-*",
    )?;
    Ok(())
}

/// A play of the role alone.
fn role(machine: &Machine) -> Result<String> {
    tasks(machine, "role", "    - ansible.builtin.include_role: { name: wharf.wharf.wharf }\n")
}

/// nginx, under the name that the example has for it.
fn image(machine: &Machine) -> Told {
    import(machine, &NGINX)?;
    machine.sh("wharf image tag nginx:1.26 docker.io/library/nginx:1.27")?;
    Ok(())
}

/// The role installs Wharf: looked at on a bare host first, then done, and done again.
fn installs(machine: &Machine) -> Told {
    let early = "    - wharf.wharf.container: { name: web, spec: { image: x } }\n";
    let said = refused(machine, &tasks(machine, "early", early)?)?;
    assert!(said.contains("there is no program `wharf` on this host"), "{said}");
    package(machine, "/srv/wharf.deb")?;
    let install = "-e wharf_install=deb -e wharf_source=/srv/wharf.deb -e wharf_apply=false";
    let (changed, said) = played(machine, &format!("--check {install} site.yml"))?;
    assert!(changed > 0 && said.contains("wharf isn't installed yet"), "{said}");
    assert_ne!(machine.run("test -e /usr/bin/wharf || test -e /etc/wharf")?.code, 0, "only looked at");
    let only = role(machine)?;
    let (changed, _) = played(machine, &format!("{install} {POOLS} {only}"))?;
    assert!(changed > 0);
    assert_eq!(machine.sh("cat /var/lib/wharf/leases/pools")?, "10.77.0.0/16 fd12:3456::/64");
    let (changed, said) = played(machine, &format!("{install} {POOLS} {only}"))?;
    assert_eq!(changed, 0, "{said}");
    image(machine)
}

/// The example: run twice, changed in one place, looked at before.
fn site(machine: &Machine) -> Told {
    let site = "-e wharf_install=none site.yml";
    let (changed, said) = played(machine, site)?;
    assert!(changed > 0, "{said}");
    // It was ready when the play was over.
    assert_eq!(page(machine)?, "Hello from here.");
    assert!(machine.sh("ip -4 addr")?.contains("10.77."), "addresses are of the pools that were asked for");
    machine.sh("systemctl is-enabled wharf-update.timer && systemctl is-active wharf-update.timer")?;
    let before = (pids(machine)?, reloads(machine)?);
    let (changed, said) = played(machine, site)?;
    assert_eq!((changed, pids(machine)?, reloads(machine)?), (0, before.0.clone(), before.1), "{said}");

    // Looked at: the difference is shown, and nothing is done.
    let other = format!("-e hello_tasks=60 {site}");
    let (changed, said) = played(machine, &format!("--check --diff {other}"))?;
    assert!(changed == 2 && said.contains("-tasks = 50\n+tasks = 60"), "{said}");
    let file = "/etc/wharf/containers/hello.toml";
    assert_eq!(machine.sh(&format!("grep tasks {file}"))?, "tasks = 50");
    // Done: one reload, and only that one is restarted.
    let (changed, said) = played(machine, &other)?;
    assert_eq!(changed, 2, "a file, and what was applied: {said}");
    let after = (pids(machine)?, reloads(machine)?);
    assert_eq!((&after.0[0], after.1), (&before.0[0], before.1 + 1), "{said}");
    assert_ne!(after.0[1], before.0[1]);
    assert_eq!(property(machine, "hello", "TasksMax")?, "60");
    // What it reads has changed, which its file lists.
    let (changed, said) = played(machine, &format!("-e greeting=Hi {other}"))?;
    assert_eq!((changed, page(machine)?.as_str()), (2, "Hi"), "{said}");
    assert_eq!(pids(machine)?[0], before.0[0]);
    Ok(())
}

/// A bad file never lands; one that doesn't work is put back; what was cut off is finished.
fn mistakes(machine: &Machine) -> Told {
    let good = "-e wharf_install=none -e greeting=Hi -e hello_tasks=60";
    let file = "/etc/wharf/containers/hello.toml";
    let before = (machine.sh(&format!("stat -c %i:%Y {file}; cat {file}"))?, pids(machine)?);
    for check in ["", "--check "] {
        let said = refused(machine, &format!("{check}{good} -e 'hello_tasks=\"many\"' site.yml"))?;
        assert!(said.contains("nothing was changed") && !said.contains("last good plan"), "{said}");
        assert!(said.contains(&format!("--> {file}:12:9")) && said.contains("^^^^"), "with a caret: {said}");
    }
    assert_eq!(before, (machine.sh(&format!("stat -c %i:%Y {file}; cat {file}"))?, pids(machine)?));
    assert_eq!(page(machine)?, "Hi");

    // One that starts and isn't well is put back, and the play fails.
    let broken = tasks(
        machine,
        "broken",
        "    - wharf.wharf.container:\n        { name: hello, drop_in: 90-broken, spec: { health: { http: 'http://localhost:81/' } } }\n    \
             - wharf.wharf.apply: { settle: 1s }\n",
    )?;
    machine.write(
        "/etc/systemd/system/hello-container.service.d/10-soon.conf",
        "[Service]\nTimeoutStartSec=6s\n",
    )?;
    let said = refused(machine, &broken)?;
    assert!(
        said.contains("not everything is as the files say") && said.contains("hello: rolled-back"),
        "{said}"
    );
    assert_eq!(page(machine)?, "Hi");
    let web = pids(machine)?[0].clone();
    // It stays so until the files are others. Then it is started once more, as what they say and held back no more.
    assert!(refused(machine, &broken)?.contains("hello: held back"));
    let (changed, said) = played(machine, &format!("{good} -e wharf_purge_drop_ins=true site.yml"))?;
    assert_eq!((changed, &pids(machine)?[0]), (2, &web), "{said}");
    assert_eq!(page(machine)?, "Hi");

    // Files that were written by a run that was cut off before the end: the next one finishes.
    played(machine, &format!("{good} -e hello_tasks=70 -e wharf_apply=false site.yml"))?;
    assert_eq!(property(machine, "hello", "TasksMax")?, "60");
    let (changed, _) = played(machine, &format!("{good} -e hello_tasks=70 site.yml"))?;
    assert_eq!((changed, property(machine, "hello", "TasksMax")?.as_str()), (1, "70"));
    Ok(())
}

/// The modules that the role doesn't show.
fn modules(machine: &Machine) -> Told {
    let site = "-e wharf_install=none -e wharf_purge=true site.yml";
    played(machine, site)?;
    machine.sh(
        "mkdir -p /srv/first && echo before >/srv/first/kept && tar -C /srv/first -cf /srv/first.tar .",
    )?;
    let all = tasks(
        machine,
        "modules",
        r#"    - wharf.wharf.settings:
        spec: { aliases: { short: docker.io/library/short } }
    - wharf.wharf.image:
        name: kept
        spec: { image: "nginx:1.26", pull: never }
    - wharf.wharf.volume: { name: data, src: /srv/first.tar }
    - wharf.wharf.volume: { name: empty, mode: "0750", owner: 33 }
    - wharf.wharf.container:
        name: extra
        mode: "0640"
        spec:
          image: nginx:1.26
          command: [/usr/sbin/nginx, -e, stderr]
          links: [hello]
          mounts: { /data: { volume: data } }
          environment: { TEXT: "a \"word\"\nand another", NUMBER: 5 }
    - wharf.wharf.container:
        name: extra
        drop_in: 10-more
        content: |
          description = "An extra"
    - wharf.wharf.apply: { settle: 1s }
    - wharf.wharf.host_facts:
    - ansible.builtin.assert:
        that:
          - ansible_facts.wharf.installed
          - ansible_facts.wharf.containers.extra.state == 'active'
          - ansible_facts.wharf.changed == []
          - ansible_facts.wharf.findings | selectattr('level', 'equalto', 'error') | list == []
    - ansible.builtin.setup: { gather_subset: ["!all", local] }
    - ansible.builtin.assert:
        that:
          - ansible_facts.ansible_local.wharf.version == ansible_facts.wharf.version
          - ansible_facts.ansible_local.wharf.containers | length == 3
"#,
    )?;
    let (changed, said) = played(machine, &all)?;
    assert_eq!(changed, 7, "{said}");
    assert_eq!(machine.sh("stat -c %a /etc/wharf/containers/extra.toml")?, "640");
    assert_eq!(machine.sh("stat -c %a:%u /var/lib/wharf/volumes/empty")?, "750:33");
    assert_eq!(machine.sh("wharf exec extra cat /data/kept")?, "before");
    assert_eq!(property(machine, "extra", "Description")?, "An extra");
    assert_eq!(machine.sh("wharf exec extra sh -c 'echo \"$TEXT $NUMBER\"'")?, "a \"word\"\nand another 5");
    let (changed, said) = played(machine, &all)?;
    assert_eq!(changed, 0, "{said}");

    let refusals = [
        ("container: { name: lost, spec: { image: x, links: [nobody] } }", "containers/lost.toml:"),
        ("container: { name: x/../y, spec: { image: x } }", "can't be the name of a file"),
        ("container: { name: hello, state: absent }", "/etc/wharf/containers/extra.toml:"),
        (
            "container: { name: odd, spec: { image: x, command: [1, null] } }",
            "command[1]: there is no nothing",
        ),
        ("network: { ipv4: 10.78.0.0/16, ipv6: 'fd12:3456::/64' }", "containers have addresses of that"),
        ("volume: { name: data, state: absent }", "extra is running with it"),
        ("volume: { name: new, mode: rwx }", "is no mode"),
        ("volume: { name: new, src: /srv/first }", "is a folder, and no tar"),
        ("container: { name: empty, content: '' }", "make it a link to /dev/null"),
        ("settings: { spec: { trust: { policy: sometimes } } }", "/etc/wharf/wharf.toml:"),
    ];
    for (task, says) in refusals {
        let play = tasks(machine, "refused", &format!("    - wharf.wharf.{task}\n"))?;
        let said = refused(machine, &play)?;
        assert!(said.contains(says), "{task}: {said}");
    }
    assert_eq!(machine.sh("ls /etc/wharf/containers")?, "extra.toml\nextra.toml.d\nhello.toml\nweb.toml");

    // Looked at, another task may still make way, or bring what is missing.
    let looked = "    - wharf.wharf.volume: { name: data, state: absent }\n    - wharf.wharf.volume: { name: new, src: /srv/later.tar }\n";
    let (changed, said) = played(machine, &format!("--check {}", tasks(machine, "looked", looked)?))?;
    assert!(
        changed == 2 && said.contains("would refuse this now") && said.contains("there is no /srv/later.tar"),
        "{said}"
    );

    // The mode alone, and a copy of what was there, which nobody takes for a container.
    let other = "    - wharf.wharf.container: { name: extra, drop_in: 10-more, content: \"description = 'Two'\", mode: '0600', backup: true }\n";
    let other = tasks(machine, "other", other)?;
    assert_eq!(played(machine, &format!("--check {other}"))?.0, 1);
    assert_eq!(played(machine, &other)?.0, 1);
    assert_eq!(played(machine, &other)?.0, 0);
    let drop_ins = "/etc/wharf/containers/extra.toml.d";
    assert_eq!(
        machine.sh(&format!("stat -c %a {drop_ins}/10-more.toml; cat {drop_ins}/*~"))?,
        "600\ndescription = \"An extra\""
    );
    machine.sh(&format!("chmod 644 {drop_ins}/10-more.toml; ! wharf check | grep 'not read'"))?;
    let (changed, said) = played(machine, &format!("--diff {other}"))?;
    assert!(changed == 1 && said.contains("0600"), "{said}");
    machine.sh(&format!("rm {drop_ins}/*~"))?;

    // What is listed nowhere goes, and is stopped; its volume may go then.
    let (changed, said) = played(machine, &format!("--diff {site}"))?;
    assert!(changed == 2 && said.contains("-description = 'Two'"), "{said}");
    assert_ne!(machine.run("systemctl is-active extra-container")?.code, 0);
    let gone = tasks(
        machine,
        "gone",
        "    - wharf.wharf.volume: { name: data, state: absent }\n    - wharf.wharf.settings: { state: absent }\n",
    )?;
    assert_eq!(played(machine, &format!("--check {gone}"))?.0, 2);
    assert_eq!(played(machine, &gone)?.0, 2);
    assert_eq!(played(machine, &gone)?.0, 0);
    assert_eq!(machine.sh("ls -A /var/lib/wharf/volumes | grep -v '^[.]'")?, "empty");
    assert_eq!(page(machine)?, "Hello from here.");
    Ok(())
}

/// What a fleet has besides files: an image as a folder of a web server's, taken by its digest and by who has signed it;
/// and secrets, which nobody sees.
fn supplies(machine: &Machine) -> Told {
    // One that isn't in the store, nor anything with its digest.
    machine.sh(
        "wharf run --detach --name build --network none --ephemeral nginx:1.26 /bin/sleep infinity && \
         wharf exec build touch /made && \
         wharf commit build made:1 --command /usr/sbin/nginx --command -e --command stderr && \
         systemctl stop build-container && mkdir -p /srv/www/web && \
         wharf image save made:1 | tar -C /srv/www/web -xf - && wharf image remove made:1 && wharf image prune && \
         systemd-run -q --unit=www python3 -m http.server --bind 127.0.0.1 --directory /srv/www 8000",
    )?;
    let digest = "import json; print(json.load(open('/srv/www/web/index.json'))['manifests'][0]['digest'])";
    let digest = machine.sh(&format!("python3 -c \"{digest}\""))?;
    let signer = Signer::new(&[])?;
    let payload = format!(
        "{{\"critical\":{{\"identity\":{{\"docker-reference\":\"registry.example/web:1\"}},\"image\":\
         {{\"docker-manifest-digest\":\"{digest}\"}},\"type\":\"atomic container signature\"}},\"optional\":{{}}}}"
    );
    let place = format!("/srv/signatures/web@{}/signature-1", digest.replace(':', "="));
    put(machine, &place, signer.gpg(&["--sign"], payload.as_bytes())?)?;
    put(machine, &format!("{AT}/ops.gpg"), signer.gpg(&["--export"], b"")?)?;
    put(machine, "/etc/wharf/keys/old.gpg", Signer::new(&[])?.gpg(&["--export"], b"")?)?;
    let vars = format!(
        r#"wharf_install: none
wharf_settle: 1s
wharf_purge_keys: true
wharf_encrypt_credentials: true
wharf_credentials: {{ word: "open sesame" }}
wharf_settings:
  trust: {{ rules: {{ registry.example: {{ policy: signed }} }} }}
  registries:
    registry.example: {{ signatures: /srv/signatures }}
    "127.0.0.1:8000": {{ insecure: true }}
wharf_images:
  web: {{ image: "registry.example/web:1", from: "http://127.0.0.1:8000/web/", digest: "{digest}" }}
wharf_containers:
  signed: {{ image: "registry.example/web:1", network: none }}
"#
    );
    machine.write(&format!("{AT}/supplies-vars.yml"), vars)?;
    let only = format!("-e @supplies-vars.yml {}", role(machine)?);
    let said = refused(machine, &only)?;
    assert!(said.contains("signed: ") && said.contains("registry.example/web"), "{said}");
    assert_ne!(machine.run("systemctl is-active signed-container")?.code, 0);
    assert_eq!(machine.sh("ls /etc/wharf/keys")?, "", "only keys that are listed count");

    let only = format!("-e '{{\"wharf_keys\": {{\"ops.gpg\": \"{AT}/ops.gpg\"}}}}' {only}");
    let (changed, said) = played(machine, &format!("-vvv --diff {only}"))?;
    assert!(changed == 2 && !said.contains("open sesame"), "a key, and what it lets run: {said}");
    assert_eq!(machine.sh("ls /etc/wharf/keys; systemctl is-active signed-container")?, "ops.gpg\nactive");
    let (changed, said) = played(machine, &only)?;
    assert_eq!(changed, 0, "{said}");

    let word = "systemd-run -q --wait --pipe -p LoadCredentialEncrypted=word sh -c 'cat \"$CREDENTIALS_DIRECTORY/word\"'";
    assert_eq!(machine.sh(word)?, "open sesame");
    let (changed, said) = played(
        machine,
        &format!("-v --diff {only} -e '{{\"wharf_credentials\": {{\"word\": \"hush now\"}}}}'"),
    )?;
    assert!(changed == 1 && said.contains("+another value") && !said.contains("hush now"), "{said}");
    assert_eq!(machine.sh(word)?, "hush now");

    machine.sh(
        "systemctl stop www; rm -r /srv/www /srv/signatures /etc/wharf/{wharf,images/web,containers/signed}.toml && \
         systemctl daemon-reload && systemctl stop signed-container",
    )?;
    Ok(())
}

/// Ansible's own modules, as anybody would use them.
fn plain(machine: &Machine) -> Told {
    machine.sh("rm -r /etc/wharf/containers/*.toml && wharf apply")?;
    until(machine, "! systemctl is-active -q hello-container")?;
    let (changed, said) = played(machine, "plain.yml")?;
    assert!(changed > 0, "{said}");
    machine.sh("wharf exec hello true")?;
    let pid = property(machine, "hello", "MainPID")?;
    let (changed, said) = played(machine, "plain.yml")?;
    assert_eq!((changed, property(machine, "hello", "MainPID")?), (0, pid.clone()), "{said}");
    let said = refused(machine, "-e 'hello_tasks=\"many\"' plain.yml")?;
    assert!(said.contains("/etc/wharf/containers/hello.toml:12:"), "{said}");
    assert_eq!(property(machine, "hello", "MainPID")?, pid);
    let (_, said) = played(machine, "-e hello_tasks=80 plain.yml")?;
    assert_eq!(property(machine, "hello", "TasksMax")?, "80", "{said}");
    assert_ne!(property(machine, "hello", "MainPID")?, pid);
    Ok(())
}
