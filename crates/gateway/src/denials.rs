//! Keeps a flood of denials from becoming a flood of reports: told once per host and minute.

use std::collections::HashMap;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_mins(1);
/// Hosts remembered at once; beyond them all further hosts share one place.
const HOSTS: usize = 256;

/// The denials of one sandbox in the last minute.
#[derive(Debug)]
pub(crate) struct Denials {
    hosts: HashMap<String, Told>,
    began: Option<Instant>,
    in_window: u64,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    since: u64,
}

/// What to do about one denial.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Advice {
    /// Tell the observer, with this count.
    pub(crate) tell: Option<u64>,
    /// Denials in this minute, this one included.
    pub(crate) in_window: u64,
}

impl Denials {
    pub(crate) fn new() -> Self {
        Self { hosts: HashMap::new(), began: None, in_window: 0 }
    }

    /// Counts one denial about `host`.
    pub(crate) fn note(&mut self, host: &str, now: Instant) -> Advice {
        if self.began.is_none_or(|began| now.duration_since(began) >= WINDOW) {
            self.began = Some(now);
            self.in_window = 0;
        }
        self.in_window += 1;
        if self.hosts.len() >= HOSTS {
            // One that still has something to tell must stay, or its count would be lost.
            self.hosts.retain(|_, told| told.since > 0 || now.duration_since(told.at) < WINDOW);
        }
        let known = self.hosts.contains_key(host);
        let host = if known || self.hosts.len() < HOSTS { host } else { "" };
        let tell = match self.hosts.get_mut(host) {
            Some(told) if now.duration_since(told.at) < WINDOW => {
                told.since += 1;
                None
            }
            Some(told) => {
                let count = told.since + 1;
                *told = Told { at: now, since: 0 };
                Some(count)
            }
            None => {
                self.hosts.insert(host.to_owned(), Told { at: now, since: 0 });
                Some(1)
            }
        };
        Advice { tell, in_window: self.in_window }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_told_once_a_minute_with_its_count() {
        let start = Instant::now();
        let mut denials = Denials::new();
        assert_eq!(denials.note("a:443", start).tell, Some(1));
        for second in 1..=9 {
            assert_eq!(denials.note("a:443", start + Duration::from_secs(second)).tell, None);
        }
        assert_eq!(denials.note("b:443", start + Duration::from_secs(10)).tell, Some(1));
        let later = denials.note("a:443", start + WINDOW);
        assert_eq!(later, Advice { tell: Some(10), in_window: 1 });
    }

    #[test]
    fn many_hosts_take_bounded_memory() {
        let start = Instant::now();
        let mut denials = Denials::new();
        let told = (0..10_000).filter(|host| denials.note(&host.to_string(), start).tell.is_some());
        assert_eq!(told.count(), HOSTS + 1);
        assert_eq!(denials.hosts.len(), HOSTS + 1);
        assert_eq!(denials.note("another", start).in_window, 10_001);
    }
}
