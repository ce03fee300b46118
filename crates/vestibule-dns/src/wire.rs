//! DNS messages: strict reading of queries, writing of answers, and reading what other resolvers answer.

use std::borrow::Cow;
use std::ops::Range;

use crate::name::{MAX_NAME, Name, is_within};
use crate::rdata::kind;
use crate::zone::Run;

/// Octets of a message header (RFC 1035 section 4.1.1).
pub const HEADER: usize = 12;
/// The largest answer sent over UDP to a client that offers more (RFC 9715 section 3.1), in octets.
pub const MAX_UDP: usize = 1232;
/// The largest answer sent over UDP to a client without EDNS (RFC 1035 section 4.2.1), in octets.
pub const MIN_UDP: usize = 512;
/// Compression pointers followed in one name. A name of 255 octets has 127 labels at most.
const MAX_POINTERS: usize = 127;

const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;

/// Response codes (RFC 1035 section 4.1.1, RFC 6891 section 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rcode {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
    BadVers = 16,
}

/// The name of a response code that fits into a header (RFC 6895 section 2.3); `OTHER` for one that is never sent.
pub fn rcode_name(rcode: u8) -> &'static str {
    match rcode {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        _ => "OTHER",
    }
}

/// A query that may be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query<'m> {
    pub id: u16,
    pub recursion_desired: bool,
    pub checking_disabled: bool,
    /// The question as received, to be echoed with its letter case (name, type, class).
    pub question: &'m [u8],
    /// In wire form and in lower case. Only a name with upper-case letters is a copy.
    pub name: Cow<'m, [u8]>,
    pub kind: u16,
    /// The client's EDNS payload size, if it speaks EDNS.
    pub edns: Option<u16>,
    /// The EDNS `DO` bit, echoed.
    pub dnssec_ok: bool,
}

/// What is wrong with a message, and what its sender hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejected {
    /// No answer at all: too short to have an id, or itself an answer (RFC 8906 section 3).
    Drop,
    /// An answer with this code, with the question where it could be read.
    Answer { id: u16, opcode_and_rd: u16, question: Range<usize>, rcode: Rcode, edns: bool },
}

/// Reads a message that should be a query.
pub fn read_query(message: &[u8]) -> Result<Query<'_>, Rejected> {
    let header = message.get(..HEADER).ok_or(Rejected::Drop)?;
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (id, flags) = (word(0), word(2));
    if flags & 0x8000 != 0 {
        return Err(Rejected::Drop);
    }
    let reject =
        |rcode, question, edns| Rejected::Answer { id, opcode_and_rd: flags & 0x7900, question, rcode, edns };
    let form_error = |question| reject(Rcode::FormErr, question, false);
    if (flags >> 11) & 0xf != 0 {
        return Err(reject(Rcode::NotImp, 0..0, false));
    }
    if word(4) != 1 || word(6) != 0 || word(8) != 0 {
        return Err(form_error(0..0));
    }
    let (name, end) = read_plain_name(message, HEADER).ok_or_else(|| form_error(0..0))?;
    let tail = message.get(end..end + 4).ok_or_else(|| form_error(0..0))?;
    let (qtype, class) = (u16::from_be_bytes([tail[0], tail[1]]), u16::from_be_bytes([tail[2], tail[3]]));
    let question = HEADER..end + 4;
    let extra =
        read_additional(message, question.end, word(10)).ok_or_else(|| form_error(question.clone()))?;
    if extra.version > 0 {
        return Err(reject(Rcode::BadVers, question, true));
    }
    // Zones are not given away as a whole, and there is no other class than the internet's.
    let transfer = matches!(qtype, kind::AXFR | kind::IXFR);
    if transfer || (class != CLASS_IN && class != CLASS_ANY) {
        return Err(reject(Rcode::Refused, question, extra.payload.is_some()));
    }
    Ok(Query {
        id,
        recursion_desired: flags & 0x0100 != 0,
        checking_disabled: flags & 0x0010 != 0,
        question: &message[question],
        name,
        kind: qtype,
        edns: extra.payload,
        dnssec_ok: extra.dnssec_ok,
    })
}

