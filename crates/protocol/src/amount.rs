//! Amounts as people write and read them: `2GiB`, `1.5` cores, `2h`, `100Mbit`.

use std::fmt;

use crate::sandbox::{LimitName, LimitRequest, Limits};

/// A text that is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}: write {example}")]
pub struct ParseAmountError {
    text: String,
    what: &'static str,
    example: &'static str,
}

/// Units with what one of them is worth, the first one for people first.
type Units = &'static [(&'static str, u64)];

const BYTES: Units = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("KB", 1000),
    ("B", 1),
    ("", 1),
];
const SECONDS: Units = &[
    ("d", 86_400),
    ("h", 3600),
    ("min", 60),
    ("m", 60),
    ("s", 1),
    // A bare number could mean hours to one person and seconds to the next.
];
const BITS: Units = &[
    ("Gbit/s", 1_000_000_000),
    ("Mbit/s", 1_000_000),
    ("kbit/s", 1000),
    ("bit/s", 1),
    ("Gbit", 1_000_000_000),
    ("Mbit", 1_000_000),
    ("kbit", 1000),
    ("bit", 1),
];
/// In thousandths of a core.
const CORES: Units = &[("cores", 1000), ("core", 1000), ("m", 1), ("", 1000)];

/// Bytes: `512MiB`, `2 GiB`, `1.5GB`, `4096`.
pub fn parse_bytes(text: &str) -> Result<u64, ParseAmountError> {
    parse(text, BYTES, "a size", "it with a unit, such as `512MiB` or `2GiB`")
}

/// Seconds: `90s`, `30min`, `2h`, `1d`.
pub fn parse_seconds(text: &str) -> Result<u64, ParseAmountError> {
    parse(text, SECONDS, "a time", "it with a unit, such as `90s`, `30min` or `2h`")
}

/// Bits per second: `100Mbit`, `1Gbit/s`.
pub fn parse_bit_rate(text: &str) -> Result<u64, ParseAmountError> {
    parse(text, BITS, "a rate", "bits per second with a unit, such as `100Mbit` or `1Gbit`")
}

/// Thousandths of a core: `2`, `1.5`, `500m`.
pub fn parse_millicores(text: &str) -> Result<u32, ParseAmountError> {
    const EXAMPLE: &str = "how many, such as `2`, `1.5` or `500m`";
    let what = "a number of cores";
    let parsed = parse(text, CORES, what, EXAMPLE)?;
    let error = |_| ParseAmountError { text: text.to_owned(), what, example: EXAMPLE };
    u32::try_from(parsed).map_err(error)
}

/// A number of processes: `512`.
pub fn parse_count(text: &str) -> Result<u32, ParseAmountError> {
    let error = |_| ParseAmountError {
        text: text.to_owned(),
        what: "a number of processes",
        example: "it as in `512`",
    };
    text.trim().parse().map_err(error)
}

// In integers all the way: `1.1GiB` must mean the same number everywhere.
fn parse(
    text: &str,
    units: Units,
    what: &'static str,
    example: &'static str,
) -> Result<u64, ParseAmountError> {
    let amount = || {
        let trimmed = text.trim();
        let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(end);
        let worth = units.iter().find(|(name, _)| *name == unit.trim_start())?.1;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 {
            return None;
        }
        let digits = u32::try_from(fraction.len()).ok()?;
        let parts = fraction.parse::<u128>().ok()? * u128::from(worth) / 10_u128.pow(digits);
        let whole = whole.parse::<u64>().ok()?.checked_mul(worth)?;
        whole.checked_add(u64::try_from(parts).ok()?)
    };
    amount().ok_or_else(|| ParseAmountError { text: text.to_owned(), what, example })
}

impl LimitName {
    /// Every limit, in the order in which people are told of them.
    pub const ALL: [Self; 6] =
        [Self::Memory, Self::Cpu, Self::Pids, Self::Disk, Self::RunTime, Self::Egress];

    /// Reads an amount of this limit, in the unit it is counted in.
    pub fn parse_amount(self, text: &str) -> Result<u64, ParseAmountError> {
        match self {
            Self::Memory | Self::Disk => parse_bytes(text),
            Self::Cpu => parse_millicores(text).map(u64::from),
            Self::Pids => parse_count(text).map(u64::from),
            Self::RunTime => parse_seconds(text),
            Self::Egress => parse_bit_rate(text),
        }
    }

