//! The fields of a record's text, taken one by one and appended to the wire form.

use crate::name;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The text does not fit the type. Which part does not is not told: the whole is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wrong;

/// The longest character string, in bytes (RFC 1035, section 3.3).
const MAX_STRING: usize = 255;

pub(super) struct Fields {
    tokens: std::vec::IntoIter<Vec<u8>>,
    wire: Vec<u8>,
}

impl Fields {
    /// Splits at white space, outside of double quotes. Escapes inside of quotes are resolved; outside they are left
    /// for names to read.
    pub(super) fn split(text: &str) -> Result<Fields, Wrong> {
        let mut tokens = Vec::new();
        let mut rest = text.as_bytes().trim_ascii_start();
        while let Some(&first) = rest.first() {
            let token;
            (token, rest) = if first == b'"' { quoted(&rest[1..])? } else { plain(rest) };
            tokens.push(token);
            rest = rest.trim_ascii_start();
        }
        Ok(Fields { tokens: tokens.into_iter(), wire: Vec::new() })
    }

    pub(super) fn into_wire(self) -> Vec<u8> {
        self.wire
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.tokens.as_slice().is_empty()
    }

    pub(super) fn end(&self) -> Result<(), Wrong> {
        if self.is_at_end() { Ok(()) } else { Err(Wrong) }
    }

    pub(super) fn peek(&self) -> Option<&[u8]> {
        self.tokens.as_slice().first().map(Vec::as_slice)
    }

    pub(super) fn skip(&mut self) {
        self.tokens.next();
    }

    pub(super) fn token(&mut self) -> Result<Vec<u8>, Wrong> {
        self.tokens.next().ok_or(Wrong)
    }

    pub(super) fn push(&mut self, byte: u8) {
        self.wire.push(byte);
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.wire.extend_from_slice(bytes);
    }

    fn parsed<T: FromStr>(&mut self) -> Result<T, Wrong> {
        let token = self.token()?;
        std::str::from_utf8(&token).ok().and_then(|text| text.parse().ok()).ok_or(Wrong)
    }

    /// A number up to `most`, which the caller appends itself.
    pub(super) fn number(&mut self, most: u32) -> Result<u32, Wrong> {
        self.parsed::<u32>().and_then(|number| if number <= most { Ok(number) } else { Err(Wrong) })
    }

    pub(super) fn u8(&mut self) -> Result<(), Wrong> {
        let number: u8 = self.parsed()?;
        self.push(number);
        Ok(())
    }

    pub(super) fn u16(&mut self) -> Result<(), Wrong> {
        let number: u16 = self.parsed()?;
        self.extend(&number.to_be_bytes());
        Ok(())
    }

    pub(super) fn u32(&mut self) -> Result<(), Wrong> {
        let number: u32 = self.parsed()?;
        self.extend(&number.to_be_bytes());
        Ok(())
    }

    pub(super) fn ipv4(&mut self) -> Result<(), Wrong> {
        let address: Ipv4Addr = self.parsed()?;
        self.extend(&address.octets());
        Ok(())
    }

    pub(super) fn ipv6(&mut self) -> Result<(), Wrong> {
        let address: Ipv6Addr = self.parsed()?;
        self.extend(&address.octets());
        Ok(())
    }

    /// An absolute name. Its case is kept; it is never compressed.
    pub(super) fn name(&mut self) -> Result<(), Wrong> {
        let token = self.token()?;
        let wire = name::to_wire(&token).map_err(|_| Wrong)?;
        self.extend(&wire);
        Ok(())
    }

    /// One character string.
    pub(super) fn string(&mut self) -> Result<(), Wrong> {
        let token = self.token()?;
        if token.len() > MAX_STRING {
            return Err(Wrong);
        }
        self.push(token.len() as u8);
        self.extend(&token);
        Ok(())
    }

    /// All that is left, as character strings; at least one.
    pub(super) fn strings(&mut self) -> Result<(), Wrong> {
        self.string()?;
        while !self.is_at_end() {
            self.string()?;
        }
        Ok(())
    }

    /// All that is left, as hexadecimal digits; at least one byte.
    pub(super) fn hex(&mut self) -> Result<(), Wrong> {
        let digits: Vec<u8> = self.tokens.by_ref().flatten().collect();
        if digits.is_empty() || !digits.len().is_multiple_of(2) {
            return Err(Wrong);
        }
        for pair in digits.chunks(2) {
            let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(Wrong);
            let byte = digit(pair[0])? * 16 + digit(pair[1])?;
            self.wire.push(byte as u8);
        }
        Ok(())
    }

    /// All that is left, as base64; at least one byte.
    pub(super) fn base64(&mut self) -> Result<(), Wrong> {
        let text: Vec<u8> = self.tokens.by_ref().flatten().collect();
        let bytes = decode_base64(&text)?;
        self.extend(&bytes);
        Ok(())
    }
}

pub(super) fn decode_base64(text: &[u8]) -> Result<Vec<u8>, Wrong> {
    let bytes = STANDARD.decode(text).map_err(|_| Wrong)?;
    if bytes.is_empty() { Err(Wrong) } else { Ok(bytes) }
}

/// A token up to white space. Quotes inside of it hold white space (`alpn="h2, h3"`).
fn plain(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut inside = false;
    let mut end = text.len();
    let mut escaped = false;
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => inside = !inside,
            _ if byte.is_ascii_whitespace() && !inside => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    (text[..end].to_vec(), &text[end..])
}

/// The inside of a quoted string, escapes resolved, and what follows the closing quote.
fn quoted(text: &[u8]) -> Result<(Vec<u8>, &[u8]), Wrong> {
    let mut token = Vec::new();
    let mut rest = text;
    loop {
        let (&byte, after) = rest.split_first().ok_or(Wrong)?;
        rest = after;
        match byte {
            b'"' => return Ok((token, rest)),
            b'\\' => match rest {
                [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', after @ ..] => {
                    let number = [a, b, c].iter().fold(0u16, |n, digit| n * 10 + u16::from(**digit - b'0'));
                    token.push(u8::try_from(number).map_err(|_| Wrong)?);
                    rest = after;
                }
                [escaped, after @ ..] => {
                    token.push(*escaped);
                    rest = after;
                }
                [] => return Err(Wrong),
            },
            _ => token.push(byte),
        }
    }
}
