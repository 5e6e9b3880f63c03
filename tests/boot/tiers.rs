//! Three tiers: nginx, an application behind it and PostgreSQL behind that, by links and one published port.
//! The files are those that people find in `examples/three-tiers`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::containers::{APP, Image, NGINX, POSTGRESQL, forget, import, property, until, with};
use super::machine::{Machine, Recipe, Result};
use super::services::left_over;
use super::stage::{On, Stage, Story, Told, everything, install_wharf, some_moment};

/// The stories of this module.
pub const STORIES: &[Story] = &[
    Story { name: "three tiers run from one systemctl start", on: On::FastThenFull, tell: tiers },
    Story { name: "power cuts lose no row of three tiers", on: On::Full, tell: power_cuts },
    Story { name: "updates under load end in a version that serves", on: On::Fast, tell: updates },
    Story { name: "the tiers go as they came", on: On::Both, tell: end },
];

const IMAGES: [&Image; 3] = [&NGINX, &APP, &POSTGRESQL];

/// In the order in which they start.
const NAMES: [&str; 3] = ["db", "app", "nginx"];

const FILES: [(&str, &str); 4] = [
    ("/etc/wharf/containers/nginx.toml", include_str!("../../examples/three-tiers/nginx.toml")),
    ("/etc/wharf/containers/app.toml", include_str!("../../examples/three-tiers/app.toml")),
    ("/etc/wharf/containers/db.toml", include_str!("../../examples/three-tiers/db.toml")),
    ("/srv/nginx/nginx.conf", include_str!("../../examples/three-tiers/nginx.conf")),
];

/// Adds rows without end: each line is the id of a row that was answered for. One curl for all of them, since
/// an emulated processor takes longer to start one than to make the request.
const INSERT: &str = "curl -sfN --max-time 600 -d text=load 'http://127.0.0.1:8080/rows?[1-1000000000]'";

/// Asks for the page without end: each line is the status of an answer.
const BROWSE: &str =
    r"stdbuf -oL curl -sf -o /dev/null -w '%{http_code}\n' 'http://127.0.0.1:8080/?[1-1000000000]'";

/// The tiers, declared and running; whichever story comes first sets them up.
fn set_up(stage: &mut Stage) -> Result<&mut Machine> {
    let machine = with(stage, &IMAGES)?;
    serve(machine)?;
    Ok(machine)
}

/// The same on any machine that has Wharf and the images.
fn serve(machine: &Machine) -> Result<()> {
    if machine.run("test -e /etc/wharf/containers/app.toml")?.code == 0 {
        return Ok(());
    }
    // Where stories were selected by name, another's nginx may still have the port.
    forget(machine, &["nginx", "postgresql", "redis"])?;
    for (path, text) in FILES {
        machine.write(path, text)?;
    }
    machine.sh("umask 077; echo \"PGPASSWORD=$(systemd-id128 new)\" >/etc/wharf/db.env")?;
    machine.sh("wharf check && systemctl daemon-reload && systemctl start nginx-container")?;
    answers(machine)
}

/// Waits until the page comes with what the database says.
fn answers(machine: &Machine) -> Result<()> {
    until(machine, "curl -fs http://localhost:8080/ | grep -q '<h1>Rows: '")
}

/// Adds a row and gives back its id, as it was acknowledged.
fn insert(machine: &Machine, text: &str) -> Result<String> {
    machine.sh(&format!("curl -sS --fail-with-body -d 'text={text}' http://127.0.0.1:8080/rows"))
}

/// The addresses of each container.
fn addresses(machine: &Machine) -> Result<BTreeMap<String, Vec<String>>> {
    let json = machine.sh("wharf ps --json")?;
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let all = |row: &serde_json::Value| row["addresses"].as_array().into_iter().flatten().map(text).collect();
    Ok(rows.as_array().into_iter().flatten().map(|row| (text(&row["name"]), all(row))).collect())
}

/// A property of each container's unit.
fn properties(machine: &Machine, name: &str) -> Result<Vec<String>> {
    NAMES.iter().map(|container| property(machine, container, name)).collect()
}

