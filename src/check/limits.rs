//! `[limits]`: each value becomes the text of a property of the unit.

use super::{Limits, Rules};
use crate::report::{Finding, Place};
use crate::spec::{show_size, size};

/// Less than this is no room for a process; a unit is missing.
const MEMORY_MIN: u64 = 1 << 20;

/// All of them.
pub fn limits(rules: &mut Rules<'_>) -> Limits {
    Limits {
        memory: memory(rules, "memory", MEMORY_MIN),
        memory_high: memory(rules, "memory-high", MEMORY_MIN),
        swap: memory(rules, "swap", 0),
        cpu: cpu(rules),
        cpu_weight: weight(rules, "cpu-weight"),
        cpus: cpus(rules),
        io_weight: weight(rules, "io-weight"),
        tasks: tasks(rules),
        open_files: open_files(rules),
    }
}

fn per_cent(text: &str) -> Option<f64> {
    let number = text.strip_suffix('%')?;
    let digits =
        number.bytes().all(|b| b.is_ascii_digit() || b == b'.') && number.bytes().any(|b| b.is_ascii_digit());
    number.parse().ok().filter(|_| digits)
}

fn share_of_host(rules: &mut Rules<'_>, key: &str, text: String, place: &Place) -> Option<String> {
    match per_cent(&text) {
        Some(share) if share > 0.0 && share <= 100.0 => Some(text),
        _ => {
            rules.error(place, format!("`{key}` can't be \"{text}\" of the host's"), "write 1% to 100%");
            None
        }
    }
}

fn memory(rules: &mut Rules<'_>, key: &str, least: u64) -> Option<String> {
    let (text, place) = rules.digits(&format!("limits.{key}"))?;
    if text == "infinity" {
        return Some(text);
    }
    if text.ends_with('%') {
        return share_of_host(rules, key, text, place);
    }
    match size(&text) {
        Ok(bytes) => {
            if bytes < least {
                let hint = match bytes {
                    0 => "for example: \"512M\"; leave it out for no limit".to_owned(),
                    bytes => format!("did you mean \"{bytes}M\"?"),
                };
                rules.findings.push(
                    Finding::warning(
                        place.clone(),
                        format!("`{key}` is {bytes} bytes, too little for any program"),
                    )
                    .hint(hint),
                );
            }
            Some(show_size(bytes))
        }
        Err(error) => {
            let hint = match error.suggestion() {
                Some(size) => format!("write \"{size}\""),
                None => "write bytes with K, M, G or T, like \"512M\", or per cent, or \"infinity\"".into(),
            };
            rules.error(place, format!("`{key}`: {error}"), hint);
            None
        }
    }
}

fn cpu(rules: &mut Rules<'_>) -> Option<String> {
    let (text, place) = rules.text("limits.cpu")?;
    // systemd counts in hundredths of a per cent.
    if per_cent(text).is_some_and(|share| share >= 0.01) && !text.contains(".%") {
        return Some(text.to_owned());
    }
    rules.error(
        place,
        format!("`cpu` can't be \"{text}\""),
        "write per cent of one CPU: \"50%\", \"200%\" for two",
    );
    None
}

fn weight(rules: &mut Rules<'_>, key: &str) -> Option<String> {
    let (text, place) = rules.digits(&format!("limits.{key}"))?;
    if text.parse::<u32>().is_ok_and(|weight| (1..=10_000).contains(&weight)) {
        return Some(text);
    }
    rules.error(place, format!("`{key}` can't be {text}"), "write 1 to 10000; 100 is the usual share");
    None
}

fn cpus(rules: &mut Rules<'_>) -> Option<String> {
    // The most CPUs that a Linux kernel can be built for.
    const MOST: u32 = 8192;
    let (text, place) = rules.digits("limits.cpus")?;
    let number = |text: &str| {
        text.trim().parse::<u32>().ok().filter(|cpu| *cpu < MOST && !text.trim().starts_with('+'))
    };
    let good = text.split(',').all(|part| match part.split_once('-') {
        Some((first, last)) => matches!((number(first), number(last)), (Some(a), Some(b)) if a <= b),
        None => number(part).is_some(),
    });
    if good {
        return Some(text.replace(' ', "").replace(',', " "));
    }
    rules.error(
        place,
        format!("`cpus` is no list of CPUs: \"{text}\""),
        "write numbers from 0 and ranges: \"0-3,6\"",
    );
    None
}

fn tasks(rules: &mut Rules<'_>) -> Option<String> {
    let (text, place) = rules.digits("limits.tasks")?;
    if text.ends_with('%') {
        return share_of_host(rules, "tasks", text, place);
    }
    if text == "infinity" || is_count(&text) {
        return Some(text);
    }
    rules.error(
        place,
        format!("`tasks` can't be \"{text}\""),
        "write a number from 1, per cent, or \"infinity\"",
    );
    None
}

fn is_count(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u32>().is_ok_and(|count| count > 0)
}

fn open_files(rules: &mut Rules<'_>) -> Option<String> {
    let (text, place) = rules.digits("limits.open-files")?;
    let good = |text: &str| text == "infinity" || is_count(text);
    let fits = match text.split_once(':') {
        Some((soft, hard)) => {
            let order = match (soft.parse::<u32>(), hard.parse::<u32>()) {
                (Ok(soft), Ok(hard)) => soft <= hard,
                (Err(_), Ok(_)) => false,
                _ => true,
            };
            good(soft) && good(hard) && order
        }
        None => good(&text),
    };
    if fits {
        return Some(text);
    }
    rules.error(
        place,
        format!("`open-files` can't be \"{text}\""),
        "write a number from 1, \"SOFT:HARD\" with the smaller first, or \"infinity\"",
    );
    None
}
