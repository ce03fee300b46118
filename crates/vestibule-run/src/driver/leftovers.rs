//! Records of running processes, so that what a killed runtime left behind can be found and ended, and nothing else.
//!
//! Instances die with their runtime because the kernel signals them. What they started in turn may not, and a kernel
//! may be told not to signal, so every process is also written down: one small file in the state directory. A process
//! id alone proves nothing, as it may have been given to another process since. A recorded process counts as left
//! behind only if the machine has not been started anew, the runtime that recorded it is gone, and either the process
//! with that id began at the recorded moment, or it is gone and a process in its group has its environment.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};

use super::{LABEL_CONTAINER, Labels, Listed};

/// Where records are, inside the state directory.
const FOLDER: &str = "run/processes";

/// A folder of records.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    folder: PathBuf,
    owner: Identity,
    boot: String,
}

/// A process that cannot be mistaken for another one on this machine since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    pid: i32,
    /// Clock ticks from the start of the machine to the start of the process.
    began: u64,
}

/// This process, in words that no other process on this machine will ever have: for labels of what it makes.
pub(crate) fn own_label() -> io::Result<String> {
    let own = i32::try_from(std::process::id()).map_err(io::Error::other)?;
    let own = Identity::of(own).ok_or_else(|| io::Error::other("/proc does not show this process"))?;
    Ok(format!("{}:{}:{}", boot_id(), own.pid, own.began))
}

/// Whether the process with this label is gone. What cannot be read as one was not written here, and stays.
pub(crate) fn is_gone(label: &str) -> bool {
    let mut parts = label.split(':');
    let (Some(boot), Some(pid), Some(began), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let (Ok(pid), Ok(began)) = (pid.parse(), began.parse()) else { return false };
    boot != boot_id() || !Identity { pid, began }.runs()
}

/// A process as written down.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) instance_id: String,
    pub(crate) labels: Labels,
    process: Identity,
    owner: Identity,
    boot: String,
    /// `NAME=value` pairs that all processes of the instance inherit and no others have.
    marks: Vec<String>,
}

/// Removes a record when the process is gone.
#[derive(Debug)]
pub(crate) struct Written(PathBuf);

impl Drop for Written {
    fn drop(&mut self) {
        // A record that stays is harmless: the next start sees that its process is gone and removes it.
        let _ = fs::remove_file(&self.0);
    }
}

impl Records {
    pub(crate) fn open(state_dir: &Path) -> io::Result<Self> {
        Self::open_in(state_dir, FOLDER)
    }

    /// Records in a folder of the state directory: each driver has one.
    pub(crate) fn open_in(state_dir: &Path, folder: &str) -> io::Result<Self> {
        let folder = state_dir.join(folder);
        fs::create_dir_all(&folder)?;
        let own = i32::try_from(std::process::id()).map_err(io::Error::other)?;
        let owner = Identity::of(own).ok_or_else(|| io::Error::other("/proc does not show this process"))?;
        Ok(Self { folder, owner, boot: boot_id() })
    }

    /// Writes a process down. `marks` are `NAME=value` pairs in its environment that no other instance has.
    pub(crate) fn write(
        &self,
        instance_id: &str,
        pid: u32,
        labels: &Labels,
        marks: Vec<String>,
    ) -> io::Result<Written> {
        let pid = i32::try_from(pid).map_err(io::Error::other)?;
        let process = Identity::of(pid).unwrap_or(Identity { pid, began: 0 });
        let record = Record {
            instance_id: instance_id.to_owned(),
            labels: labels.clone(),
            process,
            owner: self.owner,
            boot: self.boot.clone(),
            marks,
        };
        let path = self.path(&record);
        fs::write(&path, record.to_json().to_string())?;
        Ok(Written(path))
    }

    /// The file of a record: one for each container of an instance.
    fn path(&self, record: &Record) -> PathBuf {
        let container = record.labels.get(LABEL_CONTAINER).map(|name| format!(".{name}")).unwrap_or_default();
        self.folder.join(format!("{}{container}.json", record.instance_id))
    }

