//! What administrators do by habit: templates, drop-ins, masks, volumes, limits; and a look around from inside.

use std::collections::BTreeMap;

use super::containers::{DEBIAN, declare, forget, log, once, property, run_once, until, with};
use super::machine::{Machine, Result};
use super::stage::{Feature, On, Stage, Story, Told};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "templates have instances", on: On::Fast, tell: templates },
    Story { name: "drop-ins, masks, enable and disable", on: On::Fast, tell: files },
    Story { name: "environment files are read at each start", on: On::Fast, tell: environment },
    Story { name: "volumes begin as the image and are kept", on: On::Fast, tell: volumes },
    Story { name: "roots refuse, forget, or are a folder", on: On::Fast, tell: roots },
    Story { name: "the least privilege is the default", on: On::Fast, tell: inside },
    Story { name: "limits are the unit's", on: On::Both, tell: limits },
    Story { name: "a hog is killed at its limit", on: On::Both, tell: hog },
    Story { name: "wharf ps says what systemd says", on: On::Fast, tell: ps },
    Story { name: "wharf inspect says what was asked and what is in force", on: On::Fast, tell: inspect },
];

/// A container that says something and stays until it is told to end.
const STAYS: &str = "image = 'debian:13'\nnetwork = 'none'\nautostart = false\n";

fn says(what: &str) -> String {
    format!("{STAYS}command = ['/bin/bash', '-c', 'echo {what}; trap exit TERM; sleep infinity & wait']\n")
}

/// What it has said, once it has.
fn heard(machine: &Machine, name: &str, words: &str) -> Result<()> {
    until(
        machine,
        &format!(
            "journalctl --sync && journalctl -q -o cat _SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID '{name}') | grep -qxF '{words}'"
        ),
    )
}

fn templates(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    machine.sh("mkdir -p /srv/web/blue /srv/web/green")?;
    let file =
        says("I am %i, $(cat /web/name)") + "environment.COLOUR = '%i'\nmounts.'/web'.bind = '/srv/web/%i'\n";
    declare(machine, "web@", &file)?;
    for colour in ["blue", "green"] {
        machine.sh(&format!(
            "echo {colour} web >/srv/web/{colour}/name; systemctl start web-container@{colour}"
        ))?;
        heard(machine, &format!("web-container@{colour}"), &format!("I am {colour}, {colour} web"))?;
    }
    let leases = machine.sh("cat /var/lib/wharf/leases/ids/web@*| sort -u | wc -l")?;
    assert_eq!(leases, "2", "each instance has its own range");
    let ps = machine.sh("wharf ps")?;
    assert!(ps.contains("web@blue") && ps.contains("web@green"), "{ps}");
    // A template itself can't be started, and systemd says so.
    assert_ne!(machine.run("systemctl start web-container@")?.code, 0);
    machine.sh(
        "systemctl stop web-container@blue web-container@green; rm /etc/wharf/containers/web@.toml; rm -r /srv/web; systemctl daemon-reload",
    )?;
    Ok(())
}

