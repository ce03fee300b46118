//! IPv4 ranges in CIDR notation, and which of them a VPC may use.

use std::fmt;
use std::net::Ipv4Addr;

/// A range such as `10.0.0.0/24`, without host bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range {
    base: u32,
    prefix: u8,
}

/// Why a text is no range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeError {
    /// Not `A.B.C.D/P` with P from 0 to 32.
    Malformed,
    /// The address has bits beyond the prefix.
    HostBits,
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RangeError::Malformed => "Must be an IPv4 address range in CIDR notation.",
            RangeError::HostBits => {
                "The address must be the first one of the range: bits beyond the prefix are set."
            }
        })
    }
}

impl std::error::Error for RangeError {}

/// Ranges that no subnetwork may touch: Google's list of prohibited ranges for VPC subnets.
const PROHIBITED: &[Range] = &[
    Range::of(0, 0, 0, 0, 8),
    Range::of(127, 0, 0, 0, 8),
    Range::of(169, 254, 0, 0, 16),
    Range::of(199, 36, 153, 4, 30),
    Range::of(199, 36, 153, 8, 30),
    Range::of(224, 0, 0, 0, 4),
    Range::of(255, 255, 255, 255, 32),
];

impl Range {
    /// A constant range. The address must not have host bits.
    pub const fn of(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Range {
        Range { base: u32::from_be_bytes([a, b, c, d]), prefix }
    }

    pub fn parse(text: &str) -> Result<Range, RangeError> {
        let (address, prefix) = text.split_once('/').ok_or(RangeError::Malformed)?;
        let base = u32::from(address.parse::<Ipv4Addr>().map_err(|_| RangeError::Malformed)?);
        let digits = !prefix.is_empty() && prefix.len() <= 2 && prefix.bytes().all(|b| b.is_ascii_digit());
        let prefix: u8 = prefix.parse().map_err(|_| RangeError::Malformed)?;
        if !digits || prefix > 32 {
            return Err(RangeError::Malformed);
        }
        let range = Range { base, prefix };
        if base & range.host_mask() != 0 { Err(RangeError::HostBits) } else { Ok(range) }
    }

    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    pub fn first(&self) -> Ipv4Addr {
        self.base.into()
    }

    pub fn last(&self) -> Ipv4Addr {
        (self.base | self.host_mask()).into()
    }

    /// The address at a position; position 1 is the gateway's.
    pub fn nth(&self, position: u32) -> Ipv4Addr {
        self.base.wrapping_add(position).into()
    }

    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & !self.host_mask() == self.base
    }

    /// Whether `other` lies wholly inside.
    pub fn covers(&self, other: &Range) -> bool {
        self.prefix <= other.prefix && self.contains(other.first())
    }

    pub fn overlaps(&self, other: &Range) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// The first prohibited range that this one touches.
    pub fn prohibited(&self) -> Option<&'static Range> {
        PROHIBITED.iter().find(|range| range.overlaps(self))
    }

    /// Whether a host may have this address in a *primary* range: all but the first two and the last two.
    pub fn is_usable(&self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(self.base);
        self.contains(address) && offset >= 2 && offset <= self.host_mask().saturating_sub(2)
    }

    /// Usable addresses of a primary range, rising.
    pub fn usable(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let base = self.base;
        (2..=self.host_mask().saturating_sub(2)).map(move |offset| Ipv4Addr::from(base + offset))
    }

    fn host_mask(&self) -> u32 {
        u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first(), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(text: &str) -> Range {
        Range::parse(text).unwrap()
    }

    #[test]
    fn what_is_a_range() {
        for good in ["10.0.0.0/24", "0.0.0.0/0", "255.255.255.255/32", "10.0.0.4/30"] {
            assert_eq!(range(good).to_string(), good);
        }
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/24", "10.0.0.0/+8", "10.0.0.0/", "a/8", "fd00::/8"]
        {
            assert_eq!(Range::parse(bad), Err(RangeError::Malformed), "{bad}");
        }
        assert_eq!(Range::parse("10.0.0.5/24"), Err(RangeError::HostBits));
    }

    #[test]
    fn four_addresses_of_a_primary_range_are_not_for_hosts() {
        let range = range("10.240.0.64/26");
        let usable: Vec<Ipv4Addr> = range.usable().collect();
        assert_eq!(usable.len(), 60);
        assert_eq!(usable[0], Ipv4Addr::new(10, 240, 0, 66));
        assert_eq!(usable[59], Ipv4Addr::new(10, 240, 0, 125));
        assert!(!range.is_usable(Ipv4Addr::new(10, 240, 0, 65)));
        assert!(!range.is_usable(Ipv4Addr::new(10, 240, 0, 126)));
        assert!(!range.is_usable(Ipv4Addr::new(10, 240, 0, 63)));
        assert_eq!(self::range("10.0.0.0/31").usable().count(), 0);
        assert_eq!(self::range("10.0.0.0/32").usable().count(), 0);
    }

    #[test]
    fn prohibited_ranges() {
        for bad in
            ["127.0.0.0/8", "126.0.0.0/7", "169.254.1.0/24", "199.36.153.0/24", "239.0.0.0/8", "240.0.0.0/4"]
        {
            assert!(range(bad).prohibited().is_some(), "{bad}");
        }
        for good in
            ["10.0.0.0/8", "100.64.0.0/10", "240.0.0.0/5", "192.0.0.0/24", "198.18.0.0/15", "8.8.8.0/24"]
        {
            assert_eq!(range(good).prohibited(), None, "{good}");
        }
    }

    fn any_range() -> impl Strategy<Value = Range> {
        (any::<u32>(), 0u8..=32).prop_map(|(bits, prefix)| {
            let whole = Range { base: 0, prefix };
            Range { base: bits & !whole.host_mask(), prefix }
        })
    }

    proptest! {
        #[test]
        fn text_round_trips(range in any_range()) {
            prop_assert_eq!(Range::parse(&range.to_string()), Ok(range));
        }

        #[test]
        fn overlap_is_sharing_an_address(a in any_range(), b in any_range()) {
            let share = a.first().max(b.first()) <= a.last().min(b.last());
            prop_assert_eq!(a.overlaps(&b), share);
        }
    }
}
