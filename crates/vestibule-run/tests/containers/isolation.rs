//! What a program in a container sees, may and can.

use std::fs;

use serde_json::json;
use vestibule_run::desired::Container;

use crate::driving::{World, limits, usual_settings};
use crate::{Test, images};

pub const TESTS: &[Test] = &[
    ("the_contract_of_the_environment", the_contract_of_the_environment),
    ("layers_are_stacked_and_never_written_to", layers_are_stacked_and_never_written_to),
    ("users_are_the_images_own", users_are_the_images_own),
    ("namespaces_and_privileges", namespaces_and_privileges),
    ("dangerous_calls_are_refused", dangerous_calls_are_refused),
    ("the_network_has_no_way_out", the_network_has_no_way_out),
    ("limits_are_in_force", limits_are_in_force),
    ("hostile_images_reach_nothing", hostile_images_reach_nothing),
];

fn the_contract_of_the_environment() {
    let world = World::new();
    let image = world.image(json!({
        "Entrypoint": ["program"], "Cmd": ["nonsense"], "Env": ["FROM_IMAGE=1", "OVER=image", "PATH=/bin"],
        "WorkingDir": "/made/for/it",
    }));
    let mut order = world.order_of(Container { args: vec!["serve".into()], ..Container::new("app", &image) });
    order.environment.push(("OVER".into(), "service".into()));
    order.port = Some(80);
    let running = world.serve(&order);
    let environment = world.ask(&running, "/env");
    let mut variables: Vec<&str> = environment.lines().collect();
    variables.sort_unstable();
    assert_eq!(
        variables,
        ["FROM_IMAGE=1", "HOME=/root", "K_SERVICE=svc", "OVER=service", "PATH=/bin", "PORT=80"]
    );
    let who = world.ask(&running, "/who");
    assert_eq!(who, "uid=0 gid=0 pid=1 host=localhost cwd=/made/for/it groups=");
    assert_eq!(running.started.address.port(), 80);
    world.end(&running, crate::driving::PATIENCE);
}

fn layers_are_stacked_and_never_written_to() {
    let world = World::new();
    let order = world.order("serve");
    let running = world.serve(&order);
    assert!(world.ask(&running, "/read?/data/old").contains("No such file"));
    assert_eq!(world.ask(&running, "/read?/data/changed"), "above");
    assert_eq!(world.ask(&running, "/list?/opaque").trim(), "y");
    for path in ["/data/changed", "/new", "/tmp/x", "/bin/program2", "/etc/hosts"] {
        assert_eq!(world.ask(&running, &format!("/write?{path}")), "ok", "{path}");
        assert_eq!(world.ask(&running, &format!("/read?{path}")), "written");
    }
    // Another instance of the same image sees nothing of it.
    let mut second = order.clone();
    second.instance_id = "second".into();
    let other = world.serve(&second);
    assert_eq!(world.ask(&other, "/read?/data/changed"), "above");
    assert!(world.ask(&other, "/read?/new").contains("No such file"));
    assert!(world.ask(&other, "/read?/etc/hosts").contains("localhost"));
    for running in [&running, &other] {
        world.end(running, crate::driving::PATIENCE);
    }
    let third = world.serve(&order);
    assert!(world.ask(&third, "/read?/new").contains("No such file"), "a write outlived its instance");
    world.end(&third, crate::driving::PATIENCE);
}