fn tiers(stage: &mut Stage) -> Told {
    let machine = set_up(stage)?;
    let leased = addresses(machine)?;
    assert!(leased.len() == 3 && leased.values().all(|own| !own.is_empty()), "{leased:?}");
    assert_eq!(properties(machine, "ActiveState")?, ["active"; 3], "one start has started all");
    let began = properties(machine, "ActiveEnterTimestampMonotonic")?;
    let began: Vec<u64> = began.iter().filter_map(|time| time.parse().ok()).collect();
    assert!(began.len() == 3 && began.is_sorted(), "{NAMES:?} in this order, and not at {began:?}");

    let row = insert(machine, "first row")?;
    shows(machine, &row, "first row", &leased)?;
    only_links_lead(machine, &leased)?;

    // PostgreSQL alone: the others stay, and find it again where it was.
    for line in ["systemctl restart db-container", "systemctl kill --kill-whom=main -s KILL db-container"] {
        let before = properties(machine, "MainPID")?;
        machine.sh(line)?;
        until(machine, &format!("[[ $(systemctl show -P MainPID db-container) != @(0|{}) ]]", before[0]))?;
        until(machine, "curl -fsS -d text=after http://127.0.0.1:8080/rows")?;
        assert_eq!(addresses(machine)?, leased, "{line}");
        let after = properties(machine, "MainPID")?;
        assert_eq!(before[1..], after[1..], "{line}: the application and nginx went on");
    }
    shows(machine, &row, "first row", &leased)?;

    // Without a database there is an answer too, and soon.
    machine.sh("systemctl stop db-container")?;
    let away = machine.sh("curl -s --max-time 30 -w '%{http_code}' http://127.0.0.1:8080/")?;
    assert!(away.contains("the database does not answer") && away.ends_with("503"), "{away}");
    machine.sh("systemctl start db-container")?;
    answers(machine)?;

    for name in ["app", "nginx"] {
        let before = property(machine, name, "MainPID")?;
        machine.sh(&format!("kill -9 {before}"))?;
        until(machine, &format!("[[ $(systemctl show -P MainPID {name}-container) != @(0|{before}) ]]"))?;
        answers(machine)?;
    }
    assert_eq!(addresses(machine)?, leased);

    machine.reboot()?;
    answers(machine)?;
    assert_eq!(addresses(machine)?, leased);
    assert_eq!(properties(machine, "NRestarts")?, ["0"; 3], "each started at the first attempt");
    shows(machine, &row, "first row", &leased)?;
    network_is_theirs(machine)
}

/// The row is there, and comes from the database's own address.
fn shows(machine: &Machine, row: &str, text: &str, leased: &BTreeMap<String, Vec<String>>) -> Told {
    let rows = machine.sh("curl -fsS 'http://127.0.0.1:8080/rows?after=0'")?;
    assert!(rows.lines().any(|line| line == format!("{row}\t{text}")), "{row} is not in {rows}");
    let last = insert(machine, "just now")?;
    let page = machine.sh("curl -fsS http://localhost:8080/")?;
    assert!(page.contains(&format!("<li value=\"{last}\">just now")), "{last} is not on {page}");
    let at_its_own = leased["db"].iter().any(|own| page.contains(&format!("at db ({own})\n")));
    assert!(at_its_own, "{:?} is not on {page}", leased["db"]);
    Ok(())
}

/// nginx links to the application, and not to the database; neither is published.
fn only_links_lead(machine: &Machine, leased: &BTreeMap<String, Vec<String>>) -> Told {
    let pid = property(machine, "nginx", "MainPID")?;
    for (name, port, may) in [("app", 8000, true), ("db", 5432, false)] {
        for address in &leased[name] {
            let open = format!("exec 3<>'/dev/tcp/{address}/{port}'");
            let went = machine.run(&format!("nsenter -t {pid} -n timeout 10 bash -c \"{open}\""))?;
            assert_eq!(went.code == 0, may, "nginx to {name} at {address}: {went:?}");
        }
    }
    let outside = machine.sh("ss -Hlnt | awk '{ print $4 }'")?;
    for port in [8000, 5432] {
        assert!(!outside.contains(&format!(":{port}")), "{port} is open on the host: {outside}");
    }
    Ok(())
}

