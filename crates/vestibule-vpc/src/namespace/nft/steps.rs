//! The steps of an nftables rule: what it asks of a packet, and what it then says.
//!
//! A rule is a list of expressions over registers. The first that does not hold ends the rule; a verdict ends the
//! chain. One register is enough here: every step loads it and compares.

use std::net::Ipv4Addr;

use super::message::Attributes;

/// `NFTA_LIST_ELEM`.
pub const LIST_ELEMENT: u16 = 1;
/// `NFTA_DATA_VALUE`, `NFTA_DATA_VERDICT`.
pub const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

/// `NFT_REG_VERDICT`, `NFT_REG_1`.
const VERDICT: u32 = 0;
const REGISTER: u32 = 1;

/// `NFT_META_IIF`, `NFT_META_OIF`, `NFT_META_L4PROTO`.
const IN_LINK: u32 = 4;
const OUT_LINK: u32 = 5;
const PROTOCOL: u32 = 16;
/// The loopback link has this index in every namespace.
const LOOPBACK_INDEX: u32 = 1;

/// `NFT_PAYLOAD_NETWORK_HEADER`, `NFT_PAYLOAD_TRANSPORT_HEADER`.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// Offsets in the headers of IPv4 and TCP. The ports of UDP and SCTP are where TCP's are.
const SOURCE_OFFSET: u32 = 12;
const DESTINATION_OFFSET: u32 = 16;
const PORT_OFFSET: u32 = 2;
const TCP_FLAGS_OFFSET: u32 = 13;
const TCP: u8 = 6;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// `NFT_CMP_EQ`, `NFT_CMP_NEQ`.
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

/// `NFT_CT_STATE`, and the bits of what it loads.
const CT_STATE: u32 = 0;
pub const INVALID: u32 = 1;
pub const ESTABLISHED: u32 = 2;
pub const RELATED: u32 = 4;

/// `NFT_FIB_RESULT_ADDRTYPE`, `NFTA_FIB_F_DADDR`, `RTN_LOCAL`.
const FIB_ADDRESS_TYPE: u32 = 3;
const FIB_OF_DESTINATION: u32 = 2;
const LOCAL: u32 = 2;

/// A set of the batch, by the number it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetId(pub u32);

/// Which address of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Source,
    Destination,
}

/// One step. All but the last five are questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    FromLoopback,
    ToLoopback,
    Is(Side, Ipv4Addr),
    In(Side, SetId),
    Protocol(u8),
    NotProtocol(u8),
    /// Asks for the protocol itself: TCP, and not the first packet of a connection.
    TcpUnderWay,
    /// After a protocol that has ports.
    Port(SetId),
    /// Any of these states of the connection.
    State(u32),
    /// To an address of this namespace.
    ToLocal,
    /// Connection tracking leaves this packet alone.
    Untrack,
    /// The connection goes to this port of the namespace's own loopback address instead. In chains of type `nat`.
    Redirect(u16),
    /// Tells the log's reader, with words about the rule.
    Log(String),
    Then(Verdict),
}

/// What a rule says at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(&'static str),
}

impl Step {
    /// Writes the step's expressions into a rule's list.
    pub fn write(&self, list: &mut Attributes<'_>) {
        match *self {
            Step::Log(ref prefix) => log(list, prefix),
            Step::FromLoopback => {
                meta(list, IN_LINK);
                compare(list, EQUAL, &LOOPBACK_INDEX.to_ne_bytes());
            }
            Step::ToLoopback => {
                meta(list, OUT_LINK);
                compare(list, EQUAL, &LOOPBACK_INDEX.to_ne_bytes());
            }
            Step::Is(side, address) => {
                payload(list, NETWORK, side.offset(), 4);
                compare(list, EQUAL, &address.octets());
            }
            Step::In(side, set) => {
                payload(list, NETWORK, side.offset(), 4);
                lookup(list, set);
            }
            Step::Protocol(protocol) => {
                meta(list, PROTOCOL);
                compare(list, EQUAL, &[protocol]);
            }
            Step::NotProtocol(protocol) => {
                meta(list, PROTOCOL);
                compare(list, NOT_EQUAL, &[protocol]);
            }
            Step::TcpUnderWay => {
                Step::Protocol(TCP).write(list);
                payload(list, TRANSPORT, TCP_FLAGS_OFFSET, 1);
                mask(list, &[SYN | ACK]);
                compare(list, NOT_EQUAL, &[SYN]);
            }
            Step::Port(set) => {
                payload(list, TRANSPORT, PORT_OFFSET, 2);
                lookup(list, set);
            }
            Step::State(states) => {
                tracked_state(list);
                mask(list, &states.to_ne_bytes());
                compare(list, NOT_EQUAL, &[0; 4]);
            }
            Step::ToLocal => {
                destination_type(list);
                compare(list, EQUAL, &LOCAL.to_ne_bytes());
            }
            Step::Untrack => expression(list, "notrack", |_| {}),
            Step::Redirect(port) => redirect(list, port),
            Step::Then(verdict) => immediate(list, verdict),
        }
    }
}

