//! Instances of several containers, and volumes.

use std::sync::Arc;

use vestibule_run::desired::Container;
use vestibule_run::driver::{Contents, Driver as _, Exit, File, Labels, Mounted, Order};

use crate::Test;
use crate::driving::{PATIENCE, World, groups_of};

pub const TESTS: &[Test] = &[
    (
        "containers_of_an_instance_share_network_and_volumes",
        containers_of_an_instance_share_network_and_volumes,
    ),
    ("volumes_of_files_and_their_parts", volumes_of_files_and_their_parts),
    ("a_volume_holds_what_it_may", a_volume_holds_what_it_may),
];

fn mounted(volume: &str, source: Contents, path: &str) -> Mounted {
    Mounted { volume: volume.into(), source, path: path.into(), read_only: false, sub_path: String::new() }
}

fn memory() -> Contents {
    Contents::Memory { size_limit: Some(1 << 20) }
}

/// Another container of the same instance, without a port for requests.
fn sidecar(order: &Order, args: &[&str]) -> Order {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    let container = Container { name: "side".into(), args, ..order.container.clone() };
    Order { container, port: None, mounts: Vec::new(), ..order.clone() }
}

fn containers_of_an_instance_share_network_and_volumes() {
    let world = World::new();
    let mut order = world.order("serve");
    order.mounts = vec![mounted("shared", memory(), "/shared/here")];
    let mut side = sidecar(&order, &["serve", "9090"]);
    side.mounts = vec![mounted("shared", memory(), "/var/elsewhere"), mounted("own", memory(), "/own")];
    // The one without requests first, as one that others depend on.
    let second = world.start(&side);
    let first = world.serve(&order);
    assert_eq!(first.started.address.ip(), second.started.address.ip());
    assert_eq!((first.started.address.port(), second.started.address.port()), (8080, 0));
    assert_eq!(groups_of(&first.id) % 2, 0, "each has limits of its own");

    let at_side = (second.started.address.ip(), 9090).into();
    assert_eq!(world.try_ask(at_side, "/").unwrap(), "hello");
    assert!(world.ask(&first, "/connect?127.0.0.1:9090").ends_with("hello"), "they meet on loopback");
    assert_eq!(world.ask(&first, "/write?/shared/here/x"), "ok");
    assert_eq!(world.try_ask(at_side, "/read?/var/elsewhere/x").unwrap(), "written");
    assert_eq!(world.try_ask(at_side, "/write?/own/y").unwrap(), "ok");
    assert!(world.ask(&first, "/read?/own/y").starts_with("error"));
    assert!(!world.try_ask(at_side, "/env").unwrap().contains("PORT="));
    // Each sees its own processes and files.
    assert_eq!(world.ask(&first, "/write?/only-here"), "ok");
    assert!(world.try_ask(at_side, "/read?/only-here").unwrap().starts_with("error"));
    let processes = world.try_ask(at_side, "/list?/proc").unwrap();
    assert_eq!(processes.split_whitespace().filter(|name| name.parse::<u32>().is_ok()).count(), 1);

    assert_eq!(world.run(world.driver.list(&Labels::new())).len(), 2);
    assert_eq!(world.end(&second, PATIENCE), Exit::Signal(15));
    assert_eq!(world.end(&first, PATIENCE), Exit::Signal(15));
    assert_eq!(groups_of(&first.id), 0);
    assert!(world.run(world.driver.list(&Labels::new())).is_empty());
    assert!(world.try_ask(first.started.address, "/").is_err());
}

fn volumes_of_files_and_their_parts() {
    let world = World::new();
    let mut order = world.order("serve");
    let file =
        |path: &str, mode| File { path: path.into(), data: format!("content of {path}").into_bytes(), mode };
    let files = Contents::Files(Arc::from([file("key", 0o400), file("deep/er/cert", 0o444)]));
    let at = |path: &str, sub_path: &str| Mounted {
        read_only: true,
        sub_path: sub_path.into(),
        ..mounted("secrets", files.clone(), path)
    };
    order.mounts = vec![at("/secrets", ""), at("/etc/one/file", "deep/er/cert"), at("/part", "deep")];
    let running = world.serve(&order);
    assert_eq!(world.ask(&running, "/read?/secrets/key"), "content of key");
    assert_eq!(world.ask(&running, "/read?/etc/one"), "Is a directory");
    assert_eq!(world.ask(&running, "/list?/part/er").trim(), "cert");
    for path in ["/secrets/key", "/secrets/new", "/part/new"] {
        assert_eq!(world.ask(&running, &format!("/write?{path}")), "error Read-only file system", "{path}");
    }
    world.end(&running, PATIENCE);
}

fn a_volume_holds_what_it_may() {
    let world = World::new();
    let mut order = world.order("serve");
    order.mounts = vec![mounted("m", memory(), "/m")];
    let running = world.serve(&order);
    let mounts = world.ask(&running, "/read?/proc/self/mounts");
    let line = mounts.lines().find(|line| line.contains(" /m ")).unwrap();
    assert!(
        line.starts_with("tmpfs ") && line.contains("size=1024k") && line.contains("nosuid,nodev"),
        "{line}"
    );
    world.end(&running, PATIENCE);
}
