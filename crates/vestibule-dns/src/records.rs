//! Record sets, as whoever prepares a zone tells them.

use std::fmt;

use crate::name::{Name, NameError};
use crate::rdata::{self, RdataError};
use crate::routing::{Liveness, Routing};

/// All records of one name and type.
#[derive(Debug, Clone)]
pub struct RecordSet {
    pub name: Name,
    /// The number of the type.
    pub kind: u16,
    /// Seconds.
    pub ttl: u32,
    /// What is answered.
    pub routing: Routing<Data>,
}

/// The records of one answer.
#[derive(Debug, Clone, Default)]
pub struct Data {
    /// Each record's data in wire form ([`crate::rdata::parse`]).
    pub fixed: Vec<Vec<u8>>,
    /// Records that are left out while what they lead to is down.
    pub checked: Vec<(Vec<u8>, Liveness)>,
}

/// The records of one answer as zone files write them, `10 mail.example.com.`.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    pub fixed: Vec<String>,
    /// See [`Data::checked`].
    pub checked: Vec<(String, Liveness)>,
}

/// Why a text makes no record set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordError {
    Name(NameError),
    Data(RdataError),
    /// There is nothing to answer.
    Empty,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Name(e) => e.fmt(f),
            RecordError::Data(e) => e.fmt(f),
            RecordError::Empty => f.write_str("a record set needs data"),
        }
    }
}

impl std::error::Error for RecordError {}

impl RecordSet {
    /// Reads records as zone files write them, the same for everyone. `ttl` is in seconds.
    pub fn parse<T: AsRef<str>>(
        name: &str,
        type_name: &str,
        ttl: u32,
        data: &[T],
    ) -> Result<RecordSet, RecordError> {
        let fixed = data.iter().map(|text| text.as_ref().to_owned()).collect();
        RecordSet::routed(name, type_name, ttl, Routing::Same(Texts { fixed, checked: Vec::new() }))
    }

    /// Reads records of which every question gets those that a policy chooses.
    pub fn routed(
        name: &str,
        type_name: &str,
        ttl: u32,
        routing: Routing<Texts>,
    ) -> Result<RecordSet, RecordError> {
        let name = Name::parse(name).map_err(RecordError::Name)?;
        let unknown = || RecordError::Data(RdataError::UnknownType(type_name.to_owned()));
        let kind = rdata::type_number(type_name).ok_or_else(unknown)?;
        let routing = routing.try_map(|texts| Data::parse(kind, texts))?;
        match routing.answers().is_empty() {
            true => Err(RecordError::Empty),
            false => Ok(RecordSet { name, kind, ttl, routing }),
        }
    }
}

impl Data {
    fn parse(kind: u16, texts: Texts) -> Result<Data, RecordError> {
        let read = |text: &str| rdata::parse_number(kind, text).map_err(RecordError::Data);
        let fixed = texts.fixed.iter().map(|text| read(text)).collect::<Result<Vec<_>, _>>()?;
        let checked = texts.checked.into_iter().map(|(text, liveness)| Ok((read(&text)?, liveness)));
        let checked = checked.collect::<Result<Vec<_>, RecordError>>()?;
        match fixed.is_empty() && checked.is_empty() {
            true => Err(RecordError::Empty),
            false => Ok(Data { fixed, checked }),
        }
    }

    /// All records, whatever is up.
    pub(crate) fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.fixed.iter().chain(self.checked.iter().map(|(data, _)| data)).map(Vec::as_slice)
    }
}
