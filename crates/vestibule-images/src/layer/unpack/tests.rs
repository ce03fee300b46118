use super::*;
use crate::ownership::BASE;
use rustix::process::geteuid;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use tar::{EntryType, Header};

/// A layer's archive in the making. Unlike the `tar` crate's own it writes whatever it is told.
#[derive(Default)]
struct Layer(Vec<u8>);

impl Layer {
    fn raw(self, kind: EntryType, path: &[u8], link: &[u8], content: &[u8]) -> Self {
        self.headed(Header::new_gnu(), kind, path, link, content)
    }

    fn device(self, kind: EntryType, path: &str, major: u32, minor: u32) -> Self {
        let mut header = Header::new_gnu();
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.headed(header, kind, path.as_bytes(), b"", b"")
    }

    fn headed(
        mut self,
        mut header: Header,
        kind: EntryType,
        path: &[u8],
        link: &[u8],
        content: &[u8],
    ) -> Self {
        header.as_old_mut().name[..path.len()].copy_from_slice(path);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, path: &str, content: &str) -> Self {
        self.raw(EntryType::Regular, path.as_bytes(), b"", content.as_bytes())
    }

    fn folder(self, path: &str) -> Self {
        self.raw(EntryType::Directory, path.as_bytes(), b"", b"")
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.raw(EntryType::Symlink, path.as_bytes(), target.as_bytes(), b"")
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.raw(EntryType::Link, path.as_bytes(), target.as_bytes(), b"")
    }

    fn pax(self, records: &[(&str, &str)]) -> Self {
        let record = |(key, value): &(&str, &str)| {
            let rest = format!(" {key}={value}\n");
            let mut length = rest.len() + 1;
            while length != rest.len() + length.to_string().len() {
                length += 1;
            }
            format!("{length}{rest}")
        };
        let text: String = records.iter().map(record).collect();
        self.raw(EntryType::XHeader, b"pax", b"", text.as_bytes())
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

fn own() -> Ownership {
    if geteuid().is_root() { Ownership::Shifted } else { Ownership::Own }
}

struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("layers")).unwrap();
        fs::write(folder.path().join("victim"), "untouched").unwrap();
        Self(folder)
    }

    fn target(&self) -> std::path::PathBuf {
        self.0.path().join("layers/l")
    }

    fn unpack(&self, packed: &[u8], content: &[u8]) -> Result<(), ImageError> {
        let path = self.0.path().join("packed");
        fs::write(&path, packed).unwrap();
        unpack(&path, &self.target(), &Digest::of(content), own())
    }

    /// Nothing was left, and nothing outside was touched.
    fn assert_clean(&self, what: &str) {
        assert_eq!(
            fs::read_dir(self.0.path().join("layers")).unwrap().count(),
            0,
            "{what}: something was left"
        );
        let mut names: Vec<_> =
            fs::read_dir(self.0.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["layers", "packed", "victim"], "{what}: written outside");
        assert_eq!(fs::read_to_string(self.0.path().join("victim")).unwrap(), "untouched", "{what}");
    }
}