fn files(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    let declared = |name: &str| -> Result<bool> {
        Ok(machine.sh(&format!("systemctl show -P LoadState {name}-container"))? == "loaded")
    };
    machine.write("/usr/lib/wharf/containers/vendor.toml", says("$WHO"))?;
    machine.write("/usr/lib/wharf/containers/vendor.toml.d/10-who.toml", "environment.WHO = 'vendor'\n")?;
    machine.sh("systemctl daemon-reload; systemctl start vendor-container")?;
    heard(machine, "vendor-container", "vendor")?;
    // One for all, one of its own, which is stronger by its place and name.
    machine.write("/etc/wharf/containers/container.toml.d/20-all.toml", "environment.WHO = 'all'\n")?;
    machine.sh("systemctl daemon-reload; systemctl restart vendor-container")?;
    let for_all = log(machine, "vendor")?;
    machine.write("/etc/wharf/containers/vendor.toml.d/30-who.toml", "environment.WHO = 'etc'\n")?;
    machine.sh("systemctl daemon-reload; systemctl restart vendor-container")?;
    heard(machine, "vendor-container", "etc")?;
    assert!(["vendor", "all"].contains(&for_all.as_str()), "{for_all}");

    assert!(declared("vendor")?);
    machine.sh("systemctl stop vendor-container; ln -s /dev/null /etc/wharf/containers/vendor.toml; systemctl daemon-reload")?;
    assert!(!declared("vendor")?, "masked by a link to /dev/null");
    machine.sh("rm /etc/wharf/containers/vendor.toml; touch /etc/wharf/containers/vendor.toml; systemctl daemon-reload")?;
    assert!(!declared("vendor")?, "masked by an empty file");
    machine.sh("rm -r /etc/wharf/containers/vendor.toml* /etc/wharf/containers/container.toml.d; systemctl daemon-reload")?;
    assert!(declared("vendor")?);
    machine.sh("rm -r /usr/lib/wharf; systemctl daemon-reload")?;

    let wanted = "test -e /run/systemd/generator/multi-user.target.wants/page-container.service";
    declare(machine, "page", &says("page"))?;
    assert_ne!(machine.run(wanted)?.code, 0);
    machine.sh("wharf enable page; systemctl daemon-reload")?;
    assert_eq!(machine.run(wanted)?.code, 0);
    machine.reboot()?;
    assert_eq!(property(machine, "page", "ActiveState")?, "active", "enabled, it is there after a reboot");
    machine.sh("wharf disable page; systemctl daemon-reload")?;
    assert_ne!(machine.run(wanted)?.code, 0);
    forget(machine, &["page"])?;
    Ok(())
}

fn environment(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    machine.write("/etc/default/web", "# a comment\nFIRST=file\nSECOND=\"file\"\nTHIRD=file\n")?;
    let more = "environment-files = ['/etc/default/web', '-/etc/default/nothing']\nenvironment.SECOND = 'table'\nnetwork = 'none'\n";
    assert_eq!(once(machine, more, "echo $FIRST $SECOND $THIRD")?, "file table file");
    machine.sh("sed -i s/THIRD=file/THIRD=changed/ /etc/default/web")?;
    assert_eq!(once(machine, more, "echo $FIRST $SECOND $THIRD")?, "file table changed");
    // A missing one without a `-` keeps it from starting, and is named.
    declare(
        machine,
        "once",
        &(says("x") + "restart = 'no'\nenvironment-files = ['/etc/default/nothing']\n"),
    )?;
    assert_ne!(machine.run("systemctl start once-container")?.code, 0);
    assert!(property(machine, "once", "StatusText")?.contains("/etc/default/nothing"));
    forget(machine, &["once"])?;
    machine.sh("rm /etc/default/web")?;
    Ok(())
}

fn volumes(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    let more = "network = 'none'\nmounts.'/etc/apt'.volume = 'kept'\nmounts.'/new'.volume = 'new'\n";
    let first = once(
        machine,
        more,
        "ls /etc/apt | sort | head -n 2 | xargs; ls -A /new | wc -l; echo mine >/etc/apt/mine; stat -c %u:%g /etc/apt/mine",
    )?;
    assert_eq!(
        first,
        "apt.conf.d\nauth.conf.d\n0\n0:0".replace("apt.conf.d\nauth.conf.d", "apt.conf.d auth.conf.d")
    );
    let path = "/var/lib/wharf/volumes/kept/mine";
    assert_eq!(
        machine.sh(&format!("stat -c %u:%g {path}; cat {path}"))?,
        "0:0\nmine",
        "ids inside are ids on disk"
    );
    assert_eq!(once(machine, more, "cat /etc/apt/mine; rm -r /etc/apt/apt.conf.d")?, "mine");
    assert_eq!(once(machine, more, "ls /etc/apt/apt.conf.d 2>/dev/null | wc -l")?, "0", "filled once only");
    let read_only =
        more.replace("mounts.'/new'.volume = 'new'", "mounts.'/new' = { volume = 'new', read-only = true }");
    assert_eq!(once(machine, &read_only, "touch /new/x 2>/dev/null || echo refused")?, "refused");
    machine.sh("rm -r /var/lib/wharf/volumes/{kept,new}")?;
    Ok(())
}