    /// An amount of this limit for people: `4 GiB`, `1.5 cores`, `512 processes`, `2 h`.
    pub fn show(self, amount: u64) -> String {
        match self {
            Self::Memory | Self::Disk => scaled(amount, &BYTES[..4], "bytes"),
            Self::Cpu => match amount {
                1000 => "1 core".to_owned(),
                amount => format!("{} cores", decimal(amount, 1000)),
            },
            Self::Pids => format!("{amount} processes"),
            Self::RunTime => time(amount),
            Self::Egress => scaled(amount, &BITS[..3], "bit/s"),
        }
    }
}

/// With the largest unit of which there is at least one.
fn scaled(amount: u64, units: Units, least: &str) -> String {
    match units.iter().find(|(_, worth)| amount >= *worth) {
        Some((unit, worth)) => format!("{} {unit}", decimal(amount, *worth)),
        None => format!("{amount} {least}"),
    }
}

/// Two digits after the point at most, cut and not rounded: nobody is told they have more.
fn decimal(amount: u64, worth: u64) -> String {
    let hundredths = u128::from(amount % worth) * 100 / u128::from(worth);
    let text = format!("{}.{hundredths:02}", amount / worth);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn time(seconds: u64) -> String {
    let parts = [("h", seconds / 3600), ("min", seconds % 3600 / 60), ("s", seconds % 60)];
    let shown: Vec<_> =
        parts.iter().filter(|part| part.1 > 0).map(|(unit, n)| format!("{n} {unit}")).collect();
    if shown.is_empty() { "0 s".to_owned() } else { shown.join(" ") }
}

/// An amount that fits the field of [`Limits`] it is for, or the largest one that does.
fn narrow(amount: u64) -> u32 {
    u32::try_from(amount).unwrap_or(u32::MAX)
}

impl Limits {
    /// The least a sandbox can live with.
    pub const LEAST: Self = Self {
        memory_bytes: 64 << 20,
        cpu_millicores: 50,
        pids: 16,
        disk_bytes: 16 << 20,
        run_seconds: 1,
        egress_bits_per_second: 8000,
    };

    /// What anybody may ask for on a server that says nothing else.
    pub const MOST: Self = Self {
        memory_bytes: 16 << 30,
        cpu_millicores: 8000,
        pids: 4096,
        disk_bytes: 100 << 30,
        run_seconds: 24 * 3600,
        egress_bits_per_second: 10_000_000_000,
    };

    /// One of them, in the unit it is counted in.
    pub const fn get(&self, limit: LimitName) -> u64 {
        match limit {
            LimitName::Memory => self.memory_bytes,
            LimitName::Cpu => self.cpu_millicores as u64,
            LimitName::Pids => self.pids as u64,
            LimitName::Disk => self.disk_bytes,
            LimitName::RunTime => self.run_seconds,
            LimitName::Egress => self.egress_bits_per_second,
        }
    }

    /// Changes one of them.
    pub fn set(&mut self, limit: LimitName, amount: u64) {
        match limit {
            LimitName::Memory => self.memory_bytes = amount,
            LimitName::Cpu => self.cpu_millicores = narrow(amount),
            LimitName::Pids => self.pids = narrow(amount),
            LimitName::Disk => self.disk_bytes = amount,
            LimitName::RunTime => self.run_seconds = amount,
            LimitName::Egress => self.egress_bits_per_second = amount,
        }
    }
}

impl LimitRequest {
    /// What is asked for of one limit.
    pub fn get(&self, limit: LimitName) -> Option<u64> {
        match limit {
            LimitName::Memory => self.memory_bytes,
            LimitName::Cpu => self.cpu_millicores.map(u64::from),
            LimitName::Pids => self.pids.map(u64::from),
            LimitName::Disk => self.disk_bytes,
            LimitName::RunTime => self.run_seconds,
            LimitName::Egress => self.egress_bits_per_second,
        }
    }

    /// Asks for an amount of one limit, or no longer for any.
    pub fn set(&mut self, limit: LimitName, amount: Option<u64>) {
        match limit {
            LimitName::Memory => self.memory_bytes = amount,
            LimitName::Cpu => self.cpu_millicores = amount.map(narrow),
            LimitName::Pids => self.pids = amount.map(narrow),
            LimitName::Disk => self.disk_bytes = amount,
            LimitName::RunTime => self.run_seconds = amount,
            LimitName::Egress => self.egress_bits_per_second = amount,
        }
    }
}

impl fmt::Display for LimitName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // People know it by two words.
        formatter.write_str(match self {
            Self::RunTime => "run time",
            other => other.as_str(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly() {
        for (limit, text, amount) in [
            (LimitName::Memory, "512MiB", 512 << 20),
            (LimitName::Memory, " 2 GiB ", 2 << 30),
            (LimitName::Disk, "1.5GB", 1_500_000_000),
            (LimitName::Disk, "4096", 4096),
            (LimitName::Cpu, "2", 2000),
            (LimitName::Cpu, "1.5", 1500),
            (LimitName::Cpu, "250m", 250),
            (LimitName::Pids, "512", 512),
            (LimitName::RunTime, "90s", 90),
            (LimitName::RunTime, "1.5h", 5400),
            (LimitName::Egress, "100Mbit", 100_000_000),
            (LimitName::Egress, "1Gbit/s", 1_000_000_000),
        ] {
            assert_eq!(limit.parse_amount(text), Ok(amount), "{limit} {text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused_with_an_example() {
        for (limit, text) in [
            (LimitName::Memory, "lots"),
            (LimitName::Memory, "-1GiB"),
            (LimitName::Memory, ".5GiB"),
            (LimitName::Memory, "1.GiB"),
            (LimitName::Memory, "1.2.3GiB"),
            (LimitName::Memory, "2gib"),
            (LimitName::Memory, "99999999999TiB"),
            (LimitName::Cpu, "9999999999"),
            (LimitName::Pids, "1.5"),
            (LimitName::RunTime, "4"),
            (LimitName::Egress, "1GiB"),
            (LimitName::Egress, ""),
        ] {
            let error = limit.parse_amount(text).expect_err(text).to_string();
            assert!(error.contains("write ") && error.contains(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn amounts_are_shown_with_one_sensible_unit() {
        for (limit, amount, text) in [
            (LimitName::Memory, 4 << 30, "4 GiB"),
            (LimitName::Memory, (1 << 30) + (1 << 29), "1.5 GiB"),
            (LimitName::Disk, 100, "100 bytes"),
            (LimitName::Cpu, 1000, "1 core"),
            (LimitName::Cpu, 1500, "1.5 cores"),
            (LimitName::Cpu, 20, "0.02 cores"),
            (LimitName::Pids, 512, "512 processes"),
            (LimitName::RunTime, 4 * 3600, "4 h"),
            (LimitName::RunTime, 5430, "1 h 30 min 30 s"),
            (LimitName::RunTime, 0, "0 s"),
            (LimitName::Egress, 1_000_000_000, "1 Gbit/s"),
            (LimitName::Egress, 500, "500 bit/s"),
        ] {
            assert_eq!(limit.show(amount), text);
        }
    }

    #[test]
    fn the_defaults_lie_between_the_least_and_the_most() {
        for limit in LimitName::ALL {
            let amounts = [Limits::LEAST, Limits::default(), Limits::MOST].map(|it| it.get(limit));
            assert!(amounts.is_sorted(), "{limit}: {amounts:?}");
        }
    }

    #[test]
    fn what_is_set_is_what_is_got() {
        let (mut limits, mut request) = (Limits::default(), LimitRequest::default());
        for (limit, amount) in LimitName::ALL.into_iter().zip(77..) {
            limits.set(limit, amount);
            request.set(limit, Some(amount));
        }
        for (limit, amount) in LimitName::ALL.into_iter().zip(77..) {
            assert_eq!((limits.get(limit), request.get(limit)), (amount, Some(amount)), "{limit}");
            request.set(limit, None);
        }
        assert!(request.is_empty());
    }
}
