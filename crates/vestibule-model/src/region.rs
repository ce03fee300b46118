//! Google's public regions and their zones.
//!
//! Resources are made in these alone. The list is also what `regions.list` and `zones.list` answer, and where the
//! short code in a Cloud Run URL (`…-uc.a.run.app`) comes from.

/// One region: its name, the letters of its zones, and the code that Cloud Run puts into URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    pub name: &'static str,
    /// One letter a zone, e.g. `abcf`.
    pub zones: &'static str,
    /// E.g. `uc` in `https://hello-abcdefghij-uc.a.run.app`.
    pub run_code: &'static str,
}

impl Region {
    /// Names of this region's zones.
    pub fn zone_names(&self) -> impl Iterator<Item = String> {
        self.zones.chars().map(|letter| format!("{}-{letter}", self.name))
    }
}

/// All regions, in the order of their names. Only these codes are known from URLs in use; see [`run_code`] for others.
pub const REGIONS: &[Region] = &[
    region("africa-south1", "abc", "bq"),
    region("asia-east1", "abc", "de"),
    region("asia-east2", "abc", "df"),
    region("asia-northeast1", "abc", "an"),
    region("asia-northeast2", "abc", "dt"),
    region("asia-northeast3", "abc", "du"),
    region("asia-south1", "abc", "el"),
    region("asia-south2", "abc", "em"),
    region("asia-southeast1", "abc", "as"),
    region("asia-southeast2", "abc", "et"),
    region("australia-southeast1", "abc", "ts"),
    region("australia-southeast2", "abc", "km"),
    region("europe-central2", "abc", "lm"),
    region("europe-north1", "abc", "lz"),
    region("europe-north2", "abc", ""),
    region("europe-southwest1", "abc", "no"),
    region("europe-west1", "bcd", "ew"),
    region("europe-west10", "abc", "oe"),
    region("europe-west12", "abc", "og"),
    region("europe-west2", "abc", "nw"),
    region("europe-west3", "abc", "ey"),
    region("europe-west4", "abc", "ez"),
    region("europe-west6", "abc", "oa"),
    region("europe-west8", "abc", "oc"),
    region("europe-west9", "abc", "od"),
    region("me-central1", "abc", "ww"),
    region("me-central2", "abc", "wx"),
    region("me-west1", "abc", "zf"),
    region("northamerica-northeast1", "abc", "nn"),
    region("northamerica-northeast2", "abc", "pd"),
    region("northamerica-south1", "abc", ""),
    region("southamerica-east1", "abc", "rj"),
    region("southamerica-west1", "abc", "tl"),
    region("us-central1", "abcf", "uc"),
    region("us-east1", "bcd", "ue"),
    region("us-east4", "abc", "uk"),
    region("us-east5", "abc", "ul"),
    region("us-south1", "abc", "vp"),
    region("us-west1", "abc", "uw"),
    region("us-west2", "abc", "wl"),
    region("us-west3", "abc", "wm"),
    region("us-west4", "abc", "wn"),
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

const fn region(name: &'static str, zones: &'static str, run_code: &'static str) -> Region {
    Region { name, zones, run_code }
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
