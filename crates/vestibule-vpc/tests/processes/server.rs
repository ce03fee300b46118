//! Holds a network with a virtual IP and a client's place in it, until its standard input ends.

use std::io::{Read, Write};
use std::net::Ipv4Addr;

use vestibule_vpc::{Driver, Namespaces, NetworkId, Subnet, namespace};

pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
pub const PORT: u16 = 80;
pub const GREETING: &str = "hello from the virtual IP\n";
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);

pub fn serve() {
    if !rustix::process::geteuid().is_root()
        && let Err(error) = namespace::enter_user_namespace()
    {
        println!("impossible {error}");
        return;
    }
    let driver = match Namespaces::new() {
        Ok(driver) => driver,
        Err(error) => {
            println!("impossible {error}");
            return;
        }
    };
    let network = NetworkId::new("p", "n");
    let subnet = Subnet { range: Ipv4Addr::new(10, 0, 0, 0), prefix: 24, gateway: GATEWAY };
    driver.configure(&network, &[subnet]).unwrap();
    let listener = driver.listen_tcp(&network, VIP, PORT, 1).unwrap().remove(0);
    listener.set_nonblocking(false).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(GREETING.as_bytes());
        }
    });
    let guest = driver.attach(&network, CLIENT, GATEWAY).unwrap().unwrap();
    println!("ready {} {}", guest.network, guest.user.as_deref().unwrap_or("-"));
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    driver.detach(&network, CLIENT);
}