fn roots(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    let none = "network = 'none'\n";
    let writes = "for f in /usr/x /etc/x /x /tmp/x /run/x /var/tmp/x /dev/shm/x; do (echo >$f) 2>/dev/null && echo $f; done; cat /etc/hostname";
    assert_eq!(once(machine, none, writes)?, "/tmp/x\n/run/x\n/var/tmp/x\n/dev/shm/x\nonce");
    let ephemeral = "network = 'none'\nroot = 'ephemeral'\nhostname = 'other.example'\n";
    let there = "ls /usr/x 2>/dev/null; echo >/usr/x && ls /usr/x; uname -n";
    assert_eq!(once(machine, ephemeral, there)?, "/usr/x\nother.example");
    assert_eq!(once(machine, ephemeral, there)?, "/usr/x\nother.example", "it has forgotten");
    assert_eq!(
        machine.sh("ls /var/lib/wharf/layers/*/tree/usr/x 2>/dev/null || :")?,
        "",
        "nothing reached the store"
    );
    let sized = "network = 'none'\nmounts.'/cache' = { tmpfs = '4M', mode = '0700' }\n";
    assert_eq!(
        once(
            machine,
            sized,
            "stat -c %a /cache; df --output=size -k /cache | tail -n 1 | xargs; head -c 5M /dev/zero 2>/dev/null >/cache/x || stat -c %s /cache/x"
        )?,
        "700\n4096\n4194304"
    );
    // A folder as root: the image's own tree will do.
    machine
        .sh("layer=$(wharf image inspect debian:13 | grep -o 'layer *sha256:[0-9a-f]*' | cut -d: -f2); \
         cp -a /var/lib/wharf/layers/$layer/tree /srv/rootfs; echo folder >/srv/rootfs/etc/which")?;
    let file = "rootfs = '/srv/rootfs'\nnetwork = 'none'\nrestart = 'no'\nautostart = false\ncommand = ['/bin/sh', '-c', 'cat /etc/which; id -u; touch /etc/x || echo refused']\n";
    let said = run_once(machine, "folder", file)?;
    assert!(said.starts_with("folder\n0\n") && said.ends_with("refused"), "{said}");
    machine.sh("rm -rf /srv/rootfs")?;
    Ok(())
}

fn inside(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    let none = "network = 'none'\n";
    let status = once(machine, none, "cat /proc/self/status")?;
    let status: BTreeMap<&str, &str> = status
        .lines()
        .filter_map(|line| line.split_once(":\t"))
        .map(|(key, value)| (key, value.trim()))
        .collect();
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, SETFCAP
    let eleven = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31].iter().fold(0_u64, |set, bit| set | 1 << bit);
    let eleven = format!("{eleven:016x}");
    for (key, value) in [
        ("CapInh", "0000000000000000"),
        ("CapPrm", &eleven),
        ("CapEff", &eleven),
        ("CapBnd", &eleven),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        assert_eq!(status.get(key), Some(&value), "{key}");
    }
    // Another user has none of them.
    let status = once(
        machine,
        "network = 'none'\nuser = 'www-data'\n",
        "grep -E '^Cap(Prm|Eff|Amb)' /proc/self/status | cut -f2 | sort -u; id -un; echo $HOME",
    )?;
    assert_eq!(status, "0000000000000000\nwww-data\n/var/www");

    let mounts = once(machine, none, "cut -d' ' -f4,5 /proc/self/mountinfo; cat /proc/self/mountinfo")?;
    for words in ["/var/lib/wharf", "/run/wharf", "/etc/wharf", "/root", " ext4 ", "nspawn"] {
        assert!(!mounts.contains(words), "{words} of the host shows: {mounts}");
    }
    let look = "[ -e /proc/sysrq-trigger ] && (echo h >/proc/sysrq-trigger) 2>/dev/null && echo sysrq; \
        for f in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do [ -s $f ] && echo $f; [ -n \"$(head -c 1 $f 2>/dev/null | tr -d '\\0')\" ] && echo read $f; done; \
        ls /sys/firmware | wc -l; (echo x >/proc/sys/kernel/hostname) 2>/dev/null && echo named; \
        mount -t tmpfs x /tmp 2>/dev/null && echo mounted; \
        (mknod /tmp/sda b 8 0) 2>/dev/null && echo made; \
        hostname x 2>/dev/null && echo renamed; dmesg 2>/dev/null | head -n 1; \
        ls /dev | xargs; ls /proc | grep -c '^[0-9]'; cat /proc/1/comm; ls /sys/class/net";
    let said = once(machine, none, look)?;
    let expected = "0\nfd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero\n";
    let rest = said.strip_prefix(expected);
    assert!(rest.is_some(), "only this is to be seen: {expected}but there is: {said}");
    assert!(said.ends_with("bash\nlo"), "one interface, and no process of the host: {said}");
    // Calls that the list refuses: as if the kernel had none of them (ENOSYS, 38), or EPERM (1).
    let calls = "for n in 169 175 246 304 313 321; do perl -e 'syscall($ARGV[0], 0, 0, 0, 0, 0) == -1 or print qq(call $ARGV[0] was let through\\n); print 0+$!, qq( )' $n; done";
    let said = once(machine, none, calls)?;
    assert!(said.split_whitespace().all(|errno| ["1", "38"].contains(&errno)), "{said}");
    Ok(())
}