impl Side {
    fn offset(self) -> u32 {
        match self {
            Side::Source => SOURCE_OFFSET,
            Side::Destination => DESTINATION_OFFSET,
        }
    }
}

impl Verdict {
    /// `NF_DROP`, `NF_ACCEPT`, `NFT_JUMP`, `NFT_RETURN`.
    fn code(self) -> i32 {
        match self {
            Verdict::Drop => 0,
            Verdict::Accept => 1,
            Verdict::Jump(_) => -3,
            Verdict::Return => -5,
        }
    }
}

fn expression(list: &mut Attributes<'_>, name: &str, data: impl FnOnce(&mut Attributes<'_>)) {
    list.nest(LIST_ELEMENT, |a| {
        a.text(1, name);
        a.nest(2, data);
    });
}

/// `NFTA_META_DREG`, `NFTA_META_KEY`.
fn meta(list: &mut Attributes<'_>, key: u32) {
    expression(list, "meta", |a| {
        a.number(1, REGISTER);
        a.number(2, key);
    });
}

/// `NFTA_PAYLOAD_DREG`, `_BASE`, `_OFFSET`, `_LEN`.
fn payload(list: &mut Attributes<'_>, base: u32, offset: u32, length: u32) {
    expression(list, "payload", |a| {
        a.number(1, REGISTER);
        a.number(2, base);
        a.number(3, offset);
        a.number(4, length);
    });
}

/// `NFTA_CMP_SREG`, `_OP`, `_DATA`.
fn compare(list: &mut Attributes<'_>, operator: u32, value: &[u8]) {
    expression(list, "cmp", |a| {
        a.number(1, REGISTER);
        a.number(2, operator);
        a.nest(3, |a| a.bytes(DATA_VALUE, value));
    });
}

/// `NFTA_BITWISE_SREG`, `_DREG`, `_LEN`, `_MASK`, `_XOR`.
fn mask(list: &mut Attributes<'_>, bits: &[u8]) {
    expression(list, "bitwise", |a| {
        a.number(1, REGISTER);
        a.number(2, REGISTER);
        a.number(3, bits.len() as u32);
        a.nest(4, |a| a.bytes(DATA_VALUE, bits));
        a.nest(5, |a| a.bytes(DATA_VALUE, &vec![0; bits.len()]));
    });
}

/// `NFTA_LOG_GROUP`, `_PREFIX`, `_SNAPLEN`.
fn log(list: &mut Attributes<'_>, prefix: &str) {
    expression(list, "log", |a| {
        a.bytes(1, &super::log::GROUP.to_be_bytes());
        a.text(2, prefix);
        a.number(3, super::log::TOLD_BYTES);
    });
}

/// `NFTA_LOOKUP_SET`, `_SREG`, `_SET_ID`.
fn lookup(list: &mut Attributes<'_>, set: SetId) {
    expression(list, "lookup", |a| {
        a.text(1, super::ANONYMOUS);
        a.number(2, REGISTER);
        a.number(4, set.0);
    });
}

/// `NFTA_CT_DREG`, `NFTA_CT_KEY`.
fn tracked_state(list: &mut Attributes<'_>) {
    expression(list, "ct", |a| {
        a.number(1, REGISTER);
        a.number(2, CT_STATE);
    });
}

/// `NFTA_FIB_DREG`, `_RESULT`, `_FLAGS`.
fn destination_type(list: &mut Attributes<'_>) {
    expression(list, "fib", |a| {
        a.number(1, REGISTER);
        a.number(2, FIB_ADDRESS_TYPE);
        a.number(3, FIB_OF_DESTINATION);
    });
}

/// `NFTA_IMMEDIATE_DREG`, `_DATA`; `NFTA_VERDICT_CODE`, `_CHAIN`.
fn immediate(list: &mut Attributes<'_>, verdict: Verdict) {
    expression(list, "immediate", |a| {
        a.number(1, VERDICT);
        a.nest(2, |a| {
            a.nest(DATA_VERDICT, |a| {
                a.bytes(1, &verdict.code().to_be_bytes());
                if let Verdict::Jump(chain) = verdict {
                    a.text(2, chain);
                }
            });
        });
    });
}

/// The port into the register (`NFTA_IMMEDIATE_DREG`, `_DATA`), and from there (`NFTA_REDIR_REG_PROTO_MIN`).
fn redirect(list: &mut Attributes<'_>, port: u16) {
    expression(list, "immediate", |a| {
        a.number(1, REGISTER);
        a.nest(2, |a| a.bytes(DATA_VALUE, &port.to_be_bytes()));
    });
    expression(list, "redir", |a| a.number(1, REGISTER));
}
