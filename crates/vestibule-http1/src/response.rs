//! Response heads, as a client reads them.

use crate::body::Framing;
use crate::chars::is_field_value;
use crate::error::{Error, Kind};
use crate::fields::{Field, Fields, Name};
use crate::lines::Lines;
use crate::request::Method;
use crate::span::Span;
use crate::values::{self, Connection};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    StatusLine,
    Fields,
    Done,
}

/// A response head, as positions into the buffer it is read from. Reusable: [`clear`](Self::clear) keeps its memory.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    stage: Stage,
    lines: Lines,
    status: u16,
    reason: Span,
    http10: bool,
    fields: Fields,
    content_length: Option<u64>,
    chunked: bool,
    connection: Connection,
}

impl Default for ResponseHead {
    fn default() -> ResponseHead {
        ResponseHead {
            stage: Stage::StatusLine,
            lines: Lines::default(),
            status: 0,
            reason: Span::default(),
            http10: false,
            fields: Fields::default(),
            content_length: None,
            chunked: false,
            connection: Connection::default(),
        }
    }
}

impl ResponseHead {
    /// Makes it ready for the next response.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = ResponseHead { fields, ..ResponseHead::default() };
    }

    /// Reads on, as [`RequestHead::parse`](crate::RequestHead::parse) does.
    pub fn parse(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Error> {
        self.advance(buffer).map_err(Error::upstream)
    }

    /// The head for reading, once [`parse`](Self::parse) has answered its length.
    pub fn view<'a>(&'a self, buffer: &'a [u8]) -> Response<'a> {
        debug_assert_eq!(self.stage, Stage::Done);
        Response { head: self, buffer }
    }

    fn advance(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Kind> {
        while self.stage != Stage::Done {
            let Some(line) = self.lines.next(buffer)? else {
                return Ok(None);
            };
            if self.stage == Stage::StatusLine {
                self.status_line(buffer, line.start, line.end)?;
                self.stage = Stage::Fields;
            } else if line.is_empty() {
                self.finish(buffer)?;
                self.stage = Stage::Done;
            } else {
                let field = Field::parse(buffer, line)?;
                self.note(buffer, field)?;
                self.fields.push(field)?;
            }
        }
        Ok(Some(self.lines.position()))
    }

    /// `HTTP/1.x SP 3DIGIT [SP reason]`. Some servers leave out the space before an empty reason; nothing hangs on it.
    fn status_line(&mut self, buffer: &[u8], start: usize, end: usize) -> Result<(), Kind> {
        let line = &buffer[start..end];
        let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor, b' ', status @ ..] = line else {
            return Err(Kind::BadStatusLine);
        };
        let (&[a, b, c], reason) = status.split_first_chunk::<3>().ok_or(Kind::BadStatusLine)?;
        let digits = [*minor, a, b, c].iter().all(u8::is_ascii_digit);
        let spaced = reason.is_empty() || reason[0] == b' ';
        if !digits || !spaced || a == b'0' || !is_field_value(reason) {
            return Err(Kind::BadStatusLine);
        }
        self.http10 = *minor == b'0';
        self.status = [a, b, c].iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
        self.reason = Span::new(end - reason.len() + usize::from(!reason.is_empty()), end);
        Ok(())
    }

    fn note(&mut self, buffer: &[u8], field: Field) -> Result<(), Kind> {
        let value = field.value.of(buffer);
        match field.id {
            Name::ContentLength if self.content_length.is_some() => return Err(Kind::SeveralContentLengths),
            Name::ContentLength => self.content_length = Some(values::content_length(value)?),
            Name::TransferEncoding if self.chunked || self.http10 => return Err(Kind::BadTransferEncoding),
            Name::TransferEncoding => {
                values::transfer_encoding(value)?;
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, buffer: &[u8]) -> Result<(), Kind> {
        if self.chunked && self.content_length.is_some() {
            return Err(Kind::LengthAndEncoding);
        }
        let bodiless = matches!(self.status, 100..=199 | 204);
        if bodiless && (self.chunked || self.content_length.is_some_and(|length| length > 0)) {
            return Err(Kind::BodyForbidden);
        }
        self.connection = values::connection(buffer, &mut self.fields)?;
        Ok(())
    }
}

/// A complete response head together with its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    head: &'a ResponseHead,
    buffer: &'a [u8],
}

impl<'a> Response<'a> {
    /// 100 to 999. What is above 599 has no meaning in HTTP (RFC 9110 section 15 has a client treat it as a 5xx), but
    /// servers send it, and every other proxy passes it on.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// As sent; may be empty, may hold any byte that a field value may.
    pub fn reason(&self) -> &'a [u8] {
        self.head.reason.of(self.buffer)
    }

    /// A 1xx other than 101: the final response is still to come on the same connection.
    pub fn is_interim(&self) -> bool {
        self.head.status < 200 && self.head.status != 101
    }

    pub fn fields(&self) -> &'a [Field] {
        self.head.fields.as_slice()
    }

    pub fn buffer(&self) -> &'a [u8] {
        self.buffer
    }

    /// The value of the first field of that name that `Connection` does not name.
    pub fn first(&self, id: Name) -> Option<&'a [u8]> {
        let field = self.fields().iter().find(|f| f.id == id && !f.nominated)?;
        Some(field.value.of(self.buffer))
    }

    /// `Content-Length` as sent, also where no body follows (`HEAD`, 304).
    pub fn content_length(&self) -> Option<u64> {
        self.head.content_length
    }

    /// How the body is delimited, given the method that was asked with (RFC 9112 section 6.3).
    pub fn framing(&self, asked: Method) -> Framing {
        match self.head.status {
            100..=199 | 204 | 304 => Framing::Empty,
            _ if asked == Method::Head => Framing::Empty,
            _ if self.head.chunked => Framing::Chunked,
            _ => match self.head.content_length {
                Some(0) => Framing::Empty,
                Some(length) => Framing::Length(length),
                None => Framing::UntilClose,
            },
        }
    }

    /// Whether the connection can carry another message after this one, as far as the head says.
    pub fn keeps_alive(&self) -> bool {
        let Connection { close, keep_alive, .. } = self.head.connection;
        !close && (!self.head.http10 || keep_alive)
    }

    pub fn connection(&self) -> Connection {
        self.head.connection
    }
}
