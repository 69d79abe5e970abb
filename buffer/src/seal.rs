//! The checksum that every row of the file carries.
//!
//! SQLite notices most damage to its own structure, but not a flipped bit in a value: a checkpoint off by one would lose
//! an event in silence (Promise 6). So each row has a `seal`: a CRC-32 over its table and all its other columns.

/// Feeds the columns of a row, in order, to a checksum. Each value is fed with its type and length, so that no two
/// different rows feed the same bytes.
pub(crate) struct Seal(crc32fast::Hasher);

impl Seal {
    /// For a row of `table`.
    pub(crate) fn of(table: &str) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(table.as_bytes());
        Self(hasher)
    }

    pub(crate) fn int(mut self, number: i64) -> Self {
        self.0.update(&[1]);
        self.0.update(&number.to_le_bytes());
        self
    }

    pub(crate) fn optional_int(self, number: Option<i64>) -> Self {
        match number {
            Some(number) => self.int(number),
            None => self.null(),
        }
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update(&[2]);
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    pub(crate) fn optional_bytes(self, bytes: Option<&[u8]>) -> Self {
        match bytes {
            Some(bytes) => self.bytes(bytes),
            None => self.null(),
        }
    }

    fn null(mut self) -> Self {
        self.0.update(&[0]);
        self
    }

    /// What stands in the row's `seal` column.
    pub(crate) fn finish(self) -> i64 {
        i64::from(self.0.finalize())
    }
}