/// Interfaces, records and the firewall's elements are those of the running containers, and no more.
fn network_is_theirs(machine: &Machine) -> Told {
    let interfaces = machine.sh("ls /sys/class/net | grep -c ^wharf-")?;
    assert_eq!(interfaces, "3", "an interface for each");
    for folder in ["running", "names"] {
        let files = machine.sh(&format!("ls -A /run/wharf/{folder}"))?;
        let files: Vec<&str> = files.lines().map(|file| file.trim_end_matches(".json")).collect();
        assert_eq!(files, ["app", "db", "nginx"], "/run/wharf/{folder}");
    }
    let leased: BTreeSet<String> = addresses(machine)?.into_values().flatten().collect();
    let mut known = BTreeSet::new();
    for set in ["containers4", "containers6"] {
        let json = machine.sh(&format!("nft -j list set inet wharf {set}"))?;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
        let sets = json["nftables"].as_array().into_iter().flatten();
        let elements = sets.filter_map(|entry| entry["set"]["elem"].as_array()).flatten();
        known.extend(elements.filter_map(|element| element.as_str().map(str::to_owned)));
    }
    assert_eq!(known, leased, "the firewall knows the addresses of those that run");
    Ok(())
}

/// What of the network is the same at each boot: the firewall's table word by word, and the leases.
fn network_left(machine: &Machine) -> Result<String> {
    // Words, sorted: the elements of a set come in any order.
    machine.sh("nft list table inet wharf | tr -cs '[:alnum:]:.@_-' '\\n' | sort; \
         cd /var/lib/wharf/leases && find . -type f | sort | xargs tail -n +1; \
         ip -o link | awk '{ print $2 }' | cut -d@ -f1 | sort")
}

fn power_cuts(stage: &mut Stage) -> Told {
    let times = stage.times(1, 30);
    let machine = set_up(stage)?;
    machine.reboot()?;
    answers(machine)?;
    let leased = addresses(machine)?;
    let clean = (left_over(machine)?, network_left(machine)?);
    let mut rows: BTreeSet<u64> = BTreeSet::new();
    let mut pages = 0;
    for time in 1..=times {
        let mut inserting = machine.start(INSERT)?;
        let browsing = machine.start(BROWSE)?;
        rows.extend(inserting.line().and_then(|row| row.parse::<u64>().ok()));
        machine.let_pass(some_moment(Duration::from_secs(5)));
        machine.power_cut()?;
        rows.extend(inserting.rest().iter().filter_map(|row| row.parse::<u64>().ok()));
        pages += browsing.rest().iter().filter(|status| *status == "200").count();
        println!("    cut {time}: {} rows, {pages} pages acknowledged", rows.len());
        // Every other time the boot that follows is cut as well.
        if time % 2 == 0 {
            machine.power_on()?;
            machine.let_pass(some_moment(Duration::from_secs(30)));
            machine.power_cut()?;
        }
        machine.boot_again()?;
        answers(machine)?;
        assert_eq!(addresses(machine)?, leased, "cut {time}");
        let kept = machine.sh("curl -fsS 'http://127.0.0.1:8080/rows?after=0' | cut -f1")?;
        let kept: BTreeSet<u64> = kept.lines().filter_map(|row| row.parse().ok()).collect();
        let lost: Vec<_> = rows.difference(&kept).collect();
        assert!(lost.is_empty(), "rows that were acknowledged are gone: {lost:?}");
        let left = left_over(machine)?;
        let more: Vec<_> = left.difference(&clean.0).collect();
        assert!(more.is_empty(), "left over: {more:?}");
        assert_eq!(network_left(machine)?, clean.1, "cut {time}");
        network_is_theirs(machine)?;
        assert_eq!(properties(machine, "NRestarts")?, ["0"; 3], "each started at the first attempt");
        assert_eq!(machine.sh("systemctl list-units --failed --no-legend --plain")?, "");
    }
    assert!(!rows.is_empty() && pages > 0, "something was under way");
    Ok(())
}

/// Versions of the application: a tag, what its image runs, and how many requests may be lost at an update to it: five
/// times what was seen on a busy host, less where most of it is the time to start. Those of the second table don't work.
const GOOD: [(&str, &str, u64); 2] =
    [("good-a", "--command gunicorn", 35), ("good-b", "--command gunicorn --command --name --command b", 35)];
const BAD: [(&str, &str, u64); 3] = [
    ("crashes", "--command /bin/false", 30),
    ("never-ready", "--command sleep --command infinity", 300),
    // Long enough for two checks, and then it serves nobody.
    ("for-a-moment", "--command /bin/sh --command -c --command 'timeout 3 gunicorn; sleep infinity'", 115),
];

/// What an update may take of the service at most: the old version ends, one that never gets ready has its time to start
/// and one that does its time to settle, it ends, and the old one starts again.
const START: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_secs(5);
const STOP: Duration = Duration::from_secs(10);
/// How long a request may hang before the next is made.
const REQUEST: Duration = Duration::from_secs(5);

