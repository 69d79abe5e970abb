// Which partition a partition key belongs to: Jenkins's lookup3 over its UTF-8 bytes, folded to 16 bits, as the gateway
// of the service does it.

const rotate = (x, bits) => (x << bits) | (x >>> (32 - bits));

// The hash: a signed number of 16 bits.
export function hash(key) {
  const bytes = Buffer.from(key, 'utf8');
  let a = (0xdeadbeef + bytes.length) | 0;
  let b = a;
  let c = a;
  let at = 0;
  for (; bytes.length - at > 12; at += 12) {
    a = (a + bytes.readInt32LE(at)) | 0;
    b = (b + bytes.readInt32LE(at + 4)) | 0;
    c = (c + bytes.readInt32LE(at + 8)) | 0;
    a = ((a - c) | 0) ^ rotate(c, 4);
    c = (c + b) | 0;
    b = ((b - a) | 0) ^ rotate(a, 6);
    a = (a + c) | 0;
    c = ((c - b) | 0) ^ rotate(b, 8);
    b = (b + a) | 0;
    a = ((a - c) | 0) ^ rotate(c, 16);
    c = (c + b) | 0;
    b = ((b - a) | 0) ^ rotate(a, 19);
    a = (a + c) | 0;
    c = ((c - b) | 0) ^ rotate(b, 4);
    b = (b + a) | 0;
  }
  if (at < bytes.length) {
    const last = Buffer.alloc(12);
    bytes.copy(last, 0, at);
    a = (a + last.readInt32LE(0)) | 0;
    b = (b + last.readInt32LE(4)) | 0;
    c = (c + last.readInt32LE(8)) | 0;
    c = ((c ^ b) - rotate(b, 14)) | 0;
    a = ((a ^ c) - rotate(c, 11)) | 0;
    b = ((b ^ a) - rotate(a, 25)) | 0;
    c = ((c ^ b) - rotate(b, 16)) | 0;
    a = ((a ^ c) - rotate(c, 4)) | 0;
    b = ((b ^ a) - rotate(a, 14)) | 0;
    c = ((c ^ b) - rotate(b, 24)) | 0;
  }
  return ((b ^ c) << 16) >> 16;
}

export const partitionOf = (key, count) => Math.abs(hash(key) % count);
