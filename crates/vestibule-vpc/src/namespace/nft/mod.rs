//! Firewall rules in the kernel: one nftables table a network, replaced whole and at once.
//!
//! The table asks about the first packet of a connection and lets the rest pass.
//!
//! - From client to client (`forward`) the kernel tracks connections. What belongs to one passes; anything else must
//!   be let out by `egress` and in by `ingress`.
//! - From a client to an address of the network itself (`input`), a virtual IP say, only `egress` is asked, and only
//!   if there are egress rules. From the network to a client (`output`: the proxy to an endpoint) only `ingress`.
//!   Here connections are not tracked: the sockets are ours, and TCP itself accepts nothing that did not begin with
//!   the packet that was asked about. Of other protocols the network's own addresses only answer.
//! - 169.254.169.254, the resolver and the metadata server, is outside all rules, as on Google's networks.
//!
//! Every hook costs every packet, used or not, and those of connection tracking cost the most: a request to a virtual
//! IP would pay more for them than for its cable. So they are there only where connections between clients can be
//! ([`Tracking`]), and what goes to and from the network's own addresses meets one chain each way at most.

mod divert;
pub mod log;
mod message;
mod steps;

use std::io;
use std::net::Ipv4Addr;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use crate::firewall::{Action, Direction, FirewallRule, Traffic};
use crate::{Addresses, Intervals};
pub use divert::divert;
use message::{APPEND, Batch, CREATE};
use steps::{DATA_VALUE, ESTABLISHED, INVALID, LIST_ELEMENT, RELATED, SetId, Side, Step, Verdict};

const TABLE: &str = "vpc";
/// The name that the kernel completes for sets without one.
const ANONYMOUS: &str = "__set%d";
/// The services that every network has.
const SERVICES: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// `NFT_MSG_…`.
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENTS: u16 = 12;

/// `NF_INET_PRE_ROUTING`, `NF_INET_LOCAL_IN`, `NF_INET_FORWARD`, `NF_INET_LOCAL_OUT`.
const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
/// Before connections are tracked (`NF_IP_PRI_RAW`), and after (`NF_IP_PRI_FILTER`).
const RAW: i32 = -300;
const FILTER: i32 = 0;

/// `NFT_SET_ANONYMOUS | NFT_SET_CONSTANT | NFT_SET_INTERVAL`.
const SET_FLAGS: u32 = 1 | 2 | 4;
/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u32 = 1;
/// Elements in one message: its list must stay below 64 KiB, and an element takes up to 28 bytes.
const ELEMENTS_AT_ONCE: usize = 2000;

/// What programs that list tables call the types of our keys (`ipv4_addr`, `inet_service`).
const ADDRESS_TYPE: u32 = 7;
const PORT_TYPE: u32 = 13;

/// Whether clients can reach each other at all, so that their connections must be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracking {
    /// Nothing goes from client to client, whatever the rules say.
    Off,
    On,
}

/// Makes the calling thread's network namespace obey these rules and the implied ones, and no others.
pub fn replace(rules: &[FirewallRule], tracking: Tracking) -> io::Result<()> {
    let (bytes, receipt) = ruleset(rules, tracking).end();
    send(&bytes, receipt)
}

fn ruleset(rules: &[FirewallRule], tracking: Tracking) -> Batch {
    let mut table = Table { batch: Batch::begin(), sets: 0 };
    table.recreate();
    table.chain("ingress");
    table.chain("egress");
    for rule in FirewallRule::ordered(rules, Direction::Ingress) {
        table.firewall_rule("ingress", rule);
    }
    table.rule("ingress", &[Step::Then(Verdict::Drop)]);
    let egress = FirewallRule::ordered(rules, Direction::Egress);
    for rule in &egress {
        table.firewall_rule("egress", rule);
    }
    match tracking {
        // Where nothing is forwarded the kernel needs no rule for it: the chain's policy is to drop.
        Tracking::Off => table.hook("forward", FORWARD, FILTER, DROP),
        Tracking::On => {
            table.untracked();
            table.forward();
        }
    }
    table.output();
    // Without egress rules clients may reach every address of the network: nothing to ask.
    if !egress.is_empty() {
        table.input();
    }
    table.batch
}

/// A table being written.
struct Table {
    batch: Batch,
    sets: u32,
}

