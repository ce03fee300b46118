//! This binary, to be run in containers of any image.
//!
//! An image may have no libraries at all, or others, so the binary brings its own: each is mounted into the container
//! as a single file that cannot be changed, and the binary is started by its own loader. One that was linked
//! statically is mounted alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::config::Program;

/// Where everything of ours is in a container.
pub(super) const FOLDER: &str = "/.vestibule";

/// What a container needs to run a program of ours.
#[derive(Debug, Clone)]
pub(super) struct Carried {
    /// Files of this machine, and where they are in a container.
    pub(super) files: Vec<(PathBuf, String)>,
    /// The command that runs it there.
    pub(super) command: Vec<String>,
}

impl Carried {
    /// What `program`, which must be the binary that runs now, needs.
    pub(super) fn find(program: &Program) -> io::Result<Self> {
        let own = format!("{FOLDER}/program");
        let mut files = vec![(program.path.clone(), own.clone())];
        let mut command = Vec::new();
        if let Some(loader) = loader(&fs::read_to_string("/proc/self/maps")?) {
            let inside = format!("{FOLDER}/loader");
            command = vec![inside.clone(), "--library-path".to_owned(), format!("{FOLDER}/lib")];
            let listed = Command::new(&loader).arg("--list").arg(&program.path).output()?;
            files.push((loader, inside));
            let listed = String::from_utf8_lossy(&listed.stdout);
            files.extend(libraries(&listed).map(|(name, path)| (path, format!("{FOLDER}/lib/{name}"))));
        }
        command.push(own);
        command.extend(program.args.iter().cloned());
        Ok(Self { files, command })
    }
}

/// What loads libraries into this process, from its `/proc/self/maps`.
fn loader(maps: &str) -> Option<PathBuf> {
    let files = maps.lines().filter_map(|line| Some(Path::new(&line[line.find('/')?..])));
    let is_loader = |path: &&Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        (name.starts_with("ld-") || name.starts_with("ld.") || name.starts_with("ld64."))
            && name.contains(".so")
    };
    files.into_iter().find(is_loader).map(Path::to_owned)
}

/// Names and places of libraries, as a loader lists them: `NAME => PATH (ADDRESS)`.
fn libraries(listed: &str) -> impl Iterator<Item = (&str, PathBuf)> {
    listed.lines().filter_map(|line| {
        let (name, rest) = line.trim().split_once(" => ")?;
        let path = rest.rsplit_once(" (").map_or(rest, |(path, _)| path);
        (path.starts_with('/') && !name.contains('/')).then(|| (name, PathBuf::from(path)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_loader_says() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibm.so.6 => /lib/x/libm.so.6 (0x00007f)\n\
                      \tlibc.so.6 => /lib/x/libc-2.31.so (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let found: Vec<_> = libraries(listed).collect();
        assert_eq!(
            found,
            [("libm.so.6", "/lib/x/libm.so.6".into()), ("libc.so.6", "/lib/x/libc-2.31.so".into())]
        );
        let maps = "7f00-7f01 r-xp 00001000 fe:00 123    /usr/lib/x/libc.so.6\n7f00-7f01 rw-p 00 00:00 0 [heap]\n\
                    7f02-7f03 r-xp 00001000 fe:00 124    /usr/lib/x/ld-linux-x86-64.so.2\n";
        assert_eq!(loader(maps), Some("/usr/lib/x/ld-linux-x86-64.so.2".into()));
        assert_eq!(loader("7f00-7f01 r-xp 00001000 fe:00 123    /bin/static\n"), None);
    }

    #[test]
    fn this_very_binary_can_be_carried() {
        let program = Program { path: std::env::current_exe().unwrap(), args: vec!["word".to_owned()] };
        let carried = Carried::find(&program).unwrap();
        assert!(carried.files.iter().all(|(path, _)| path.is_file()), "{carried:?}");
        assert_eq!(carried.command.last().unwrap(), "word");
    }
}
