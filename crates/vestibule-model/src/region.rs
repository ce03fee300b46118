//! Google's public regions and their zones.
//!
//! Resources are made in these alone. The list also says where they are, and is what `regions.list` and `zones.list` answer, and where the
//! short code in a Cloud Run URL (`…-uc.a.run.app`) comes from.

/// One region: its name, the letters of its zones, and the code that Cloud Run puts into URLs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    pub name: &'static str,
    /// One letter a zone, e.g. `abcf`.
    pub zones: &'static str,
    /// E.g. `uc` in `https://hello-abcdefghij-uc.a.run.app`.
    pub run_code: &'static str,
    /// Where it is, in degrees north and degrees east: the town that Google names.
    pub place: Place,
}

/// Degrees north, degrees east.
pub type Place = (f64, f64);

impl Region {
    /// Names of this region's zones.
    pub fn zone_names(&self) -> impl Iterator<Item = String> {
        self.zones.chars().map(|letter| format!("{}-{letter}", self.name))
    }
}

/// All regions, in the order of their names. Only these codes are known from URLs in use; see [`run_code`] for others.
pub const REGIONS: &[Region] = &[
    region("africa-south1", "abc", "bq", (-26.2, 28.0)),
    region("asia-east1", "abc", "de", (24.1, 120.5)),
    region("asia-east2", "abc", "df", (22.3, 114.2)),
    region("asia-northeast1", "abc", "an", (35.7, 139.7)),
    region("asia-northeast2", "abc", "dt", (34.7, 135.5)),
    region("asia-northeast3", "abc", "du", (37.6, 127.0)),
    region("asia-south1", "abc", "el", (19.1, 72.9)),
    region("asia-south2", "abc", "em", (28.6, 77.2)),
    region("asia-southeast1", "abc", "as", (1.3, 103.8)),
    region("asia-southeast2", "abc", "et", (-6.2, 106.8)),
    region("australia-southeast1", "abc", "ts", (-33.9, 151.2)),
    region("australia-southeast2", "abc", "km", (-37.8, 145.0)),
    region("europe-central2", "abc", "lm", (52.2, 21.0)),
    region("europe-north1", "abc", "lz", (60.6, 27.2)),
    region("europe-north2", "abc", "", (59.3, 18.1)),
    region("europe-southwest1", "abc", "no", (40.4, -3.7)),
    region("europe-west1", "bcd", "ew", (50.4, 3.8)),
    region("europe-west10", "abc", "oe", (52.5, 13.4)),
    region("europe-west12", "abc", "og", (45.1, 7.7)),
    region("europe-west2", "abc", "nw", (51.5, -0.1)),
    region("europe-west3", "abc", "ey", (50.1, 8.7)),
    region("europe-west4", "abc", "ez", (53.4, 6.8)),
    region("europe-west6", "abc", "oa", (47.4, 8.5)),
    region("europe-west8", "abc", "oc", (45.5, 9.2)),
    region("europe-west9", "abc", "od", (48.9, 2.4)),
    region("me-central1", "abc", "ww", (25.3, 51.5)),
    region("me-central2", "abc", "wx", (26.4, 50.1)),
    region("me-west1", "abc", "zf", (32.1, 34.8)),
    region("northamerica-northeast1", "abc", "nn", (45.5, -73.6)),
    region("northamerica-northeast2", "abc", "pd", (43.7, -79.4)),
    region("northamerica-south1", "abc", "", (20.6, -100.4)),
    region("southamerica-east1", "abc", "rj", (-23.5, -46.6)),
    region("southamerica-west1", "abc", "tl", (-33.4, -70.7)),
    region("us-central1", "abcf", "uc", (41.3, -95.9)),
    region("us-east1", "bcd", "ue", (33.2, -80.0)),
    region("us-east4", "abc", "uk", (39.0, -77.5)),
    region("us-east5", "abc", "ul", (40.0, -83.0)),
    region("us-south1", "abc", "vp", (32.8, -96.8)),
    region("us-west1", "abc", "uw", (45.6, -121.2)),
    region("us-west2", "abc", "wl", (34.1, -118.2)),
    region("us-west3", "abc", "wm", (40.8, -111.9)),
    region("us-west4", "abc", "wn", (36.2, -115.1)),
];

/// Looks a region up by its name.
pub fn find(name: &str) -> Option<&'static Region> {
    REGIONS.iter().find(|region| region.name == name)
}

/// The region that a zone is in: its name without the last letter.
pub fn of_zone(zone: &str) -> Option<&str> {
    let (region, letter) = zone.rsplit_once('-')?;
    (letter.len() == 1 && !region.is_empty()).then_some(region)
}

/// Whether a region of the list has a zone of this name.
pub fn is_zone(name: &str) -> bool {
    let region = of_zone(name).and_then(find);
    region.is_some_and(|region| region.zone_names().any(|zone| zone == name))
}

/// The code that stands for a region in Cloud Run's URLs. A region whose code nobody has published gets a stable one
/// of its own: `z` and two more letters, which no region of Google's has.
pub fn run_code(name: &str) -> String {
    match find(name) {
        Some(region) if !region.run_code.is_empty() => region.run_code.to_owned(),
        _ => {
            let hash = crate::fingerprint::hash64(name.as_bytes());
            let letter = |n: u64| char::from(b'a' + (n % 26) as u8);
            ['z', letter(hash), letter(hash / 26)].iter().collect()
        }
    }
}

const fn region(name: &'static str, zones: &'static str, run_code: &'static str, place: Place) -> Region {
    Region { name, zones, run_code, place }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_codes_are_unique() {
        assert!(REGIONS.is_sorted_by(|a, b| a.name < b.name));
        let mut codes: Vec<String> = REGIONS.iter().map(|r| run_code(r.name)).collect();
        codes.sort();
        codes.dedup();
        assert_eq!(codes.len(), REGIONS.len());
    }

    #[test]
    fn known_and_unknown_regions() {
        assert_eq!(run_code("us-central1"), "uc");
        assert_eq!(run_code("moon-base1").len(), 3);
        assert_eq!(run_code("moon-base1"), run_code("moon-base1"));
        let zones: Vec<_> = find("us-central1").unwrap().zone_names().collect();
        assert_eq!(zones, ["us-central1-a", "us-central1-b", "us-central1-c", "us-central1-f"]);
        assert_eq!(of_zone("us-central1-f"), Some("us-central1"));
        assert_eq!(of_zone("us-central1"), None);
        assert!(is_zone("us-central1-f") && !is_zone("us-central1-d") && !is_zone("us-central1"));
    }
}
