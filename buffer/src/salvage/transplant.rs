//! A damaged schema, replaced by a new file's.
//!
//! SQLite reads no table of a file whose schema it cannot parse, so that one flipped bit in five pages would cost every
//! event. But the schema of every buffer is the same, made by the same statements in an empty file, at the same pages:
//! those of a new file fit. Should they not, nothing wrong comes of it, for every row is held to its seal.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use rusqlite::Connection;

use crate::{open::beside, schema::PAGE_BYTES};

/// Where the header says how many pages there are, and which of them are free.
const SIZE_AND_FREELIST: std::ops::Range<usize> = 28..40;

/// Puts the schema of `new`, just made at `new_path`, into the file at `damaged`. What stood in those pages is kept beside
/// it.
pub(super) fn transplant_schema(damaged: &Path, new_path: &Path, new: &Connection) -> Result<(), io::Error> {
    let pages = schema_pages(new).map_err(io::Error::other)?;
    let (mut from, mut to) = (File::open(new_path)?, OpenOptions::new().read(true).write(true).open(damaged)?);
    let mut kept = File::create(beside(damaged, ".schema"))?;
    let size = to.metadata()?.len() / PAGE_BYTES;
    for page in pages.into_iter().filter(|page| *page <= size) {
        let at = SeekFrom::Start((page - 1) * PAGE_BYTES);
        let mut old = vec![0; PAGE_BYTES as usize];
        to.seek(at)?;
        to.read_exact(&mut old)?;
        kept.write_all(&old)?;
        let mut fresh = old;
        from.seek(at)?;
        from.read_exact(&mut fresh)?;
        if page == 1 {
            fresh[SIZE_AND_FREELIST].fill(0);
            fresh[28..32].copy_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
        }
        to.seek(at)?;
        to.write_all(&fresh)?;
    }
    to.sync_all()
}

fn schema_pages(db: &Connection) -> rusqlite::Result<Vec<u64>> {
    let mut select = db.prepare("SELECT pageno FROM dbstat WHERE name = 'sqlite_schema' ORDER BY pageno")?;
    select.query_map([], |row| row.get::<_, i64>(0).map(|page| page as u64))?.collect()
}