fn limits(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    let file = says("x")
        + "[limits]\nmemory = '96M'\nmemory-high = '64M'\nswap = '0'\ncpu = '150%'\ncpu-weight = 50\ntasks = 20\nopen-files = 2048\n";
    declare(machine, "limited", &file)?;
    machine.sh("systemctl start limited-container")?;
    for (key, value) in [
        ("MemoryMax", "100663296"),
        ("MemoryHigh", "67108864"),
        ("MemorySwapMax", "0"),
        ("CPUQuotaPerSecUSec", "1.500000s"),
        ("CPUWeight", "50"),
        ("TasksMax", "20"),
        ("LimitNOFILE", "2048"),
        ("Slice", "wharf.slice"),
    ] {
        assert_eq!(property(machine, "limited", key)?, value, "{key}");
    }
    machine.sh("systemctl set-property --runtime limited-container MemoryMax=200M")?;
    assert_eq!(property(machine, "limited", "MemoryMax")?, (200 << 20).to_string());
    forget(machine, &["limited"])?;
    Ok(())
}

fn hog(stage: &mut Stage) -> Told {
    stage.needs(Feature::CgroupControllers)?;
    let machine = with(stage, &[&DEBIAN])?;
    let file = "image = 'debian:13'\nnetwork = 'none'\nrestart = 'no'\n\
                command = ['/bin/sh', '-c', 'perl -e \"\\$x = q(x) x (1 << 28); sleep 99\"; sleep 99']\n\
                [limits]\nmemory = '32M'\nswap = '0'\ntasks = 20\n";
    // The TOML string is a literal one: what the shell reads is written as it is.
    declare(machine, "hog", &file.replace("\\\"", "\""))?;
    machine.sh("systemctl start hog-container")?;
    until(machine, "systemctl is-failed -q hog-container")?;
    assert_eq!(property(machine, "hog", "Result")?, "oom-kill");
    let said = property(machine, "hog", "StatusText")?;
    assert_eq!(said, "A process of it was killed for want of memory; limits.memory is 32M");
    forget(machine, &["hog"])?;
    Ok(())
}

fn ps(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    declare(machine, "runs", &says("x"))?;
    declare(machine, "rests", &says("x"))?;
    declare(
        machine,
        "fails",
        &format!("{STAYS}restart = 'no'\ncommand = ['/bin/sh', '-c', 'sleep 0.3; exit 1']\n"),
    )?;
    machine.sh("systemctl start runs-container fails-container")?;
    until(machine, "systemctl is-failed -q fails-container")?;
    let said: serde_json::Value = serde_json::from_str(&machine.sh("wharf ps --json")?).unwrap_or_default();
    let containers = said.as_array().cloned().unwrap_or_default();
    assert_eq!(containers.len(), 3, "{said}");
    for container in &containers {
        let name = container["name"].as_str().unwrap_or_default();
        let text = container.to_string();
        let state = property(machine, name, "ActiveState")?;
        assert!(text.contains(&format!("\"{state}\"")), "{name} is {state}: {text}");
        let pid = property(machine, name, "MainPID")?;
        assert!(pid == "0" || text.contains(&format!(":{pid}")), "{name} is {pid}: {text}");
    }
    forget(machine, &["runs", "rests", "fails"])?;
    Ok(())
}

