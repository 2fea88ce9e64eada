//! The piece of a file nearest to one that is not there: what the model probably meant.

use std::collections::HashSet;

/// Bigger inputs are not compared; the hint is not worth the time.
const LINES: usize = 20_000;
const WANTED_LINES: usize = 400;
const SHOWN_LINES: usize = 12;

/// Says in a sentence what is there instead of `wanted`.
pub(super) fn hint(content: &str, wanted: &str) -> String {
    let lines: Vec<_> = content.lines().take(LINES + 1).collect();
    let wanted: Vec<_> = wanted.trim_matches('\n').lines().collect();
    if lines.len() > LINES || wanted.is_empty() || wanted.len() > WANTED_LINES {
        return "Read the file again and copy the text exactly.".to_owned();
    }
    if let Some(start) = same_but_for_space(&lines, &wanted) {
        return format!(
            "It differs in white space only; lines {} to {} are exactly:\n{}",
            start + 1,
            start + wanted.len(),
            shown(&lines[start..start + wanted.len()])
        );
    }
    match most_similar(&lines, &wanted) {
        Some(start) => {
            let end = (start + wanted.len()).min(lines.len());
            format!(
                "The nearest text is at lines {} to {end}:\n{}\nRead the file again if you need more.",
                start + 1,
                shown(&lines[start..end])
            )
        }
        None => "Nothing like it is in the file; read it again.".to_owned(),
    }
}

fn shown(lines: &[&str]) -> String {
    let mut text = lines[..lines.len().min(SHOWN_LINES)].join("\n");
    if lines.len() > SHOWN_LINES {
        text.push_str("\n…");
    }
    crate::text::prefix(&text, 2000).to_owned()
}

fn same_but_for_space(lines: &[&str], wanted: &[&str]) -> Option<usize> {
    let squeeze = |line: &&str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<_> = lines.iter().map(squeeze).collect();
    let wanted: Vec<_> = wanted.iter().map(squeeze).collect();
    lines.windows(wanted.len()).position(|window| window == wanted)
}

/// Where the first telling line of `wanted` has its best counterpart, if there is a good one.
fn most_similar(lines: &[&str], wanted: &[&str]) -> Option<usize> {
    let (offset, telling) = wanted.iter().enumerate().find(|(_, line)| line.trim().len() > 2)?;
    let pairs = pairs(telling);
    let (position, score) = lines
        .iter()
        .enumerate()
        .map(|(position, line)| (position, similarity(&pairs, &self::pairs(line))))
        // The first of the best.
        .rev()
        .max_by(|a, b| a.1.total_cmp(&b.1))?;
    (score >= 0.5).then(|| position.saturating_sub(offset))
}

fn pairs(line: &str) -> HashSet<(char, char)> {
    let characters: Vec<_> = line.trim().chars().take(400).collect();
    characters.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

/// Sørensen and Dice's measure: 1 for the same pairs of letters, 0 for none in common.
fn similarity(a: &HashSet<(char, char)>, b: &HashSet<(char, char)>) -> f64 {
    if a.is_empty() || b.is_empty() {
        return 0.0;
    }
    let common = u32::try_from(a.intersection(b).count()).unwrap_or(u32::MAX);
    let all = u32::try_from(a.len() + b.len()).unwrap_or(u32::MAX);
    2.0 * f64::from(common) / f64::from(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "fn main() {\n    let total = 1;\n    print(total);\n}\n";

    #[test]
    fn the_nearest_piece_is_shown() {
        for (wanted, expected) in [
            ("  let total = 1;\n  print(total);", "white space only; lines 2 to 3"),
            ("    let totals = 2;", "nearest text is at lines 2 to 2:\n    let total = 1;"),
            ("{\n    let total = 5;", "nearest text is at lines 1 to 2"),
            ("entirely other words", "Nothing like it"),
            ("\n", "copy the text exactly"),
        ] {
            let hint = hint(FILE, wanted);
            assert!(hint.contains(expected), "{wanted:?}: {hint}");
        }
    }

    #[test]
    fn a_hint_for_an_empty_file_or_a_huge_one_is_still_a_sentence() {
        assert!(hint("", "x y z").contains("Nothing like it"));
        assert!(hint(&"line\n".repeat(LINES + 5), "x y z").contains("exactly"));
    }
}