fn users_are_the_images_own() {
    let world = World::new();
    let with_user = |user: &str| {
        let mut settings = usual_settings();
        settings["User"] = user.into();
        world.order_of(Container::new("app", &world.image(settings)))
    };
    let running = world.serve(&with_user("app"));
    let who = world.ask(&running, "/who");
    let root = world.driver.images().ownership() == vestibule_images::Ownership::Shifted;
    assert!(who.starts_with("uid=1000 gid=100 pid=1 "), "{who}");
    assert!(who.ends_with("groups=7,") || !root, "{who}");
    assert!(world.ask(&running, "/env").contains("HOME=/home/app"));
    assert_eq!(world.ask(&running, "/read?/private"), "secret", "its own file");
    assert_eq!(world.ask(&running, "/write?/home/app/x"), "ok");
    assert_eq!(world.ask(&running, "/write?/tmp/x"), "ok");
    if root {
        assert!(world.ask(&running, "/write?/etc/x").contains("Permission denied"));
        // Outside it is nobody.
        let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
        assert!(status.contains("Uid:\t2000001000\t2000001000\t2000001000\t2000001000"), "{status}");
    }
    let status = world.ask(&running, "/read?/proc/self/status");
    assert!(
        status.contains("CapEff:\t0000000000000000") && status.contains("CapPrm:\t0000000000000000"),
        "{status}"
    );
    world.end(&running, crate::driving::PATIENCE);
    let failure = world.try_start(&with_user("ghost")).err().unwrap();
    assert_eq!((failure.reason.as_str(), failure.transient), ("ContainerMissing", false));
    assert!(failure.message.contains("no user \"ghost\""), "{}", failure.message);
    let wide = world.serve(&with_user("65532:65532"));
    assert!(world.ask(&wide, "/who").starts_with("uid=65532 gid=65532 "));
    world.end(&wide, crate::driving::PATIENCE);
}

