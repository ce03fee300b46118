//! The hash that endpoints and requests are placed by.
//!
//! It must spread well, be the same in every process and for ever (a client must find its endpoint again after a
//! restart), and need not resist an adversary: whoever chooses his own cookie only chooses his own endpoint.

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Hashes bytes.
pub fn bytes(data: &[u8]) -> u64 {
    let mut state = SEED ^ data.len() as u64;
    let mut chunks = data.chunks_exact(8);
    for chunk in &mut chunks {
        let word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
        state = mix(state ^ word);
    }
    let mut last = [0; 8];
    let rest = chunks.remainder();
    last[..rest.len()].copy_from_slice(rest);
    mix(state ^ u64::from_le_bytes(last))
}

/// Hashes two numbers into one.
pub fn pair(a: u64, b: u64) -> u64 {
    mix(mix(a ^ SEED) ^ b)
}

/// The finaliser of SplitMix64: every input bit reaches every output bit.
fn mix(state: u64) -> u64 {
    let state = state.wrapping_add(SEED);
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_changes() {
        assert_eq!(bytes(b"10.0.0.2:80"), 16_219_993_824_364_459_624);
        assert_ne!(bytes(b"a"), bytes(b"a\0"));
        assert_ne!(pair(1, 2), pair(2, 1));
    }

    #[test]
    fn neighbours_spread() {
        let mut counts = [0_u32; 16];
        for n in 0..16_000_u32 {
            counts[(bytes(&n.to_be_bytes()) >> 60) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
