//! Whom the files of unpacked layers belong to.

use std::fs;

use rustix::process::geteuid;

/// First user and group id of the range that stands for a container's ids. Above the ranges that distributions give to
/// users, to subordinate ids and to systemd's containers, and below 2^31, which some programs take for negative.
pub const BASE: u32 = 2_000_000_000;
/// Ids in that range. A container's ids are below this.
pub const COUNT: u32 = 1 << 20;
/// What an id beyond the range becomes: `nobody`.
const NOBODY: u32 = 65_534;

/// Whom the files of unpacked layers belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// A file of the container's user N belongs to `BASE + N`, whom nobody on this machine is. Takes root.
    Shifted,
    /// All files belong to the user who runs this process, and in the container to the one user there is.
    Own,
}

impl Ownership {
    /// What this process can do.
    pub fn of_this_process() -> Self {
        let maps = ["/proc/self/uid_map", "/proc/self/gid_map"];
        let whole = maps.iter().all(|map| fs::read_to_string(map).is_ok_and(|map| covers(&map)));
        if geteuid().is_root() && whole { Self::Shifted } else { Self::Own }
    }

    /// The id on this machine for an id of the container; `None`: leave the file to whoever makes it.
    pub fn id(self, inside: u64) -> Option<u32> {
        let inside = u32::try_from(inside).ok().filter(|id| *id < COUNT).unwrap_or(NOBODY);
        (self == Self::Shifted).then_some(BASE + inside)
    }

    /// Name of the folder in which layers of this ownership are.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Shifted => "shifted",
            Self::Own => "own",
        }
    }
}

/// Whether a map of a user namespace has the whole range. Lines are: first id inside, first id outside, count.
fn covers(map: &str) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return false;
        };
        first <= u64::from(BASE) && first + count >= u64::from(BASE) + u64::from(COUNT)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_range_will_do() {
        assert!(covers("         0          0 4294967295\n"));
        assert!(covers("0 100 10\n1999999999 5 2000000\n"));
        for map in ["", "0 1000 1", "0 100000 65536", "2000000001 0 1048576", "2000000000 0 1048575", "x y z"]
        {
            assert!(!covers(map), "{map}");
        }
    }

    #[test]
    fn ids_beyond_the_range_are_nobody() {
        assert_eq!(Ownership::Shifted.id(0), Some(BASE));
        assert_eq!(Ownership::Shifted.id(1_000_680_000), Some(BASE + NOBODY));
        assert_eq!(Ownership::Shifted.id(u64::MAX), Some(BASE + NOBODY));
        assert_eq!(Ownership::Own.id(7), None);
    }
}