fn unpacked(layer: Layer) -> World {
    let world = World::new();
    let bytes = layer.end();
    world.unpack(&bytes, &bytes).unwrap();
    world
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

#[test]
fn hostile_layers_are_refused_and_leave_nothing() {
    let long = "x".repeat(300);
    let table: Vec<(&str, Layer)> = vec![
        ("parent", Layer::default().file("../victim", "x")),
        ("parent inside", Layer::default().folder("a").file("a/../../victim", "x")),
        ("parent at the end", Layer::default().folder("a/..")),
        ("symlink to the outside", Layer::default().symlink("out", "../..").file("out/victim", "x")),
        ("absolute symlink", Layer::default().symlink("out", "/tmp").file("out/vestibule-escape", "x")),
        ("symlink chain", Layer::default().symlink("a", "b").symlink("b", "..").file("a/victim", "x")),
        ("symlink inside", Layer::default().folder("real").symlink("a", "real").file("a/x", "x")),
        ("folder through a symlink", Layer::default().symlink("out", "../..").folder("out/made")),
        ("hard link to the outside", Layer::default().link("x", "../../victim")),
        ("hard link through a symlink", Layer::default().symlink("out", "../..").link("x", "out/victim")),
        ("absolute hard link", Layer::default().link("x", "/etc/passwd")),
        ("hard link to nothing", Layer::default().link("x", "y")),
        ("hard link to itself", Layer::default().link("x", "x")),
        ("hard link to a folder", Layer::default().folder("d").link("x", "d")),
        ("hard link to the root", Layer::default().link("x", "/")),
        ("hard link to a whiteout", Layer::default().file(".wh.y", "").link("x", "y")),
        (
            "write through a hard link",
            Layer::default().symlink("s", "../../victim").link("h", "s").file("h/x", "x"),
        ),
        ("character device", Layer::default().raw(EntryType::Char, b"null", b"", b"")),
        ("block device", Layer::default().raw(EntryType::Block, b"sda", b"", b"")),
        ("a disk among devices", Layer::default().device(EntryType::Block, "dev/null", 1, 3)),
        ("memory as null", Layer::default().device(EntryType::Char, "dev/null", 1, 1)),
        ("null elsewhere", Layer::default().device(EntryType::Char, "etc/null", 1, 3)),
        ("null below", Layer::default().device(EntryType::Char, "dev/dev/null", 1, 3)),
        ("null beside", Layer::default().device(EntryType::Char, "dev/../dev/null", 1, 3)),
        ("unknown kind", Layer::default().raw(EntryType::new(b'Z'), b"x", b"", b"")),
        ("sparse file", Layer::default().raw(EntryType::GNUSparse, b"x", b"", b"")),
        ("sparse attributes", Layer::default().pax(&[("GNU.sparse.major", "1")]).file("x", "")),
        ("empty whiteout", Layer::default().file("a/.wh.", "")),
        ("whiteout of the folder", Layer::default().file("a/.wh..", "")),
        ("whiteout of the parent", Layer::default().file("a/.wh...", "")),
        ("whiteout of a whiteout", Layer::default().file("a/.wh..wh.x", "")),
        ("inside a whiteout", Layer::default().file(".wh.a/b", "")),
        ("root as a file", Layer::default().file("/", "").file(".", "x")),
        ("root as a symlink", Layer::default().symlink("./", "/tmp")),
        ("file over a folder", Layer::default().file("d/x", "").file("d", "")),
        ("path through a file", Layer::default().file("f", "").file("f/x", "")),
        ("hidden path", Layer::default().pax(&[("path", "../victim")]).file("x", "x")),
        ("hidden link", Layer::default().pax(&[("linkpath", "../../victim")]).link("x", "ok")),
        (
            "long hidden path",
            Layer::default().raw(EntryType::GNULongName, b"l", b"", b"../victim\0").file("x", "x"),
        ),
        ("two sizes", Layer::default().pax(&[("size", "0")]).file("x", "abc")),
        ("no size", Layer::default().pax(&[("size", "-1")]).file("x", "abc")),
        ("long component", Layer::default().pax(&[("path", &long)]).file("x", "abc")),
        ("long path", Layer::default().pax(&[("path", &"d/".repeat(2_049))]).file("x", "abc")),
        ("zero byte", Layer::default().pax(&[("path", "a\0b")]).file("x", "abc")),
        ("empty symlink", Layer::default().symlink("x", "")),
    ];
    for (what, layer) in table {
        let world = World::new();
        let bytes = layer.end();
        let error = world.unpack(&bytes, &bytes).expect_err(what);
        assert_eq!(error.kind, Kind::Refused, "{what}: {}", error.chain());
        world.assert_clean(what);
    }
    assert!(!Path::new("/tmp/vestibule-escape").exists());
}

#[test]
fn bombs_and_lies_are_refused() {
    let zeros = vec![0; (FREE_UNPACKED + (1 << 20)) as usize];
    let bomb = Layer::default().raw(EntryType::Regular, b"zeros", b"", &zeros).end();
    let name = vec![b'n'; (crate::limits::MAX_EXTENSION + 1) as usize];
    let long_name = Layer::default().raw(EntryType::GNULongName, b"l", b"", &name).file("x", "").end();
    let good = Layer::default().file("x", "content").end();
    let mut truncated = gzip(&good);
    truncated.truncate(truncated.len() / 2);
    let behind = [&good[..], &zeros].concat();
    let table: [(&str, Vec<u8>, &[u8]); 8] = [
        ("bomb", gzip(&bomb), &bomb),
        ("zstd bomb", zstd(&bomb), &bomb),
        ("bomb behind the end", gzip(&behind), &behind),
        ("endless name", long_name.clone(), &long_name),
        ("other content", gzip(&good), b"other"),
        ("added content", gzip(&[&good[..], b"more"].concat()), &good),
        ("truncated", truncated, &good),
        ("no archive", b"this is no archive, though it is long enough for a header ".repeat(20), b""),
    ];
    for (what, packed, content) in table {
        let world = World::new();
        let error = world.unpack(&packed, content).expect_err(what);
        assert_eq!(error.kind, Kind::Refused, "{what}: {}", error.chain());
        world.assert_clean(what);
    }
}

#[test]
fn every_packing_gives_the_same() {
    let content = Layer::default().folder("d").file("d/x", "content").end();
    let table = vec![
        ("tar", content.clone()),
        ("gzip", gzip(&content)),
        ("zstd", zstd(&content)),
        ("skippable", {
            [
                &[0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..],
                &zstd(&content),
                &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0],
            ]
            .concat()
        }),
        ("two gzip members", {
            let (a, b) = content.split_at(600);
            [gzip(a), gzip(b)].concat()
        }),
        ("two frames", {
            let (a, b) = content.split_at(600);
            [zstd(a), zstd(b)].concat()
        }),
    ];
    for (what, packed) in table {
        let world = World::new();
        world.unpack(&packed, &content).unwrap_or_else(|error| panic!("{what}: {}", error.chain()));
        assert_eq!(fs::read_to_string(world.target().join("d/x")).unwrap(), "content", "{what}");
    }
}

