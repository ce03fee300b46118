//! Sending what leaves a namespace somewhere else: every TCP connection to one local port.
//!
//! For a namespace that has no link to anywhere. A program in it opens connections as if it had one; they end at a
//! listener of ours, which asks the kernel where each was meant to go (`SO_ORIGINAL_DST`) and carries it on by other
//! means.

use std::io;
use std::net::Ipv4Addr;

use super::message::Batch;
use super::steps::{ESTABLISHED, RELATED, Side, Step};
use super::{ACCEPT, ACCEPTED, DROP, FILTER, OUTPUT, RAW, Table, send};

/// Where destinations are changed (`NF_IP_PRI_NAT_DST`).
const NAT: i32 = -100;

/// Makes every TCP connection out of the calling thread's network namespace arrive at `port` of 127.0.0.1. What goes to
/// an address of the namespace itself stays as it is, and what is not TCP is refused where it is sent. `own` is the
/// address that requests come in by: connections from it to itself cost nothing extra.
pub fn divert(own: Ipv4Addr, port: u16) -> io::Result<()> {
    let (bytes, receipt) = ruleset(own, port).end();
    send(&bytes, receipt)
}

fn ruleset(own: Ipv4Addr, port: u16) -> Batch {
    let mut table = Table { batch: Batch::begin(), sets: 0 };
    table.recreate();
    table.hook("untrack", OUTPUT, RAW, ACCEPT);
    table.rule("untrack", &[Step::Is(Side::Source, own), Step::Is(Side::Destination, own), Step::Untrack]);
    table.hook_of("nat", "divert", (OUTPUT, NAT), ACCEPT);
    table.rule("divert", &[Step::ToLocal, ACCEPTED]);
    table.rule("divert", &[Step::Protocol(crate::firewall::TCP), Step::Redirect(port)]);
    table.hook("out", OUTPUT, FILTER, DROP);
    table.rule("out", &[Step::ToLocal, ACCEPTED]);
    table.rule("out", &[Step::State(ESTABLISHED | RELATED), ACCEPTED]);
    table.batch
}
