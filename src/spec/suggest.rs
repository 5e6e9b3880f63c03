//! "Did you mean": the nearest of the words that would have been right.

/// The word that `text` is probably meant to be: at most a third of its letters differ, two neighbours swapped
/// counting as one.
pub fn nearest<'w>(text: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    // `memory_high` and `MemoryHigh` are habits from elsewhere, not slips of the finger.
    let plain = |text: &str| {
        text.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect::<Vec<_>>()
    };
    let text = plain(text);
    if text.is_empty() || text.len() > 64 {
        return None;
    }
    words
        .into_iter()
        .map(|word| (distance(&text, &plain(word)), word))
        .filter(|(distance, word)| *distance <= (text.len().min(word.len())).div_ceil(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let width = b.len() + 1;
    let mut table = vec![0; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i * width + j] = if i == 0 || j == 0 {
                i + j
            } else {
                let same = usize::from(a[i - 1] != b[j - 1]);
                let mut best = (table[(i - 1) * width + j] + 1)
                    .min(table[i * width + j - 1] + 1)
                    .min(table[(i - 1) * width + j - 1] + same);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(table[(i - 2) * width + j - 2] + 1);
                }
                best
            };
        }
    }
    table[a.len() * width + b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_words() {
        let words = ["memory", "memory-high", "swap", "tasks", "cpu", "cpus"];
        for (text, word) in [
            ("memroy", Some("memory")),
            ("Memory_High", Some("memory-high")),
            ("task", Some("tasks")),
            ("cpu-s", Some("cpus")),
            ("banana", None),
            ("", None),
        ] {
            assert_eq!(nearest(text, words), word, "{text}");
        }
    }
}
