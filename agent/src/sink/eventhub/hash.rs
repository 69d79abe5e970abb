//! The gateway's hash of partition keys: lookup3 of Bob Jenkins, folded to 16 bits. Microsoft's SDKs publish it with test
//! vectors, so that who chooses a partition comes to the same one as the service.

/// The hash of a key.
pub(super) fn hash(key: &[u8]) -> i16 {
    let (b, c) = lookup3(key);
    let folded = (c ^ b) as u16;
    i16::from_ne_bytes(folded.to_ne_bytes())
}

/// Which of `count` partitions a key belongs to.
pub(super) fn partition(key: &[u8], count: usize) -> usize {
    // The sign is that of the hash: a remainder, and no modulus.
    usize::from((i64::from(hash(key)) % count as i64).unsigned_abs() as u16)
}

fn lookup3(key: &[u8]) -> (u32, u32) {
    let start = 0xdead_beef_u32.wrapping_add(u32::try_from(key.len()).unwrap_or(u32::MAX));
    let (mut a, mut b, mut c) = (start, start, start);
    let mut rest = key;
    while rest.len() > 12 {
        let (block, behind) = rest.split_at(12);
        (a, b, c) = mix(a.wrapping_add(word(block, 0)), b.wrapping_add(word(block, 4)), c.wrapping_add(word(block, 8)));
        rest = behind;
    }
    if rest.is_empty() {
        return (b, c);
    }
    let (a, b, c) = (a.wrapping_add(word(rest, 0)), b.wrapping_add(word(rest, 4)), c.wrapping_add(word(rest, 8)));
    finish(a, b, c)
}

/// Four bytes from `at`, or as many as there are.
fn word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    let found = bytes.get(at..).unwrap_or_default();
    let taken = found.len().min(4);
    word[..taken].copy_from_slice(&found[..taken]);
    u32::from_le_bytes(word)
}

fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    a = a.wrapping_sub(c) ^ c.rotate_left(4);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(6);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(8);
    b = b.wrapping_add(a);
    a = a.wrapping_sub(c) ^ c.rotate_left(16);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(19);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(4);
    b = b.wrapping_add(a);
    (a, b, c)
}

fn finish(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32) {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    c = (c ^ b).wrapping_sub(b.rotate_left(24));
    (b, c)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Microsoft's SDKs have them in their tests.
    const PUBLISHED: [(&str, i16); 12] = [
        ("7", -15263),
        ("131", 30562),
        ("7149583486996073602", 12977),
        ("FWfAT", -22341),
        ("sOdeEAsyQoEuEFPGerWO", -6503),
        ("FAyAIctPeCgmiwLKbJcyswoHglHVjQdvtBowLACDNORsYvOcLddNJYDmhAVkbyLOrHTKLneMNcbgWVlasVywOByANjs", 5226),
        (
            "1XYM6!(7(lF5wq4k4m*e$Nc!1ezLJv*1YK1Y-C^*&B$O)lq^iUkG(TNzXG;Zi#z2Og*Qq0#^*k):vXh$3,C7We7%W0meJ;b3,rQCg^J;^twXgs5E$$hWKxqp",
            23950,
        ),
        (
            "E(x;RRIaQcJs*P;D&jTPau-4K04oqr:lF6Z):ERpo&;9040qyV@G1_c9mgOs-8_8/10Fwa-7b7-yP!T-!IH&968)FWuI;(^g$2fN;)HJ^^yTn:",
            -29304,
        ),
        ("!c*_!I@1^c", 15372),
        ("p4*!jioeO/z-!-;w:dh", -3104),
        ("$0cb", 26269),
        ("-4189260826195535198", 453),
    ];

    #[test]
    fn the_hash_is_the_services() {
        for (key, expected) in PUBLISHED {
            assert_eq!(hash(key.as_bytes()), expected, "{key}");
        }
    }

    #[test]
    fn a_partition_is_one_of_those_there_are() {
        assert_eq!(partition(b"7", 7), 3, "-15263 is 3 off a multiple of 7, on the side of zero");
        for count in [1, 2, 7, 32, 2000] {
            assert!(PUBLISHED.iter().all(|(key, _)| partition(key.as_bytes(), count) < count));
        }
        assert_eq!(partition(b"", 4), partition(b"", 4));
    }
}