#[derive(Default)]
struct Additional {
    payload: Option<u16>,
    version: u8,
    dnssec_ok: bool,
}

/// The additional section: at most one OPT (RFC 6891 section 6.1.1); other records (a signature) are read over. What
/// comes after the last record makes the message malformed.
fn read_additional(message: &[u8], mut at: usize, count: u16) -> Option<Additional> {
    let mut found = Additional::default();
    for _ in 0..count {
        let is_root = *message.get(at)? == 0;
        at = if is_root { at + 1 } else { read_name(message, at)?.1 };
        let fixed = message.get(at..at + 10)?;
        let word = |i: usize| u16::from_be_bytes([fixed[i], fixed[i + 1]]);
        at += 10 + usize::from(word(8));
        if word(0) != kind::OPT {
            continue;
        }
        if found.payload.is_some() || !is_root {
            return None;
        }
        // Where other records have a TTL: extended code, version, flags.
        found = Additional { payload: Some(word(2)), version: fixed[5], dnssec_ok: fixed[6] & 0x80 != 0 };
    }
    (at == message.len()).then_some(found)
}

/// A name without compression, as a question has it: its first owner cannot point anywhere.
fn read_plain_name(message: &[u8], start: usize) -> Option<(Cow<'_, [u8]>, usize)> {
    let mut at = start;
    loop {
        let length = usize::from(*message.get(at)?);
        if length > crate::name::MAX_LABEL {
            return None;
        }
        at += length + 1;
        if at - start > MAX_NAME {
            return None;
        }
        if length == 0 {
            let name = message.get(start..at)?;
            // A length is at most 63, and no letter.
            let plain = !name.iter().any(u8::is_ascii_uppercase);
            let name = if plain { Cow::Borrowed(name) } else { Cow::Owned(name.to_ascii_lowercase()) };
            return Some((name, at));
        }
    }
}

/// A name that may be compressed (RFC 1035 section 4.1.4). Pointers must go backwards, so that reading ends.
fn read_name(message: &[u8], start: usize) -> Option<(Vec<u8>, usize)> {
    let (mut at, mut end, mut lowest) = (start, None, start);
    let mut wire = Vec::with_capacity(32);
    for _ in 0..=MAX_POINTERS + MAX_NAME {
        let length = *message.get(at)?;
        match length {
            0 => {
                wire.push(0);
                return Some((wire, end.unwrap_or(at + 1)));
            }
            1..=63 => {
                let next = at + 1 + usize::from(length);
                wire.extend_from_slice(message.get(at..next)?);
                if wire.len() >= MAX_NAME {
                    return None;
                }
                at = next;
            }
            0xc0.. => {
                let target = usize::from(u16::from_be_bytes([length & 0x3f, *message.get(at + 1)?]));
                if target >= lowest {
                    return None;
                }
                end.get_or_insert(at + 2);
                (at, lowest) = (target, target);
            }
            _ => return None,
        }
    }
    None
}

impl Record {
    /// A record from its owner and everything behind the owner's name.
    pub(crate) fn behind(owner: &[u8], rest: &[u8]) -> Option<Record> {
        let (fixed, data) = rest.split_at_checked(10)?;
        let word = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let ttl = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
        Some(Record { name: Name::from_wire(owner), kind: word(0), class: word(2), ttl, data: data.to_vec() })
    }

    /// Everything behind the owner's name.
    pub(crate) fn rest(&self) -> Vec<u8> {
        let mut wire = Vec::with_capacity(10 + self.data.len());
        wire.extend_from_slice(&self.kind.to_be_bytes());
        wire.extend_from_slice(&self.class.to_be_bytes());
        wire.extend_from_slice(&self.ttl.to_be_bytes());
        wire.extend_from_slice(&(self.data.len() as u16).to_be_bytes());
        wire.extend_from_slice(&self.data);
        wire
    }
}

