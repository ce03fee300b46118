//! `xds.data.orca.v3.OrcaLoadReport` in protobuf's wire format, as far as it is needed.

use super::Report;

/// Numbers of the message's fields.
const CPU: u64 = 1;
const MEMORY: u64 = 2;
const RPS_FRACTIONAL: u64 = 6;
const NAMED: u64 = 8;
const APPLICATION: u64 = 9;

/// A field of a message.
enum Field<'m> {
    Double(f64),
    Bytes(&'m [u8]),
    /// Of a kind that no field here has.
    Other,
}

/// Reads a message. Fields that are not known are passed over, as protobuf asks for.
pub(super) fn read(mut message: &[u8]) -> Option<Report> {
    let mut report = Report::default();
    while !message.is_empty() {
        match field(&mut message)? {
            (CPU, Field::Double(value)) => report.set("cpu_utilization", value)?,
            (MEMORY, Field::Double(value)) => report.set("mem_utilization", value)?,
            (RPS_FRACTIONAL, Field::Double(value)) => report.set("rps_fractional", value)?,
            (APPLICATION, Field::Double(value)) => report.set("application_utilization", value)?,
            (NAMED, Field::Bytes(entry)) => {
                let (name, value) = named(entry)?;
                report.name(name, value)?;
            }
            _ => {}
        }
    }
    Some(report)
}

/// An entry of a map from names to numbers.
fn named(mut entry: &[u8]) -> Option<(&str, f64)> {
    let (mut name, mut value) = ("", 0.0);
    while !entry.is_empty() {
        match field(&mut entry)? {
            (1, Field::Bytes(bytes)) => name = std::str::from_utf8(bytes).ok()?,
            (2, Field::Double(number)) => value = number,
            _ => {}
        }
    }
    Some((name, value))
}

/// Takes the next field off a message: its number and its value.
fn field<'m>(message: &mut &'m [u8]) -> Option<(u64, Field<'m>)> {
    let tag = varint(message)?;
    let value = match tag & 7 {
        0 => varint(message).map(|_| Field::Other)?,
        1 => Field::Double(f64::from_le_bytes(take(message, 8)?.try_into().ok()?)),
        2 => {
            let length = usize::try_from(varint(message)?).ok()?;
            Field::Bytes(take(message, length)?)
        }
        5 => take(message, 4).map(|_| Field::Other)?,
        _ => return None,
    };
    Some((tag >> 3, value))
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *take(message, 1)?.first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take<'m>(message: &mut &'m [u8], length: usize) -> Option<&'m [u8]> {
    let (taken, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(taken)
}
