//! Times of the calendar, as this project reads them and as systemd does.
//!
//! Where systemd isn't installed, nothing is compared.

use std::collections::BTreeSet;
use std::error::Error;
use std::process::Command;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use wharf::spec::calendar;

/// What systemd and people have in their manuals, and what has been read differently here and there.
const TEXTS: &[&str] = &[
    "Sat,Thu,Mon..Wed,Sat..Sun",
    "Mon,Sun 12-*-* 2,1:23",
    "Wed *-1",
    "Wed, 17:48",
    "Wed..Sat,Tue 12-10-15 1:2:3",
    "mon,fri *-1/2-1,3 *:30:45",
    "05:40:23.4200004/3.1700005",
    "2003-02..04-05",
    "2003-03-05 05:40 UTC",
    "2003-03-05 05:40 utc",
    "*-02~03",
    "Mon *-05~07/1",
    "*-*-28~1",
    "*~*-1",
    "minutely",
    "hourly",
    "daily UTC",
    "weekly",
    "monthly",
    "quarterly",
    "semiannually",
    "semi-annually",
    "biannually",
    "bi-annually",
    "annually",
    "yearly",
    "Yearly",
    "@1800000000",
    "@1800000000 UTC",
    "@1800000000 3:00",
    "@7258118399",
    "@7258118400",
    "@99999999999999999999999",
    "@",
    "Mon @5",
    "Mon,Tue, 3:00",
    "Mon, Tue 3:00",
    "Mon,,Tue 3:00",
    "Mon.. 3:00",
    "Mon..Tue..Wed 3:00",
    "Fri..Mon 03:00",
    "Mon-Fri 3:00",
    "*-*-* *:*/15",
    "*/2:00",
    "*:0/60",
    "*:30/30",
    "*:0/0",
    "22..3:00",
    "3..3:00",
    "1..3/10:00",
    "22..24/5:00",
    "22..25/2:00",
    "*-*-* 3:00 PM",
    "weekly Sun",
    "*-*-* *:*:60",
    "*:*:59.9999999",
    "*:*:5..5",
    "*:*:5..5/1",
    "*:*:1.5..2.5/0.3",
    "*:*:0/0.0000001",
    "*,1:00",
    "1,*:00",
    "+3:00",
    "99999999999:00",
    "1969-01-01",
    "69-01-01",
    "70-01-01",
    "2199-12-31",
    "2200-01-01",
    "*-*~29",
    "UTC",
    "3:00 Mon/2",
    "3",
    "12:",
    ":12",
    "1:2:3:4",
    "1-2-3-4",
];

/// A number, a range or a step.
fn one() -> impl Strategy<Value = String> {
    let number = || prop_oneof![16 => 1..12u32, 2 => 0..32u32, 1 => 20..70u32, 1 => 1960..2210u32];
    (number(), option::weighted(0.3, number()), option::weighted(0.3, number())).prop_map(
        |(first, last, step)| {
            let last = last.map_or_else(String::new, |last| format!("..{last}"));
            let step = step.map_or_else(String::new, |step| format!("/{step}"));
            format!("{first}{last}{step}")
        },
    )
}

fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        16 => Just("*".to_owned()),
        1 => one().prop_map(|one| format!("*/{one}")),
        8 => vec(one(), 1..3).prop_map(|all| all.join(",")),
    ]
}

fn second() -> impl Strategy<Value = String> {
    (part(), option::weighted(0.3, 0..20_000_000u32)).prop_map(|(part, fraction)| match fraction {
        Some(fraction) => format!("{part}.{fraction}"),
        None => part,
    })
}

fn days() -> impl Strategy<Value = String> {
    let day = || prop::sample::select(vec!["Mon", "tue", "Wednesday", "THU", "Fri", "Sat", "Sun", "Son"]);
    let some = (day(), option::weighted(0.4, (prop::sample::select(vec!["..", "-", "."]), day()))).prop_map(
        |(first, last)| {
            first.to_owned() + &last.map_or_else(String::new, |(dots, last)| format!("{dots}{last}"))
        },
    );
    (vec(some, 1..3), prop::bool::weighted(0.2))
        .prop_map(|(all, comma)| all.join(",") + if comma { "," } else { "" })
}

fn text() -> impl Strategy<Value = String> {
    let dash = || prop::sample::select(vec!["-", "-", "-", "~"]);
    let date = (option::of((part(), dash())), part(), dash(), part()).prop_map(|(year, month, dash, day)| {
        year.map_or_else(String::new, |(year, dash)| year + dash) + &month + dash + &day
    });
    let time = (part(), part(), option::of(second())).prop_map(|(hour, minute, second)| {
        let second = second.map_or_else(String::new, |second| format!(":{second}"));
        format!("{hour}:{minute}{second}")
    });
    let zone = prop::sample::select(vec!["UTC", "Utc", "AM", "Mon", "2"]);
    (
        option::weighted(0.3, days()),
        option::weighted(0.5, date),
        option::weighted(0.7, time),
        option::weighted(0.1, zone),
    )
        .prop_map(|(days, date, time, zone)| {
            let words = [days, date, time, zone.map(str::to_owned)];
            words.into_iter().flatten().collect::<Vec<_>>().join(" ")
        })
}

/// Those that systemd takes.
fn taken(texts: &[String]) -> Result<BTreeSet<&str>, Box<dyn Error>> {
    let mut good: BTreeSet<&str> = texts.iter().map(String::as_str).collect();
    for some in texts.chunks(500) {
        // The abbreviations of the host's own zone are zones too.
        let output =
            Command::new("systemd-analyze").args(["calendar", "--"]).args(some).env("TZ", "UTC").output()?;
        // Other lines are hints.
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            let refused = line
                .strip_prefix("Failed to parse calendar specification '")
                .and_then(|rest| rest.rsplit_once("': "));
            if let Some((text, _)) = refused {
                good.remove(text);
            }
        }
    }
    Ok(good)
}

#[test]
fn as_systemd_reads_them() -> Result<(), Box<dyn Error>> {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return Ok(());
    }
    let mut texts: Vec<String> = TEXTS.iter().map(|text| (*text).to_owned()).collect();
    let (strategy, mut runner) = (text(), TestRunner::deterministic());
    for _ in 0..6000 {
        texts.push(strategy.new_tree(&mut runner).map_err(|reason| reason.to_string())?.current());
    }
    texts.retain(|text| !text.is_empty());
    let good = taken(&texts)?;
    let different: Vec<String> = texts
        .iter()
        .filter(|text| calendar(text).is_ok() != good.contains(text.as_str()))
        .map(|text| format!("{text:?}: here {:?}", calendar(text)))
        .collect();
    assert!(good.len() < texts.len() - 500, "systemd refuses nothing that is understood here");
    assert!(good.len() > 500, "{} good ones say little", good.len());
    assert!(different.is_empty(), "{} read differently:\n{}", different.len(), different.join("\n"));
    Ok(())
}