    /// Everything that is written down. Files that cannot be read as records are left alone.
    pub(crate) fn all(&self) -> Vec<Record> {
        let Ok(folder) = fs::read_dir(&self.folder) else { return Vec::new() };
        let read = |path: PathBuf| Record::from_json(&serde_json::from_slice(&fs::read(path).ok()?).ok()?);
        folder.flatten().filter_map(|file| read(file.path())).collect()
    }

    /// Everything that is written down and carries these labels, as drivers list it.
    pub(crate) fn list(&self, labels: &Labels) -> Vec<Listed> {
        let fits = |of: &Labels| labels.iter().all(|(name, value)| of.get(name) == Some(value));
        let records = self.all().into_iter().filter(|record| fits(&record.labels));
        let listed = records.map(|record| Listed {
            left_behind: self.is_left_behind(&record),
            instance_id: record.instance_id,
            labels: record.labels,
        });
        listed.collect()
    }

    /// Whether a runtime that is gone recorded it.
    pub(crate) fn is_left_behind(&self, record: &Record) -> bool {
        record.owner != self.owner && (record.boot != self.boot || !record.owner.runs())
    }

    /// Ends what is left of a process that a gone runtime recorded, and forgets it.
    pub(crate) fn remove(&self, record: &Record) {
        if !self.is_left_behind(record) {
            return;
        }
        if record.boot == self.boot {
            for process in record.remains() {
                tracing::info!(
                    pid = process.pid,
                    instance = record.instance_id,
                    "ending a process left behind"
                );
                process.kill();
            }
        }
        drop(Written(self.path(record)));
    }
}

impl Record {
    /// The processes that are left of it.
    fn remains(&self) -> Vec<Identity> {
        let first = self.process.runs();
        let of_group = |process: &Stat| {
            process.group == self.process.pid && (first || has_marks(process.identity.pid, &self.marks))
        };
        processes().filter(of_group).map(|process| process.identity).collect()
    }

    fn to_json(&self) -> Value {
        let identity = |identity: Identity| json!({ "pid": identity.pid, "began": identity.began });
        json!({
            "instance": self.instance_id,
            "labels": self.labels,
            "process": identity(self.process),
            "owner": identity(self.owner),
            "boot": self.boot,
            "marks": self.marks,
        })
    }

    fn from_json(json: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let identity = |value: &Value| {
            let pid = i32::try_from(value["pid"].as_i64()?).ok().filter(|pid| *pid > 1)?;
            Some(Identity { pid, began: value["began"].as_u64()? })
        };
        let labels = json["labels"].as_object()?.iter();
        Some(Self {
            instance_id: text(&json["instance"])?,
            labels: labels.map(|(name, value)| Some((name.clone(), text(value)?))).collect::<Option<_>>()?,
            process: identity(&json["process"])?,
            owner: identity(&json["owner"])?,
            boot: text(&json["boot"])?,
            marks: json["marks"].as_array()?.iter().map(text).collect::<Option<_>>()?,
        })
    }
}

impl Identity {
    fn of(pid: i32) -> Option<Self> {
        Stat::read(pid).map(|stat| stat.identity)
    }

    fn runs(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Kills exactly this process: the descriptor is taken first and the identity checked afterwards, so the signal
    /// cannot reach another process that got the id in between.
    fn kill(self) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) if self.runs() => drop(pidfd_send_signal(descriptor, Signal::KILL)),
            Ok(_) => {}
            // A kernel without process descriptors: the smallest window there can be.
            Err(rustix::io::Errno::NOSYS) if self.runs() => drop(kill_process(pid, Signal::KILL)),
            Err(_) => {}
        }
    }
}

/// What `/proc/PID/stat` says about a process.
#[derive(Debug)]
struct Stat {
    identity: Identity,
    group: i32,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Fields are counted from the closing parenthesis of the name, which may hold anything (proc(5)).
    fn parse(pid: i32, text: &str) -> Option<Self> {
        let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
        // A zombie is no running process any more.
        if matches!(*fields.first()?, "Z" | "X") {
            return None;
        }
        let group = fields.get(2)?.parse().ok()?;
        let began = fields.get(19)?.parse().ok()?;
        Some(Self { identity: Identity { pid, began }, group })
    }
}

