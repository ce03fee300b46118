//! Control groups: how much of the machine a container may use.
//!
//! Kernels offer two interfaces, and a machine may have controllers on both at once ("hybrid"): version 1, where each
//! controller has a tree of its own, and version 2, one tree for all. Where each controller is is read from the
//! mounts. A container's group is `vestibule/INSTANCE` below a place where this process may make groups. Where it may
//! not, containers run without that limit, and the log says so once.
//!
//! **Speed.** Moving a process into a group makes the kernel wait for every processor to pass a quiet point, some 10 ms
//! in the median here and by far the longest step of a start. Further moves right behind the first cost next to
//! nothing. So all moves are made in a row, on a thread of their own, while the container sets itself up.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::quantity::Limits;
use crate::driver::{Processors, Share};

/// Processes and threads of one container.
pub(in crate::driver) const MAX_PROCESSES: u32 = 1_024;
/// Microseconds in which a container may use so much of processors.
pub(in crate::driver) const PERIOD: u64 = 100_000;
/// Microseconds in a period for a container that serves nothing: the least that the kernel can be told.
const IDLE_QUOTA: u64 = 1_000;
/// Name of the group of all containers.
const FOLDER: &str = "vestibule";
/// Where this process goes if its own group has to become the parent of others (version 2).
const LEAF: &str = "vestibule-serve";
/// How often the removal of a group is tried whose last process is on its way out.
const REMOVALS: u32 = 100;
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Controller {
    Cpu,
    Memory,
    Pids,
}

const CONTROLLERS: [Controller; 3] = [Controller::Cpu, Controller::Memory, Controller::Pids];

impl fmt::Display for Controller {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
        })
    }
}

/// Which interface a controller has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Where groups can be made.
#[derive(Debug, Clone, Default)]
pub(super) struct ControlGroups {
    places: BTreeMap<Controller, (Version, PathBuf)>,
}

/// A mounted tree and where this process is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tree {
    version: Version,
    controllers: Vec<Controller>,
    mounted: PathBuf,
    own: PathBuf,
}

impl ControlGroups {
    /// Finds out what this process may limit.
    pub(super) fn find() -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        let trees = trees(&read("mountinfo"), &read("cgroup"));
        let mut found = Self::default();
        for tree in &trees {
            for controller in tree.usable() {
                found.places.entry(controller.0).or_insert((tree.version, controller.1));
            }
        }
        found
    }

    /// What cannot be limited.
    pub(super) fn missing(&self) -> Vec<Controller> {
        CONTROLLERS.into_iter().filter(|controller| !self.places.contains_key(controller)).collect()
    }

    /// Makes the group of an instance, with its limits in force.
    pub(super) fn create(&self, instance_id: &str, limits: Limits) -> io::Result<Group> {
        let group = self.group(instance_id);
        for folder in group.folders() {
            fs::create_dir_all(folder)?;
        }
        for (controller, (version, folder)) in &group.places {
            for (name, value, needed) in settings(*controller, *version, limits) {
                let written = fs::write(folder.join(name), value);
                if needed {
                    written.map_err(|error| {
                        io::Error::new(error.kind(), format!("limiting {controller}: {error}"))
                    })?;
                }
            }
        }
        Ok(group)
    }

    /// Removes the group of all containers if it is empty. Another process may make it again at any time, but under
    /// version 2 it could not hand controllers down to it, so there it stays.
    pub(super) fn leave(&self) {
        for (version, place) in self.places.values() {
            if *version == Version::One {
                let _ = fs::remove_dir(place);
            }
        }
    }

    fn group(&self, instance_id: &str) -> Group {
        let inside = |(controller, (version, place)): (&Controller, &(Version, PathBuf))| {
            (*controller, (*version, place.join(instance_id)))
        };
        Group { places: self.places.iter().map(inside).collect() }
    }

    /// Ends what is left in the group of an instance that a gone runtime left behind, and removes the group.
    pub(super) fn clear(&self, instance_id: &str) {
        let group = self.group(instance_id);
        for folder in group.folders() {
            let left = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            // Nothing else is ever put into this group, so whoever is in it is of that instance.
            for pid in left.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        group.remove();
    }
}

/// Microseconds of processors in a period.
pub(in crate::driver) fn quota(limits: Limits) -> u64 {
    (limits.cpu * PERIOD / 1_000).max(IDLE_QUOTA)
}

