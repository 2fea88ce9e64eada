//! Durations, moments, sizes and tables as people read them.

use protocol::Timestamp;

use crate::escape;

/// `12 ms`, `3.4 s`, `2 min 5 s`.
pub fn duration(milliseconds: u64) -> String {
    match milliseconds {
        0..1000 => format!("{milliseconds} ms"),
        1000..60_000 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        60_000..3_600_000 => {
            format!("{} min {} s", milliseconds / 60_000, milliseconds % 60_000 / 1000)
        }
        _ => format!("{} h {} min", milliseconds / 3_600_000, milliseconds % 3_600_000 / 60_000),
    }
}

/// The milliseconds between two moments; none if they are in the wrong order.
pub fn between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.milliseconds_since(from)).unwrap_or(0)
}

/// `just now`, `5 minutes ago`, `3 days ago`.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = between(then, now) / 1000;
    let (count, unit) = match seconds {
        0..60 => return "just now".to_owned(),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

/// `512 bytes`, `4.0 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} bytes");
    }
    let mut tenths = u128::from(count) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// The first digits of a commit.
pub fn commit(commit: &str) -> String {
    escape::line(&commit.chars().take(10).collect::<String>())
}

/// Rows in columns as wide as their widest cell, two blanks between; the last column is not padded.
pub fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    rows.iter().map(|row| table_row(row, &widths)).collect()
}

fn table_row(row: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in row.iter().zip(widths) {
        line.push_str(cell);
        let padding = width + 2 - cell.chars().count();
        line.extend(std::iter::repeat_n(' ', padding));
    }
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_sensible_unit() {
        let read = [0, 999, 1000, 3456, 59_999, 60_000, 125_000, 3_660_000].map(duration);
        let expected =
            ["0 ms", "999 ms", "1.0 s", "3.4 s", "59.9 s", "1 min 0 s", "2 min 5 s", "1 h 1 min"];
        assert_eq!(read, expected);
    }

    #[test]
    fn moments_are_told_from_now() {
        let now = Timestamp(1_000_000_000);
        let told = [0, 59_000, 60_000, 7_200_000, 86_400_000 * 3]
            .map(|passed| ago(Timestamp(now.0 - passed), now));
        assert_eq!(told, ["just now", "just now", "1 minute ago", "2 hours ago", "3 days ago"]);
        assert_eq!(ago(Timestamp(now.0 + 5000), now), "just now");
    }

    #[test]
    fn sizes_are_binary() {
        let sizes = [17, 1024, 1536, 4 << 30, u64::MAX].map(bytes);
        assert_eq!(sizes[..4], ["17 bytes", "1.0 KiB", "1.5 KiB", "4.0 GiB"]);
        assert!(sizes[4].ends_with(" TiB"));
    }

    #[test]
    fn columns_line_up() {
        let rows =
            [vec!["a".to_owned(), "longer".to_owned()], vec!["bcd".to_owned(), "x".to_owned()]];
        assert_eq!(table(&rows), ["a    longer", "bcd  x"]);
    }
}
