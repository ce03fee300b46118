//! Netlink messages for nftables, written by hand.
//!
//! What is needed is small: one batch that replaces one table. The libraries for it bind C code or carry a licence
//! that does not fit, so the attributes are written here. Numbers of a batch are big-endian, unlike in the rest of
//! netlink; values that the kernel compares with registers are in the machine's order.

/// Header of every netlink message: length, type, flags, sequence, port.
const HEADER: usize = 16;
/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_CREATE`, `NLM_F_APPEND`.
pub const REQUEST: u16 = 0x1;
pub const ACK: u16 = 0x4;
pub const CREATE: u16 = 0x400;
pub const APPEND: u16 = 0x800;

/// `NLMSG_ERROR`: a refusal, or with number 0 a receipt.
const ERROR: u16 = 0x2;
/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NFNL_SUBSYS_NFTABLES`.
const NFTABLES: u16 = 10;
/// `NFPROTO_IPV4`.
const IPV4: u8 = 2;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

/// Messages that the kernel obeys all together or not at all.
pub struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
    /// Where the last message begins.
    last: usize,
}

/// The attributes of a message or of a nest, being written.
pub struct Attributes<'b>(&'b mut Vec<u8>);

impl Batch {
    pub fn begin() -> Batch {
        let mut batch = Batch { bytes: Vec::with_capacity(4096), sequence: 0, last: 0 };
        batch.write(BATCH_BEGIN, REQUEST, 0, NFTABLES, |_| {});
        batch
    }

    /// Appends a message of the nftables subsystem.
    pub fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Attributes<'_>)) {
        self.write(NFTABLES << 8 | kind, REQUEST | flags, IPV4, 0, body);
    }

    /// The batch, and the sequence number of the message for which the kernel will send a receipt: the last one.
    pub fn end(mut self) -> (Vec<u8>, u32) {
        let receipt = self.sequence;
        self.bytes[self.last + 6] |= ACK as u8;
        self.write(BATCH_END, REQUEST, 0, NFTABLES, |_| {});
        (self.bytes, receipt)
    }

    fn write(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        resource: u16,
        body: impl FnOnce(&mut Attributes<'_>),
    ) {
        self.sequence += 1;
        self.last = self.bytes.len();
        let bytes = &mut self.bytes;
        bytes.extend([0; 4]);
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(self.sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        // `struct nfgenmsg`: family, version 0, resource.
        bytes.extend([family, 0]);
        bytes.extend(resource.to_be_bytes());
        body(&mut Attributes(bytes));
        let length = (bytes.len() - self.last) as u32;
        bytes[self.last..self.last + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

/// One message that is no part of a batch, for a subsystem's group.
pub fn alone(kind: u16, flags: u16, group: u16, body: impl FnOnce(&mut Attributes<'_>)) -> Vec<u8> {
    let mut batch = Batch { bytes: Vec::with_capacity(64), sequence: 0, last: 0 };
    batch.write(kind, flags, 0, group, body);
    batch.bytes
}

/// The attributes of every message of a kind that the kernel sent at once.
pub fn each(bytes: &[u8], kind: u16) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        let found = u16::from_ne_bytes(rest.get(4..6)?.try_into().ok()?);
        let message = rest.get(..length).filter(|message| message.len() >= HEADER)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((found, message))
    })
    .filter(move |(found, _)| *found == kind)
    // Behind the header stands `struct nfgenmsg`.
    .filter_map(|(_, message)| message.get(HEADER + 4..))
}

/// An attribute's value, by its number.
pub fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut rest = attributes;
    loop {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let found = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?) & !NESTED;
        if length < 4 {
            return None;
        }
        if found == kind {
            return rest.get(4..length);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

impl Attributes<'_> {
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |bytes| bytes.extend(value));
    }

    pub fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |bytes| {
            bytes.extend(value.as_bytes());
            bytes.push(0);
        });
    }

    pub fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Attributes<'_>)) {
        self.attribute(kind | NESTED, |bytes| body(&mut Attributes(bytes)));
    }

    fn attribute(&mut self, kind: u16, value: impl FnOnce(&mut Vec<u8>)) {
        let at = self.0.len();
        self.0.extend([0; 4]);
        value(self.0);
        let length = self.0.len() - at;
        debug_assert!(u16::try_from(length).is_ok(), "an attribute of {length} bytes");
        self.0[at..at + 2].copy_from_slice(&(length as u16).to_ne_bytes());
        self.0[at + 2..at + 4].copy_from_slice(&kind.to_ne_bytes());
        // Attributes begin at multiples of four.
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// One answer of the kernel: the sequence number it is about, and its error number (0: a receipt).
pub fn answer(message: &[u8]) -> Option<(u32, i32)> {
    let field = |at: usize| message.get(at..at + 4)?.try_into().ok();
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    let error = i32::from_ne_bytes(field(HEADER)?);
    (kind == ERROR).then_some((u32::from_ne_bytes(field(8)?), -error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_framed_and_its_last_message_is_acknowledged() {
        let mut batch = Batch::begin();
        batch.message(0, CREATE, |a| a.text(1, "vpc"));
        let (bytes, receipt) = batch.end();
        let lengths = [20, 28, 20];
        assert_eq!(bytes.len(), lengths.iter().sum::<usize>());
        assert_eq!(receipt, 2);
        let second = &bytes[20..48];
        assert_eq!(second[..4], 28u32.to_ne_bytes());
        assert_eq!(
            second[4..8],
            [0, 10, (REQUEST | ACK) as u8, 4],
            "nftables, message 0, request with receipt"
        );
        assert_eq!(second[20..], [8, 0, 1, 0, b'v', b'p', b'c', 0]);
    }

    #[test]
    fn nests_are_measured_and_padded() {
        let mut bytes = Vec::new();
        Attributes(&mut bytes).nest(3, |a| {
            a.bytes(1, &[7]);
            a.number(2, 1);
        });
        assert_eq!(bytes, [20, 0, 3, 0x80, 5, 0, 1, 0, 7, 0, 0, 0, 8, 0, 2, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn answers_are_read_and_rubbish_is_not() {
        let mut message = [0u8; 20];
        message[4..6].copy_from_slice(&ERROR.to_ne_bytes());
        message[8..12].copy_from_slice(&5u32.to_ne_bytes());
        message[16..].copy_from_slice(&(-17i32).to_ne_bytes());
        assert_eq!(answer(&message), Some((5, 17)));
        assert_eq!(answer(&message[..19]), None);
        message[4] = 3;
        assert_eq!(answer(&message), None);
    }
}