/// What makes the application one that is updated: its readiness is that the database answers through it.
fn updated() -> String {
    format!(
        "update = 'local'\nready = 'healthy'\n\
         [health]\nhttp = 'http://localhost:8000/healthz'\ninterval = '1s'\ntimeout = '1s'\nretries = 2\n\
         [stop]\ntimeout = '{}s'\n[systemd.Service]\nTimeoutStartSec = '{}s'\n",
        STOP.as_secs(),
        START.as_secs()
    )
}

/// Ten requests in a second, without end: each line is a time and the status of an answer, 000 without one.
const LOAD: &str = r"stdbuf -oL curl -s --rate 10/s --max-time 5 -o /dev/null -w '%{http_code}\n' \
    'http://127.0.0.1:8080/?[1-1000000000]' | while read -r code; do echo $EPOCHREALTIME $code; done >>/tmp/load";

/// The requests that were made: when each was answered, and whether well.
fn requests(machine: &Machine) -> Result<Vec<(f64, bool)>> {
    let said = machine.sh("cat /tmp/load")?;
    let request = |line: &str| {
        let (time, status) = line.split_once(' ')?;
        Some((time.parse().ok()?, status == "200"))
    };
    Ok(said.lines().filter_map(request).collect())
}

fn lost(requests: &[(f64, bool)]) -> u64 {
    requests.iter().filter(|(_, well)| !well).count() as u64
}

/// The longest time from one good answer to the next.
fn longest(requests: &[(f64, bool)]) -> Duration {
    let well: Vec<f64> = requests.iter().filter(|(_, well)| *well).map(|(time, _)| *time).collect();
    let longest = well.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    Duration::from_secs_f64(longest)
}

/// The power goes while the application is updated. What runs then is one of the two versions, and the next update ends
/// as the one would have.
fn cut_while_updating(machine: &mut Machine, tag: &str, broken: bool, served: &str, new: &str) -> Result<()> {
    let updating = machine.start("wharf update")?;
    // Before there is a mark nothing was begun, and boot starts what the tag names.
    until(machine, "test -e /var/lib/wharf/held/app.json")?;
    machine.let_pass(some_moment(Duration::from_secs(8)));
    machine.power_cut()?;
    drop(updating);
    machine.boot_again()?;
    answers(machine)?;
    let now = machine.sh(RUNS)?;
    assert!(now == new || now == served, "update to {tag}: {now} is neither version");
    assert!(!broken || now == served, "update to {tag}: {now} doesn't work");
    // What is known to have failed is shown, and not tried again.
    let known = r#"grep -qE '"state":"(failed|putting-back)"' /var/lib/wharf/held/app.json"#;
    let is_known = machine.run(known)?.code == 0;
    let update = machine.run_for("wharf update", Duration::from_secs(120))?;
    let wanted = i32::from(broken && !is_known);
    assert_eq!(update.code, wanted, "{tag}: {} {}", update.stdout, update.stderr);
    assert_eq!(machine.sh(RUNS)?, if broken { served } else { new }, "{tag}: {}", update.stdout);
    answers(machine)
}

/// The image that the application runs.
const RUNS: &str = "wharf inspect --json app | sed -n 's/^ *\"running\": \"\\(sha256:.*\\)\".*/\\1/p'";

fn updates(stage: &mut Stage) -> Told {
    if !everything() {
        let machine = set_up(stage)?;
        return update_again_and_again(machine, 1 + BAD.len());
    }
    // What is lost with the power is what no version had synced.
    let mut machine = Machine::strict(stage.kind(), &Recipe::base())?;
    install_wharf(&machine)?;
    for image in IMAGES {
        import(&machine, image)?;
    }
    serve(&machine)?;
    update_again_and_again(&mut machine, 100)?;
    machine.throw_away()?;
    Ok(())
}