impl Table {
    /// An empty table, whether there was one or not.
    fn recreate(&mut self) {
        for (message, flags) in [(NEW_TABLE, CREATE), (DELETE_TABLE, 0), (NEW_TABLE, CREATE)] {
            self.batch.message(message, flags, |a| a.text(1, TABLE));
        }
    }

    /// A chain that others jump to.
    fn chain(&mut self, name: &str) {
        self.batch.message(NEW_CHAIN, CREATE, |a| {
            a.text(1, TABLE);
            a.text(3, name);
        });
    }

    /// A chain that the kernel sends packets to, and what becomes of those that reach its end.
    fn hook(&mut self, name: &str, hook: u32, priority: i32, policy: u32) {
        self.hook_of("filter", name, (hook, priority), policy);
    }

    /// The same for a chain that does something else than let pass or not.
    fn hook_of(&mut self, kind: &str, name: &str, (hook, priority): (u32, i32), policy: u32) {
        self.batch.message(NEW_CHAIN, CREATE, |a| {
            a.text(1, TABLE);
            a.text(3, name);
            a.nest(4, |a| {
                a.number(1, hook);
                a.bytes(2, &priority.to_be_bytes());
            });
            a.number(5, policy);
            a.text(7, kind);
        });
    }

    fn rule(&mut self, chain: &str, steps: &[Step]) {
        self.commented(chain, steps, None);
    }

    fn commented(&mut self, chain: &str, steps: &[Step], comment: Option<&str>) {
        self.batch.message(NEW_RULE, CREATE | APPEND, |a| {
            a.text(1, TABLE);
            a.text(2, chain);
            a.nest(4, |list| steps.iter().for_each(|step| step.write(list)));
            if let Some(comment) = comment {
                a.bytes(7, &user_data(comment));
            }
        });
    }

    /// One of the network's rules: a kernel rule for each kind of traffic it is about.
    fn firewall_rule(&mut self, chain: &str, rule: &FirewallRule) {
        if rule.sources.is_empty() || rule.destinations.is_empty() {
            return;
        }
        let verdict = match rule.action {
            // The other side has its say as well.
            Action::Allow => Verdict::Return,
            Action::Deny => Verdict::Drop,
        };
        for traffic in rule.traffic.iter().filter(|traffic| can_match(traffic)) {
            let mut steps = Vec::with_capacity(6);
            steps.extend(self.addresses(Side::Source, &rule.sources));
            steps.extend(self.addresses(Side::Destination, &rule.destinations));
            steps.extend(traffic.protocol.map(Step::Protocol));
            if let Some(ports) = &traffic.ports
                && !ports.is_all()
            {
                let bounds = bounds(ports).map(|(port, end)| (port.to_be_bytes(), end));
                steps.push(Step::Port(self.set(PORT_TYPE, bounds)));
            }
            steps.extend(rule.log.then(|| Step::Log(log::prefix(rule))));
            steps.push(Step::Then(verdict));
            self.commented(chain, &steps, Some(&rule.name));
        }
    }

    fn addresses(&mut self, side: Side, addresses: &Addresses) -> Option<Step> {
        let bounds = bounds(addresses).map(|(address, end)| (address.octets(), end));
        (!addresses.is_all()).then(|| Step::In(side, self.set(ADDRESS_TYPE, bounds)))
    }

    /// A set of ranges: the first of each, and the one after its last.
    fn set<const N: usize>(&mut self, key: u32, bounds: impl Iterator<Item = ([u8; N], bool)>) -> SetId {
        self.sets += 1;
        let id = self.sets;
        self.batch.message(NEW_SET, CREATE, |a| {
            a.text(1, TABLE);
            a.text(2, ANONYMOUS);
            a.number(3, SET_FLAGS);
            a.number(4, key);
            a.number(5, N as u32);
            a.number(10, id);
        });
        let bounds: Vec<_> = bounds.collect();
        for some in bounds.chunks(ELEMENTS_AT_ONCE) {
            self.batch.message(NEW_ELEMENTS, CREATE, |a| {
                a.text(1, TABLE);
                a.text(2, ANONYMOUS);
                a.number(4, id);
                a.nest(3, |list| {
                    for (value, end) in some {
                        list.nest(LIST_ELEMENT, |a| {
                            a.nest(1, |a| a.bytes(DATA_VALUE, value));
                            if *end {
                                a.number(3, INTERVAL_END);
                            }
                        });
                    }
                });
            });
        }
        SetId(id)
    }