/// A resource record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub name: Name,
    pub kind: u16,
    pub class: u16,
    /// Seconds.
    pub ttl: u32,
    /// Wire form without compression.
    pub data: Vec<u8>,
}

fn read_record(message: &[u8], start: usize) -> Option<(Record, usize)> {
    let (name, at) = read_name(message, start)?;
    let fixed = message.get(at..at + 10)?;
    let word = |i: usize| u16::from_be_bytes([fixed[i], fixed[i + 1]]);
    let ttl = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
    let data = at + 10..at + 10 + usize::from(word(8));
    message.get(data.clone())?;
    let end = data.end;
    let data = expand(message, word(0), data)?;
    Some((Record { name: Name::from_wire(&name), kind: word(0), class: word(2), ttl, data }, end))
}

/// Record data with the names in it written out, for the types that RFC 3597 section 4 allows to compress. Nothing may
/// follow them but the numbers of an SOA record, so that what is written out still has a length of two octets.
fn expand(message: &[u8], kind: u16, data: Range<usize>) -> Option<Vec<u8>> {
    let (fixed, names, numbers) = match kind {
        kind::NS | kind::CNAME | kind::PTR => (0, 1, 0),
        kind::MX => (2, 1, 0),
        kind::SRV => (6, 1, 0),
        kind::SOA => (0, 2, 20),
        _ => return Some(message.get(data)?.to_vec()),
    };
    let mut out = message.get(data.start..data.start + fixed)?.to_vec();
    let mut at = data.start + fixed;
    for _ in 0..names {
        let (name, next) = read_name(message, at)?;
        out.extend_from_slice(&name);
        at = next;
    }
    out.extend_from_slice(message.get(at..data.end).filter(|rest| rest.len() == numbers)?);
    Some(out)
}

/// What another resolver answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub id: u16,
    /// The response code, without its extension.
    pub rcode: u8,
    pub authoritative: bool,
    pub answers: Vec<Record>,
    /// The SOA record of a negative answer.
    pub soa: Option<Record>,
}

/// Reads what another resolver answered.
pub fn read_answer(message: &[u8]) -> Option<Reply> {
    let header = message.get(..HEADER)?;
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    if word(2) & 0x8000 == 0 {
        return None;
    }
    let mut at = HEADER;
    for _ in 0..word(4) {
        at = read_name(message, at)?.1 + 4;
    }
    let mut answers = Vec::new();
    for _ in 0..word(6) {
        let (record, end) = read_record(message, at)?;
        answers.push(record);
        at = end;
    }
    let mut soa = None;
    for _ in 0..word(8) {
        let (record, end) = read_record(message, at)?;
        soa = soa.or((record.kind == kind::SOA).then_some(record));
        at = end;
    }
    let authoritative = header[2] & 0x04 != 0;
    Some(Reply { id: word(0), rcode: header[3] & 0xf, authoritative, answers, soa })
}

/// A query of our own.
pub fn write_query(id: u16, name: &Name, kind: u16) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + name.wire().len() + 4);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&[0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(name.wire());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    out
}

/// Writes an answer, record by record.
pub struct Writer<'o, 'q> {
    out: &'o mut Vec<u8>,
    start: usize,
    answers: u16,
    authorities: u16,
    limit: usize,
    /// The question, whose name records may point to.
    query: &'q Query<'q>,
}

impl<'o, 'q> Writer<'o, 'q> {
    /// An answer to `query` of at most `limit` octets, appended to `out`.
    pub fn new(query: &'q Query<'q>, limit: usize, out: &'o mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&query.id.to_be_bytes());
        // Flags and counts follow when they are known.
        out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(query.question);
        Writer { out, start, answers: 0, authorities: 0, limit, query }
    }