#[test]
fn files_links_folders_and_their_attributes() {
    let world = unpacked(
        Layer::default()
            .folder("etc")
            .file("/etc/absolute", "a")
            .link("./etc/linked", "/etc/absolute")
            .symlink("etc/anywhere", "../../../victim")
            .file("implied/by/file", "b")
            .raw(EntryType::Fifo, b"pipe", b"", b"")
            .pax(&[("path", &format!("{}/deep", "d".repeat(200))), ("mtime", "12.5"), ("uid", "3000000")])
            .file("short", "long name")
            .file("etc/absolute2", "first")
            .file("etc/absolute2", "second"),
    );
    let at = |path: &str| world.target().join(path);
    assert_eq!(fs::read_to_string(at("etc/absolute")).unwrap(), "a");
    assert_eq!(
        fs::metadata(at("etc/absolute")).unwrap().ino(),
        fs::metadata(at("etc/linked")).unwrap().ino()
    );
    assert_eq!(fs::read_link(at("etc/anywhere")).unwrap(), Path::new("../../../victim"));
    assert_eq!(fs::read_to_string(at("etc/absolute2")).unwrap(), "second");
    assert!(fs::metadata(at("pipe")).unwrap().file_type().is_fifo());
    let deep = fs::metadata(at(&format!("{}/deep", "d".repeat(200)))).unwrap();
    assert_eq!(deep.mtime(), 12);
    let file = fs::metadata(at("etc/absolute")).unwrap();
    // The bit that would let a program gain privileges is gone.
    assert_eq!((file.mode() & 0o7777, file.mtime()), (0o755, 1_000));
    assert_eq!(fs::metadata(at("etc")).unwrap().mtime(), 1_000);
    if own() == Ownership::Shifted {
        assert_eq!((file.uid(), file.gid()), (BASE + 7, BASE + 8));
        assert_eq!(deep.uid(), BASE + 65_534);
        assert_eq!(fs::metadata(at("implied/by")).unwrap().uid(), BASE);
        assert_eq!(fs::symlink_metadata(at("etc/anywhere")).unwrap().uid(), BASE + 7);
    } else {
        assert_eq!(file.uid(), geteuid().as_raw());
    }
    assert_eq!(fs::read_to_string(world.0.path().join("victim")).unwrap(), "untouched");
}

