//! References that somebody may have meant.

/// At most three references that somebody may have meant, the best first.
pub(super) fn similar(wanted: &str, all: impl Iterator<Item = String>) -> Vec<String> {
    fn repository(reference: &str) -> &str {
        let last = reference.rsplit('/').next().unwrap_or(reference);
        last.split([':', '@']).next().unwrap_or(last)
    }
    let mut scored: Vec<_> = all
        .filter_map(|candidate| {
            let score = if repository(&candidate) == repository(wanted) {
                0
            } else {
                distance(repository(&candidate), repository(wanted))
            };
            (score <= 2).then_some((score, candidate))
        })
        .collect();
    scored.sort();
    scored.into_iter().take(3).map(|(_, candidate)| candidate).collect()
}

/// How many letters must be put in, taken out or changed to make one text the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookalikes() {
        let all = ["nginx:1.25", "ngnix:1", "redis:7", "registry.example/web/nginx:2"].map(str::to_owned);
        assert_eq!(
            similar("nginx:1.26", all.into_iter()),
            ["nginx:1.25", "registry.example/web/nginx:2", "ngnix:1"]
        );
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