    /// Records of the answer. `owner` is their name in wire form, in lower case.
    pub(crate) fn answers(&mut self, owner: &[u8], run: Run<'_>) {
        if owner != &*self.query.name {
            run.records().for_each(|rest| self.answer(owner, rest));
            return;
        }
        // They point to the question's name already.
        self.answers = self.answers.saturating_add(run.count);
        self.out.extend_from_slice(run.wire);
    }

    /// A record of the answer: its owner in wire form, in lower case, and everything behind the owner's name.
    pub fn answer(&mut self, owner: &[u8], rest: &[u8]) {
        self.answers = self.answers.saturating_add(1);
        self.record(owner, rest);
    }

    /// A record of the authority section, as for [`Writer::answer`].
    pub fn authority(&mut self, owner: &[u8], rest: &[u8]) {
        self.authorities = self.authorities.saturating_add(1);
        self.record(owner, rest);
    }

    fn record(&mut self, owner: &[u8], rest: &[u8]) {
        // The question's name, and every name above it, stands in the question already.
        let asked = &*self.query.name;
        if owner.len() > 1 && is_within(asked, owner) {
            let at = HEADER + asked.len() - owner.len();
            self.out.extend_from_slice(&(0xc000 | at as u16).to_be_bytes());
        } else {
            self.out.extend_from_slice(owner);
        }
        self.out.extend_from_slice(rest);
    }

    /// Ends the answer. One that is too long loses its records and gains the TC bit (RFC 2181 section 9).
    pub fn finish(mut self, authoritative: bool, rcode: Rcode) {
        let query = self.query;
        let mut flags = 0x8080 | (rcode as u16 & 0xf);
        flags |= if authoritative { 0x0400 } else { 0 };
        flags |= if query.recursion_desired { 0x0100 } else { 0 };
        flags |= if query.checking_disabled { 0x0010 } else { 0 };
        let opt = if query.edns.is_some() { 11 } else { 0 };
        if self.out.len() - self.start + opt > self.limit {
            self.drop_records();
            flags |= 0x0200;
        }
        if query.edns.is_some() {
            write_opt(self.out, 0, query.dnssec_ok);
        }
        let header = &mut self.out[self.start..self.start + HEADER];
        header[2..4].copy_from_slice(&flags.to_be_bytes());
        header[6..8].copy_from_slice(&self.answers.to_be_bytes());
        header[8..10].copy_from_slice(&self.authorities.to_be_bytes());
        header[11] = u8::from(query.edns.is_some());
    }

    /// Back to the bare question.
    pub fn drop_records(&mut self) {
        self.out.truncate(self.start + HEADER + self.query.question.len());
        (self.answers, self.authorities) = (0, 0);
    }
}

fn write_opt(out: &mut Vec<u8>, extended_rcode: u8, dnssec_ok: bool) {
    out.push(0);
    out.extend_from_slice(&kind::OPT.to_be_bytes());
    out.extend_from_slice(&(MAX_UDP as u16).to_be_bytes());
    out.extend_from_slice(&[extended_rcode, 0, if dnssec_ok { 0x80 } else { 0 }, 0, 0, 0]);
}

/// The answer to a message that was rejected; `None` for one that gets none.
pub fn write_rejection(message: &[u8], rejected: &Rejected, out: &mut Vec<u8>) -> Option<()> {
    let Rejected::Answer { id, opcode_and_rd, question, rcode, edns } = rejected else { return None };
    let code = *rcode as u16;
    let flags = 0x8080 | (opcode_and_rd & 0x7900) | (code & 0xf);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&[0, u8::from(!question.is_empty()), 0, 0, 0, 0, 0, u8::from(*edns)]);
    out.extend_from_slice(message.get(question.clone())?);
    if *edns {
        write_opt(out, (code >> 4) as u8, false);
    }
    Some(())
}

#[cfg(test)]
mod tests;
