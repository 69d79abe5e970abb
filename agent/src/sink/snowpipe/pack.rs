//! Rows into requests: newline-delimited JSON, compressed with zstd, each as large as the service takes.

use forebay_buffer::Offset;
use zstd::{bulk::Compressor, zstd_safe::compress_bound};

/// The fastest: what lies between it and the default is a tenth of the size, for twice the work.
const LEVEL: i32 = 1;

/// Rows on their way: at least one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The rows, compressed.
    pub(super) body: Vec<u8>,
    /// Whose rows they are, in order.
    pub(super) offsets: Vec<Offset>,
}

impl Request {
    /// The first event that is in it.
    pub(super) fn first(&self) -> Offset {
        *self.offsets.first().expect("there is at least one")
    }

    /// The last one.
    pub(super) fn last(&self) -> Offset {
        *self.offsets.last().expect("there is at least one")
    }
}

/// Fills requests of at most so many bytes, in order. What may be larger by then is not compressed together: a compressor
/// that has all of it at once is faster than one that is given row after row, and needs no copy of it.
pub(super) struct Packer {
    limit: usize,
    limit_alone: usize,
    compressor: Compressor<'static>,
    rows: Vec<u8>,
    offsets: Vec<Offset>,
    done: Vec<Request>,
}

impl Packer {
    /// A row by itself may take `limit_alone` bytes.
    pub(super) fn new(limit: usize, limit_alone: usize) -> Self {
        let compressor = Compressor::new(LEVEL).expect("it is a level, and there is memory");
        Self { limit, limit_alone, compressor, rows: Vec::new(), offsets: Vec::new(), done: Vec::new() }
    }

    /// Adds a row. One that is too large even by itself is left out: the error is its size, compressed.
    pub(super) fn push(&mut self, offset: Offset, row: &[u8]) -> Result<(), usize> {
        if compress_bound(self.rows.len() + row.len()) > self.limit {
            self.close();
        }
        self.rows.extend_from_slice(row);
        self.offsets.push(offset);
        if compress_bound(row.len()) <= self.limit {
            return Ok(());
        }
        self.close();
        match self.done.pop_if(|alone| alone.body.len() > self.limit_alone) {
            Some(alone) => Err(alone.body.len()),
            None => Ok(()),
        }
    }

    /// All of them.
    pub(super) fn finish(mut self) -> Vec<Request> {
        self.close();
        self.done
    }

    fn close(&mut self) {
        if self.offsets.is_empty() {
            return;
        }
        let mut body = Vec::with_capacity(compress_bound(self.rows.len()));
        self.compressor.compress_to_buffer(&self.rows, &mut body).expect("there is room for the worst case");
        // It waits for its turn, and then for the service.
        body.shrink_to_fit();
        self.done.push(Request { body, offsets: std::mem::take(&mut self.offsets) });
        self.rows.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that do not get smaller.
    fn noise(size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        getrandom::fill(&mut bytes).expect("random bytes");
        bytes
    }

    fn rows_of(request: &Request) -> Vec<u8> {
        zstd::decode_all(request.body.as_slice()).expect("it is compressed")
    }

    fn packed(limit: usize, rows: &[Vec<u8>]) -> (Vec<Request>, Vec<(i64, usize)>) {
        let (mut packer, mut left_out) = (Packer::new(limit, limit), Vec::new());
        for (number, row) in (0..).zip(rows) {
            if let Err(size) = packer.push(Offset(number), row) {
                left_out.push((number, size));
            }
        }
        (packer.finish(), left_out)
    }

    #[test]
    fn requests_hold_all_rows_in_order_and_none_is_above_the_limit() {
        const LIMIT: usize = 2 << 20;
        let rows: Vec<_> = (0..300).map(|n| noise(1_000 + n * 100)).collect();
        let (requests, left_out) = packed(LIMIT, &rows);
        assert_eq!(left_out, []);
        assert!(requests.iter().all(|request| request.body.len() <= LIMIT), "{:?}", sizes(&requests));
        let offsets: Vec<_> = requests.iter().flat_map(|request| &request.offsets).map(|offset| offset.0).collect();
        assert_eq!(offsets, (0..300).collect::<Vec<_>>());
        assert_eq!(requests.iter().flat_map(rows_of).collect::<Vec<_>>(), rows.concat());
        let full = &requests[..requests.len() - 1];
        assert!(full.iter().all(|request| request.body.len() > LIMIT / 2), "{:?}", sizes(&requests));
    }

    #[test]
    fn it_is_the_compressed_size_that_counts() {
        let rows = vec![vec![b'a'; 1 << 20]; 20];
        let (requests, left_out) = packed(1 << 20, &rows);
        assert_eq!((left_out.len(), requests.iter().map(|request| request.offsets.len()).sum::<usize>()), (0, 20));
        assert!(requests.iter().all(|request| request.body.len() < 10_000), "{:?}", sizes(&requests));
        assert!(
            requests.iter().all(|request| request.body.capacity() < 20_000),
            "no memory is held for the worst case"
        );
    }

    #[test]
    fn a_row_that_is_too_large_is_left_out_with_its_size() {
        const LIMIT: usize = 1 << 20;
        let rows = [noise(100), noise(LIMIT + 1), noise(100), vec![b'a'; 3 * LIMIT], noise(100)];
        let (requests, left_out) = packed(LIMIT, &rows);
        let [(1, size)] = left_out[..] else { panic!("{left_out:?}") };
        assert!(size > LIMIT);
        assert_eq!(requests.iter().map(|request| request.first().0).collect::<Vec<_>>(), [0, 2, 3, 4]);
        assert!(requests.iter().all(|request| request.first() == request.last()));
    }

    #[test]
    fn what_is_above_the_limit_goes_by_itself() {
        let mut packer = Packer::new(1, 2_000);
        let pushed: Vec<_> =
            [100, 1_000, 3_000].map(|size| packer.push(Offset(size), &noise(size as usize)).is_ok()).into();
        assert_eq!(pushed, [true, true, false]);
        assert!(packer.finish().iter().map(|request| request.first().0).eq([100, 1_000]));
    }

    #[test]
    fn without_rows_there_is_no_request() {
        assert_eq!(packed(1 << 20, &[]), (Vec::new(), Vec::new()));
    }

    fn sizes(requests: &[Request]) -> Vec<usize> {
        requests.iter().map(|request| request.body.len()).collect()
    }
}