/// Files of a controller, what to write to them, and whether it is an error if that fails.
fn settings(controller: Controller, version: Version, limits: Limits) -> Vec<(&'static str, String, bool)> {
    let quota = quota(limits);
    let memory = limits.memory.to_string();
    match (controller, version) {
        (Controller::Cpu, Version::One) => vec![
            ("cpu.cfs_period_us", PERIOD.to_string(), true),
            ("cpu.cfs_quota_us", quota.to_string(), true),
        ],
        (Controller::Cpu, Version::Two) => vec![("cpu.max", format!("{quota} {PERIOD}"), true)],
        (Controller::Memory, Version::One) => vec![
            ("memory.limit_in_bytes", memory.clone(), true),
            // Swap would let a container use more. A kernel without swap has no such file.
            ("memory.memsw.limit_in_bytes", memory, false),
        ],
        (Controller::Memory, Version::Two) => vec![
            ("memory.max", memory, true),
            ("memory.swap.max", "0".to_owned(), false),
            // A program of which a part was ended is in no good state.
            ("memory.oom.group", "1".to_owned(), false),
        ],
        (Controller::Pids, _) => vec![("pids.max", MAX_PROCESSES.to_string(), true)],
    }
}

/// The group of one instance.
#[derive(Debug, Clone)]
pub(super) struct Group {
    places: BTreeMap<Controller, (Version, PathBuf)>,
}

/// What a group gets of processors.
#[derive(Debug)]
pub(in crate::driver) struct Allotment {
    file: fs::File,
    full: String,
    idle: String,
}

impl Allotment {
    /// That of a process which somebody else has put into a group, where this process may change it.
    pub(in crate::driver) fn of_process(pid: u32, limits: Limits) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let mut trees = trees(&mounts, &own).into_iter();
        let tree = trees.find(|tree| tree.controllers.contains(&Controller::Cpu))?;
        Self::open(tree.version, &tree.own, limits)
    }

    fn open(version: Version, folder: &Path, limits: Limits) -> Option<Self> {
        let quota = quota(limits);
        let (name, text): (_, fn(u64) -> String) = match version {
            Version::One => ("cpu.cfs_quota_us", |quota| quota.to_string()),
            Version::Two => ("cpu.max", |quota| format!("{quota} {PERIOD}")),
        };
        let file = fs::File::options().write(true).open(folder.join(name)).ok()?;
        Some(Allotment { file, full: text(quota), idle: text(quota.min(IDLE_QUOTA)) })
    }
}

impl Processors for Allotment {
    fn allot(&self, share: Share) {
        let text = match share {
            Share::Full => &self.full,
            Share::Idle => &self.idle,
        };
        // Fails when the group is gone, and then it does not matter.
        let _ = self.file.write_at(text.as_bytes(), 0);
    }
}

/// What the kernel says about the memory of the control group that this process is in, where it is in a container that
/// shows it no other: bytes that may be used and bytes that were, if it ended something because that was too much.
pub(in crate::driver) fn own_out_of_memory() -> Option<(u64, u64)> {
    let root = Path::new("/sys/fs/cgroup");
    let places = [(Version::One, root.join("memory")), (Version::Two, root.to_owned())];
    places.into_iter().find_map(|place| {
        let group = Group { places: BTreeMap::from([(Controller::Memory, place)]) };
        group.out_of_memory().map(|found| (found.limit, found.used))
    })
}

/// An instance that used too much memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutOfMemory {
    /// Bytes.
    pub(super) limit: u64,
    /// Bytes.
    pub(super) used: u64,
}

impl Group {
    /// Its folders, each once: controllers may share one.
    fn folders(&self) -> Vec<&Path> {
        let mut folders: Vec<&Path> = self.places.values().map(|(_, folder)| folder.as_path()).collect();
        folders.dedup();
        folders.sort();
        folders.dedup();
        folders
    }

    /// The way to change its share of processors while it runs, if that is limited at all.
    pub(super) fn processors(&self, limits: Limits) -> Option<Allotment> {
        let (version, folder) = self.places.get(&Controller::Cpu)?;
        Allotment::open(*version, folder, limits)
    }
    /// Moves a process into it. Blocks for some milliseconds. One that has ended needs no limits.
    pub(super) fn add(&self, pid: i32) -> io::Result<()> {
        for folder in self.folders() {
            match fs::write(folder.join("cgroup.procs"), pid.to_string()) {
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
                other => other?,
            }
        }
        Ok(())
    }