fn namespaces_and_privileges() {
    let world = World::new();
    let running = world.serve(&world.order("serve"));
    for name in ["user", "mnt", "pid", "net", "uts", "ipc", "cgroup"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_ne!(of("self"), of(&running.pid().to_string()), "{name}");
    }
    let status = world.ask(&running, "/read?/proc/self/status");
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    let bits = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, SYS_CHROOT.
    let kept = 0b0100_0000_0101_1111_1011;
    assert_eq!(bits("CapBnd:") & !kept, 0, "{status}");
    assert_eq!((bits("CapEff:") & !kept, bits("CapInh:"), bits("CapAmb:")), (0, 0, 0));
    // It sees itself alone.
    let processes = world.ask(&running, "/list?/proc");
    let numbers: Vec<&str> =
        processes.split_whitespace().filter(|name| name.parse::<u32>().is_ok()).collect();
    assert_eq!(numbers, ["1"]);
    for path in [
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
        "/proc/1/oom_score_adj",
    ] {
        let written = world.ask(&running, &format!("/write?{path}"));
        assert!(written.starts_with("error"), "{path}: {written}");
    }
    assert!(!world.ask(&running, "/read?/proc/kcore").contains("ELF"));
    assert_eq!(world.ask(&running, "/write?/dev/null"), "ok");
    let mounts = world.ask(&running, "/read?/proc/self/mountinfo");
    let kinds = ["overlay", "proc", "tmpfs", "devtmpfs", "sysfs", "devpts", "mqueue"];
    for line in mounts.lines() {
        let kind = line.split(" - ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        assert!(kinds.contains(&kind), "sees a mount of the machine's: {line}");
    }
    assert_eq!(
        world.ask(&running, "/read?/proc/self/cgroup").lines().filter(|line| !line.ends_with(":/")).count(),
        0
    );
    world.end(&running, crate::driving::PATIENCE);
}

fn dangerous_calls_are_refused() {
    let world = World::new();
    let running = world.serve(&world.order("serve"));
    for (call, answer) in [
        (libc::SYS_mount, "Operation not permitted"),
        (libc::SYS_unshare, "Operation not permitted"),
        (libc::SYS_setns, "Operation not permitted"),
        (libc::SYS_bpf, "Operation not permitted"),
        (libc::SYS_keyctl, "Operation not permitted"),
        (libc::SYS_ptrace, "Operation not permitted"),
        (libc::SYS_io_uring_setup, "Operation not permitted"),
        (libc::SYS_kexec_load, "Operation not permitted"),
        (libc::SYS_clone, "Operation not permitted"),
        (libc::SYS_clone3, "Function not implemented"),
        (9_999, "Function not implemented"),
        (libc::SYS_getpid, "allowed"),
        (libc::SYS_sched_yield, "allowed"),
    ] {
        assert_eq!(world.ask(&running, &format!("/call?{call}")), answer, "{call}");
    }
    world.end(&running, crate::driving::PATIENCE);
}

fn the_network_has_no_way_out() {
    let world = World::new();
    let outside = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = outside.local_addr().unwrap().port();
    let running = world.serve(&world.order("serve"));
    assert!(
        world.ask(&running, &format!("/connect?127.0.0.1:{port}")).contains("refused"),
        "reached the machine"
    );
    assert!(world.ask(&running, "/connect?169.254.169.254:80").starts_with("error"));
    let links = world.ask(&running, "/read?/proc/net/dev");
    assert_eq!(links.lines().filter(|line| line.contains(':')).count(), 1, "{links}");
    // And nobody gets in but through the driver.
    let held = std::net::TcpListener::bind((running.started.address.ip(), 0));
    assert_eq!(held.unwrap_err().kind(), std::io::ErrorKind::AddrNotAvailable, "the machine has the address");

    // Many connections at once: more than lie ready.
    let at_once = async {
        let mut all = Vec::new();
        for _ in 0..200 {
            all.push(tokio::spawn(crate::driving::ask(running.started.address, "/")));
        }
        for one in all {
            assert_eq!(one.await.unwrap().unwrap(), "hello");
        }
    };
    world.run(at_once);
    world.end(&running, crate::driving::PATIENCE);
    let gone = world.try_ask(running.started.address, "/").unwrap_err();
    assert_eq!(gone.kind(), std::io::ErrorKind::ConnectionRefused);
}

fn limits_are_in_force() {
    let world = World::new();
    if !world.driver.missing_limits().is_empty() {
        println!("not run: no control groups to write to: {:?}", world.driver.missing_limits());
        return;
    }
    let mut order = world.order("serve");
    order.container.limits = limits("500m", "64Mi");
    let running = world.serve(&order);
    let read = |name: &str| {
        let found = crate::driving::groups();
        let mut of = found.iter().filter(|path| path.to_string_lossy().contains(&*running.id));
        of.find_map(|path| fs::read_to_string(path.join(name)).ok()).unwrap_or_default()
    };
    let cpu = [read("cpu.cfs_quota_us"), read("cpu.max")].concat();
    assert!(cpu.starts_with("50000"), "{cpu}");
    let memory = [read("memory.limit_in_bytes"), read("memory.max")].concat();
    assert_eq!(memory.trim(), (64 << 20).to_string());
    assert_eq!(read("pids.max").trim(), "1024");
    assert_eq!(read("cgroup.procs").trim(), running.pid().to_string());
    world.end(&running, crate::driving::PATIENCE);
    assert_eq!(crate::driving::groups_of(&running.id), 0, "a control group was left");
}

/// Images that make what is mounted into them lead elsewhere.
fn hostile_images_reach_nothing() {
    let world = World::new();
    let victim = world.folder.path().join("victim");
    fs::create_dir(&victim).unwrap();
    let target = victim.display().to_string();
    for (links, runs) in [
        (vec![format!("proc -> {target}")], false),
        (vec![format!("dev -> {target}")], false),
        (vec!["sys -> /proc".to_owned()], false),
        (vec![format!("etc -> {target}")], true),
        (vec![format!("tmp -> {target}")], true),
        (vec![format!("etc/hosts -> {target}/made"), format!("etc/resolv.conf -> {target}/made")], true),
    ] {
        let mut layers = images::usual();
        if links[0].starts_with("etc -> ") {
            layers[0].retain(|file| !file.path.starts_with("etc/"));
        }
        layers.push(links.iter().map(|link| images::file(link, "")).collect());
        let order = world.order_of(Container::new("app", &world.image_of(&layers, usual_settings())));
        match world.try_start(&order) {
            Ok(running) => {
                assert!(runs, "{links:?}");
                world.until_serving(&running);
                world.end(&running, crate::driving::PATIENCE);
            }
            Err(failure) => assert!(
                !runs && failure.message.contains("is not a folder"),
                "{links:?}: {}",
                failure.message
            ),
        }
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 0, "{links:?}");
    }
}