#[test]
fn default_devices_are_left_to_the_container() {
    let char = EntryType::Char;
    let layer = Layer::default()
        .folder("dev")
        .device(char, "./dev/null", 1, 3)
        .device(char, "dev/console", 5, 1)
        .symlink("dev/fd", "/proc/self/fd");
    let world = unpacked(layer);
    let names: Vec<_> =
        fs::read_dir(world.target().join("dev")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["fd"]);
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_char_device() && file.rdev() == 0)
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 4];
    rustix::fs::getxattr(path, "user.overlay.opaque", &mut value).is_ok_and(|length| value[..length] == *b"y")
}

#[test]
fn whiteouts_become_what_an_overlay_wants() {
    let world = unpacked(
        Layer::default()
            .file("a/.wh.gone", "")
            .file("b/.wh..wh..opq", "")
            .file("b/new", "")
            // Before and after a file of the same layer, which stays.
            .file("c/.wh.same", "")
            .file("c/same", "here")
            .file("d/same", "here")
            .file("d/.wh.same", "")
            // A folder that was replaced: what was in the old one is gone.
            .file(".wh.e", "")
            .folder("e")
            .file("f/x", "")
            .file(".wh.f", "")
            .file(".wh.g", "")
            .file("g/x", ""),
    );
    let at = |path: &str| world.target().join(path);
    assert!(is_whiteout(&at("a/gone")));
    assert!(is_opaque(&at("b")) && at("b/new").is_file());
    assert_eq!(fs::read_to_string(at("c/same")).unwrap(), "here");
    assert_eq!(fs::read_to_string(at("d/same")).unwrap(), "here");
    for folder in ["e", "f", "g"] {
        assert!(at(folder).is_dir() && is_opaque(&at(folder)), "{folder}");
    }
    assert!(!is_opaque(&at("a")));
    let names: Vec<_> = fs::read_dir(at("b")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names, ["new"], "the mark itself is no file");
}

#[test]
fn a_layer_is_unpacked_once_whoever_asks() {
    let world = World::new();
    let content = Layer::default().file("x", "content").end();
    let path = world.0.path().join("packed");
    fs::write(&path, &content).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (path, content, world) = (&path, &content, &world);
            scope.spawn(move || unpack(path, &world.target(), &Digest::of(content), own()).unwrap());
        }
    });
    assert_eq!(fs::read_dir(world.0.path().join("layers")).unwrap().count(), 1);
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    fn name() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("a".to_owned()),
            Just("b".to_owned()),
            Just("..".to_owned()),
            Just(".".to_owned()),
            Just(".wh.a".to_owned()),
            Just(".wh..wh..opq".to_owned()),
            Just(String::new()),
        ];
        proptest::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"))
    }

    fn entry() -> impl Strategy<Value = (u8, String, String)> {
        (0..5_u8, name(), prop_oneof![name(), Just("../../victim".to_owned()), Just("/tmp".to_owned())])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        /// Whatever the entries and their order: nothing is written outside, and refusing leaves nothing.
        #[test]
        fn nothing_ever_reaches_outside(entries in proptest::collection::vec(entry(), 1..12)) {
            let layer = entries.iter().fold(Layer::default(), |layer, (kind, path, target)| match kind {
                0 => layer.file(path, "overwritten"),
                1 => layer.folder(path),
                2 => layer.symlink(path, target),
                3 => layer.link(path, target),
                _ => layer.raw(EntryType::Fifo, path.as_bytes(), b"", b""),
            });
            let world = World::new();
            let bytes = layer.end();
            match world.unpack(&bytes, &bytes) {
                Ok(()) => {
                    let count = fs::read_dir(world.0.path()).unwrap().count();
                    prop_assert_eq!(count, 3);
                    prop_assert_eq!(fs::read_to_string(world.0.path().join("victim")).unwrap(), "untouched");
                    prop_assert_eq!(fs::metadata(world.0.path().join("victim")).unwrap().nlink(), 1);
                }
                Err(error) => {
                    prop_assert_eq!(error.kind, Kind::Refused, "{}", error.chain());
                    world.assert_clean("property");
                }
            }
        }

        #[test]
        fn junk_never_panics(junk in proptest::collection::vec(any::<u8>(), 0..3_000)) {
            let world = World::new();
            if world.unpack(&junk, &junk).is_err() {
                world.assert_clean("junk");
            }
        }
    }
}