    /// Whether the kernel ended something in it because there was not enough memory.
    pub(super) fn out_of_memory(&self) -> Option<OutOfMemory> {
        let (version, folder) = self.places.get(&Controller::Memory)?;
        let (events, limit, used) = match version {
            Version::One => ("memory.oom_control", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
            Version::Two => ("memory.events", "memory.max", "memory.peak"),
        };
        let events = fs::read_to_string(folder.join(events)).ok()?;
        let kills =
            events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())?;
        if kills == 0 {
            return None;
        }
        let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
        let limit = number(limit)?;
        Some(OutOfMemory { limit, used: number(used).unwrap_or(limit) })
    }

    /// Removes it. Its processes must have ended; the last of them may still be on its way out of it.
    pub(super) fn remove(&self) {
        for folder in self.folders() {
            for _ in 0..REMOVALS {
                match fs::remove_dir(folder) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => std::thread::sleep(PAUSE),
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        tracing::warn!(folder = %folder.display(), %error, "a control group stays");
                        break;
                    }
                    _ => break,
                }
            }
        }
    }
}

/// Reads `/proc/self/mountinfo` and `/proc/self/cgroup`.
fn trees(mounts: &str, own: &str) -> Vec<Tree> {
    mounts.lines().filter_map(|line| tree(line, own)).collect()
}

fn tree(mount: &str, own: &str) -> Option<Tree> {
    let (front, back) = mount.split_once(" - ")?;
    let mut front = front.split(' ').skip(3);
    let (root, mounted) = (front.next()?, PathBuf::from(front.next()?));
    let mut back = back.split(' ');
    let (kind, options) = (back.next()?, back.nth(1)?);
    let (version, controllers) = match kind {
        "cgroup" => {
            let has =
                |controller: &Controller| options.split(',').any(|option| option == controller.to_string());
            (Version::One, CONTROLLERS.into_iter().filter(has).collect::<Vec<_>>())
        }
        "cgroup2" => {
            let offered = fs::read_to_string(mounted.join("cgroup.controllers")).unwrap_or_default();
            let has = |controller: &Controller| {
                offered.split_whitespace().any(|name| name == controller.to_string())
            };
            (Version::Two, CONTROLLERS.into_iter().filter(has).collect())
        }
        _ => return None,
    };
    let first = controllers.first()?;
    // `ID:CONTROLLERS:PATH`, with no controllers for version 2.
    let path = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, path) = (fields.next()?, fields.next()?);
        let mine = match version {
            Version::One => names.split(',').any(|name| name == first.to_string()),
            Version::Two => names.is_empty(),
        };
        mine.then_some(path)
    })?;
    // Inside a container the mount shows only a part of the tree.
    let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
    let own = mounted.join(below.strip_prefix("/").unwrap_or(below));
    Some(Tree { version, controllers, mounted, own })
}

impl Tree {
    /// Controllers for which groups can be made here, and below which folder.
    fn usable(&self) -> Vec<(Controller, PathBuf)> {
        let places = [&self.own, &self.mounted];
        for place in places {
            let usable = match self.version {
                Version::One => fs::create_dir_all(place.join(FOLDER)).is_ok(),
                Version::Two => self.delegate(place).is_ok(),
            };
            if usable {
                let folder = place.join(FOLDER);
                let works = |controller: &Controller| probe(&folder, *controller, self.version).is_ok();
                let working = self.controllers.iter().copied().filter(works);
                let found: Vec<_> = working.map(|controller| (controller, folder.clone())).collect();
                if !found.is_empty() {
                    return found;
                }
            }
        }
        Vec::new()
    }

    /// Makes `place` hand its controllers down to groups below it (version 2). A group that does so must have no
    /// processes of its own, the root excepted; if this process is the only one in it, it moves out of the way.
    fn delegate(&self, place: &Path) -> io::Result<()> {
        let wanted: Vec<String> =
            self.controllers.iter().map(|controller| format!("+{controller}")).collect();
        let wanted = wanted.join(" ");
        let enable = |place: &Path| fs::write(place.join("cgroup.subtree_control"), &wanted);
        if enable(place).is_err() {
            let own = std::process::id().to_string();
            let inside = fs::read_to_string(place.join("cgroup.procs"))?;
            if inside.lines().any(|pid| pid != own) {
                return Err(io::Error::other("other processes are in the group"));
            }
            let leaf = place.join(LEAF);
            fs::create_dir_all(&leaf)?;
            fs::write(leaf.join("cgroup.procs"), own)?;
            enable(place)?;
        }
        let folder = place.join(FOLDER);
        fs::create_dir_all(&folder)?;
        enable(&folder)
    }
}