fn processes() -> impl Iterator<Item = Stat> {
    let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
    folders.filter_map(|folder| Stat::read(folder.file_name().to_str()?.parse().ok()?))
}

/// Whether a process has all of these in its environment.
fn has_marks(pid: i32, marks: &[String]) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    let variables: Vec<&[u8]> = environment.split(|byte| *byte == 0).collect();
    !marks.is_empty() && marks.iter().all(|mark| variables.contains(&mark.as_bytes()))
}

/// Changes whenever the machine starts.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command, Stdio};

    fn sleeper(variable: &str) -> Child {
        let mut command = Command::new("sleep");
        command.arg("1000").process_group(0).env("PORT", variable).stdin(Stdio::null());
        command.spawn().unwrap()
    }

    /// A record as another runtime, gone by now, would have written it.
    fn orphan(records: &Records, id: &str, pid: u32, port: &str, began_off: u64) -> Record {
        let marks = vec![format!("PORT={port}")];
        std::mem::forget(records.write(id, pid, &Labels::new(), marks).unwrap());
        let path = records.folder.join(format!("{id}.json"));
        let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(json["owner"]["pid"], std::process::id());
        json["owner"]["began"] = 1.into();
        json["process"]["began"] = (json["process"]["began"].as_u64().unwrap() - began_off).into();
        fs::write(&path, json.to_string()).unwrap();
        Record::from_json(&json).unwrap()
    }

    #[test]
    fn records_survive_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(folder.path()).unwrap();
        let labels = Labels::from([("a".to_owned(), "b".to_owned())]);
        let written = records.write("i", std::process::id(), &labels, vec!["PORT=1".into()]).unwrap();
        fs::write(records.folder.join("junk.json"), "{").unwrap();
        let all = records.all();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].labels, labels);
        assert_eq!(Record::from_json(&all[0].to_json()).as_ref(), Some(&all[0]));
        assert!(!records.is_left_behind(&all[0]));
        drop(written);
        assert!(records.all().is_empty());
    }

    #[test]
    fn only_what_a_gone_runtime_left_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(folder.path()).unwrap();
        let (mut left, mut own, mut stranger) = (sleeper("1"), sleeper("2"), sleeper("3"));
        let record = orphan(&records, "left", left.id(), "1", 0);
        let _own = records.write("own", own.id(), &Labels::new(), vec!["PORT=2".into()]).unwrap();
        // A record of an id that has been given to another process since.
        let reused = orphan(&records, "reused", stranger.id(), "other", 1);

        assert_eq!(records.all().len(), 3);
        for record in &records.all() {
            records.remove(record);
        }
        records.remove(&record);
        records.remove(&reused);
        use std::os::unix::process::ExitStatusExt as _;
        assert_eq!(left.wait().unwrap().signal(), Some(9));
        assert!(own.try_wait().unwrap().is_none(), "ended an instance of a runtime that runs");
        assert!(stranger.try_wait().unwrap().is_none(), "ended a stranger");
        assert_eq!(records.all().len(), 1);
        for mut child in [own, stranger] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The first process is gone, one that it started lives on.
    #[test]
    fn what_an_instance_started_is_ended_too() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(folder.path()).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & echo $!; read line"]).process_group(0).env("PORT", "77");
        let mut first = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut out = std::io::BufReader::new(first.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        let second: i32 = line.trim().parse().unwrap();
        let record = orphan(&records, "gone", first.id(), "77", 0);
        let other = orphan(&records, "other", first.id(), "78", 0);
        drop(first.stdin.take());
        first.wait().unwrap();

        assert!(other.remains().is_empty(), "another instance's process");
        assert_eq!(record.remains().len(), 1);
        assert_eq!(record.remains()[0].pid, second);
        records.remove(&record);
        while !record.remains().is_empty() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn names_of_processes_may_hold_anything() {
        let text = "42 (a) R 1) b) S 1 40 40 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987 1 2";
        let stat = Stat::parse(42, text).unwrap();
        assert_eq!((stat.group, stat.identity.began), (40, 987));
        for text in
            ["", ")", "42 (a) S 1 40", "42 (a) Z 1 40 40 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987 1 2"]
        {
            assert!(Stat::parse(42, text).is_none(), "{text}");
        }
    }
}
