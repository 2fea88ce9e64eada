//! Who root inside a sandbox is outside.

use std::path::Path;

use protocol::SandboxId;

/// Ids in a range: as many as a usual system has.
const COUNT: u32 = 65_536;
/// Above the ranges that distributions and systemd give to containers and users.
const FIRST: u32 = 1_900_000_000;

/// The ids of the host that the ids of every sandbox map to.
///
/// One range for all sandboxes, so that layers are shared and files can be taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) count: u32,
}

impl Owner {
    /// For root, a range that belongs to nobody; for anyone else, only themselves. Root of a
    /// container that has no such range is as anyone else.
    pub(crate) fn of_this_process() -> Self {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let first = free_range(&["/etc/subuid", "/etc/subgid"].map(read).concat());
        let exists = ["/proc/self/uid_map", "/proc/self/gid_map"]
            .map(read)
            .iter()
            .all(|map| holds_range(map, first));
        if uid.is_root() && exists {
            return Self { uid: first, gid: first, count: COUNT };
        }
        Self { uid: uid.as_raw(), gid: gid.as_raw(), count: 1 }
    }

    pub(super) const fn is_range(self) -> bool {
        self.count > 1
    }

    /// Gives a file to root inside.
    pub(crate) fn give(self, path: &Path) -> std::io::Result<()> {
        if self.is_range() {
            std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid))?;
        }
        Ok(())
    }
}

/// Whether the ids of a range exist in a user namespace with this map.
fn holds_range(map: &str, first: u32) -> bool {
    map.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (Some(Ok(start)), Some(Ok(count))) = (fields.next(), fields.nth(1)) else {
            return false;
        };
        start <= first && first.saturating_add(COUNT) <= start.saturating_add(count)
    })
}

/// The first range from [`FIRST`] on that no line of `/etc/subuid` or `/etc/subgid` touches.
fn free_range(given: &str) -> u32 {
    let taken: Vec<(u32, u32)> = given
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':').skip(1).map(str::parse::<u32>);
            let (first, count) = (fields.next()?.ok()?, fields.next()?.ok()?);
            Some((first, first.saturating_add(count)))
        })
        .collect();
    let is_free = |start: u32| {
        taken.iter().all(|(first, end)| start.saturating_add(COUNT) <= *first || *end <= start)
    };
    (0..1000).map(|index| FIRST + index * COUNT).find(|start| is_free(*start)).unwrap_or(FIRST)
}

/// The sandbox's name on its own network.
pub(super) fn hostname(id: SandboxId) -> String {
    format!("hangar-{}", id.short())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_may_lack_the_range() {
        assert!(holds_range("         0          0 4294967295\n", FIRST));
        assert!(!holds_range("0 100000 65536\n", FIRST));
        assert!(!holds_range("", FIRST));
    }

    #[test]
    fn ranges_given_to_others_are_avoided() {
        assert_eq!(free_range(""), FIRST);
        assert_eq!(free_range("ada:100000:65536\nodd line\n"), FIRST);
        assert_eq!(free_range(&format!("ada:{}:10\n", FIRST + 5)), FIRST + COUNT);
        assert_eq!(free_range(&format!("ada:0:{}\n", u32::MAX)), FIRST, "nothing is free");
    }
}