/// Whether a limit can be set in a group below `folder`.
fn probe(folder: &Path, controller: Controller, version: Version) -> io::Result<()> {
    let probe = folder.join(format!("probe-{:016x}", fastrand::u64(..)));
    fs::create_dir(&probe)?;
    let limits = Limits { cpu: 1_000, memory: 1 << 30 };
    let mut needed = settings(controller, version, limits).into_iter().filter(|(_, _, needed)| *needed);
    let written = needed.try_for_each(|(name, value, _)| fs::write(probe.join(name), value));
    fs::remove_dir(&probe)?;
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str =
        "8:pids:/\n4:memory:/a/b\n2:cpu,cpuacct:/docker/x/y\n1:name=systemd:/\n0::/user.slice\n";

    fn one(line: &str) -> Option<Tree> {
        tree(line, OWN)
    }

    #[test]
    fn finds_trees_of_both_versions() {
        let found =
            one("40 25 0:35 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory").unwrap();
        assert_eq!((found.version, &*found.controllers), (Version::One, &[Controller::Memory][..]));
        assert_eq!(found.own, Path::new("/sys/fs/cgroup/memory/a/b"));
        // In a container, where the mount is a part of the tree.
        let found = one("41 25 0:36 /docker/x /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct").unwrap();
        assert_eq!((found.own, &*found.controllers), (PathBuf::from("/cg/cpu/y"), &[Controller::Cpu][..]));
        for nothing in [
            "42 25 0:37 / /cg/systemd rw - cgroup cgroup rw,name=systemd",
            "43 25 0:38 / /nowhere rw - cgroup2 cgroup2 rw",
            "44 25 0:39 / /proc rw - proc proc rw",
            "junk",
            "",
        ] {
            assert_eq!(one(nothing), None, "{nothing}");
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cgroup.controllers"), "cpuset cpu memory\n").unwrap();
        let line = format!("45 25 0:40 / {} rw - cgroup2 cgroup2 rw", folder.path().display());
        let found = one(&line).unwrap();
        assert_eq!((found.version, found.controllers.len()), (Version::Two, 2));
        assert_eq!(found.own, folder.path().join("user.slice"));
    }

    /// Ordinary folders in the place of groups: what is written is what counts.
    #[test]
    fn limits_of_both_versions_side_by_side() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let groups = ControlGroups {
            places: BTreeMap::from([
                (Controller::Cpu, (Version::Two, place("unified"))),
                (Controller::Memory, (Version::One, place("memory"))),
                (Controller::Pids, (Version::Two, place("unified"))),
            ]),
        };
        assert!(groups.missing().is_empty());
        let group = groups.create("i", Limits { cpu: 1_500, memory: 1 << 20 }).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        assert_eq!(read("unified/i/cpu.max"), "150000 100000");
        assert_eq!(read("memory/i/memory.limit_in_bytes"), "1048576");
        assert_eq!(read("unified/i/pids.max"), "1024");
        assert!(!place("unified/i/memory.max").exists());
        group.add(7).unwrap();
        assert_eq!((read("unified/i/cgroup.procs"), read("memory/i/cgroup.procs")), ("7".into(), "7".into()));
        assert_eq!(group.out_of_memory(), None);
        fs::write(place("memory/i/memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
            .unwrap();
        fs::write(place("memory/i/memory.max_usage_in_bytes"), "1048577\n").unwrap();
        let expected = OutOfMemory { limit: 1 << 20, used: (1 << 20) + 1 };
        assert_eq!(group.out_of_memory(), Some(expected));
    }

    #[test]
    fn each_version_has_its_own_files() {
        let limits = Limits { cpu: 250, memory: 512 << 20 };
        let of = |controller, version| {
            settings(controller, version, limits)
                .into_iter()
                .map(|(name, value, _)| format!("{name}={value}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(Controller::Cpu, Version::One), ["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=25000"]);
        assert_eq!(of(Controller::Cpu, Version::Two), ["cpu.max=25000 100000"]);
        assert_eq!(of(Controller::Memory, Version::Two)[..2], ["memory.max=536870912", "memory.swap.max=0"]);
        assert_eq!(of(Controller::Pids, Version::One), of(Controller::Pids, Version::Two));
    }
}