/// Every third one is to an image that doesn't work; of a few, all but the first.
fn update_again_and_again(machine: &mut Machine, times: usize) -> Told {
    machine.sh("wharf image export app:1 >/tmp/app.tar")?;
    for (tag, arguments, _) in GOOD.iter().chain(&BAD) {
        machine.run_for(
            &format!(
                "wharf image import --name app:{tag} --user app --workdir /srv/app {arguments} /tmp/app.tar"
            ),
            Duration::from_secs(300),
        )?;
    }
    machine.sh("rm /tmp/app.tar; wharf image tag app:1 app:kept; wharf image tag app:good-b app:1")?;
    machine.write("/etc/wharf/containers/app.toml.d/50-update.toml", updated())?;
    machine.sh("wharf apply")?;
    answers(machine)?;
    let digest = "wharf image inspect app:1 | sed -n 's/^ *digest *//p'";
    machine.sh("rm -f /tmp/load; touch /tmp/load")?;
    let mut load = Some(machine.start(LOAD)?);
    let mut seen = BTreeMap::<&str, Vec<(u64, Duration)>>::new();
    let (mut next_good, mut next_bad, mut cuts) = (0, 0, 0);
    // What was counted before a power cut, which takes the counts along.
    let mut earlier = (0, 0);
    let mut served = machine.sh(RUNS)?;
    for time in 1..=times {
        let broken = if everything() { time % 3 == 0 } else { time > 1 };
        let (tag, _, may_be_lost) = if broken {
            next_bad += 1;
            BAD[(next_bad - 1) % BAD.len()]
        } else {
            next_good += 1;
            GOOD[(next_good - 1) % GOOD.len()]
        };
        machine.sh(&format!("wharf image tag app:{tag} app:1"))?;
        let new = machine.sh(digest)?;
        let before = requests(machine)?;
        // In the middle of ten of a hundred the power goes.
        if time % 10 == 7 {
            cuts += 1;
            let lost = lost(&before);
            earlier = (earlier.0 + before.len() as u64 - lost, earlier.1 + lost);
            drop(load.take());
            cut_while_updating(machine, tag, broken, &served, &new)?;
            machine.sh("rm -f /tmp/load; touch /tmp/load")?;
            load = Some(machine.start(LOAD)?);
            served = machine.sh(RUNS)?;
            continue;
        }
        let update = machine.run_for("wharf update", Duration::from_secs(120))?;
        assert_eq!(update.code, i32::from(broken), "{tag}: {} {}", update.stdout, update.stderr);
        let now = machine.sh(RUNS)?;
        assert_eq!(
            now,
            if broken { served.clone() } else { new },
            "update {time} to {tag}: {}",
            update.stdout
        );
        answers(machine)?;
        // The one after which it answers again is among them.
        machine.let_pass(Duration::from_millis(300));
        let all = requests(machine)?;
        let during = &all[before.len().saturating_sub(1)..];
        let (gone, longest) = (lost(during), longest(during));
        assert!(gone <= may_be_lost, "update {time} to {tag}: {gone} requests are lost");
        let within = if broken { STOP + START + SETTLE + STOP + START } else { STOP + START } + REQUEST;
        assert!(
            longest <= within,
            "update {time} to {tag}: {longest:?} without an answer, and not {within:?}"
        );
        seen.entry(tag).or_default().push((gone, longest));
        served = now;
    }
    let all = requests(machine)?;
    let gone = lost(&all);
    let (well, gone) = (all.len() as u64 - gone + earlier.0, gone + earlier.1);
    println!(
        "    {times} updates under 10 requests a second: {well} answered, {gone} lost; {cuts} power cuts"
    );
    for (tag, updates) in &seen {
        let all: u64 = updates.iter().map(|(lost, _)| lost).sum();
        let worst = updates.iter().map(|(lost, _)| *lost).max().unwrap_or_default();
        let longest = updates.iter().map(|(_, longest)| *longest).max().unwrap_or_default();
        println!(
            "    {tag}: {} updates, {all} requests lost, {worst} in the worst, {longest:.1?} without an answer at most",
            updates.len()
        );
    }
    assert!(well > 0);
    drop(load);
    machine.sh("pkill -x curl; rm -rf /tmp/load /var/lib/wharf/held /etc/wharf/containers/app.toml.d; \
         wharf image tag app:kept app:1; wharf apply; \
         wharf image remove app:kept app:good-a app:good-b app:crashes app:never-ready app:for-a-moment")?;
    answers(machine)?;
    Ok(())
}

fn end(stage: &mut Stage) -> Told {
    let machine = set_up(stage)?;
    forget(machine, &NAMES)?;
    assert_eq!(machine.sh("wharf ps --json | tr -d '\\n '")?, "[]");
    until(machine, "! ls /sys/class/net | grep -q ^wharf-")?;
    machine.sh("rm -rf /etc/wharf/db.env /srv/nginx /var/lib/wharf/volumes/db")?;
    Ok(())
}