fn inspect(stage: &mut Stage) -> Told {
    let machine = with(stage, &[&DEBIAN])?;
    let file = says("$PASSWORD")
        + "environment.PASSWORD = 'xyzzy'\nmounts.'/data' = { volume = 'seen' }\nlimits.tasks = 30\nlimits.memory = '96M'\n";
    declare(machine, "seen", &file)?;
    let inspect = |more: &str| machine.sh(&format!("wharf inspect seen {more}"));
    let json = || -> Result<serde_json::Value> {
        Ok(serde_json::from_str(&machine.sh("wharf inspect seen --json")?).unwrap_or_default())
    };
    let before = json()?;
    assert_eq!(before["unit"]["state"], "inactive", "{before}");
    assert!(before["started"].is_null() && before["namespaces"].is_null(), "{before}");
    machine.sh("systemctl start seen-container")?;
    // The plan that it started by is kept right after systemd has heard that it runs.
    let kept = "wharf inspect seen --json | grep -qF '\"changed\": []'";
    until(machine, kept)?;
    let running = json()?;
    let unit = &running["unit"];
    for (key, name) in [("state", "ActiveState"), ("control_group", "ControlGroup"), ("file", "FragmentPath")]
    {
        assert_eq!(unit[key], property(machine, "seen", name)?, "{key}: {running}");
    }
    assert_eq!(unit["pid"].to_string(), property(machine, "seen", "MainPID")?);
    assert_eq!(unit["limits"]["TasksMax"], 30, "{running}");
    assert_eq!(unit["limits"]["MemoryMax"], 96 << 20, "{running}");
    assert_eq!(running["asked"]["reload_due"], false, "{running}");
    assert_eq!(running["started"]["changed"], serde_json::json!([]), "{running}");
    assert_eq!(running["ids"]["first"].to_string(), machine.sh("cat /var/lib/wharf/leases/ids/seen")?);
    let kinds = |own: bool| -> Vec<String> {
        let all = running["namespaces"].as_array().into_iter().flatten();
        all.filter(|one| one["own"] == own).map(|one| one["kind"].to_string()).collect()
    };
    for kind in ["mnt", "net", "pid", "user", "uts", "ipc", "cgroup"] {
        assert!(kinds(true).contains(&format!("\"{kind}\"")), "{kind}: {running}");
    }
    assert_eq!(running["mounts"][0]["path"], "/var/lib/wharf/volumes/seen", "{running}");
    let digest = machine.sh("wharf image inspect debian:13 --json | grep -om1 'sha256:[0-9a-f]*'")?;
    assert_eq!(running["image"]["digest"], digest, "{running}");
    for (form, shown) in [("", false), ("--json", false), ("--show-environment", true)] {
        assert_eq!(inspect(form)?.contains("xyzzy"), shown, "inspect {form}");
    }
    // What runs is not what the files say: first systemd has to read them, then the container to start again.
    machine.write("/etc/wharf/containers/seen.toml.d/50-tasks.toml", "limits.tasks = 40\n")?;
    let said = inspect("")?;
    assert!(said.contains("systemctl daemon-reload"), "{said}");
    assert!(said.contains("systemctl restart seen-container, as limits changed"), "{said}");
    machine.sh("systemctl daemon-reload")?;
    let said = inspect("")?;
    assert!(!said.contains("systemctl daemon-reload") && said.contains("systemctl restart"), "{said}");
    machine.sh("systemctl restart seen-container")?;
    until(machine, kept)?;
    assert!(!inspect("")?.contains("systemctl restart"));
    // Everybody may ask; what is root's alone is left out.
    let other = machine.sh("setpriv --reuid=65534 --regid=65534 --clear-groups wharf inspect seen --json")?;
    let other: serde_json::Value = serde_json::from_str(&other).unwrap_or_default();
    assert_eq!(other["unit"]["state"], "active", "{other}");
    assert!(other["ids"].is_null() && other["started"].is_null(), "{other}");
    let states = machine.sh("wharf graph --state seen")?;
    assert!(states.contains("active") && states.contains("volume seen at /data"), "{states}");
    machine.sh("rm -r /etc/wharf/containers/seen.toml /etc/wharf/containers/seen.toml.d")?;
    let said = inspect("")?;
    assert!(said.contains("gone") && said.contains("active (running)"), "{said}");
    forget(machine, &["seen"])?;
    assert_ne!(machine.run("wharf inspect seen")?.code, 0);
    Ok(())
}