    /// What goes to the network's own addresses is not tracked.
    fn untracked(&mut self) {
        self.hook("untrack", PREROUTING, RAW, ACCEPT);
        self.rule("untrack", &[Step::ToLocal, Step::Untrack]);
    }

    fn forward(&mut self) {
        self.hook("forward", FORWARD, FILTER, DROP);
        self.rule("forward", &[Step::State(ESTABLISHED | RELATED), ACCEPTED]);
        self.rule("forward", &[Step::State(INVALID), Step::Then(Verdict::Drop)]);
        self.rule("forward", &[Step::Then(Verdict::Jump("egress"))]);
        self.rule("forward", &[Step::Then(Verdict::Jump("ingress"))]);
        self.rule("forward", &[ACCEPTED]);
    }

    fn input(&mut self) {
        self.hook("input", INPUT, FILTER, ACCEPT);
        // What every request needs comes first: a question costs every packet that is asked.
        self.rule("input", &[Step::TcpUnderWay, ACCEPTED]);
        self.rule("input", &[Step::FromLoopback, ACCEPTED]);
        self.rule("input", &[Step::Is(Side::Destination, SERVICES), ACCEPTED]);
        self.rule("input", &[Step::Then(Verdict::Jump("egress"))]);
    }

    /// Before connections are tracked, so that one chain both asks and keeps what the network sends from being tracked.
    fn output(&mut self) {
        self.hook("output", OUTPUT, RAW, ACCEPT);
        self.rule("output", &[Step::Untrack]);
        self.rule("output", &[Step::TcpUnderWay, ACCEPTED]);
        // Answers of the resolver and to `ping`, and errors about packets that found no way.
        self.rule("output", &[Step::NotProtocol(crate::firewall::TCP), ACCEPTED]);
        self.rule("output", &[Step::ToLoopback, ACCEPTED]);
        self.rule("output", &[Step::Then(Verdict::Jump("ingress"))]);
    }
}

/// `NF_ACCEPT` and `NF_DROP`, as policies.
const ACCEPT: u32 = 1;
const DROP: u32 = 0;
const ACCEPTED: Step = Step::Then(Verdict::Accept);

/// Ports without a protocol that has them match nothing.
fn can_match(traffic: &Traffic) -> bool {
    match &traffic.ports {
        None => true,
        Some(ports) => !ports.is_empty() && traffic.protocol.is_some_and(Traffic::has_ports),
    }
}

/// The elements of an interval set: each range's first, and what comes after its last, marked as an end. A range that
/// reaches the very last needs no end.
fn bounds<T: crate::intervals::Countable>(set: &Intervals<T>) -> impl Iterator<Item = (T, bool)> + '_ {
    set.ranges()
        .flat_map(|(first, last)| [Some((first, false)), last.next().map(|end| (end, true))])
        .flatten()
}

/// A rule's comment as the `nft` program keeps and shows it: type 0, length, text.
fn user_data(comment: &str) -> Vec<u8> {
    let text = &comment.as_bytes()[..comment.len().min(63)];
    [&[0, text.len() as u8 + 1], text, &[0]].concat()
}

/// Sends a batch and reads what became of it. The kernel has obeyed or refused when sending returns, and its answers
/// wait to be read.
fn send(bytes: &[u8], receipt: u32) -> io::Result<()> {
    let family = AddressFamily::NETLINK;
    let socket =
        rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::NETFILTER))?;
    // A batch is one packet, however long. Where forcing is not allowed the usual size has to do.
    let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(
        &socket,
        bytes.len().saturating_mul(2).max(1 << 16),
    );
    rustix::net::sendto(&socket, bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    // An answer quotes what it refuses; only its beginning matters.
    let mut buffer = [0; 256];
    let mut received = false;
    loop {
        let length = match rustix::net::recv(&socket, &mut buffer, RecvFlags::DONTWAIT) {
            Ok((length, _)) => length.min(buffer.len()),
            Err(rustix::io::Errno::AGAIN) => break,
            Err(error) => return Err(error.into()),
        };
        match message::answer(&buffer[..length]) {
            Some((sequence, 0)) => received |= sequence == receipt,
            Some((_, error)) => return Err(io::Error::from_raw_os_error(error)),
            None => {}
        }
    }
    if received {
        Ok(())
    } else {
        Err(io::Error::other("the kernel did not answer a change of firewall rules"))
    }
}
