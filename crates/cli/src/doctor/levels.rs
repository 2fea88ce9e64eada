//! The table of levels of isolation, as `hangar doctor` shows it.

use protocol::sandbox::{Enforcement, LevelReport};

use crate::style::{Style, Tone};
use crate::{escape, format};

/// A heading, one line for each level, and below those that do not work the reason and what to do.
pub(super) fn lines(levels: &[LevelReport], style: Style) -> Vec<String> {
    let heading = ["isolation", "started in", "limits not held", "runtime"];
    let rows: Vec<_> =
        [heading.map(str::to_owned).to_vec()].into_iter().chain(levels.iter().map(row)).collect();
    let mut lines = Vec::new();
    let mut table = format::table(&rows).into_iter();
    lines.extend(table.next().map(|heading| format!("  {heading}")));
    for (level, line) in levels.iter().zip(table) {
        let (tone, mark) = if level.works { (Tone::Good, "✓") } else { (Tone::Faint, "·") };
        lines.push(format!("{} {line}", style.paint(tone, mark)));
        let advice = [("why", &level.reason), ("hint", &level.hint)];
        lines.extend(advice.into_iter().filter_map(|(word, text)| {
            Some(format!("    {word}: {}", escape::line(text.as_deref()?)))
        }));
    }
    lines
}

fn row(level: &LevelReport) -> Vec<String> {
    let started = level.start_milliseconds.map_or_else(|| "not".to_owned(), format::duration);
    let open: Vec<&str> = level
        .limits
        .iter()
        .filter(|report| matches!(report.enforcement, Enforcement::NotEnforced { .. }))
        .map(|report| report.limit.as_str())
        .collect();
    let open = match (level.limits.is_empty(), open.is_empty()) {
        (true, _) => "not tried".to_owned(),
        (false, true) => "none".to_owned(),
        (false, false) => open.join(", "),
    };
    let runtime = level.runtime.as_deref().unwrap_or("not found");
    vec![level.isolation.to_string(), started, open, escape::line(runtime)]
}
