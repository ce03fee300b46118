//! Where on earth something is, as far as answers depend on it.

use std::net::Ipv4Addr;
use std::sync::Arc;

/// A point on the earth's surface.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Of length one, from the centre of the earth.
    direction: [f64; 3],
}

impl Place {
    /// From degrees north and degrees east.
    pub fn new(latitude: f64, longitude: f64) -> Place {
        let (north, east) = (latitude.to_radians(), longitude.to_radians());
        Place { direction: [north.cos() * east.cos(), north.cos() * east.sin(), north.sin()] }
    }

    /// Greater for what is nearer: the cosine of the angle between the two.
    pub(crate) fn closeness(&self, other: &Place) -> f64 {
        self.direction.iter().zip(other.direction).map(|(a, b)| a * b).sum()
    }
}

/// A range of a network's addresses, and where they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    pub first: Ipv4Addr,
    pub last: Ipv4Addr,
    /// The region's name.
    pub region: Arc<str>,
    /// `None` if nobody knows where that is.
    pub place: Option<Place>,
}

/// The sites of one network.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sites(Box<[Site]>);

impl Sites {
    /// Sites that have no address in common.
    pub fn new(mut sites: Vec<Site>) -> Sites {
        sites.sort_by_key(|site| site.first);
        Sites(sites.into())
    }

    /// The site of an address.
    pub(crate) fn of(&self, address: Ipv4Addr) -> Option<&Site> {
        let after = self.0.partition_point(|site| site.first <= address);
        self.0[..after].last().filter(|site| address <= site.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_and_far() {
        let (paris, london, sydney) =
            (Place::new(48.9, 2.4), Place::new(51.5, -0.1), Place::new(-33.9, 151.2));
        assert!(paris.closeness(&london) > paris.closeness(&sydney));
        assert!((paris.closeness(&paris) - 1.0).abs() < 1e-9);
        // The date line is no edge.
        let (fiji, samoa) = (Place::new(-18.0, 178.0), Place::new(-14.0, -172.0));
        assert!(fiji.closeness(&samoa) > fiji.closeness(&sydney));
    }

    #[test]
    fn addresses_are_found_by_range() {
        let site = |first: [u8; 4], last: [u8; 4], region: &str| Site {
            first: first.into(),
            last: last.into(),
            region: region.into(),
            place: None,
        };
        let sites = Sites::new(vec![
            site([10, 0, 1, 0], [10, 0, 1, 255], "b"),
            site([10, 0, 0, 0], [10, 0, 0, 127], "a"),
        ]);
        let of = |address: [u8; 4]| sites.of(address.into()).map(|site| site.region.to_string());
        assert_eq!(of([10, 0, 0, 0]).as_deref(), Some("a"));
        assert_eq!(of([10, 0, 0, 127]).as_deref(), Some("a"));
        assert_eq!(of([10, 0, 0, 128]), None);
        assert_eq!(of([10, 0, 1, 7]).as_deref(), Some("b"));
        assert_eq!(of([9, 255, 255, 255]), None);
        assert_eq!(of([10, 0, 2, 0]), None);
    }
}
